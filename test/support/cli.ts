/** Runs the `divan` command as a real process. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { syntheticLines } from '../../fixtures/synthetic.js';

export const CLI = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'tools', 'cli.js');
/**
 * The test runner puts an import of its own into NODE_OPTIONS of every child, which takes signals that concern the tools. `env`
 * takes it out again, so that they run as in a user's shell.
 */
const AS_USER = ['-u', 'NODE_OPTIONS', process.execPath, CLI];
const OUTPUT_BYTES_MAX = 1024 * 1024 * 1024;

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end. */
export function divan(...args: readonly string[]): CliResult {
  return run('env', [...AS_USER, ...args]);
}

export function run(command: string, args: readonly string[], input?: string): CliResult {
  const options = {
    encoding: 'utf8',
    maxBuffer: OUTPUT_BYTES_MAX,
    input,
  } as const;
  const { status, stdout, stderr } = spawnSync(command, args, options);
  return { code: status, stdout, stderr };
}

/** Runs a command that is expected to work, and returns what it prints. */
export function divanOk(t: Test, ...args: readonly string[]): string {
  const { code, stdout, stderr } = divan(...args);
  if (code !== 0) t.fail(`divan ${args.join(' ')} ended with ${code}: ${stderr}`);
  return stdout;
}

/** Starts a command. The caller ends it. */
export function divanStart(...args: readonly string[]) {
  return spawn('env', [...AS_USER, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** A directory that is gone after the test. */
export function temporaryDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'divan-test-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function sha256Of(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Makes a shard of synthetic documents of 200 bytes. */
export function loadSynthetic(path: string, docs: number): void {
  run(process.execPath, [CLI, 'load', path], [...syntheticLines(docs, 200)].join('\n'));
}

/** The hashes of all files below a directory by name, the ones that only a run in progress has included. */
export function hashesBelow(directory: string): Record<string, string> {
  const hashes: Record<string, string> = {};
  for (const entry of readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(directory, entry);
    if (statSync(path).isFile()) hashes[entry] = sha256Of(path);
  }
  return hashes;
}

/** The lines of a text, sorted. */
export function sortedLines(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}
