/**
 * Goal: a job that meets damage fails, says where, and changes nothing; one that has no room is refused with the arithmetic, or tries again
 * and goes on when there is room; and what is stopped stays so over a restart.
 * Method: a server in this process, on a storage that fails, fills up, or holds a job up when the test says so.
 */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { namesOfShardFile } from '../../../server/databases/shard-map.js';
import type { JobState } from '../../../server/splits/job.js';
import { FailingStorage } from '../../support/failing-storage.js';
import { seededRandom } from '../../support/seed.js';
import { TestServer, type TestServerOptions } from '../../support/server.js';

const DOCUMENTS = 60;
const SETTINGS = { 'reshard/retry_interval': '100' } as const;
/** The halves that the shard is split into. */
const isCopy = (path: string) => /00000000-7fffffff|80000000-ffffffff/.test(path);

/** Says how much room there is. */
class RoomyStorage extends FailingStorage {
  room: number | undefined;

  override freeBytes(path: string): Promise<number> {
    return this.room === undefined ? super.freeBytes(path) : Promise.resolve(this.room);
  }
}

const NOISE = (() => {
  const random = seededRandom(7);
  return Buffer.from(Array.from({ length: 3000 }, () => Math.floor(random() * 256)));
})();

async function openFilled(t: Test, options: TestServerOptions = {}): Promise<TestServer> {
  const server = await TestServer.open(t, { settings: SETTINGS, mayLogErrors: true, ...options });
  t.equal((await server.put('/db?q=1')).status, 201);
  const docs = Array.from({ length: DOCUMENTS }, (_, n) => ({ _id: `d${n}`, n }));
  t.equal((await server.post('/db/_bulk_docs', { docs })).status, 201);
  const attachment = { content_type: 'application/octet-stream', data: NOISE.toString('base64') };
  const noisy = { _attachments: { a: attachment } };
  t.equal((await server.put('/db/noisy', noisy)).status, 201);
  return server;
}

function shardOf({ server }: TestServer): string {
  const [place] = server.services.catalog.get('db').map.shards;
  return namesOfShardFile(place?.file ?? '').shard;
}

function split(server: TestServer) {
  const node = server.server.services.config.get('node/name');
  return server.post('/_shard_splits/jobs', { node, shard: shardOf(server) });
}

async function begin(t: Test, server: TestServer): Promise<string> {
  const { status, text } = await split(server);
  t.equal(status, 201, text);
  const { id }: { id: string } = JSON.parse(text);
  return id;
}

/** Resolves when `isThere` says so. */
async function until(isThere: () => boolean): Promise<void> {
  for (let turn = 0; turn < 2000; turn++) {
    if (isThere()) return;
    await wait(5);
  }
  throw new Error('that does not come');
}

function inState({ server }: TestServer, id: string, state: JobState): Promise<void> {
  return until(() => {
    const now = server.services.jobs.get(id);
    return now.state === state && (state === 'running' || !now.isWorking);
  });
}

/** It is all there, in so many shards, and there is no other file. */
async function assertWhole(t: Test, server: TestServer, shards: number): Promise<void> {
  const { text } = await server.get('/db/_all_docs');
  const { rows }: { rows: unknown[] } = JSON.parse(text);
  t.equal(rows.length, DOCUMENTS + 1);
  t.equal(server.server.services.catalog.get('db').map.shards.length, shards);
  // A job is said to have failed before what it copied is gone.
  await until(() => files(server).length === shards);
}

function files({ dataDir }: TestServer): string[] {
  return readdirSync(dataDir, { recursive: true, encoding: 'utf8' }).filter(
    (entry) => entry !== 'node.divan' && statSync(join(dataDir, entry)).isFile(),
  );
}

t.test('a corrupt byte in the source', async (t) => {
  const before = await openFilled(t);
  const path = join(before.dataDir, ...(files(before)[0] ?? '').split('/'));
  await before.close();
  const bytes = readFileSync(path);
  const at = bytes.indexOf(NOISE.subarray(1000, 1032));
  t.ok(at > 0, 'the attachment stands in the file');
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(path, bytes);
  const options = { dataDir: before.dataDir, settings: SETTINGS, mayLogErrors: true };
  const server = await TestServer.open(t, options);
  const id = await begin(t, server);
  await inState(server, id, 'failed');
  const { job } = server.server.services.jobs.get(id);
  t.ok(job.reason?.includes(path), `${job.reason} names the file`);
  const offset = Number(/(?:at|offset) ([0-9]+)/.exec(job.reason ?? '')?.[1] ?? -1);
  t.ok(offset >= 0 && offset <= at && offset > at - NOISE.length, `${job.reason}: ${at}`);
  await assertWhole(t, server, 1);
  t.equal((await server.get('/db/d1')).status, 200, 'it still serves');
  t.equal((await server.put('/db/more', {})).status, 201);
});

t.test('no room before', async (t) => {
  const storage = new RoomyStorage(nodeStorage);
  const server = await openFilled(t, { storage });
  storage.room = 1000;
  const { status, text } = await split(server);
  t.equal(status, 507);
  t.match(text, /take up to \d+ bytes .*; 1000 are free, \d+ too few/);
  t.same(server.server.services.jobs.list(), [], 'there is no job');
  await assertWhole(t, server, 1);
  storage.room = undefined;
  await inState(server, await begin(t, server), 'completed');
  await assertWhole(t, server, 2);
});

for (const call of [0, 1, 3]) {
  t.test(`no room in the middle, from write ${call} of the copies on`, async (t) => {
    const storage = new RoomyStorage(nodeStorage);
    const server = await openFilled(t, { storage });
    const { jobs } = server.server.services;
    storage.plan({ kind: 'write', code: 'NO_SPACE', call, times: 'for ever', onlyPath: isCopy });
    const id = await begin(t, server);
    await until(() => jobs.get(id).job.retries > 0);
    t.ok(storage.fired > 0);
    t.match(jobs.get(id).job.error, /planned failure of write/);
    t.equal((await server.get('/db/d1')).status, 200, 'it serves meanwhile');
    storage.plan();
    await inState(server, id, 'completed');
    await assertWhole(t, server, 2);
  });
}

t.test('no room for too long, and then there is some', async (t) => {
  const storage = new RoomyStorage(nodeStorage);
  const settings = { ...SETTINGS, 'reshard/max_retries': '1' };
  const server = await openFilled(t, { storage, settings });
  storage.plan({ kind: 'write', code: 'NO_SPACE', call: 1, times: 'for ever', onlyPath: isCopy });
  const id = await begin(t, server);
  await inState(server, id, 'failed');
  await assertWhole(t, server, 1);
  storage.plan();
  await server.server.services.jobs.resumeJob(id);
  await inState(server, id, 'completed');
  await assertWhole(t, server, 2);
});

t.test('stopped, restarted, started', async (t) => {
  const gate = { isClosed: true, waiting: 0, open: () => {} };
  const opened = new Promise<void>((resolve) => {
    gate.open = resolve;
  });
  const storage = new FailingStorage(nodeStorage, {
    slow: async (kind, path) => {
      if (kind !== 'write' || !isCopy(path)) return;
      gate.waiting++;
      await opened;
    },
  });
  const first = await openFilled(t, { storage });
  const id = await begin(t, first);
  await until(() => gate.waiting > 0);
  const stopping = first.put('/_shard_splits', { stop: 'for a while' });
  await until(() => first.server.services.jobs.stopReason !== undefined);
  gate.open();
  t.equal((await stopping).status, 200);
  t.match(first.server.services.jobs.get(id), { state: 'stopped', reason: 'for a while' });
  await first.close();
  const options = { dataDir: first.dataDir, settings: SETTINGS };
  const second = await TestServer.open(t, options);
  t.match(second.server.services.jobs.get(id), { state: 'stopped', reason: 'for a while' });
  await second.put('/_shard_splits', { start: true });
  await inState(second, id, 'completed');
  await assertWhole(t, second, 2);
});
