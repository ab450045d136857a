/**
 * The family live-split: shards of `divan serve` are split and merged while a client writes and reads without pause. In each run the
 * shard is split in two, each half again, and what came of it is merged back. Before each of these steps the load goes on for a while without
 * a job, over the same shards: that is what the load beside the jobs is compared with. Last, how
 * fast a copy catches up with documents that were posted meanwhile.
 */
import { type BenchServer, Servers } from './http-servers.js';
import { type DoneJob, LiveJobs } from './live-jobs.js';
import {
  CALM_SECONDS_MIN,
  cutoversOf,
  LiveClient,
  type LiveRun,
  post,
  rowsOf,
  sleep,
  together,
  Watched,
} from './live-runs.js';
import { timeOfDay } from './live-times.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';

const DATABASE = 'live';
const CAUGHT_UP = 'caught';
const SEEDS = { documents: 1, posted: 2 } as const;
/** Of a run: to two shards, to four, to two, to one. */
const STEPS = 4;
/** Of the documents: how many are posted while the copy is made that then catches up. */
const POSTED_SHARE = 0.2;
/** How long that copy takes at least, so that all are posted meanwhile: for each of the documents. */
const COPY_MS_PER_DOCUMENT = 0.02;
const COPY_MS_MIN = 2000;
/** So many local docs are posted at a time. */
const LOCAL_DOCS_BATCH = 1000;
const LOCAL_DOC_BYTES = 100;

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
  const client = await LiveClient.start([server], DATABASE, input, SEEDS.documents);
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
  const calm = new Watched([server]);
  const busy = new Watched([server]);
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
  const found = { answer, jobs: done, quiet: calm.used(), busy: busy.used() };
  return { found, merged: shards[0] ?? '' };
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
  return [
    ...rowsOf(row, runs, { without: 'no split', during: 'copying' }),
    row('cutovers', [cutoversOf(runs)]),
    row('catching up', caughtUp),
  ];
}
