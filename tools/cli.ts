#!/usr/bin/env node
/** The `divan` command: one subcommand for each file of this folder that registers one. */
import { Command } from 'commander';
import { registerBackup } from './backup.js';
import { registerChanges } from './changes.js';
import { registerCheck } from './check.js';
import { registerCluster } from './cluster.js';
import { registerCompact } from './compact.js';
import { registerDiff } from './diff.js';
import { registerDump } from './dump.js';
import { registerGet } from './get.js';
import { registerInfo } from './info.js';
import { registerLoad } from './load.js';
import { registerMerge } from './merge.js';
import { registerRecover } from './recover.js';
import { registerServe } from './serve.js';
import { registerSplit } from './split.js';

const program = new Command('divan')
  .description('work with Divan: its server, its clusters, its shard files')
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'divan: ')) })
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

registerServe(program);
registerCluster(program);
registerLoad(program);
registerDump(program);
registerGet(program);
registerChanges(program);
registerInfo(program);
registerCheck(program);
registerSplit(program);
registerMerge(program);
registerCompact(program);
registerDiff(program);
registerBackup(program);
registerRecover(program);

await program.parseAsync();
