/**
 * Goal: `/_shard_splits` answers each request with its status and body, and each wrong one with a reason that helps.
 * Method: a server on a port of its own, through fetch, whose jobs are done by a runner that does what the test tells it.
 */
import t, { type Test } from 'tap';
import { DivanError } from '../../../engine/errors.js';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import type { Storage } from '../../../engine/file/storage.js';
import { namesOfShardFile } from '../../../server/databases/shard-map.js';
import { FakeRunner } from '../../support/fake-runner.js';
import { type Reply, TestServer, type TestServerOptions } from '../../support/server.js';

const NODE = 'node1@127.0.0.1';
const JOBS = '/_shard_splits/jobs';
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

async function open(t: Test, options: TestServerOptions = {}, q = 4) {
  const runner = new FakeRunner();
  const server = await TestServer.open(t, { ...options, runner });
  await server.put(`/db?q=${q}`);
  const { catalog } = server.server.services;
  const shards = catalog.get('db').map.shards.map(({ file }) => namesOfShardFile(file).shard);
  const make = (members: object) => server.post(JOBS, { node: NODE, ...members });
  return { server, runner, shards, make };
}

function idOf({ body }: Reply): string {
  return String(new Map(Object.entries(Object(body))).get('id'));
}

/** A disk on which so many bytes are free. */
function withRoom(bytes: number): Storage {
  return { ...nodeStorage, freeBytes: async () => bytes };
}

t.test('the switch', async (t) => {
  const { server } = await open(t);
  const ok = { status: 200, body: { ok: true } };
  const path = '/_shard_splits';
  t.match(await server.put(path, { stop: 'no time' }), ok);
  t.same((await server.get(path)).body, {
    jobs_total: 0,
    jobs_running: 0,
    states: { stopped: [NODE] },
    state_reason: 'no time',
  });
  t.match(await server.put(path, { stop: 'still none' }), ok);
  t.match((await server.get(path)).body, { state_reason: 'still none' });
  t.match(await server.put(path, { start: true }), ok);
  t.match(await server.put(path, { start: true }), ok, 'again');
  t.same((await server.get(path)).body, {
    jobs_total: 0,
    jobs_running: 0,
    states: { running: [NODE] },
  });
  const wrong = [{}, { stop: 'x', start: true }, { start: false }, { start: 1 }, { stop: '' }];
  for (const body of [...wrong, { stop: ' ' }, { stop: 1 }, { stop: null }, [], 'x', null]) {
    const reply = await server.put(path, JSON.stringify(body), {
      headers: { 'Content-Type': 'application/json' },
    });
    t.match(reply, { status: 400, body: { error: 'bad_request', reason: /must be/ } });
  }
  t.equal((await server.call('POST', path)).status, 405);
  t.match(await server.put(path, { stop: 'x'.repeat(1001) }), {
    status: 400,
    body: { reason: /at most 1000 characters/ },
  });
  t.equal((await server.put(path, { stop: 'x'.repeat(70_000) })).status, 413);
});

t.test('bad requests for a job', async (t) => {
  const { server, shards, make } = await open(t);
  const [shard = ''] = shards;
  const refused: readonly (readonly [object, number, RegExp])[] = [
    [{ node: undefined, shard }, 400, /`node`/],
    [{ node: 'node2@127.0.0.1', shard }, 400, /`node` must be the name of a node of this cluster/],
    [{ node: 7, shard }, 400, /`node` must be a string/],
    [{}, 400, /`shard`/],
    [{ shard: 7 }, 400, /`shard` must be a string/],
    [{ shard: 'db' }, 400, /must look like shards\//],
    [{ shard: 'shards/0-1/db.1' }, 400, /no hash range/],
    [{ shard: 'shards/00000000-3fffffff/db' }, 400, /must look like/],
    [{ shard: 'shards/00000000-3fffffff/DB.1' }, 400, /Only lowercase/],
    [{ shard: 'shards/00000000-3fffffff/none.1' }, 404, /Database does not exist/],
    [{ shard: 'shards/00000000-3fffffff/db.1' }, 404, /is not on this node/],
    [{ shard, parts: 1 }, 400, /`parts` must be an integer from 2 to 64/],
    [{ shard, parts: 65 }, 400, /`parts`/],
    [{ shard, parts: '2' }, 400, /`parts`/],
    [{ shard, parts: 2, ranges: [] }, 400, /mutually exclusive/],
    [{ shard, ranges: 'x' }, 400, /`ranges`/],
    [{ shard, ranges: ['x'] }, 400, /no hash range/],
    [{ shard, ranges: ['00000000-3fffffff'] }, 400, /2 to 64/],
    [{ shard, ranges: ['00000000-0fffffff', '20000000-3fffffff'] }, 400, /gap/],
    [{ shard, rate: 'fast' }, 400, /`rate`.*50MB\/s/],
    [{ shard, rate: 12 }, 400, /at least 1024/],
    [{ shard, rate: 5000.5 }, 400, /`rate`/],
    [{ shard, verify: 'no' }, 400, /`verify`/],
    [{ shard, keep_source: 1 }, 400, /`keep_source`/],
    [{ shard, dry_run: 1 }, 400, /`dry_run`/],
    [{ shard, part: 4 }, 400, /takes no member "part"/],
    [{ shard, type: 'copy' }, 400, /`type`/],
    [{ shard, type: 'move' }, 400, /`target`/],
    [{ shard, type: 'move', target: NODE }, 400, /`target` must be the name of another node/],
    [{ shards }, 400, /takes no member "shards"/],
    [{ type: 'merge', shard }, 400, /takes no member "shard"/],
    [{ type: 'merge', shards, parts: 2 }, 400, /takes no member "parts"/],
    [{ type: 'merge' }, 400, /`shards`/],
    [{ type: 'merge', shards: [shard] }, 400, /2 to 64/],
    [{ type: 'merge', shards: [] }, 400, /one database/],
    [{ type: 'merge', shards: [shard, shard] }, 400, /overlap/],
    [{ type: 'merge', shards: [shards[0], shards[2]] }, 400, /gap/],
    [{ type: 'merge', shards: [shard, 'shards/00000000-3fffffff/other.1'] }, 400, /one database/],
  ];
  for (const [members, status, reason] of refused) {
    const reply = await make(members);
    t.match(reply, { status, body: { reason } }, JSON.stringify(members));
  }
  t.equal((await server.post(JOBS, '{', { headers: {} })).status, 415);
  t.match((await server.get(JOBS)).body, { total_rows: 0 });
});

t.test('a range that is too small', async (t) => {
  const { server, make } = await open(t);
  const { catalog, jobs } = server.server.services;
  const range = { start: 5, end: 6 };
  const shard = catalog.get('db').shards[0];
  if (shard === undefined) throw new Error('there is a shard');
  // No database has so small a shard here, so that the plan is asked directly.
  Object.assign(shard, { range });
  const { file = '' } = catalog.get('db').map.shards[0] ?? {};
  const request = { type: 'split' as const, rate: undefined, verify: true, keepSource: false };
  const plan = jobs.plan({ ...request, shards: [namesOfShardFile(file).shard], into: 3 });
  await t.rejects(plan, { code: 'INVALID_RANGE', message: /can not be divided into 3 parts/ });
  t.equal((await make({ shard: namesOfShardFile(file).shard, parts: 3 })).status, 400);
});

t.test('the life of a split', async (t) => {
  const { server, runner, shards, make } = await open(t);
  const upper = shards[1]?.replace(/\/[^/]+\//, (range) => range.toUpperCase());
  const made = await make({ shard: upper, parts: 3, rate: '50MB/s', verify: false });
  t.match(made, { status: 201, body: { id: /^001-[0-9a-f]{64}$/, ok: true } });
  const id = idOf(made);
  const run = await runner.begun(0);
  t.match(run.job, { rate: 50e6, verify: false, keepSource: false, targets: { length: 3 } });
  run.report();
  await run.context.update({ phase: 'topoff1', writePauseMs: 12.5 });
  const { body } = await server.get(`${JOBS}/${id}`);
  t.match(body, {
    id,
    job_state: 'running',
    node: NODE,
    source: shards[1],
    split_state: 'topoff1',
    targets: [/^shards\/40000000-55555554\/db\.\d+$/, /^shards\/5/, /-7fffffff\//],
    time_created: TIME,
    time_started: TIME,
    time_updated: TIME,
  });
  const info: unknown = new Map(Object.entries(Object(body))).get('state_info');
  t.same(info, {
    documents_done: 1,
    documents_total: 4,
    bytes_done: 100,
    bytes_total: 400,
    percent: 25,
    bytes_per_second: 50,
    eta_seconds: 6,
    changes_behind: 3,
    rate_limit: 50e6,
    throttle: 60,
    retries: 0,
    write_pause_ms: 12.5,
    error: null,
    reason: null,
  });
  t.match(await make({ shard: shards[1] }), {
    status: 409,
    body: { error: 'shard_busy', reason: new RegExp(id) },
  });
  t.match((await server.get('/_active_tasks')).body, [
    { type: 'shard_split', database: shards[1], progress: 25, changes_done: 1, total_changes: 4 },
  ]);
  t.match((await server.get('/_node/_local/_prometheus')).text, /divan_shard_jobs_running 1/);
});

t.test('the end of a split', async (t) => {
  const { server, runner, shards, make } = await open(t);
  const id = idOf(await make({ shard: shards[1] }));
  const run = await runner.begun(0);
  await run.to('topoff1');
  run.finish();
  while (server.server.services.jobs.load.working > 0) await server.get('/_up');
  t.match((await server.get(`${JOBS}/${id}`)).body, {
    job_state: 'completed',
    split_state: 'completed',
    state_info: {},
  });
  const all = await server.get(`${JOBS}/${id}/events`);
  t.match(all.body, {
    offset: 0,
    total_rows: 4,
    events: [{ time: TIME, type: 'new', detail: null }],
  });
  t.match((await server.get(`${JOBS}/${id}/events?skip=1&limit=1`)).body, {
    events: [{ type: 'running', detail: 'initial_copy' }],
    offset: 1,
    total_rows: 4,
  });
  t.match(await server.delete(`${JOBS}/${id}`), { status: 200, body: { ok: true } });
  for (const [method, path] of [
    ['GET', id],
    ['DELETE', id],
    ['GET', `${id}/events`],
    ['GET', '__proto__'],
  ]) {
    const reply = await server.call(method ?? '', `${JOBS}/${path}`);
    t.match(reply, { status: 404, body: { error: 'not_found' } });
  }
  t.match(await server.put(`${JOBS}/${id}/state`, { state: 'running' }), { status: 404 });
});

t.test('pages of jobs, in the order of their making', async (t) => {
  const { server, shards, make } = await open(t);
  const ids: string[] = [];
  for (const shard of shards) ids.push(idOf(await make({ shard })));
  const page = async (query: string) => {
    const { body } = await server.get(`${JOBS}?${query}`);
    const members = new Map(Object.entries(Object(body)));
    const jobs: unknown = members.get('jobs');
    const found = Array.isArray(jobs) ? jobs.map((job: { id: string }) => ids.indexOf(job.id)) : [];
    return [found, members.get('offset'), members.get('total_rows')];
  };
  t.same(await page(''), [[0, 1, 2, 3], 0, 4]);
  t.same(await page('limit=2'), [[0, 1], 0, 4]);
  t.same(await page('limit=2&skip=3'), [[3], 3, 4]);
  t.same(await page('skip=9'), [[], 4, 4]);
  t.same(await page('limit=0'), [[], 0, 4]);
  for (const query of ['limit=x', 'skip=-1', 'limit=1.5']) {
    t.match(await server.get(`${JOBS}?${query}`), { status: 400 }, query);
  }
  const queued = await server.get(`${JOBS}/${ids[3]}`);
  t.match(queued.body, { job_state: 'new', time_started: null, state_info: { percent: null } });
});

t.test('one job is stopped and goes on', async (t) => {
  const { server, runner, shards, make } = await open(t);
  const id = idOf(await make({ shard: shards[0] }));
  const path = `${JOBS}/${id}/state`;
  await runner.begun(0);
  t.match(await server.put(path, { state: 'stopped', reason: 'later' }), { status: 200 });
  t.match((await server.get(`${JOBS}/${id}`)).body, {
    job_state: 'stopped',
    state_info: { reason: 'later' },
  });
  await server.put('/_shard_splits', { stop: 'all' });
  t.match(await server.put(path, { state: 'running' }), {
    status: 409,
    body: { error: 'stopped', reason: 'all' },
  });
  await server.put('/_shard_splits', { start: true });
  t.match(await server.put(path, { state: 'running' }), { status: 200, body: { ok: true } });
  (await runner.begun(1)).fail(new DivanError('CORRUPT', 'rot', { path: 'a.divan', pos: 9 }));
  while (server.server.services.jobs.load.working > 0) await server.get('/_up');
  t.match((await server.get(`${JOBS}/${id}`)).body, {
    job_state: 'failed',
    state_info: { reason: 'rot, file a.divan, offset 9' },
  });
  t.match(await server.put(path, { state: 'running' }), { status: 200 });
  t.equal((await runner.begun(2)).job.id, id);
  for (const [body, reason] of [
    [{}, 'Expected a `state` field'],
    [{ state: null }, 'State field not `running` or `stopped`'],
    [{ state: 'stopped', reason: 1 }, '`reason` must be a string'],
    [[], 'Request body must be a JSON object'],
  ] as const) {
    const reply = await server.put(path, body);
    t.match(reply, { status: 400, body: { error: 'bad_request', reason } });
  }
});

t.test('the rate of a job is changed', async (t) => {
  const { server, runner, shards, make } = await open(t);
  const id = idOf(await make({ shard: shards[0], rate: '1MB/s' }));
  await runner.begun(0);
  const path = `${JOBS}/${id}`;
  t.match((await server.get(path)).body, { state_info: { rate_limit: 1_000_000 } });
  t.match(await server.put(`${path}/rate`, { rate: '50MB/s' }), {
    status: 200,
    body: { ok: true },
  });
  t.match((await server.get(path)).body, { state_info: { rate_limit: 50_000_000 } });
  t.match(await server.put(`${path}/rate`, { rate: null }), { status: 200 });
  t.match((await server.get(path)).body, { state_info: { rate_limit: null } });
  t.strictSame(runner.rates, [
    { id, rate: 50_000_000 },
    { id, rate: undefined },
  ]);
  for (const body of [{}, { rate: 'fast' }, { rate: 0 }, { rate: -1 }]) {
    t.equal((await server.put(`${path}/rate`, body)).status, 400, JSON.stringify(body));
  }
  t.equal((await server.put(`${JOBS}/none/rate`, { rate: null })).status, 404);
});

t.test('merges', async (t) => {
  const { server, runner, shards, make } = await open(t);
  const made = await make({ type: 'merge', shards: [shards[2], shards[1]], keep_source: true });
  t.equal(made.status, 201);
  const { job } = await runner.begun(0);
  t.match(job, { type: 'merge', keepSource: true, sources: { length: 2 } });
  t.match((await server.get(`${JOBS}/${idOf(made)}`)).body, {
    type: 'merge',
    sources: [shards[1], shards[2]],
    source: undefined,
    targets: [/^shards\/40000000-bfffffff\/db\.\d+$/],
  });
  t.match((await server.get('/_active_tasks')).body, [{ type: 'shard_merge' }]);
  t.equal((await make({ shard: shards[2] })).status, 409);
  t.equal((await make({ shard: shards[3] })).status, 201);
});

t.test('a shard that is being compacted because somebody asked for it', async (t) => {
  const { server, shards, make } = await open(t);
  const { catalog, compactions } = server.server.services;
  compactions.request(catalog.get('db'));
  const reply = await make({ shard: shards[3] });
  t.match(reply, { status: 409, body: { error: 'shard_busy', reason: /compacted/ } });
});

t.test('a disk with too little room', async (t) => {
  const { server, shards, make } = await open(t, { storage: withRoom(10), mayLogErrors: true });
  t.match(await make({ shard: shards[0] }), {
    status: 507,
    body: { error: 'insufficient_storage', reason: /take up to \d+ bytes .* 10 are free, \d+ too/ },
  });
  t.match((await server.get(JOBS)).body, { total_rows: 0 });
  t.match(await make({ shard: shards[0], dry_run: true }), {
    status: 200,
    body: { has_room: false, bytes_free: 10 },
  });
});

t.test('what a job would do', async (t) => {
  const { server, shards, make } = await open(t);
  const ranges = ['10000000-3FFFFFFF', '00000000-0fffffff'];
  t.match(await make({ shard: shards[0], ranges, dry_run: true }), {
    status: 200,
    body: {
      ok: true,
      dry_run: true,
      type: 'split',
      database: 'db',
      sources: [shards[0]],
      targets: [/^shards\/00000000-0fffffff\/db/, /^shards\/10000000-3fffffff\/db/],
      bytes_needed: Number,
      bytes_needed_by_other_jobs: 0,
      has_room: true,
    },
  });
  t.match((await server.get(JOBS)).body, { total_rows: 0 });
});
