/**
 * Goal: `/_reshard` answers as CouchDB 3.5 does, but for the differences that `server/splits/README.md` lists.
 * Method: a server on a port of its own, through fetch, whose jobs are done by a runner that does what the test tells it.
 */
import t, { type Test } from 'tap';
import { DivanError } from '../../../engine/errors.js';
import { namesOfShardFile } from '../../../server/databases/shard-map.js';
import { FakeRunner } from '../../support/fake-runner.js';
import { TestServer, type TestServerOptions } from '../../support/server.js';

const NODE = 'node1@127.0.0.1';
const JOBS = '/_reshard/jobs';
const OK = { status: 200, body: { ok: true } };

async function open(t: Test, options: TestServerOptions = {}, q = 2) {
  const runner = new FakeRunner();
  const server = await TestServer.open(t, { ...options, runner });
  await server.put(`/db?q=${q}`);
  const { catalog } = server.server.services;
  const shards = catalog.get('db').map.shards.map(({ file }) => namesOfShardFile(file).shard);
  const make = (body: object) => server.post(JOBS, { type: 'split', ...body });
  return { server, runner, shards, make };
}

/** The ids in the answer to a POST. */
function idsOf(body: unknown): string[] {
  return Array.isArray(body) ? body.map(({ id }) => String(id)) : [];
}

t.test('features, summary and state', async (t) => {
  const { server } = await open(t);
  t.match((await server.get('/')).body, { features: ['partitioned', 'reshard'] });
  t.same((await server.get('/_reshard/')).body, {
    state: 'running',
    state_reason: null,
    completed: 0,
    failed: 0,
    running: 0,
    stopped: 0,
    total: 0,
  });
  t.same((await server.get('/_reshard/state')).body, { state: 'running', reason: null });
  t.match(await server.put('/_reshard/state', { state: 'stopped' }), OK);
  const reason = 'Cluster-wide resharding stopped by the user';
  t.same((await server.get('/_reshard/state')).body, { state: 'stopped', reason });
  t.match(await server.put('/_reshard/state', { state: 'stopped', reason: 'another' }), OK);
  t.match((await server.get('/_reshard')).body, { state: 'stopped', state_reason: reason });
  t.match((await server.get('/_shard_splits')).body, { state_reason: reason }, 'the same switch');
  t.match(await server.put('/_reshard/state', { state: 'running' }), OK);
  t.match(await server.put('/_reshard/state', { state: 'running', reason: 'x' }), OK);
  for (const [body, text] of [
    [{}, 'Expected a `state` field'],
    [{ state: 'x' }, 'State field not `running` or `stopped`'],
    [{ state: null }, 'State field not `running` or `stopped`'],
    [[], 'Request body must be a JSON object'],
  ] as const) {
    const reply = await server.put('/_reshard/state', body);
    t.match(reply, { status: 400, body: { error: 'bad_request', reason: text } });
  }
  t.equal((await server.call('PUT', '/_reshard/state')).status, 415);
});

t.test('paths and methods', async (t) => {
  const { server } = await open(t);
  for (const [method, path, allow] of [
    ['PUT', '/_reshard', 'GET, HEAD'],
    ['DELETE', '/_reshard/state', 'GET, HEAD, PUT'],
    ['PUT', JOBS, 'GET, HEAD, POST'],
    ['PUT', `${JOBS}/x`, 'GET, HEAD, DELETE'],
    ['DELETE', `${JOBS}/x/state`, 'GET, HEAD, PUT'],
  ] as const) {
    const reply = await server.call(method, path);
    t.equal(reply.status, 405, path);
    t.equal(reply.headers.get('allow'), allow);
  }
  for (const path of ['/_reshard/x', '/_reshard/state/x', `${JOBS}/x`, `${JOBS}/x/y`]) {
    t.match(await server.get(path), { status: 404, body: { error: 'not_found' } }, path);
  }
  t.equal((await server.get(`${JOBS}/x/state`)).status, 404);
  t.equal((await server.delete(`${JOBS}/x`)).status, 404);
  t.equal((await server.put(`${JOBS}/x/state`, { state: 'running' })).status, 404);
  t.equal((await server.get('/_reshard', { as: null })).status, 401);
});

t.test('bad bodies, with the words of CouchDB', async (t) => {
  const { server, shards } = await open(t);
  const [shard] = shards;
  const db = 'db';
  const refused: readonly (readonly [unknown, number, string])[] = [
    [[], 400, 'Request body must be a JSON object'],
    [{ db, node: 'x', type: 'split' }, 400, '`node` is not a valid node name'],
    [{ db, node: 'node9@127.0.0.1', type: 'split' }, 400, 'Not connected to `node`'],
    [{ db, node: 1, type: 'split' }, 400, 'Invalid `node`'],
    [{ shard: 'x', type: 'split' }, 400, '`shard` is invalid'],
    [{ shard: 1, type: 'split' }, 400, 'Invalid `shard`'],
    [{ db: 'none', type: 'split' }, 400, 'Invalid `db`'],
    [{ db: 1, type: 'split' }, 400, 'Invalid `db`'],
    [{ db, range: 'x', type: 'split' }, 400, 'Invalid `range`'],
    [{ db, range: 7, type: 'split' }, 400, 'Invalid `range`'],
    [{ db, range: '00000005-00000005', type: 'split' }, 400, 'Invalid `range`'],
    [{ db, range: '7fffffff-00000000', type: 'split' }, 400, 'Invalid `range`'],
    [{ db }, 400, '`job type must be `split`'],
    [{ db, type: 'merge' }, 400, '`job type must be `split`'],
    [{ type: 'split' }, 400, 'Must specify at least `db` or `shard`'],
    [{ db, shard, type: 'split' }, 400, '`db` and `shard` are mutually exclusive'],
    [
      { shard, range: '00000000-7fffffff', type: 'split' },
      400,
      '`range` and `shard` are mutually exclusive',
    ],
    [{ shard: 'shards/00000000-7fffffff/none.1', type: 'split' }, 404, 'Database does not exist.'],
    [{ shard: 'shards/00000000-7fffffff/db.1', type: 'split' }, 404, 'missing'],
    [{ db, range: '00000000-0fffffff', type: 'split' }, 404, 'missing'],
  ];
  for (const [body, status, reason] of refused) {
    t.match(await server.post(JOBS, body), { status, body: { reason } }, JSON.stringify(body));
  }
});

t.test('what a body selects, and what is answered', async (t) => {
  const { server, runner, shards, make } = await open(t, {
    settings: { 'reshard/max_jobs': '1', 'reshard/max_running': '1' },
  });
  const all = await make({ db: 'db', node: NODE });
  t.equal(all.status, 201);
  t.same(
    all.body,
    shards.map((shard, index) => ({ ok: true, id: idsOf(all.body)[index], node: NODE, shard })),
  );
  t.match(await make({ shard: shards[0] }), {
    status: 500,
    body: [{ error: 'job_already_exists', node: NODE, shard: shards[0] }],
  });
  (await runner.begun(0)).fail(new DivanError('CORRUPT', 'rot'));
  await runner.begun(1);
  const some = await make({ db: 'db' });
  t.match(some, { status: 202, body: [{ ok: true }, { error: 'job_already_exists' }] });
  await server.put('/other?q=1');
  t.match(await make({ db: 'other', range: '00000000-FFFFFFFF' }), {
    status: 500,
    body: [{ error: 'max_jobs_exceeded' }],
  });
});

t.test('a job, its state and its end', async (t) => {
  const { server, runner, shards, make } = await open(t);
  const made = await make({ db: 'db', range: '80000000-ffffffff' });
  const [id = ''] = idsOf(made.body);
  const run = await runner.begun(0);
  const seconds = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
  const { body } = await server.get(`${JOBS}/${id}`);
  t.match(body, {
    id,
    type: 'split',
    source: shards[1],
    target: [/^shards\/80000000-bfffffff\/db\.\d+$/, /^shards\/c0000000-ffffffff\/db\.\d+$/],
    job_state: 'running',
    split_state: 'initial_copy',
    state_info: {},
    node: NODE,
    start_time: seconds,
    update_time: seconds,
    history: [
      { timestamp: seconds, type: 'new', detail: null },
      { timestamp: seconds, type: 'running', detail: 'initial_copy' },
    ],
  });
  t.same(Object.keys(Object(body)), [
    'id',
    'type',
    'source',
    'target',
    'job_state',
    'split_state',
    'state_info',
    'node',
    'start_time',
    'update_time',
    'history',
  ]);
  t.match((await server.get(JOBS)).body, { total_rows: 1, offset: 0, jobs: [{ id }] });
  t.match((await server.get('/_shard_splits/jobs')).body, { jobs: [{ id }] }, 'the same jobs');
  const state = `${JOBS}/${id}/state`;
  t.same((await server.get(state)).body, { state: 'running', reason: null });
  t.match(await server.put(state, { state: 'stopped' }), OK);
  t.equal(run.keptPartial, true);
  t.same((await server.get(state)).body, { state: 'stopped', reason: 'Stopped by user' });
  t.match((await server.get('/_reshard')).body, { running: 0, stopped: 1, total: 1 });
  t.match(await server.put(state, { state: 'running' }), OK);
  (await runner.begun(1)).fail(new DivanError('CORRUPT', 'rot'));
  while (server.server.services.jobs.load.working > 0) await server.get('/_up');
  t.same((await server.get(state)).body, { state: 'failed', reason: 'rot' });
  t.match(await server.put(state, { state: 'stopped' }), OK, 'nothing to stop');
  t.match((await server.get(`${JOBS}/${id}`)).body, {
    state_info: { reason: 'rot', error: 'rot' },
  });
  t.match(await server.put(state, { state: 'running' }), OK);
  (await runner.begun(2)).finish();
  while (server.server.services.jobs.load.working > 0) await server.get('/_up');
  t.match((await server.get(`${JOBS}/${id}`)).body, { job_state: 'completed', state_info: {} });
  t.match(await server.put(state, { state: 'running' }), OK, 'nothing to resume');
  t.match(await server.delete(`${JOBS}/${id}`), OK);
  t.equal((await server.delete(`${JOBS}/${id}`)).status, 404);
});

t.test('a job that is made while all are stopped', async (t) => {
  const { server, runner, shards, make } = await open(t);
  await server.put('/_reshard/state', { state: 'stopped', reason: 'no time' });
  const made = await make({ shard: shards[0] });
  t.equal(made.status, 201);
  const [id = ''] = idsOf(made.body);
  t.match((await server.get(`${JOBS}/${id}`)).body, {
    job_state: 'stopped',
    state_info: { reason: 'no time' },
    start_time: '1970-01-01T00:00:00Z',
  });
  t.match(await server.put(`${JOBS}/${id}/state`, { state: 'running' }), {
    status: 409,
    body: { error: 'stopped', reason: 'no time' },
  });
  await server.put('/_reshard/state', { state: 'running' });
  t.equal((await runner.begun(0)).job.id, id);
});
