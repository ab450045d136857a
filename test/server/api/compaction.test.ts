/**
 * Goal: shards are compacted on request and by themselves, one at a time, seen by operators, ended by a deletion and by the stop of the server.
 * Method: a server on a port of its own, through fetch; a disk that stands still at the first write to a new file until it is told to go on.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { FailingStorage } from '../../support/failing-storage.js';
import { TestServer, type TestServerOptions } from '../../support/server.js';

const JSON_TYPE = { headers: { 'Content-Type': 'application/json' } };
const NEVER = { 'compaction/dead_percent': '0' };

/** Writes a database most of whose bytes are dead. */
async function wear(server: TestServer, name: string, q: number, rounds = 10): Promise<void> {
  const path = `/${encodeURIComponent(name)}`;
  await server.put(`${path}?q=${q}`);
  const padding = 'x'.repeat(2000);
  let revs: (string | undefined)[] = [];
  for (let round = 0; round < rounds; round++) {
    const docs = Array.from({ length: 40 }, (_, n) => ({
      _id: `doc${n}`,
      ...(revs[n] === undefined ? {} : { _rev: revs[n] }),
      round,
      padding,
    }));
    const { body } = await server.post(`${path}/_bulk_docs`, { docs });
    revs = Array.isArray(body) ? body.map(({ rev }) => String(rev)) : [];
  }
}

async function infoOf(server: TestServer, name: string) {
  const { body } = await server.get(`/${name}`);
  const parts = new Map<string, unknown>(Object.entries(body ?? {}));
  const sizes = new Map<string, unknown>(Object.entries(parts.get('sizes') ?? {}));
  return { isRunning: parts.get('compact_running') === true, file: Number(sizes.get('file')) };
}

/** Resolves when `isSo` does to true. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 2000; turn++) {
    if (await isSo()) return;
    await wait(5);
  }
  throw new Error('it never came to that');
}

/** A disk on which new shard files can be held up. */
function gatedStorage() {
  let gate: Promise<void> | undefined;
  let open = () => {};
  let waiting = 0;
  /** A file goes by the name under which it was opened, so that those from before are left alone. */
  const opened = new Set<string>();
  const storage = new FailingStorage(nodeStorage, {
    slow: async (kind, path) => {
      if (gate === undefined) return;
      if (kind === 'open' && path.endsWith('.new')) opened.add(path);
      if (kind !== 'write' || !opened.has(path)) return;
      waiting++;
      await gate;
    },
  });
  const shut = () => {
    gate = new Promise((resolve) => {
      open = resolve;
    });
  };
  const release = () => {
    gate = undefined;
    open();
  };
  return { storage, shut, release, isWaiting: () => waiting > 0 };
}

/** What is there besides shard files. */
async function leftovers(server: TestServer): Promise<string[]> {
  const paths = await readdir(join(server.dataDir, 'shards'), { recursive: true });
  return paths.filter((path) => path.includes('/.'));
}

async function gated(t: Test, options: TestServerOptions = {}) {
  const gate = gatedStorage();
  const server = await TestServer.open(t, { settings: NEVER, ...options, storage: gate.storage });
  return { ...gate, server };
}

t.test('on request', async (t) => {
  const server = await TestServer.open(t, { settings: NEVER });
  await wear(server, 'db', 2);
  const before = await infoOf(server, 'db');
  const reply = await server.post('/db/_compact', undefined, JSON_TYPE);
  t.match(reply, { status: 202, body: { ok: true } });
  t.ok((await infoOf(server, 'db')).isRunning);
  await until(async () => !(await infoOf(server, 'db')).isRunning);
  const after = await infoOf(server, 'db');
  t.ok(after.file < before.file / 3, `${after.file} of ${before.file} bytes`);
  t.match((await server.get('/db/doc7')).body, { round: 9 });
  t.match((await server.get('/db')).body, { doc_count: 40 });
  t.same(await leftovers(server), []);
  t.same((await server.get('/_active_tasks')).body, []);
});

t.test('one at a time, and seen', async (t) => {
  const { server, shut, release, isWaiting } = await gated(t);
  await wear(server, 'a/b', 2);
  await wear(server, 'c', 2);
  shut();
  for (const path of ['/a%2Fb/_compact', '/c/_compact', '/c/_compact']) {
    t.equal((await server.post(path, {})).status, 202);
  }
  await until(isWaiting);
  t.ok((await infoOf(server, 'c')).isRunning, 'what waits is about to run');
  const tasks = await server.get('/_active_tasks');
  t.match(tasks.body, [
    {
      node: 'node1@127.0.0.1',
      pid: /^<0\.\d+\.0>$/,
      type: 'database_compaction',
      database: /^shards\/00000000-7fffffff\/a\/b\.\d+$/,
      phase: 'document_copy',
      progress: Number,
      changes_done: Number,
      total_changes: Number,
      started_on: Number,
      updated_on: Number,
    },
  ]);
  t.equal(Array.isArray(tasks.body) && tasks.body.length, 1);
  release();
  await until(async () => !(await infoOf(server, 'c')).isRunning);
  t.equal(server.server.services.compactions.completed, 4, 'each shard once');
  t.same(await leftovers(server), []);
});

t.test('the deletion of a database ends it', async (t) => {
  for (const settings of [NEVER, { 'compaction/min_file_size': '50000' }]) {
    const { server, shut, release, isWaiting } = await gated(t, { settings });
    await wear(server, 'other', 1, 1);
    await server.put('/db?q=1');
    shut();
    await wear(server, 'db', 1);
    if (settings === NEVER) await server.post('/db/_compact', {});
    await until(isWaiting);
    const deleted = server.delete('/db');
    await wait(20);
    release();
    t.equal((await deleted).status, 200);
    t.same(await leftovers(server), [], 'it leaves nothing');
    t.same(server.server.services.compactions.completed, 0);
    t.equal(server.server.services.tasks.size, 0);
    await server.post('/other/_compact', {});
    await until(async () => !(await infoOf(server, 'other')).isRunning);
    t.equal(server.server.services.compactions.completed, 1, 'the next has its turn');
  }
});

t.test('the stop of the server ends it and keeps what was done', async (t) => {
  const { server, shut, release, isWaiting } = await gated(t);
  await wear(server, 'db', 2);
  shut();
  await server.post('/db/_compact', {});
  await until(isWaiting);
  const closed = server.close();
  await wait(20);
  release();
  await closed;
  const kept = await leftovers(server);
  t.ok(
    kept.some((path) => path.endsWith('.compact')),
    `a checkpoint of ${kept}`,
  );
  const again = await TestServer.open(t, { dataDir: server.dataDir, settings: NEVER });
  await again.get('/db');
  await until(() => again.server.services.compactions.completed === 1);
  await until(async () => !(await infoOf(again, 'db')).isRunning);
  t.same(await leftovers(again), []);
  t.match((await again.get('/db/doc7')).body, { round: 9 });
});

t.test('by itself', async (t) => {
  const server = await TestServer.open(t, { settings: { 'compaction/min_file_size': '100kB' } });
  await wear(server, 'db', 2, 20);
  const { compactions } = server.server.services;
  await until(() => compactions.completed > 0);
  await until(async () => !(await infoOf(server, 'db')).isRunning);
  const { file } = await infoOf(server, 'db');
  t.ok(file < 1_000_000, `${file} of 1.6 MB`);
  t.match((await server.get('/db/doc7')).body, { round: 19 });
});

t.test('a worn shard is compacted when it is opened', async (t) => {
  const first = await TestServer.open(t, { settings: NEVER });
  await wear(first, 'db', 1);
  await first.close();
  const settings = { 'compaction/min_file_size': '1kB' };
  const server = await TestServer.open(t, { dataDir: first.dataDir, settings });
  await server.get('/db/doc1');
  await until(() => server.server.services.compactions.completed === 1);
});
