/**
 * The family live-split: shards of `divan serve` are split and merged while a client writes and reads without pause. In each run the load
 * goes on for a while without a job, then the shard is split in two, each half again, and what came of it is merged back. Last, how fast a
 * copy catches up with documents that were posted meanwhile.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { program, runChild } from './child.js';
import { type BenchServer, Servers } from './http-servers.js';
import type { LiveAnswer, LiveQuestion } from './live-client.js';
import { type DoneJob, LiveJobs } from './live-jobs.js';
import { type Latencies, type Stretch, timeOfDay } from './live-times.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';

const DATABASE = 'live';
const CAUGHT_UP = 'caught';
const SEEDS = { documents: 1, posted: 2 } as const;
/** In less time there might be no write at all. */
const QUIET_SECONDS_MIN = 1;
const OF_QUIET = 'of no split';
const P99_OF_QUIET = 'p99 of no split';
/** Of the documents: how many are posted while the copy is made that then catches up. */
const POSTED_SHARE = 0.2;
/** How long that copy takes at least, so that all are posted meanwhile: for each of the documents. */
const COPY_MS_PER_DOCUMENT = 0.02;
const COPY_MS_MIN = 2000;
/** With fewer acknowledged documents in the second before a cutover, or with no write that waits in half of them, it shows nothing. */
const ACKNOWLEDGED_MIN = 500;

/** What one run found. */
interface LiveRun {
  readonly answer: LiveAnswer;
  readonly jobs: readonly DoneJob[];
  readonly quiet: BenchRun;
  readonly splitting: BenchRun;
}

export async function liveSplit(input: BenchInput): Promise<BenchResult[]> {
  const servers = new Servers(input.directory, true);
  try {
    return await servers.use('divan', (server) => measure(server, input));
  } finally {
    await servers.close();
  }
}

async function measure(server: BenchServer, input: BenchInput): Promise<BenchResult[]> {
  await server.call('PUT', `/${DATABASE}?q=1`);
  post(server, DATABASE, input, input.docs, SEEDS.documents);
  const jobs = new LiveJobs(server, DATABASE);
  let shard = await jobs.firstShard();
  const client = await LiveClient.start(server, input);
  const runs: LiveRun[] = [];
  try {
    for (let run = -input.discarded; run < input.runs; run++) {
      const { found, merged } = await measureOnce({ server, input, jobs, client, shard });
      shard = merged;
      if (run >= 0) runs.push(found);
    }
  } finally {
    await client.end();
  }
  const caughtUp: BenchRun[] = [];
  for (let run = 0; run < input.runs; run++) caughtUp.push(await catchUp(server, input));
  return resultsOf(input, runs, caughtUp);
}

function post(
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
class LiveClient {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start({ port }: BenchServer, { docs, size }: BenchInput): Promise<LiveClient> {
    const numbers = [docs, size, SEEDS.documents].map(String);
    const client = new LiveClient(
      fork(program('live-client.js'), [String(port), DATABASE, ...numbers]),
    );
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

interface Measured {
  readonly server: BenchServer;
  readonly input: BenchInput;
  readonly jobs: LiveJobs;
  readonly client: LiveClient;
  readonly shard: string;
}

async function measureOnce({
  server,
  input,
  jobs,
  client,
  shard,
}: Measured): Promise<{ found: LiveRun; merged: string }> {
  const from = timeOfDay();
  const quiet = await server.observe(async () => {
    const seconds = Math.max(QUIET_SECONDS_MIN, input.seconds);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return { seconds };
  });
  const calm = { from, to: timeOfDay() };
  const done: DoneJob[] = [];
  const splitting = await server.observe(async () => {
    const start = performance.now();
    done.push(...(await splitAndMerge(jobs, shard)));
    return { seconds: (performance.now() - start) / 1000 };
  });
  const answer = await client.ask({
    phases: [[calm], together(done.map(({ copying }) => copying))],
    cutovers: done.map(({ cutover }) => cutover),
  });
  const merged = done.at(-1)?.targets[0] ?? '';
  return { found: { answer, jobs: done, quiet, splitting }, merged };
}

/** In two, each half in two, and back. */
async function splitAndMerge(jobs: LiveJobs, shard: string): Promise<DoneJob[]> {
  const first = await jobs.finish(await jobs.split(shard));
  const halves = await both(jobs, first.targets, (half) => jobs.split(half));
  const merged = await both(jobs, halves, ({ targets }) => jobs.merge(targets));
  const whole = merged.flatMap(({ targets }) => targets);
  return [first, ...halves, ...merged, await jobs.finish(await jobs.merge(whole))];
}

async function both<T>(
  jobs: LiveJobs,
  of: readonly T[],
  begin: (one: T) => Promise<string>,
): Promise<DoneJob[]> {
  return Promise.all(of.map(async (one) => jobs.finish(await begin(one))));
}

/** Stretches without what they have in common. */
function together(stretches: readonly Stretch[]): Stretch[] {
  const joined: Stretch[] = [];
  for (const { from, to } of [...stretches].sort((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last === undefined || last.to < from) joined.push({ from, to });
    else joined.splice(-1, 1, { from: last.from, to: Math.max(last.to, to) });
  }
  return joined;
}

/** How fast a copy catches up with documents that were posted while it was made, with nothing else going on. */
async function catchUp(server: BenchServer, input: BenchInput): Promise<BenchRun> {
  await server.call('PUT', `/${CAUGHT_UP}?q=1`);
  try {
    const posted = Math.round(input.docs * POSTED_SHARE);
    post(server, CAUGHT_UP, input, posted, SEEDS.documents);
    const jobs = new LiveJobs(server, CAUGHT_UP);
    const shard = await jobs.firstShard();
    const copySeconds = Math.max(COPY_MS_MIN, posted * COPY_MS_PER_DOCUMENT) / 1000;
    const id = await jobs.split(shard, Math.round((posted * input.size) / copySeconds));
    while ((await jobs.phaseOf(id)) === 'new') await new Promise(setImmediate);
    return await server.observe(async () => {
      post(server, CAUGHT_UP, input, posted, SEEDS.posted);
      const postedAt = timeOfDay();
      const { copying, catchingUp } = await jobs.finish(id);
      if (postedAt > copying.to) throw new Error('the copy was made before all were posted');
      return { docs: posted, seconds: (catchingUp.to - catchingUp.from) / 1000 };
    });
  } finally {
    await server.call('DELETE', `/${CAUGHT_UP}`);
  }
}

function resultsOf(
  input: BenchInput,
  runs: readonly LiveRun[],
  caughtUp: readonly BenchRun[],
): BenchResult[] {
  const row = (label: string, of: readonly BenchRun[]): BenchResult => ({
    ...{ family: 'live-split', label, docs: input.docs, size: input.size, sourceBytes: 0 },
    runs: of,
  });
  const ofKind = (kind: 'reads' | 'writes') => [
    row(
      `${kind}, no split`,
      runs.map(({ answer, quiet }) => ({ ...quiet, ...runOf(answer.phases[0]?.[kind]) })),
    ),
    row(
      `${kind}, copying`,
      runs.map(({ answer, splitting }) => {
        const [quiet, copying] = answer.phases.map((phase) => phase[kind]);
        return { ...splitting, ...runOf(copying), ratios: ratiosOf(quiet, copying) };
      }),
    ),
  ];
  return [
    ...ofKind('reads'),
    ...ofKind('writes'),
    row('cutovers', [cutoversOf(runs)]),
    row('catching up', caughtUp),
  ];
}

function runOf(latencies: Latencies | undefined): BenchRun {
  const { seconds = 0, requests = 0, p50Ms, p99Ms, maxMs } = latencies ?? {};
  return { seconds, docs: requests, p50Ms, p99Ms, maxMs };
}

function ratiosOf(
  quiet: Latencies | undefined,
  copying: Latencies | undefined,
): { readonly [name: string]: number } {
  if (quiet === undefined || copying === undefined) return {};
  const speed = ({ requests, seconds }: Latencies) => requests / seconds;
  return {
    [OF_QUIET]: speed(copying) / speed(quiet),
    [P99_OF_QUIET]: copying.p99Ms / quiet.p99Ms,
  };
}

/** All of them as one run, since what counts is the worst. */
function cutoversOf(runs: readonly LiveRun[]): BenchRun {
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
