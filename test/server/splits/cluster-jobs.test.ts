/**
 * Goal: jobs of any node are made, listed, read, changed and removed through any node; one that can not be reached is named, and nothing is said
 * to be done that was not; what stops all jobs stops them everywhere, and on a node that comes back before they go on.
 * Method: servers in one process that call each other through memory, whose jobs are done by runners that do what the test tells them.
 */
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { namesOfShardFile } from '../../../server/databases/shard-map.js';
import { FakeRunner } from '../../support/fake-runner.js';
import { MemoryCluster } from '../../support/memory-cluster.js';
import { listOf, memberOf, type Reply, TestServer } from '../../support/server.js';

const SPLITS = '/_shard_splits';
const JOBS = `${SPLITS}/jobs`;
const SHORT = { 'reshard/retry_interval': '100' };

interface Bed {
  readonly cluster: MemoryCluster;
  readonly servers: TestServer[];
  readonly runners: FakeRunner[];
}

async function start(t: Test, bed: Bed, index: number, dataDir?: string): Promise<TestServer> {
  const runner = new FakeRunner();
  const server = await TestServer.open(t, {
    settings: { ...SHORT, 'node/name': bed.cluster.node(index).name },
    runner,
    cluster: bed.cluster.seams(index),
    ...(dataDir === undefined ? {} : { dataDir }),
  });
  bed.servers[index] = server;
  bed.runners[index] = runner;
  return server;
}

async function open(t: Test, count = 2, q = 4): Promise<Bed> {
  const bed: Bed = { cluster: new MemoryCluster(count), servers: [], runners: [] };
  for (let index = 0; index < count; index++) await start(t, bed, index);
  t.match(await at(bed, 0).put(`/db?q=${q}`), { status: 201 });
  return bed;
}

function at({ servers }: Bed, index: number): TestServer {
  const server = servers[index];
  if (server === undefined) throw new RangeError(`there is no server ${index}`);
  return server;
}

function shardsAt(bed: Bed, index: number): readonly string[] {
  const { catalog } = at(bed, index).server.services;
  return (catalog.find('db')?.map.shards ?? []).map(({ file }) => namesOfShardFile(file).shard);
}

function nameOf({ cluster }: Bed, index: number): string {
  return cluster.node(index).name;
}

/** Makes a job of the first shard, or another one, of a node, through a node. */
async function make(bed: Bed, through: number, on: number, shard = 0): Promise<string> {
  const body = { node: nameOf(bed, on), shard: shardsAt(bed, on)[shard] };
  const reply = await at(bed, through).post(JOBS, body);
  if (reply.status !== 201) throw new Error(reply.text);
  return idOf(reply);
}

function idOf({ body }: Reply): string {
  return String(memberOf(body, 'id'));
}

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 1000; turn++) {
    if (await isSo()) return;
    await wait(5);
  }
  throw new Error('it did not come');
}

t.test('a job of any node through any node', async (t) => {
  const bed = await open(t);
  t.match([shardsAt(bed, 0).length, shardsAt(bed, 1).length], [2, 2]);
  for (const through of [0, 1]) {
    for (const on of [0, 1]) {
      const id = await make(bed, through, on);
      const path = `${JOBS}/${id}`;
      const count = bed.runners[on]?.runs.length ?? 0;
      await bed.runners[on]?.begun(count);
      const server = at(bed, through);
      t.match(await server.get(path), {
        status: 200,
        body: { id, node: nameOf(bed, on), job_state: 'running', source: shardsAt(bed, on)[0] },
      });
      t.match((await server.get(JOBS)).body, { total_rows: 1, offset: 0, jobs: [{ id }] });
      t.match((await server.get(SPLITS)).body, {
        jobs_total: 1,
        jobs_running: 1,
        states: { running: [nameOf(bed, 0), nameOf(bed, 1)] },
      });
      t.match((await server.get(`${path}/events`)).body, { events: [{ type: 'new' }, {}] });
      t.match((await server.put(`${path}/rate`, { rate: 5000 })).body, { ok: true });
      t.match(bed.runners[on]?.rates.at(-1), { id, rate: 5000 });
      const stop = { state: 'stopped', reason: 'why not' };
      t.match((await server.put(`${path}/state`, stop)).body, { ok: true });
      t.match((await server.get(`/_reshard/jobs/${id}/state`)).body, stop);
      t.match((await server.put(`${path}/state`, { state: 'running' })).body, { ok: true });
      t.match((await server.get(`/_reshard/jobs/${id}`)).body, { id, type: 'split' });
      t.match((await server.delete(path)).body, { ok: true });
      t.equal((await server.get(path)).status, 404);
      t.equal((await at(bed, 1 - through).delete(path)).status, 404);
      t.match((await server.get(JOBS)).body, { total_rows: 0 });
    }
  }
  const [shard] = shardsAt(bed, 1);
  const plan = await at(bed, 0).post(JOBS, { node: nameOf(bed, 1), shard, dry_run: true });
  t.match(plan, { status: 200, body: { sources: [shard] } });
  const wrong = await at(bed, 0).post(JOBS, { node: nameOf(bed, 0), shard });
  t.match(wrong, { status: 404, body: { reason: /is not on this node/ } }, 'of the other node');
  const nobody = await at(bed, 0).post(JOBS, { node: 'node7@test', shard });
  t.match(nobody, { status: 400, body: { reason: /must be the name of a node.*node2@test/ } });
});

t.test('lists of several nodes, in the order of their making, in pages', async (t) => {
  const bed = await open(t, 3, 12);
  const ids: string[] = [];
  for (let round = 0; round < 4; round++) {
    // The clock of all is the same one; within a millisecond the order is that of the ids.
    for (const on of [2, 0, 1]) {
      ids.push(await make(bed, round % 3, on, round));
      await wait(2);
    }
  }
  for (const server of bed.servers) {
    for (const [skip, limit] of [
      [0, 12],
      [0, 5],
      [5, 5],
      [10, 5],
      [12, 1],
      [20, 1],
      [3, 0],
    ] as const) {
      const { body } = await server.get(`${JOBS}?skip=${skip}&limit=${limit}`);
      t.match(body, { total_rows: 12, offset: Math.min(skip, 12) });
      const found = listOf(body, 'jobs').map((job) => memberOf(job, 'id'));
      t.same(found, ids.slice(skip, skip + limit), `${skip} ${limit}`);
    }
    const { body } = await server.get('/_reshard/jobs');
    t.same(
      listOf(body, 'jobs').map((job) => memberOf(job, 'id')),
      ids,
    );
    t.match((await server.get('/_reshard')).body, { total: 12, running: 6, state: 'running' });
  }
});

t.test('jobs of CouchDB for a whole database', async (t) => {
  const bed = await open(t);
  const made = await at(bed, 1).post('/_reshard/jobs', { type: 'split', db: 'db' });
  t.equal(made.status, 201);
  const results = Array.isArray(made.body) ? made.body : [];
  t.same(
    results.map((result) => [memberOf(result, 'node'), memberOf(result, 'shard')]).sort(),
    [0, 1].flatMap((on) => shardsAt(bed, on).map((shard) => [nameOf(bed, on), shard])),
  );
  const none = await at(bed, 1).post('/_reshard/jobs', { type: 'split', db: 'none' });
  t.match(none, { status: 400, body: { reason: 'Invalid `db`' } });
  const one = { type: 'split', node: nameOf(bed, 0), shard: shardsAt(bed, 0)[0] };
  t.match((await at(bed, 1).post('/_reshard/jobs', one)).body, [{ error: 'job_already_exists' }]);
  const other = { ...one, node: nameOf(bed, 1) };
  t.equal((await at(bed, 1).post('/_reshard/jobs', other)).status, 404);
  bed.cluster.away.add(bed.cluster.node(0).identity);
  const cut = await at(bed, 1).post('/_reshard/jobs', { type: 'split', db: 'db' });
  t.match(cut, { status: 503, body: { reason: /node1@test/ } });
});

t.test('a node that can not be reached', async (t) => {
  const bed = await open(t);
  const id = await make(bed, 0, 1);
  const own = await make(bed, 0, 0);
  const [shard] = shardsAt(bed, 1);
  bed.cluster.away.add(bed.cluster.node(1).identity);
  const server = at(bed, 0);
  const path = `${JOBS}/${id}`;
  const asked: readonly Promise<Reply>[] = [
    server.get(path),
    server.delete(path),
    server.put(`${path}/state`, { state: 'stopped' }),
    server.put(`${path}/state`, { state: 'running' }),
    server.put(`${path}/rate`, { rate: null }),
    server.get(`${path}/events`),
    server.get(`/_reshard/jobs/${id}`),
    server.post(JOBS, { node: nameOf(bed, 1), shard }),
    server.post(JOBS, { node: nameOf(bed, 1), shard, dry_run: true }),
  ];
  for (const reply of await Promise.all(asked)) {
    t.match(reply, { status: 503, body: { reason: /node2@test/ } });
  }
  t.match(await server.get(`${JOBS}/${own}`), { status: 200 }, 'of this node itself');
  const unreachable = ['node2@test'];
  const list = (await server.get(JOBS)).body;
  t.match(list, { total_rows: 1, jobs: [{ id: own }], unreachable });
  t.match((await server.get(SPLITS)).body, {
    jobs_total: 1,
    states: { running: ['node1@test'], unreachable },
  });
  t.match((await server.get('/_reshard')).body, { total: 1, unreachable });
  bed.cluster.away.clear();
  t.match((await at(bed, 1).get(path)).body, { job_state: 'running' }, 'nothing was done to it');
  bed.cluster.fate = (_to, name) => (name === 'jobs/remove' ? 'answer lost' : 'done');
  t.match(await server.delete(path), { status: 503, body: { reason: /node2@test/ } });
  bed.cluster.fate = () => 'done';
  t.match(await server.delete(path), { status: 404 }, 'it was removed');
});

t.test('stop and start of all', async (t) => {
  const bed = await open(t, 3);
  const ids = [await make(bed, 0, 0), await make(bed, 0, 1)];
  await bed.runners[1]?.begun(0);
  t.same((await at(bed, 2).put(SPLITS, { stop: 'no time' })).body, { ok: true });
  t.equal(bed.runners[1]?.runs[0]?.keptPartial, true, 'it was stopped when the answer came');
  const names = bed.cluster.nodes.map(({ name }) => name);
  for (const server of bed.servers) {
    t.match((await server.get(SPLITS)).body, {
      jobs_total: 2,
      jobs_running: 0,
      states: { stopped: names },
      state_reason: 'no time',
    });
    t.match((await server.get('/_reshard/state')).body, { state: 'stopped', reason: 'no time' });
    for (const id of ids) {
      const reply = await server.get(`${JOBS}/${id}`);
      t.match(reply.body, { job_state: 'stopped', state_info: { reason: 'no time' } });
    }
    const refused = { node: nameOf(bed, 1), shard: shardsAt(bed, 1)[0] };
    t.match(await server.post(JOBS, refused), { status: 409, body: { error: 'stopped' } });
  }
  t.same((await at(bed, 0).put(SPLITS, { start: true })).body, { ok: true });
  await bed.runners[1]?.begun(1);
  t.match((await at(bed, 2).get(SPLITS)).body, { states: { running: names } });
});

t.test('a stop wins over a start that did not know of it', async (t) => {
  const bed = await open(t);
  const [first, second] = [at(bed, 0), at(bed, 1)];
  await first.put(SPLITS, { stop: 'early' });
  const { cluster } = bed;
  cluster.away.add(cluster.node(1).identity);
  t.same((await second.put(SPLITS, { start: true })).body, {
    ok: true,
    unreachable: ['node1@test'],
  });
  const stop = await first.put(SPLITS, { stop: 'again' });
  t.same(stop.body, { ok: true, unreachable: ['node2@test'] });
  t.match((await second.get(SPLITS)).body, { states: { running: ['node2@test'] } });
  cluster.away.clear();
  cluster.records(cluster.node(1)).exchange();
  await until(async () => second.server.services.jobs.stopReason === 'again');
  t.equal(first.server.services.jobs.stopReason, 'again');
});

t.test('a node that comes back hears of a stop before its jobs go on', async (t) => {
  const bed = await open(t);
  const { cluster } = bed;
  const id = await make(bed, 1, 1);
  await bed.runners[1]?.begun(0);
  await at(bed, 1).close();
  cluster.stopped(1);
  // The stop does not get there.
  cluster.away.add(cluster.node(1).identity);
  await at(bed, 0).put(SPLITS, { stop: 'while away' });
  cluster.away.clear();
  const { dataDir } = at(bed, 1);
  const back = await start(t, bed, 1, dataDir);
  await until(() => back.server.services.jobs.stopReason === 'while away');
  await wait(50);
  t.equal(bed.runners[1]?.runs.length, 0);
  t.match((await at(bed, 0).get(`${JOBS}/${id}`)).body, { job_state: 'stopped' });
  await at(bed, 0).put(SPLITS, { start: true });
  await bed.runners[1]?.begun(0);
  t.pass('it goes on');
});

t.test('a node that reaches nobody goes by what it has', async (t) => {
  const bed = await open(t);
  const { cluster } = bed;
  await make(bed, 1, 1);
  await at(bed, 1).close();
  cluster.away.add(cluster.node(0).identity);
  await start(t, bed, 1, at(bed, 1).dataDir);
  await bed.runners[1]?.begun(0);
  t.pass('it goes on');
});
