/**
 * The family live-split: shards of `divan serve` are split and merged while a client writes and reads without pause. In each run the
 * shard is split in two, each half again, and what came of it is merged back. Before each of these steps the load goes on for a while without
 * a job, over the same shards: that is what the load beside the jobs is compared with. Last, how
 * fast a copy catches up with documents that were posted meanwhile.
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
/** Of a run: to two shards, to four, to two, to one. */
const STEPS = 4;
/** In less time there might be no write at all. */
const CALM_SECONDS_MIN = 0.25;
const OF_QUIET = 'of no split';
const P99_OF_QUIET = 'p99 of no split';
/** Of the documents: how many are posted while the copy is made that then catches up. */
const POSTED_SHARE = 0.2;
/** How long that copy takes at least, so that all are posted meanwhile: for each of the documents. */
const COPY_MS_PER_DOCUMENT = 0.02;
const COPY_MS_MIN = 2000;
/** With fewer acknowledged documents in the second before a cutover, or with no write that waits in half of them, it shows nothing. */
const ACKNOWLEDGED_MIN = 500;

/** So many local docs are posted at a time. */
const LOCAL_DOCS_BATCH = 1000;
const LOCAL_DOC_BYTES = 100;

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
  await postLocalDocs(server, input.localDocs);
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

async function postLocalDocs(server: BenchServer, count: number): Promise<void> {
  const text = 'x'.repeat(LOCAL_DOC_BYTES);
  for (let first = 0; first < count; first += LOCAL_DOCS_BATCH) {
    const length = Math.min(LOCAL_DOCS_BATCH, count - first);
    const docs = Array.from({ length }, (_, index) => ({
      _id: `_local/there-${first + index}`,
      text,
    }));
    await server.call('POST', `/${DATABASE}/_bulk_docs`, { docs });
  }
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
  const calm = new Watched(server);
  const busy = new Watched(server);
  const done: DoneJob[] = [];
  let shards: readonly string[] = [shard];
  for (let step = 0; step < STEPS; step++) {
    const ms = Math.max(CALM_SECONDS_MIN, input.seconds / STEPS) * 1000;
    // Caches of shards that were just put in their place are empty, which is not what is compared.
    await sleep(ms / 2);
    await calm.watch(() => sleep(ms).then(() => []));
    const finished = await busy.watch(() => oneStep(jobs, step, shards));
    done.push(...finished);
    shards = finished.flatMap(({ targets }) => targets);
  }
  const answer = await client.ask({
    phases: [calm.stretches, together(done.map(({ copying }) => copying))],
    cutovers: done.map(({ cutover }) => cutover),
  });
  const found = { answer, jobs: done, quiet: calm.used(), splitting: busy.used() };
  return { found, merged: shards[0] ?? '' };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What the server used in several stretches of time. */
class Watched {
  readonly stretches: Stretch[] = [];
  readonly #server: BenchServer;
  readonly #runs: BenchRun[] = [];

  constructor(server: BenchServer) {
    this.#server = server;
  }

  async watch<T>(work: () => Promise<readonly T[]>): Promise<readonly T[]> {
    const from = timeOfDay();
    let results: readonly T[] = [];
    const run = await this.#server.observe(async () => {
      results = await work();
      return { seconds: (timeOfDay() - from) / 1000 };
    });
    this.#runs.push(run);
    this.stretches.push({ from, to: timeOfDay() });
    return results;
  }

  /** The sums and the greatest. */
  used(): BenchRun {
    const sumOf = (of: (run: BenchRun) => number | undefined) =>
      this.#runs.reduce((sum, run) => sum + (of(run) ?? 0), 0);
    const mostOf = (of: (run: BenchRun) => number | undefined) =>
      Math.max(...this.#runs.map((run) => of(run) ?? 0));
    return {
      seconds: sumOf(({ seconds }) => seconds),
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

/** In two, each half in two, these together, and all together. */
function oneStep(jobs: LiveJobs, step: number, shards: readonly string[]): Promise<DoneJob[]> {
  const pairs = [shards.slice(0, 2), shards.slice(2)].filter((pair) => pair.length > 0);
  const begun =
    2 * step < STEPS
      ? shards.map((shard) => jobs.split(shard))
      : pairs.map((pair) => jobs.merge(pair));
  return Promise.all(begun.map(async (id) => jobs.finish(await id)));
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
