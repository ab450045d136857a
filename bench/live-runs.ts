/** What the families live-split and live-move have in common: the client, what servers use meanwhile, and what is told of the runs. */
import { type ChildProcess, fork } from 'node:child_process';
import { program, runChild } from './child.js';
import type { BenchServer } from './http-servers.js';
import type { LiveAnswer, LiveQuestion } from './live-client.js';
import type { DoneJob } from './live-jobs.js';
import { type Latencies, type Stretch, timeOfDay } from './live-times.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';

/** In less time there might be no write at all. */
export const CALM_SECONDS_MIN = 0.25;
/** With fewer acknowledged documents in the second before a cutover, or with no write that waits in half of them, it shows nothing. */
const ACKNOWLEDGED_MIN = 500;

/** What one run found; the phases of the answer are those of calm and of jobs. */
export interface LiveRun {
  readonly answer: LiveAnswer;
  readonly jobs: readonly DoneJob[];
  readonly quiet: BenchRun;
  readonly busy: BenchRun;
}

/** Posts synthetic documents. */
export function post(
  server: BenchServer,
  database: string,
  { size }: BenchInput,
  docs: number,
  seed: number,
): void {
  const path = `/${database}/_bulk_docs`;
  const numbers = [docs, size, seed].map(String);
  runChild(program('http-client.js'), ['bulk', String(server.port), path, ...numbers]);
}

/** The process of the client. */
export class LiveClient {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Its requests go to all servers by turns. `seed`: of the documents that are there. */
  static async start(
    servers: readonly BenchServer[],
    database: string,
    { docs, size }: BenchInput,
    seed: number,
  ): Promise<LiveClient> {
    const ports = servers.map(({ port }) => port).join();
    const numbers = [docs, size, seed].map(String);
    const client = new LiveClient(fork(program('live-client.js'), [ports, database, ...numbers]));
    await client.#next();
    return client;
  }

  async ask(question: LiveQuestion): Promise<LiveAnswer> {
    const answer = this.#next<LiveAnswer>();
    this.#child.send(question);
    return answer;
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }

  #next<T>(): Promise<T> {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error('the client ended'));
      this.#child.once('exit', ended);
      this.#child.once('message', (message: T) => {
        this.#child.off('exit', ended);
        resolve(message);
      });
    });
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What servers used in several stretches of time. */
export class Watched {
  readonly stretches: Stretch[] = [];
  readonly #servers: readonly BenchServer[];
  readonly #runs: BenchRun[] = [];

  constructor(servers: readonly BenchServer[]) {
    this.#servers = servers;
  }

  async watch<T>(work: () => Promise<readonly T[]>): Promise<readonly T[]> {
    const from = timeOfDay();
    let results: readonly T[] = [];
    let observed = async () => {
      results = await work();
    };
    for (const server of this.#servers) {
      const inner = observed;
      observed = async () => {
        const run = await server.observe(async () => {
          await inner();
          return { seconds: 0 };
        });
        this.#runs.push(run);
      };
    }
    await observed();
    this.stretches.push({ from, to: timeOfDay() });
    return results;
  }

  /** The sums and the greatest, over all servers. */
  used(): BenchRun {
    const sumOf = (of: (run: BenchRun) => number | undefined) =>
      this.#runs.reduce((sum, run) => sum + (of(run) ?? 0), 0);
    const mostOf = (of: (run: BenchRun) => number | undefined) =>
      Math.max(...this.#runs.map((run) => of(run) ?? 0));
    return {
      seconds: this.stretches.reduce((sum, { from, to }) => sum + (to - from) / 1000, 0),
      cpuSeconds: sumOf(({ cpuSeconds }) => cpuSeconds),
      bytesRead: sumOf(({ bytesRead }) => bytesRead),
      bytesWritten: sumOf(({ bytesWritten }) => bytesWritten),
      peakMiB: mostOf(({ peakMiB }) => peakMiB),
      grownMiB: mostOf(({ grownMiB }) => grownMiB),
      delayP99Ms: mostOf(({ delayP99Ms }) => delayP99Ms),
      delayMaxMs: mostOf(({ delayMaxMs }) => delayMaxMs),
    };
  }
}

/** Stretches without what they have in common. */
export function together(stretches: readonly Stretch[]): Stretch[] {
  const joined: Stretch[] = [];
  for (const { from, to } of [...stretches].sort((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last === undefined || last.to < from) joined.push({ from, to });
    else joined.splice(-1, 1, { from: last.from, to: Math.max(last.to, to) });
  }
  return joined;
}

/** Rows of reads and writes, each without a job and with jobs; `without` and `during` say what they are called. */
export function rowsOf(
  row: (label: string, runs: readonly BenchRun[]) => BenchResult,
  runs: readonly LiveRun[],
  { without, during }: { readonly without: string; readonly during: string },
): BenchResult[] {
  return (['reads', 'writes'] as const).flatMap((kind) => [
    row(
      `${kind}, ${without}`,
      runs.map(({ answer, quiet }) => ({ ...quiet, ...runOf(answer.phases[0]?.[kind]) })),
    ),
    row(
      `${kind}, ${during}`,
      runs.map(({ answer, busy }) => {
        const [quiet, meanwhile] = answer.phases.map((phase) => phase[kind]);
        return { ...busy, ...runOf(meanwhile), ratios: ratiosOf(without, quiet, meanwhile) };
      }),
    ),
  ]);
}

function runOf(latencies: Latencies | undefined): BenchRun {
  const { seconds = 0, requests = 0, p50Ms, p99Ms, maxMs } = latencies ?? {};
  return { seconds, docs: requests, p50Ms, p99Ms, maxMs };
}

function ratiosOf(
  without: string,
  quiet: Latencies | undefined,
  busy: Latencies | undefined,
): { readonly [name: string]: number } {
  if (quiet === undefined || busy === undefined) return {};
  const speed = ({ requests, seconds }: Latencies) => requests / seconds;
  return {
    [`of ${without}`]: speed(busy) / speed(quiet),
    [`p99 of ${without}`]: busy.p99Ms / quiet.p99Ms,
  };
}

/** All cutovers as one run, since what counts is the worst. */
export function cutoversOf(runs: readonly LiveRun[]): BenchRun {
  const cutovers = runs.flatMap(({ answer }) => answer.cutovers);
  const jobs = runs.flatMap((run) => run.jobs);
  const longest = cutovers.map(({ longestMs }) => longestMs).sort((a, b) => a - b);
  const at = (share: number) => longest[Math.ceil(longest.length * share) - 1];
  const acknowledged = Math.min(...cutovers.map((cutover) => cutover.acknowledged));
  const idle = cutovers.filter(({ waiting }) => waiting === 0).length;
  const failures = runs.at(-1)?.answer.failures ?? [];
  for (const failure of failures) process.stderr.write(`bench: failed: ${failure}\n`);
  if (acknowledged < ACKNOWLEDGED_MIN) {
    process.stderr.write(`bench: void: ${acknowledged} writes in the second before a cutover\n`);
  }
  if (2 * idle >= cutovers.length) {
    process.stderr.write(`bench: void: no write waited in ${idle} cutovers\n`);
  }
  return {
    seconds: jobs.reduce((sum, { cutover }) => sum + (cutover.to - cutover.from) / 1000, 0),
    docs: cutovers.length,
    ...{ p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) },
    pauseMs: Math.max(...jobs.map(({ pauseMs }) => pauseMs ?? 0)),
    acknowledged,
    failures: failures.length,
  };
}
