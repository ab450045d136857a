/**
 * Goal: a move that fails, or meets a deletion, leaves a database that is right whatever the disk has; sources last as long as their readers; and
 * compactions keep out of the way. Method: a server with real files on a disk that fails when it is told to.
 */
import assert from 'node:assert';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { evenRanges, FULL_RANGE } from '../../../engine/shard/hash.js';
import { movedShardMap, newShardMap } from '../../../server/databases/shard-map.js';
import { NODE_FILE } from '../../../server/node-records.js';
import { FailingStorage } from '../../support/failing-storage.js';
import { outcomeOf } from '../../support/outcome.js';
import { TestServer } from '../../support/server.js';
import { ShardMover } from '../../support/shard-mover.js';

async function start(t: Test, q: number) {
  const storage = new FailingStorage(nodeStorage);
  const settings = { 'compaction/dead_percent': '0' };
  const server = await TestServer.open(t, { settings, storage, mayLogErrors: true });
  await server.put(`/db?q=${q}`);
  for (let n = 0; n < 20; n++) await server.put(`/db/doc-${n}`, {});
  return { server, storage, mover: new ShardMover(server, 'db') };
}

t.test('when it is not known whether the disk has the new map', async (t) => {
  for (const then of ['the new one', 'the old one', 'a retry']) {
    const afterwards = then === 'the new one';
    const { server, storage, mover } = await start(t, 2);
    const { database } = mover;
    // The records of the node are sealed a second after the last change of them, which would be what fails.
    await wait(1200);
    const inFirst = database.shards[0]?.range.end ?? 0;
    const sent: Promise<{ status: number }>[] = [];
    const atGate = async () => {
      sent.push(...[...Array(8).keys()].map((n) => server.put(`/db/waiting-${n}`, {})));
      await wait(50);
      const onlyPath = (path: string) => path.includes(NODE_FILE);
      storage.plan({ kind: 'write', call: 0, code: 'IO', afterwards, onlyPath });
    };
    t.equal(await outcomeOf(mover.split(0, 2, { atGate })), 'IO');
    t.equal(database.map.shards.length, 2);
    const isFirst = (id: string) => database.current.indexOf(Buffer.from(id)) === 0;
    for (const [n, reply] of (await Promise.all(sent)).entries()) {
      t.equal(reply.status, isFirst(`waiting-${n}`) ? 500 : 201);
    }
    // A failed file would be opened anew after a second.
    await wait(1100);
    for (let n = 0; n < 8; n++) {
      const { status } = await server.put(`/db/later-${n}`, {});
      t.equal(status, isFirst(`later-${n}`) ? 500 : 201, `below ${inFirst}`);
    }
    t.match((await server.get('/db/_all_docs')).body, { rows: { length: Number } }, 'it reads');
    if (then === 'a retry') {
      const names = { members: { names: ['new'] } };
      t.equal((await server.put('/db/_security', names)).status, 500, 'not on all shards');
      await mover.retry();
      t.notMatch((await server.get('/db/_security')).body, names, 'it is not in force');
      const told = await Promise.all(
        database.shards.map(({ slot }) => slot.read(async (shard) => shard.snapshot().metadata)),
      );
      t.equal(new Set(told.map(({ security }) => Buffer.from(security).toString())).size, 1);
      t.equal(database.map.shards.length, 3);
      for (let n = 0; n < 8; n++) t.equal((await server.put(`/db/retried-${n}`, {})).status, 201);
      for (let n = 0; n < 20; n++) t.equal((await server.get(`/db/doc-${n}`)).status, 200);
    }
    await mover.abandon();
    await server.close();
    const again = await TestServer.open(t, { dataDir: server.dataDir });
    const { shards } = again.server.services.catalog.get('db');
    t.equal(shards.length, then === 'the old one' ? 2 : 3, 'the disk decides');
    for (let n = 0; n < 20; n++) t.equal((await again.get(`/db/doc-${n}`)).status, 200);
    t.equal((await again.put('/db/new', {})).status, 201);
    await again.close();
  }
});

t.test('readers of a source go on, and it is closed when they are done', async (t) => {
  const { server, mover } = await start(t, 2);
  const { pool } = server.server.services;
  const [slot] = mover.database.current.slots;
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const reading = mover.database.readAll(async (snapshots, shards) => {
    await held;
    const ids: string[] = [];
    for (const snapshot of snapshots) {
      for await (const { key } of snapshot.entries('byId')) ids.push(Buffer.from(key).toString());
    }
    return { ids, q: shards.map.shards.length };
  });
  await mover.split(0, 2, { removes: false });
  const path = slot?.path ?? '';
  t.ok(slot?.isRetired);
  t.ok(pool.openPaths.includes(path), 'it is held');
  t.equal(slot?.beginRewrite(), undefined, 'it is not compacted');
  t.equal(await outcomeOf(slot?.write(async () => undefined) ?? Promise.resolve()), 'MOVED');
  await server.put('/db/new', {});
  const retired = pool.retire(path);
  t.equal(pool.retire(path), retired, 'asked for again');
  release();
  const { ids, q } = await reading;
  t.same([ids.length, new Set(ids).size, q], [20, 20, 2], 'what there was');
  await retired;
  t.notOk(pool.openPaths.includes(path));
  t.equal(await outcomeOf(slot?.read(async () => undefined) ?? Promise.resolve()), 'MOVED');
  await pool.retire(path);
});

t.test('a deletion and a move exclude each other and wait for nothing', async (t) => {
  const { server, mover } = await start(t, 1);
  const { database } = mover;
  const { catalog } = server.server.services;
  let deleting: Promise<unknown> | undefined;
  // The deletion waits for what goes on in the background, which waits for its turn in the catalog.
  const atGate = async () => {
    deleting = server.delete('/db');
    await wait(50);
  };
  const moving = database.run(outcomeOf(mover.split(0, 2, { atGate, removes: false })));
  t.equal(await moving, 'NOT_FOUND');
  t.match(await deleting, { status: 200 });
  t.equal((await server.get('/db')).status, 404);
  await mover.abandon();
  const late = database.settings.whileSettled(() =>
    catalog.moveShards(database, { from: [], to: [] }),
  );
  t.equal(await outcomeOf(late), 'NOT_FOUND');
});

t.test('rewrites of a shard exclude one another', async (t) => {
  const { server, mover } = await start(t, 1);
  const { compactions } = server.server.services;
  const [slot] = mover.database.current.slots;
  const end = slot?.beginRewrite();
  t.equal(slot?.beginRewrite(), undefined);
  const compact = async () => {
    await server.post('/db/_compact', {});
    for (let n = 0; n < 500 && mover.database.isCompacting; n++) await wait(10);
  };
  await compact();
  t.equal(compactions.completed, 0);
  let isOver = false;
  const waiting = slot?.rewritten().then(() => {
    isOver = true;
  });
  await wait(5);
  t.equal(isOver, false);
  end?.();
  await waiting;
  await compact();
  t.equal(compactions.completed, 1);
});

t.test('the map of a move', (t) => {
  const options = {
    ranges: evenRanges(FULL_RANGE, 4),
    copies: 1,
    hashRule: 'document',
    timestamp: 1,
    incarnation: 'i',
  } as const;
  const map = newShardMap('db', options);
  const [a, b, c, d] = map.shards;
  assert(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
  const whole = { start: b.range.start, end: c.range.end };
  const moved = movedShardMap(map, [b.file, c.file], [{ range: whole, file: 'new' }]);
  t.same(moved, { ...map, epoch: 2, shards: [a, { range: whole, file: 'new' }, d] });
  t.throws(() => movedShardMap(map, ['other'], []), { code: 'NOT_FOUND' });
  t.throws(() => movedShardMap(map, [b.file], []), { code: 'INVALID_RANGE' });
  t.throws(() => movedShardMap(map, [b.file], [{ range: whole, file: 'new' }]), {
    code: 'INVALID_RANGE',
  });
  t.end();
});
