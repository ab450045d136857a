/**
 * Runs the compiled tests, two files at a time, each a program that says in TAP what it found, and ends its output with a line
 * `N passed, N failed`. What the command `tap run` would load into each of them takes more time than most of them do.
 *
 * `node dist/test/run.js [--long] [part of a path …]`: files named `*.long.test.js` only run with `--long`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { TapReader } from './support/tap-reader.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const WITHOUT_HOOKS = new URL('support/without-hooks.js', import.meta.url).href;
const AT_ONCE = 2;
const TIMEOUT_SECONDS = 900;
const LONG_TIMEOUT_SECONDS = 2 * 3600;

/** Those that take longest begin first, so that none of them is left to run alone in the end. */
const LONGEST = [
  ...['tools/rewrite', 'rewrite/power-loss', 'tools/cli', 'splits/kill', 'shard/power-loss'],
  ...['shard/shard', 'rewrite/faults', 'bench/bench', 'server/power-loss', 'cluster/simulation'],
];

function testFiles(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return testFiles(path);
    return entry.name.endsWith('.test.js') ? [path] : [];
  });
}

function longestFirst(files: readonly string[]): string[] {
  const rank = (path: string) => {
    const index = LONGEST.findIndex((part) => path.includes(part));
    return index < 0 ? LONGEST.length : index;
  };
  return [...files].sort((a, b) => rank(a) - rank(b));
}

interface Counts {
  passed: number;
  failed: number;
}

class TestRun {
  readonly counts: Counts = { passed: 0, failed: 0 };
  readonly #seconds: number;
  readonly #running = new Set<ChildProcess>();

  constructor(seconds: number) {
    this.#seconds = seconds;
  }

  async runAll(files: readonly string[]): Promise<void> {
    const waiting = longestFirst(files);
    const lane = async () => {
      for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
        await this.#runFile(file);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
  }

  /** Ends everything that runs, with the processes that it started. */
  killAll(): void {
    for (const child of this.#running) kill(child);
  }

  async #runFile(file: string): Promise<void> {
    const start = performance.now();
    // In a process group of its own, so that what it started can be ended with it.
    const child = spawn(
      process.execPath,
      ['--enable-source-maps', '--import', WITHOUT_HOOKS, file],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
        detached: true,
        env: { ...process.env, TAP_TIMEOUT: String(this.#seconds) },
      },
    );
    this.#running.add(child);
    const ended = new Promise<string>((resolve) => {
      child.on('close', (code, signal) => resolve(code === 0 ? '' : `${signal ?? `code ${code}`}`));
    });
    const timer = setTimeout(() => kill(child), this.#seconds * 1000);
    const reader = new TapReader();
    for await (const line of createInterface({ input: child.stdout })) reader.line(line);
    const end = await ended;
    clearTimeout(timer);
    this.#running.delete(child);
    this.#tell(file, reader, end, performance.now() - start);
  }

  #tell(file: string, reader: TapReader, end: string, ms: number): void {
    const { passed, shown } = reader;
    // A file also fails for what is no assertion: a crash, a time-out, or that it has no test.
    const problem = end !== '' ? `it ended with ${end}` : passed === 0 ? 'it asserts nothing' : '';
    const failed = reader.failed === 0 && problem !== '' ? 1 : reader.failed;
    this.counts.passed += passed;
    this.counts.failed += failed;
    const result = failed === 0 ? 'ok' : 'not ok';
    const reason = problem === '' ? '' : `, ${problem}`;
    const seconds = (ms / 1000).toFixed(1);
    const lines = [...shown, `${result} - ${file} # ${passed} passed, ${seconds} s${reason}`, ''];
    process.stdout.write(lines.join('\n'));
  }
}

function kill({ pid }: ChildProcess): void {
  if (pid !== undefined) process.kill(-pid, 'SIGKILL');
}

const wanted = process.argv.slice(2).filter((argument) => argument !== '--long');
const long = process.argv.includes('--long');
const files = testFiles(HERE)
  .map((path) => relative(process.cwd(), path))
  .filter((path) => long || !path.endsWith('.long.test.js'))
  .filter((path) => wanted.length === 0 || wanted.some((part) => path.includes(part)));
const run = new TestRun(long ? LONG_TIMEOUT_SECONDS : TIMEOUT_SECONDS);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    run.killAll();
    process.exit(1);
  });
}
await run.runAll(files);
const { passed, failed } = run.counts;
process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
