/**
 * Goal: a shard is never closed under somebody who reads it, a close that fails is nobody's error, and whoever meets a database that is
 * being deleted hears that it is not there.
 * Method: a pool on a real directory, asked to close and to read in the same turn; a storage that is slow or fails where the test says so.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { FULL_RANGE } from '../../../engine/shard/hash.js';
import { ShardPool } from '../../../server/databases/shard-pool.js';
import type { ShardSlot } from '../../../server/databases/shard-slot.js';
import { temporaryDirectory } from '../../support/cli.js';
import { FailingStorage } from '../../support/failing-storage.js';
import { realServerHost, TestServer } from '../../support/server.js';

const ID = Buffer.from('a');
const BODY = Buffer.from('{"a":"some text"}');

async function openSlot(t: Test, storage = new FailingStorage(nodeStorage)): Promise<ShardSlot> {
  const world = { storage, host: realServerHost };
  const pool = new ShardPool(world, { openMax: 10, idleMs: 60_000 });
  t.teardown(() => pool.close());
  const path = join(temporaryDirectory(t), 'a.divan');
  await pool.create(path, { range: FULL_RANGE, hashRule: 'document' });
  const slot = pool.slot(path);
  await slot.write((shard) => shard.put({ id: ID, body: BODY, deleted: false }));
  return slot;
}

/** Reads the document, `afterMs` after the shard was given. */
function readLate(slot: ShardSlot, afterMs: number): Promise<string> {
  return slot.read(async (reader) => {
    const snapshot = reader.snapshot();
    await delay(afterMs);
    const [leaf] = (await snapshot.document(ID))?.leaves ?? [];
    return leaf === undefined ? '' : Buffer.from(await snapshot.body(leaf)).toString();
  });
}

t.test('who comes when a shard is about to be closed gets one that stays open', async (t) => {
  const slot = await openSlot(t);
  t.ok(slot.closeIfIdle());
  t.equal(await readLate(slot, 200), BODY.toString());
  const reading = readLate(slot, 50);
  t.notOk(slot.closeIfIdle(), 'one that is read stays open');
  t.equal(await reading, BODY.toString());
});

t.test('who comes while a shard is being closed does not hear that this fails', async (t) => {
  const storage = new FailingStorage(nodeStorage);
  const slot = await openSlot(t, storage);
  storage.plan({ kind: 'write', call: 0, code: 'NO_SPACE' });
  t.ok(slot.closeIfIdle());
  t.equal(await readLate(slot, 0), BODY.toString());
  t.equal(storage.fired, 1);
});

t.test('a failed shard comes back though somebody always reads it', async (t) => {
  const storage = new FailingStorage(nodeStorage);
  const slot = await openSlot(t, storage);
  let isOver = false;
  const reader = async () => {
    while (!isOver) t.equal(await readLate(slot, 40), BODY.toString());
  };
  const put = (id: string) =>
    slot.write((shard) => shard.put({ id: Buffer.from(id), body: BODY, deleted: false }));
  const readers: Promise<void>[] = [];
  for (let n = 0; n < 4; n++) {
    readers.push(reader());
    await delay(10);
  }
  storage.plan({ kind: 'sync', call: 0, code: 'IO' });
  await t.rejects(put('b'));
  const writing = put('c').then(() => 'written');
  t.equal(await Promise.race([writing, delay(3000)]), 'written');
  isOver = true;
  await Promise.all([writing, ...readers]);
});

/** A server with one shard open at a time, whose next opening of the shard of `/db` waits for `release`. */
async function heldServer(t: Test) {
  let release = (): void => undefined;
  let isHeld = false;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const storage = new FailingStorage(nodeStorage);
  const settings = { 'couchdb/max_dbs_open': '1' };
  const server = await TestServer.open(t, { storage, settings });
  await server.put('/db?q=1');
  await server.put('/other?q=1');
  await server.get('/other');
  storage.weaknesses.slow = async (kind, path) => {
    if (kind !== 'open' || !/[/]db\.[0-9]+\.divan$/.test(path)) return;
    isHeld = true;
    await gate;
  };
  const held = async () => {
    while (!isHeld) await delay(5);
  };
  return { server, held, release: () => release() };
}

t.test('a database that is deleted while its shard is being opened is not found', async (t) => {
  const { server, held, release } = await heldServer(t);
  const calls = [server.get('/db/a'), server.put('/db/a', {}), server.get('/db')];
  await held();
  t.equal((await server.delete('/db')).status, 200);
  release();
  for (const reply of await Promise.all(calls)) {
    const body = { error: 'not_found', reason: 'Database does not exist.' };
    t.match(reply, { status: 404, body });
  }
});

t.test('a list of databases tells of the others when one is deleted', async (t) => {
  const { server, held, release } = await heldServer(t);
  const listing = server.get('/_dbs_info');
  await held();
  t.equal((await server.delete('/db')).status, 200);
  release();
  const rows = [
    { key: 'db', error: 'not_found' },
    { key: 'other', info: { db_name: 'other' } },
  ];
  t.match(await listing, { status: 200, body: rows });
});
