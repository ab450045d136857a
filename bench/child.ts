/** Running a program of the bench as a process of its own, so that memory, I/O and event loop are those of what it does alone. */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));

/** The path of a compiled program of the bench. */
export function program(name: string): string {
  return join(HERE, name);
}

/** Runs a program that prints one JSON value, and returns that. */
export function runChild(path: string, args: readonly string[]): unknown {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [path, ...args], {
    encoding: 'utf8',
  });
  if (status === 0) return JSON.parse(stdout);
  throw new Error(`${path} ${args[0] ?? ''} ended with ${status ?? signal}: ${stderr}`);
}
