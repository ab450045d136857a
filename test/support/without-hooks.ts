/**
 * Loaded before a file of tests: nothing can watch every promise. The test library would, to tell which test an error belongs to that nobody
 * caught, and tests of the engine, which await a lot, would take twice as long. Such an error still fails the file.
 */
import asyncHooks from 'node:async_hooks';
import { syncBuiltinESMExports } from 'node:module';

const idle: asyncHooks.AsyncHook = { enable: () => idle, disable: () => idle };
asyncHooks.createHook = () => idle;
syncBuiltinESMExports();
