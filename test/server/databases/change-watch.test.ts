// Goal: no change is missed between two readings, and a watch leaves nothing behind. Method: a database in memory and a clock that is
// moved by hand.
import { getEventListeners } from 'node:events';
import t, { type Test } from 'tap';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import { evenRanges, FULL_RANGE } from '../../../engine/shard/hash.js';
import { ChangeWatch } from '../../../server/databases/change-watch.js';
import { Database } from '../../../server/databases/database.js';
import { ShardPool } from '../../../server/databases/shard-pool.js';
import { NodeRecords } from '../../../server/node-records.js';
import { VirtualHost } from '../../support/virtual-host.js';

async function start(t: Test) {
  const host = Object.assign(new VirtualHost(1), { timeOfDay: () => 0 });
  const world = { storage: new MemoryStorage(), host };
  const pool = new ShardPool(world, { openMax: 10, idleMs: 1e9 });
  await world.storage.makeDirectory('/data');
  const shards = evenRanges(FULL_RANGE, 2).map((range, n) => ({ range, file: `${n}.divan` }));
  for (const { range, file } of shards) await pool.create(`/data/${file}`, { range });
  const records = await NodeRecords.open(world, '/data');
  const database = new Database(
    world,
    { pool, records, dataDir: '/data' },
    {
      ...{ name: 'db', incarnation: 'i', state: 'live', epoch: 1, copies: 1, timestamp: 1 },
      ...{ hashRule: 'document', shards },
    },
  );
  t.teardown(() => pool.close());
  const put = async (id: string) => {
    const write = { id: Buffer.from(id), body: Buffer.from('{}'), deleted: false };
    await database.put({ ...write, parent: undefined });
    return database.shardOf(write.id).slot;
  };
  return { host, pool, database, put };
}

t.test('changes before and during a wait', async (t) => {
  const { host, database, put } = await start(t);
  const watch = new ChangeWatch(host, database, []);
  const first = await put('a');
  t.equal(await watch.next(1000), 'changed', 'it was changed already');
  t.same(watch.takeChanged(), [first]);
  const late = watch.next(1000);
  host.advance(1000);
  t.equal(await late, 'timeout');
  const next = watch.next(1000);
  const second = await put('b');
  t.equal(await next, 'changed');
  host.advance(5000);
  t.same(watch.takeChanged(), [second]);
  t.same(watch.takeChanged(), []);
  watch.close();
  await put('c');
  t.same(watch.takeChanged(), [], 'closed');
});

t.test('what ends a watch', async (t) => {
  const { host, pool, database } = await start(t);
  const stop = new AbortController();
  const watches = [1, 2, 3].map(() => new ChangeWatch(host, database, [stop.signal]));
  const waits = watches.map((watch) => watch.next(1e9));
  t.equal(getEventListeners(stop.signal, 'abort').length, 3);
  watches[0]?.close();
  t.equal(await waits[0], 'ended');
  t.equal(getEventListeners(stop.signal, 'abort').length, 2);
  pool.drop(database.shards[1]?.slot.path ?? '');
  t.same(await Promise.all(waits), ['ended', 'ended', 'ended']);
  for (const watch of watches) watch.close();
  t.equal(getEventListeners(stop.signal, 'abort').length, 0);
  t.equal(getEventListeners(database.ended, 'abort').length, 0);
  const other = new ChangeWatch(host, database, [stop.signal]);
  const waiting = other.next(1e9);
  stop.abort();
  t.equal(await waiting, 'ended');
  t.equal(await other.next(1e9), 'ended');
  t.ok(other.ended);
  t.ok(new ChangeWatch(host, database, [stop.signal]).ended, 'it was aborted before');
});
