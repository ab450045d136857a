/**
 * Goal: a server that is killed while a job copies goes on where that was: at most a second and a half of copying is done again.
 * Method: the real command and a job that is held to a rate, SIGKILL at random moments, and what the job says of how far it is before and
 * afterwards.
 */
import { setTimeout as wait } from 'node:timers/promises';
import t from 'tap';
import { temporaryDirectory } from '../../support/cli.js';
import { seededRandom, seedOf } from '../../support/seed.js';
import { memberOf } from '../../support/server.js';
import { type HttpClient, ServerProcess } from '../../support/server-process.js';
import { expectStatus } from '../../support/split-kill-load.js';

const DOCUMENTS = 60_000;
const BATCH = 2000;
const FILLER = 'x'.repeat(200);
/** So that copying takes some seconds, beginning slowly. */
const RATE = '8MB/s';
const KILLS = 4;
const LIFE_MS = { least: 600, most: 2000 };
const LOOK_MS = 10;
const REPEATED_MS_MAX = 1500;
/** Of bodies and what belongs to them: a job copies at least so much before it tells of it. */
const STEP_BYTES = 256 * 1024;

/** How far the job was at a time. */
interface Look {
  readonly atMs: number;
  readonly bytes: number;
}

async function fill(client: HttpClient): Promise<void> {
  await expectStatus(client, 201, 'PUT', '/db?q=1');
  for (let from = 0; from < DOCUMENTS; from += BATCH) {
    const docs = Array.from({ length: BATCH }, (_, n) => ({ _id: `d${from + n}`, FILLER }));
    await expectStatus(client, 201, 'POST', '/db/_bulk_docs', { docs });
  }
}

async function split(client: HttpClient): Promise<string> {
  const { shards }: { shards: object } = await getJson(client, '/db/_shards');
  const summary = memberOf(memberOf(await getJson(client, '/_shard_splits'), 'states'), 'running');
  const start = memberOf(await getJson(client, '/db'), 'instance_start_time');
  const shard = `shards/${Object.keys(shards)[0]}/db.${start}`;
  const job = { node: Array.isArray(summary) ? summary[0] : '', shard, rate: RATE };
  const made = await expectStatus(client, 201, 'POST', '/_shard_splits/jobs', job);
  return String(memberOf(JSON.parse(made), 'id'));
}

async function getJson<T>(client: HttpClient, path: string): Promise<T> {
  return JSON.parse(await expectStatus(client, 200, 'GET', path));
}

/** Looks how far the copying is for a while from the first that is told of it on. Undefined once it is done. */
async function watch(client: HttpClient, path: string, ms: number): Promise<Look[] | undefined> {
  const looks: Look[] = [];
  for (let endMs = Number.POSITIVE_INFINITY; performance.now() < endMs; await wait(LOOK_MS)) {
    const job = await getJson<object>(client, path);
    const phase = memberOf(job, 'split_state');
    if (phase !== 'new' && phase !== 'initial_copy') return undefined;
    const bytes = memberOf(memberOf(job, 'state_info'), 'bytes_done');
    if (typeof bytes !== 'number') continue;
    if (looks.length === 0) endMs = performance.now() + ms;
    looks.push({ atMs: performance.now(), bytes });
  }
  return looks;
}

t.test('what a kill makes a job do again', async (t) => {
  const random = seededRandom(seedOf(t));
  const dataDir = temporaryDirectory(t);
  let server = await ServerProcess.start({ dataDir });
  t.teardown(() => server.end('SIGKILL'));
  await fill(server.client());
  const path = `/_shard_splits/jobs/${await split(server.client())}`;
  const repeatedMs: number[] = [];
  let before: { readonly looks: readonly Look[]; readonly killedAtMs: number } | undefined;
  while (repeatedMs.length < KILLS) {
    const ms = LIFE_MS.least + random() * (LIFE_MS.most - LIFE_MS.least);
    const looks = await watch(server.client(), path, ms);
    if (looks === undefined) break;
    const [first] = looks;
    if (before !== undefined && first !== undefined) {
      const kept = Math.max(0, first.bytes - STEP_BYTES);
      const { looks: earlier, killedAtMs } = before;
      // If nothing of it was kept, all that the run before did is done again.
      const from = earlier.findLast(({ bytes }) => bytes <= kept) ?? earlier[0];
      repeatedMs.push(killedAtMs - (from?.atMs ?? 0));
    }
    before = { looks, killedAtMs: performance.now() };
    await server.end('SIGKILL');
    server = await ServerProcess.start({ dataDir });
  }
  t.comment(`repeated ${repeatedMs.map((ms) => ms.toFixed(0)).join(', ')} ms`);
  t.ok(repeatedMs.length > 0, 'it was killed while it copied');
  t.ok(Math.max(...repeatedMs) <= REPEATED_MS_MAX);
});
