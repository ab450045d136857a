/**
 * Goal: a shard is moved to another node while it is written and read: nothing is lost, one node has it at any time, nothing is left over, whatever
 * gets lost on the way and whichever node is not there.
 * Method: servers in one process that call each other through memory, with real files; documents are written to whoever has their range.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { formatRange } from '../../../engine/shard/hash.js';
import { formatRev } from '../../../engine/shard/revision.js';
import { JOBS, MoveBed } from '../../support/move-bed.js';
import { listOf, memberOf } from '../../support/server.js';

async function filled(t: Test, options: { count?: number; q?: number; docs?: number } = {}) {
  const bed = await MoveBed.open(t, options);
  const revs = new Map<string, string>();
  for (let index = 0; index < (options.docs ?? 200); index++) {
    revs.set(`d${index}`, await bed.put(`d${index}`, index, undefined, index % 10 === 0));
  }
  return { bed, revs };
}

/** The files of shards that a node has, and of nothing else. */
async function files(bed: MoveBed, index: number): Promise<string[]> {
  const all = await readdir(join(bed.at(index).dataDir, 'shards'), {
    recursive: true,
    withFileTypes: true,
  });
  return all
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .sort();
}

async function assertWhole(t: Test, bed: MoveBed, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const body = await bed.get(`d${index}`);
    if (body !== JSON.stringify({ value: index })) t.fail(`d${index} is ${body}`);
  }
  for (const index of bed.servers.keys()) {
    const { length } = bed.shards(index);
    t.equal((await files(bed, index)).length, length, `files of ${bed.name(index)}`);
    t.same(bed.at(index).server.services.records.keys('shard-arrival/'), [], 'no arrival is left');
  }
}

t.test('a shard moves, and back', async (t) => {
  const { bed } = await filled(t);
  const [shard = ''] = bed.shards(0);
  const before = bed.database(0).map.epoch;
  const fileId = await idOfFile(bed, 0);
  const plan = { type: 'move', node: bed.name(0), shard, target: bed.name(1), dry_run: true };
  t.match((await bed.at(1).post(JOBS, plan)).body, {
    type: 'move',
    sources: [shard],
    targets: [shard],
    target_node: 'node2@test',
    has_room: true,
  });
  const id = await bed.move(0, 1, shard, { verify: true });
  const done = await bed.inState(id, 'completed', 1);
  t.match(done, {
    type: 'move',
    source: shard,
    target_node: 'node2@test',
    targets: [shard],
    split_state: 'completed',
  });
  t.same(bed.shards(0), []);
  t.same(bed.shards(1).length, 2);
  t.equal(bed.database(0).map.epoch, before + 1);
  t.equal(await idOfFile(bed, 1), fileId, 'it is the same file to all who have seqs of it');
  await assertWhole(t, bed, 200);
  await bed.put('later', 7);
  await bed.inState(await bed.move(1, 0), 'completed');
  t.equal(bed.shards(0).length, 1);
  t.equal(await bed.get('later'), '{"value":7}');
  await assertWhole(t, bed, 200);
  const rows = bed.cluster.records(bed.cluster.node(0)).keys('row/');
  const covered = rows.flatMap((key) =>
    listOf(bed.cluster.records(bed.cluster.node(1)).get(key), 'shards'),
  );
  t.equal(covered.length, 2, 'the rows tell of it everywhere');
});

async function idOfFile(bed: MoveBed, index: number): Promise<string> {
  const [first] = bed.database(index).shards;
  return (
    (await first?.slot.write(async (shard) =>
      Buffer.from(shard.file.block.fileId).toString('hex'),
    )) ?? ''
  );
}

t.test('to a node that has no part of the database', async (t) => {
  const { bed } = await filled(t, { count: 3, q: 2, docs: 50 });
  const index = bed.servers.findIndex((_server, at) => bed.shards(at).length === 0);
  const from = index === 0 ? 1 : 0;
  await bed.inState(await bed.move(from, index), 'completed');
  t.equal(bed.shards(index).length, 1);
  await assertWhole(t, bed, 50);
});

t.test('bad requests', async (t) => {
  const bed = await MoveBed.open(t);
  const [shard] = bed.shards(0);
  const refused: readonly (readonly [object, number, RegExp])[] = [
    [{}, 400, /`target`/],
    [{ target: 7 }, 400, /`target`/],
    [{ target: 'node9@test' }, 400, /another node/],
    [{ target: 'node1@test' }, 400, /another node/],
    [{ target: 'node2@test', parts: 2 }, 400, /a move takes no member "parts"/],
  ];
  for (const [members, status, reason] of refused) {
    const reply = await bed
      .at(1)
      .post(JOBS, { type: 'move', node: 'node1@test', shard, ...members });
    t.match(reply, { status, body: { reason } });
  }
  bed.cluster.away.add(bed.cluster.node(1).identity);
  const body = { type: 'move', node: 'node1@test', shard, target: 'node2@test' };
  t.match(await bed.at(0).post(JOBS, body), { status: 503, body: { reason: /node2@test/ } });
});

t.test('what a node must not send', async (t) => {
  const bed = await MoveBed.open(t);
  const { calls } = bed.at(0).server.services.cluster;
  const { map } = bed.database(0);
  const to = bed.cluster.node(1);
  const range = formatRange({ start: 0, end: 0xffffffff });
  const begin = {
    ...{ id: 'job', run: 'run', fileId: 'f'.repeat(32), database: map.name, range, suffix: 1 },
    ...{ incarnation: map.incarnation, timestamp: 1, copies: 1, hashRule: 'document' },
  };
  for (const bad of [
    { suffix: Number.MAX_SAFE_INTEGER },
    { suffix: -1 },
    { database: '../x' },
    { range: '../x' },
    { incarnation: 'f'.repeat(32) },
  ]) {
    const sent = calls.call(to, 'move/begin', { ...begin, ...bad });
    await t.rejects(sent, { name: 'DivanError' }, JSON.stringify(bad));
  }
  t.match(await calls.call(to, 'move/begin', begin), { length: 0 });
  const body = (async function* () {
    for (let n = 0; n < 4; n++) yield Buffer.alloc(1000);
  })();
  const head = { id: 'job', run: 'run', from: 0, to: 1500 };
  await t.rejects(calls.open(to, 'move/bytes', head, body), { code: 'BAD_REQUEST' });
  t.match(await calls.call(to, 'move/begin', begin), { length: 1000 }, 'no more was written');
  t.match(await calls.call(to, 'move/cancel', { id: 'job' }), { taken: false });
});

t.test('under writers and readers', async (t) => {
  const { bed, revs } = await filled(t, { docs: 300 });
  let isOver = false;
  let writes = 0;
  const writer = async (name: number) => {
    for (let round = 0; !isOver; round++) {
      const id = `d${name + 4 * (round % 70)}`;
      const value = 1000 + round;
      revs.set(id, await bed.put(id, value, revs.get(id), round % 20 === 0));
      writes++;
      const body = await bed.get(id);
      if (body !== JSON.stringify({ value })) throw new Error(`${id} is ${body}, not ${value}`);
    }
  };
  const writers = [0, 1, 2, 3].map(writer);
  for (const [from, to] of [
    [0, 1],
    [1, 0],
  ] as const) {
    const before = writes;
    const status = await bed.inState(await bed.move(from, to), 'completed');
    t.match(status, { job_state: 'completed' });
    t.ok(writes > before, `there were ${writes - before} writes meanwhile`);
  }
  isOver = true;
  await Promise.all(writers);
  for (const [id, rev] of revs) {
    const key = Buffer.from(id);
    const found = await bed.ownerOf(id).read(key, async (snapshot) => {
      const leaves = (await snapshot.document(key))?.leaves ?? [];
      return leaves.map(({ revision }) => formatRev(revision)).join();
    });
    if (rev !== found) t.fail(`${id} is ${found}, not ${rev}`);
  }
});

t.test('each call is lost once, or its answer is', async (t) => {
  const { bed } = await filled(t, { docs: 60 });
  let where = 0;
  for (const name of ['begin', 'bytes', 'check', 'take', 'confirm'] as const) {
    // What was done and not answered is the harder case.
    for (const fate of name === 'take'
      ? (['not sent', 'answer lost'] as const)
      : (['answer lost'] as const)) {
      let count = 0;
      bed.cluster.fate = (_to, call) => (call === `move/${name}` && count++ < 2 ? fate : 'done');
      const shown = { verify: name === 'check' };
      const id = await bed.move(where, 1 - where, bed.shards(where)[0], shown);
      await bed.inState(id, 'completed');
      t.ok(count > 0, `${name}, ${fate}`);
      where = 1 - where;
      await assertWhole(t, bed, 60);
    }
  }
});

t.test('no writes where the shard has come until the other node has given it up', async (t) => {
  const { bed } = await filled(t, { docs: 60 });
  const ids = Array.from({ length: 60 }, (_, index) => `d${index}`);
  const id = ids.find((each) => bed.ownerOf(each) === bed.database(0)) ?? '';
  bed.cluster.fate = (_to, name) => (name === 'move/take' ? 'answer lost' : 'done');
  const job = await bed.move(0, 1);
  const has = () => bed.database(1).shards.length === 2;
  for (let turn = 0; turn < 400 && !has(); turn++) await wait(5);
  const write = () =>
    bed.database(1).put({ id: Buffer.from(id), body: Buffer.from('{}'), deleted: true });
  await t.rejects(write(), { code: 'UNAVAILABLE', message: /has come from node1@test/ });
  t.ok(await bed.get(id), 'it is read');
  const late = bed.database(0).put({ id: Buffer.from(id), body: Buffer.from('{}'), deleted: true });
  await t.rejects(late, { code: 'UNAVAILABLE', message: /not known whether.*node2@test/ });
  await bed.at(1).close();
  bed.cluster.stopped(1);
  await bed.start(1, bed.at(1).dataDir);
  await t.rejects(write(), { code: 'UNAVAILABLE' }, 'nor after a restart');
  bed.cluster.fate = () => 'done';
  await bed.inState(job, 'completed');
  await t.rejects(write(), { code: 'CONFLICT' }, 'as any write without a parent');
  await assertWhole(t, bed, 60);
});

t.test('the other node refuses to take the shard', async (t) => {
  const { bed } = await filled(t, { docs: 60 });
  bed.cluster.fate = (_to, name, head) => {
    // It is asked for something that it does not have.
    if (name === 'move/take') Object.assign(head, { crc: 1 });
    return 'done';
  };
  const id = await bed.move(0, 1);
  await bed.inState(id, 'failed');
  t.equal(bed.shards(0).length, 1);
  await bed.put('after', 1);
  await assertWhole(t, bed, 60);
  bed.cluster.fate = () => 'done';
  t.match((await bed.at(1).put(`${JOBS}/${id}/state`, { state: 'running' })).status, 200);
  await bed.inState(id, 'completed');
  await assertWhole(t, bed, 60);
});

t.test('the other node is away in the middle, and at the handover', async (t) => {
  for (const call of ['move/bytes', 'move/take', 'move/confirm']) {
    const { bed } = await filled(t, { docs: 60 });
    const { identity } = bed.cluster.node(1);
    let isAway = false;
    bed.cluster.fate = (_to, name) => {
      if (name === call && !isAway) {
        isAway = true;
        bed.cluster.away.add(identity);
      }
      return 'done';
    };
    const id = await bed.move(0, 1);
    for (let turn = 0; turn < 400 && !isAway; turn++) await wait(5);
    t.ok(isAway, call);
    await wait(50);
    t.match(await bed.status(id), { job_state: 'running', id });
    bed.cluster.away.clear();
    await bed.inState(id, 'completed');
    await assertWhole(t, bed, 60);
  }
});

/** Resolves when bytes have been sent. */
async function sending({ cluster }: MoveBed): Promise<void> {
  const isSending = () => cluster.calls.some(({ name }) => name === 'move/bytes');
  for (let turn = 0; turn < 400 && !isSending(); turn++) await wait(5);
}

t.test('a move is stopped, goes on, and is removed', async (t) => {
  const { bed } = await filled(t, { docs: 60 });
  const id = await bed.move(0, 1, bed.shards(0)[0], { rate: 2048 });
  await sending(bed);
  await bed.at(1).put(`${JOBS}/${id}/state`, { state: 'stopped', reason: 'later' });
  t.match(await bed.status(id), { job_state: 'stopped' });
  t.equal((await files(bed, 1)).length, 2, 'what was sent is kept');
  await bed.at(1).put(`${JOBS}/${id}/state`, { state: 'running' });
  await bed.inState(id, 'running');
  t.equal((await bed.at(1).delete(`${JOBS}/${id}`)).status, 200);
  await assertWhole(t, bed, 60);
  t.equal(bed.shards(0).length, 1);
});

t.test('the database is deleted meanwhile', async (t) => {
  const { bed } = await filled(t, { docs: 60 });
  const id = await bed.move(0, 1, bed.shards(0)[0], { rate: 2048 });
  await bed.inState(id, 'running');
  t.equal((await bed.at(1).delete('/db')).status, 200);
  const status = await bed.inState(id, 'failed');
  t.match(memberOf(status, 'state_info'), { reason: 'the database was deleted' });
  for (const index of [0, 1]) t.same(await files(bed, index), []);
  t.same(bed.at(1).server.services.records.keys('shard-arrival/'), []);
});
