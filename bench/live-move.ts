/**
 * The family live-move: a shard goes from one `divan serve` to another and back, while a client writes and reads through both without pause.
 * Each has a shard of the database at first. Before each move the load goes on for a while without a job, over the same shards in the same
 * places: that is what the load beside the job is compared with.
 */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { ADMIN, BenchServer, CLI } from './http-servers.js';
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
import type { BenchInput, BenchResult, BenchRun } from './result.js';

const DATABASE = 'live';
const SEED = 1;
/** Of a run: there and back. */
const STEPS = 2;
const HOST = '127.0.0.1';

export async function liveMove(input: BenchInput): Promise<BenchResult[]> {
  const servers: BenchServer[] = [];
  try {
    for (const number of [1, 2]) servers.push(await startNode(input, number));
    const [first, second] = servers;
    if (first === undefined || second === undefined) throw new Error('there are two');
    await setUp(first, second);
    return await measure([first, second], input);
  } finally {
    await Promise.all(servers.map((server) => server.end()));
  }
}

function nameOf(number: number): string {
  return `node${number}@${HOST}`;
}

async function startNode({ directory }: BenchInput, number: number): Promise<BenchServer> {
  const port = await freePort();
  const inside = (name: string) => join(directory, `${name}${number}`);
  const args = [
    ...[CLI, 'serve', '--data-dir', inside('data'), '--port', String(port)],
    ...['--name', nameOf(number), '--advertise', `http://${HOST}:${port}`],
  ];
  return BenchServer.start(args, inside('log'));
}

/** Others have to be told where a node is before it listens. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, HOST, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' ? (address?.port ?? 0) : 0));
    });
  });
}

async function setUp(first: BenchServer, second: BenchServer): Promise<void> {
  const [user, pass] = ADMIN.split(':');
  const admin = { user, pass };
  for (const server of [first, second]) {
    const { port } = server;
    const body = { action: 'enable_cluster', admin, bind_address: HOST, port };
    await server.call('POST', '/_setup', body);
  }
  const node = { host: HOST, port: second.port };
  await first.call('POST', '/_setup', { action: 'add_node', admin, node });
  await first.call('POST', '/_setup', { action: 'finish_cluster' });
}

async function measure(
  servers: readonly [BenchServer, BenchServer],
  input: BenchInput,
): Promise<BenchResult[]> {
  const [first] = servers;
  await first.call('PUT', `/${DATABASE}?q=2`);
  post(first, DATABASE, input, input.docs, SEED);
  const jobs = new LiveJobs(first, DATABASE);
  let shard = await jobs.firstShard();
  const client = await LiveClient.start(servers, DATABASE, input, SEED);
  const runs: LiveRun[] = [];
  try {
    for (let run = -input.discarded; run < input.runs; run++) {
      const found = await measureOnce({ servers, input, jobs, client, shard });
      shard = found.jobs.at(-1)?.targets[0] ?? '';
      if (run >= 0) runs.push(found);
    }
  } finally {
    await client.end();
  }
  return resultsOf(input, runs);
}

interface Measured {
  readonly servers: readonly BenchServer[];
  readonly input: BenchInput;
  readonly jobs: LiveJobs;
  readonly client: LiveClient;
  readonly shard: string;
}

async function measureOnce({ servers, input, jobs, client, shard }: Measured): Promise<LiveRun> {
  const calm = new Watched(servers);
  const busy = new Watched(servers);
  const done: DoneJob[] = [];
  for (let step = 0; step < STEPS; step++) {
    const ms = Math.max(CALM_SECONDS_MIN, input.seconds / STEPS) * 1000;
    // What a shard that has just come has in no cache is not what is compared.
    await sleep(ms / 2);
    await calm.watch(() => sleep(ms).then(() => []));
    const from = done.at(-1)?.targets[0] ?? shard;
    const target = jobs.node === nameOf(1) ? nameOf(2) : nameOf(1);
    const moved = await busy.watch(async () => [await jobs.finish(await jobs.move(from, target))]);
    done.push(...moved);
  }
  // What has come is compared and looked through after the first copy.
  const moving = done.map(({ copying, cutover }) => ({ from: copying.from, to: cutover.from }));
  const answer = await client.ask({
    phases: [calm.stretches, together(moving)],
    cutovers: done.map(({ cutover }) => cutover),
  });
  return { answer, jobs: done, quiet: calm.used(), busy: busy.used() };
}

function resultsOf(input: BenchInput, runs: readonly LiveRun[]): BenchResult[] {
  const row = (label: string, of: readonly BenchRun[]): BenchResult => ({
    ...{ family: 'live-move', label, docs: input.docs, size: input.size, sourceBytes: 0 },
    runs: of,
  });
  return [
    ...rowsOf(row, runs, { without: 'no move', during: 'moving' }),
    row('handovers', [cutoversOf(runs)]),
  ];
}
