/**
 * Runs the compiled tests under tap and ends its output with a line `N passed, N failed`.
 *
 * `node dist/test/run.js [--long] [part of a path …]`: files named `*.long.test.js` only run with `--long`.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const TIMEOUT_SECONDS = 900;
const LONG_TIMEOUT_SECONDS = 2 * 3600;

function testFiles(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return testFiles(path);
    return entry.name.endsWith('.test.js') ? [path] : [];
  });
}

/** Reads TAP as it comes: counts assertions, shows each file's result and every failure with what is known of it. */
class TapReader {
  passed = 0;
  failed = 0;
  #depthBefore = 0;
  #inFailure = false;

  line(line: string): void {
    const match = /^( *)(not ok|ok) \d+/.exec(line);
    if (match !== null) this.#result(line, match[1]?.length ?? 0, match[2] === 'ok');
    else if (this.#inFailure || /# DIVAN_SEED=|^\s+# (?!Subtest|\{|time)/.test(line))
      this.#show(line);
    if (line.trim() === '...') this.#inFailure = false;
  }

  #result(line: string, depth: number, ok: boolean): void {
    // A line less deep than the one before sums up a subtest, whose assertions were counted.
    const isSummary = depth < this.#depthBefore;
    this.#depthBefore = depth;
    this.#inFailure = !ok;
    if (!ok || depth === 0) this.#show(line);
    if (isSummary) return;
    // A file is at depth 0; one without any test is skipped by tap, and a mistake here.
    const isSkipped = / # (skip|todo)\b/i.test(line);
    if (!ok || (isSkipped && depth === 0)) this.failed++;
    else if (!isSkipped) this.passed++;
  }

  #show(line: string): void {
    process.stdout.write(`${line}\n`);
  }
}

async function runTap(files: readonly string[], reader: TapReader): Promise<number> {
  const tap = createRequire(import.meta.url).resolve('tap');
  const bin = join(
    tap.slice(0, tap.lastIndexOf(join('node_modules', 'tap'))),
    'node_modules',
    '.bin',
    'tap',
  );
  const args = [
    'run',
    '--disable-coverage',
    '--jobs=2',
    `--timeout=${long ? LONG_TIMEOUT_SECONDS : TIMEOUT_SECONDS}`,
    '--reporter=tap',
    ...files,
  ];
  // In a process group of its own, so that Ctrl-C reaches it once and whole: tap alone would wait for its tests.
  const child = spawn(bin, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const stop = () => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  const ended = new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 1)));
  for await (const line of createInterface({ input: child.stdout })) reader.line(line);
  return ended;
}

const wanted = process.argv.slice(2).filter((argument) => argument !== '--long');
const long = process.argv.includes('--long');
const files = testFiles(HERE)
  .map((path) => relative(process.cwd(), path))
  .filter((path) => long || !path.endsWith('.long.test.js'))
  .filter((path) => wanted.length === 0 || wanted.some((part) => path.includes(part)));
const reader = new TapReader();
const code = files.length === 0 ? 1 : await runTap(files, reader);
// tap also fails for what is no assertion: a crash, a time-out, a leaked handle.
const failed = code !== 0 && reader.failed === 0 ? 1 : reader.failed;
process.stdout.write(`\n${reader.passed} passed, ${failed} failed\n`);
process.exitCode = failed > 0 || reader.passed === 0 ? 1 : 0;
