/**
 * Goal: a disk that is full or fails costs an error for the shard that it concerns, and nothing else: nothing is acknowledged that is not
 * durable, reads and other databases go on, and when the disk works again so does the shard, without a restart.
 * Method: a storage that fails on purpose behind the server; and a real process whose files may not grow.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { nodeStorage } from '../../engine/file/node-storage.js';
import { temporaryDirectory } from '../support/cli.js';
import { FailingStorage, type FailurePlan } from '../support/failing-storage.js';
import { type Reply, realServerHost, TestServer } from '../support/server.js';
import { type ProcessReply, ServerProcess } from '../support/server-process.js';

/** More than the time after which a failed shard is opened anew. */
const HEAL_MS = 1200;
/** So much faster runs the clock of a server that is not a process of its own. */
const HASTE = 10;
const HASTY_HOST = { ...realServerHost, now: () => realServerHost.now() * HASTE };
const ONE = '/db?q=1';

interface Failure {
  readonly name: string;
  readonly plan: Omit<FailurePlan, 'onlyPath' | 'call' | 'times'>;
  readonly status: number;
}

const FAILURES: readonly Failure[] = [
  { name: 'a full disk', plan: { kind: 'write', code: 'NO_SPACE' }, status: 507 },
  { name: 'a quota', plan: { kind: 'write', code: 'NO_SPACE', errno: 'EDQUOT' }, status: 507 },
  { name: 'a write that fails', plan: { kind: 'write', code: 'IO' }, status: 500 },
  { name: 'a sync that fails', plan: { kind: 'sync', code: 'IO' }, status: 500 },
  {
    name: 'a sync that fails afterwards',
    plan: { kind: 'sync', code: 'IO', afterwards: true },
    status: 500,
  },
  { name: 'a full disk at a sync', plan: { kind: 'sync', code: 'NO_SPACE' }, status: 507 },
];

async function openServer(t: Test): Promise<{ server: TestServer; storage: FailingStorage }> {
  const storage = new FailingStorage(nodeStorage);
  const server = await TestServer.open(t, { storage, host: HASTY_HOST, mayLogErrors: true });
  return { server, storage };
}

/** An error with a reason that tells nothing of the machine. */
function assertFailure(t: Test, reply: Reply | ProcessReply, status: number): void {
  t.equal(reply.status, status, reply.text);
  t.match(reply.text, /^\{"error":"[a-z_]+","reason":"[^"]+"/);
  t.notMatch(reply.text, /\.divan|\/tmp|\bnode:|\.js\b/, 'no path, no stack');
}

for (const { name, plan, status } of FAILURES) {
  t.test(`${name}: the database fails alone, reads on, and comes back`, async (t) => {
    const { server, storage } = await openServer(t);
    t.equal((await server.put(ONE)).status, 201);
    t.equal((await server.put('/other')).status, 201);
    t.equal((await server.put('/db/kept', { a: 1 })).status, 201);
    const onlyPath = (path: string) => /[./]db\.[0-9]/.test(path);
    storage.plan({ ...plan, call: 0, times: 'for ever', onlyPath });
    assertFailure(t, await server.put('/db/lost', { a: 1 }), status);
    const again = await server.put('/db/lost', { a: 1 });
    t.ok(again.status === status || again.status === 500, `then ${again.status}`);
    const bulk = { docs: [{ _id: 'lost' }, { _id: 'lost too' }] };
    t.ok((await server.post('/db/_bulk_docs', bulk)).status >= 500, 'nor many at once');
    t.match((await server.get('/db/kept')).body, { a: 1 }, 'it reads on');
    t.match((await server.get('/db/_all_docs')).body, { rows: [{ id: 'kept' }] });
    t.equal((await server.put('/other/a', { a: 1 })).status, 201, 'other databases go on');
    await delay(HEAL_MS / HASTE);
    t.ok((await server.put('/db/lost', { a: 1 })).status >= 500, 'it fails while the disk does');
    t.match((await server.get('/db/kept')).body, { a: 1 }, 'and still reads');
    storage.plan();
    await delay(HEAL_MS / HASTE);
    t.equal((await server.put('/db/new', { a: 2 })).status, 201, 'it comes back');
    const ids = await idsIn(server);
    t.ok(ids.includes('kept') && ids.includes('new'), `${ids}`);
    await server.close();
    const after = await TestServer.open(t, { dataDir: server.dataDir });
    t.strictSame(await idsIn(after), ids, 'what it had then is durable');
    await after.close();
  });
}

async function idsIn(server: TestServer): Promise<unknown[]> {
  const { text } = await server.get('/db/_all_docs');
  const { rows }: { rows: { id: unknown }[] } = JSON.parse(text);
  return rows.map(({ id }) => id);
}

t.test('of many documents only those of the failed shard are refused', async (t) => {
  const { server, storage } = await openServer(t);
  await server.put('/db?q=2');
  const docs = Array.from({ length: 20 }, (_, index) => ({ _id: `d${index}` }));
  storage.plan({
    kind: 'write',
    code: 'NO_SPACE',
    call: 0,
    times: 'for ever',
    onlyPath: (path) => path.includes('00000000-7fffffff'),
  });
  const { status, text } = await server.post('/db/_bulk_docs', { docs });
  t.equal(status, 201);
  const rows: { id: string; ok?: boolean; error?: string }[] = JSON.parse(text);
  const stored = rows.filter(({ ok }) => ok === true).map(({ id }) => id);
  const refused = rows.filter(({ error }) => error === 'insufficient_storage');
  t.ok(stored.length > 0 && refused.length > 0 && stored.length + refused.length === 20);
  t.notMatch(text, /\.divan|\/tmp/);
  t.strictSame(await idsIn(server), stored.sort(), 'what was acknowledged is there, no more');
});

t.test('the records of the node come back too', async (t) => {
  for (const { name, plan, status } of FAILURES) {
    const { server, storage } = await openServer(t);
    await server.put('/db');
    const onlyPath = (path: string) => path.includes('node.divan');
    storage.plan({ ...plan, call: 0, times: 'for ever', onlyPath });
    assertFailure(t, await server.put('/new'), status);
    t.equal((await server.put('/db/a', { a: 1 })).status, 201, `${name}: databases go on`);
    t.ok((await server.put('/new')).status >= 500, 'it fails while the disk does');
    storage.plan();
    t.equal((await server.put('/new')).status, 201, 'and works when the disk does');
    t.equal((await server.delete('/new')).status, 200);
    t.equal((await server.get('/db/a')).status, 200);
  }
});

t.test('making and removing a database with every call that may fail', async (t) => {
  const dataDir = join(temporaryDirectory(t), 'data');
  for (const [method, before] of [
    ['PUT', 'GET'],
    ['DELETE', 'PUT'],
  ] as const) {
    for (let call = 0; ; call++) {
      const storage = new FailingStorage(nodeStorage);
      const server = await TestServer.open(t, { storage, dataDir, mayLogErrors: true });
      await server.call(before, ONE);
      storage.plan({ kind: 'any', code: 'IO', call });
      const { status } = await server.call(method, ONE);
      const hasFired = storage.fired > 0;
      storage.plan();
      t.ok(status < 300 || status >= 500, `${method}, call ${call}: ${status}`);
      const isThere = (await server.get('/db')).status === 200;
      if (status < 300) t.equal(isThere, method === 'PUT');
      if (isThere) t.equal((await server.put('/db/written', { a: 1 })).status, 201);
      await server.close();
      await assertWhole(t, dataDir, isThere, `${method}, call ${call}`);
      if (!hasFired) break;
    }
  }
});

/** After a start the database is whole or away, and what was written to it is there. Removes it. */
async function assertWhole(t: Test, dataDir: string, wasWritten: boolean, what: string) {
  const server = await TestServer.open(t, { dataDir });
  const { status } = await server.get('/db/written');
  if (wasWritten) t.equal(status, 200, `${what}: what was acknowledged is there`);
  else t.equal(status, 404, what);
  const isThere = (await server.get('/db')).status === 200;
  t.equal((await server.call(isThere ? 'DELETE' : 'PUT', ONE)).status, isThere ? 200 : 201, what);
  if (!isThere) await server.delete('/db');
  const files = await nodeStorage.list(join(dataDir, 'shards', '00000000-ffffffff'));
  t.strictSame(files, [], `${what}: no file is left`);
  await server.close();
}

t.test('a process whose files may not grow', async (t) => {
  const dataDir = join(temporaryDirectory(t), 'data');
  // In units of 1024 bytes, for this shell.
  const wrapper = ['bash', '-c', 'ulimit -S -f 400; exec "$@"', 'bash'];
  const server = await ServerProcess.start({ dataDir, wrapper });
  t.teardown(() => server.end('SIGKILL'));
  const client = server.client();
  for (const db of ['full', 'small']) await client.call('PUT', `/${db}?q=1`);
  const filler = 'x'.repeat(20_000);
  const stored: string[] = [];
  let reply: ProcessReply = { status: 201, text: '' };
  while (reply.status === 201 && stored.length < 1000) {
    reply = await client.call('PUT', `/full/d${stored.length}`, { filler });
    if (reply.status === 201) stored.push(`d${stored.length}`);
  }
  assertFailure(t, reply, 507);
  t.ok(stored.length > 5, `${stored.length} were stored`);
  t.equal((await client.call('PUT', '/small/a', {})).status, 201, 'other databases go on');
  for (const id of stored) t.equal((await client.call('GET', `/full/${id}`)).status, 200, id);
  await delay(HEAL_MS);
  assertFailure(t, await client.call('PUT', '/full/more', { filler }), 507);
  const pid = String(server.child.pid);
  t.equal(spawnSync('prlimit', ['--pid', pid, '--fsize=unlimited']).status, 0, 'there is room');
  await delay(HEAL_MS);
  t.equal((await client.call('PUT', '/full/more', { filler })).status, 201, 'it comes back');
  await server.end('SIGKILL');
  const after = await ServerProcess.start({ dataDir });
  t.teardown(() => after.end('SIGKILL'));
  for (const id of [...stored, 'more']) {
    t.equal((await after.client().call('GET', `/full/${id}`)).status, 200, id);
  }
});
