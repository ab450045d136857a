/**
 * Goal: the clients that people have work with Divan as they do with CouchDB.
 * Method: nano, PouchDB and couchbackup, as they come from npm, against a running server: documents, conflicts, attachments, bulk, lists,
 * changes, replication both ways and resumed, backup and restore.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import nano from 'nano';
import PouchDB from 'pouchdb';
import t, { type Test } from 'tap';
import { TestServer } from '../support/server.js';

const CREDENTIALS = 'admin:secret-of-the-tests';

function urlOf(server: TestServer, path = ''): string {
  return server.url.replace('http://', `http://${CREDENTIALS}@`) + path;
}

async function directory(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'divan-clients-'));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** What a call is refused with. */
async function refusal(call: Promise<unknown>): Promise<unknown> {
  try {
    await call;
  } catch (error) {
    return error;
  }
  throw new Error('it was not refused');
}

t.test('nano: documents, conflicts, bulk, lists, attachments', async (t) => {
  const server = await TestServer.open(t);
  const client = nano(urlOf(server));
  await client.db.create('nano');
  t.same(await client.db.list(), ['nano']);
  const db = client.use<{ n?: number; text?: string }>('nano');
  const { rev } = await db.insert({ n: 1 }, 'a');
  const second = await db.insert({ _id: 'a', _rev: rev, n: 2 });
  t.match(await refusal(db.insert({ _id: 'a', _rev: rev, n: 3 })), {
    statusCode: 409,
    error: 'conflict',
  });
  t.match(await db.get('a', { revs_info: true }), { n: 2, _rev: second.rev });
  t.match(await refusal(db.get('none')), { statusCode: 404, reason: 'missing' });
  const results = await db.bulk({ docs: [{ _id: 'b', text: 'ü' }, { _id: 'c' }, { _id: 'a' }] });
  t.same(
    results.map(({ id, error }) => [id, error]),
    [
      ['b', undefined],
      ['c', undefined],
      ['a', 'conflict'],
    ],
  );
  const list = await db.list({ include_docs: true, startkey: 'b' });
  t.same(
    list.rows.map(({ doc }) => doc?.text),
    ['ü', undefined],
  );
  t.equal((await db.fetch({ keys: ['c', 'none'] })).rows.length, 2);
  await db.attachment.insert('files', 'f.txt', Buffer.from('content'), 'text/plain');
  t.equal(String(await db.attachment.get('files', 'f.txt')), 'content');
  const { last_seq: lastSeq, results: changes } = await db.changes({ since: '0' });
  t.equal(changes.length, 4);
  await db.destroy('a', second.rev);
  const after = await db.changes({ since: lastSeq });
  t.match(after.results, [{ id: 'a', deleted: true }]);
  t.match(await db.info(), { doc_count: 3, doc_del_count: 1 });
  await client.db.destroy('nano');
  t.match(await refusal(client.db.get('nano')), { statusCode: 404 });
});

t.test('nano: changes as they come, until there are no more', async (t) => {
  const server = await TestServer.open(t);
  const client = nano(urlOf(server));
  await client.db.create('live');
  const db = client.use('live');
  for (const id of ['a', 'b', 'c']) await db.insert({}, id);
  const seen: string[] = [];
  const reader = db.changesReader.get({ since: '0', timeout: 1000 });
  reader.on('change', ({ id }) => seen.push(id));
  await once(reader, 'end');
  t.same(seen.sort(), ['a', 'b', 'c']);
});

/** Every revision of every document of a database, with attachments. */
async function contentOf(server: TestServer, name: string): Promise<unknown> {
  const { body } = await server.get(`/${name}/_changes?style=all_docs`);
  if (typeof body !== 'object' || body === null || !('results' in body)) throw new Error('no rows');
  const rows = body.results;
  if (!Array.isArray(rows)) throw new Error('no rows');
  const all = [];
  for (const { id } of rows) {
    const path = `/${name}/${encodeURIComponent(id)}?open_revs=all&revs=true&attachments=true`;
    const { text } = await server.get(path, { headers: { Accept: 'application/json' } });
    all.push([id, text]);
  }
  return all.sort(([a], [b]) => (a < b ? -1 : 1));
}

t.test('PouchDB: replication between two databases, with conflicts and attachments', async (t) => {
  const server = await TestServer.open(t);
  const one = new PouchDB(urlOf(server, '/one'));
  const two = new PouchDB(urlOf(server, '/two'));
  await Promise.all([one.info(), two.info()]);
  for (let n = 0; n < 120; n++) await one.put({ _id: `d${n}`, n });
  await one.putAttachment(
    'd1',
    'a.txt',
    (await one.get('d1'))._rev,
    Buffer.from('hi'),
    'text/plain',
  );
  await one.put({ _id: '_design/x', language: 'javascript' });
  await PouchDB.sync(one, two);
  const [fromOne, fromTwo] = [await one.get('d2'), await two.get('d2')];
  await one.put({ ...fromOne, side: 1 });
  await two.put({ ...fromTwo, side: 2 });
  await two.remove(await two.get('d3'));
  const result = await PouchDB.sync(one, two);
  t.equal(result.push?.doc_write_failures, 0);
  t.equal(result.pull?.doc_write_failures, 0);
  t.same(await contentOf(server, 'two'), await contentOf(server, 'one'));
  t.equal((await one.get('d2', { conflicts: true }))._conflicts?.length, 1);
  const again = await PouchDB.sync(one, two);
  t.equal(again.push?.docs_read, 0, 'it goes on from its checkpoint');
  t.equal(again.pull?.docs_read, 0);
});

t.test('PouchDB: a local database and back, resumed from its checkpoint', async (t) => {
  const server = await TestServer.open(t);
  const remote = new PouchDB(urlOf(server, '/remote'));
  const path = await directory(t);
  const local = new PouchDB(join(path, 'local'));
  t.teardown(() => local.close());
  await local.bulkDocs(Array.from({ length: 250 }, (_, n) => ({ _id: `l${n}`, n })));
  const attachment = { content_type: 'image/png', data: Buffer.from([1, 2, 3, 255]) };
  await local.put({ _id: 'pic', _attachments: { 'p.png': attachment } });
  const pushed = await local.replicate.to(remote, { batch_size: 50 });
  t.equal(pushed.docs_written, 251);
  t.same(await remote.getAttachment('pic', 'p.png'), Buffer.from([1, 2, 3, 255]));
  await remote.put({ _id: 'r1', from: 'remote' });
  await local.put({ _id: 'l300' });
  const { push, pull } = await local.sync(remote);
  t.equal(push?.docs_read, 1, 'only what is new is read again');
  t.ok((pull?.docs_written ?? 0) >= 1);
  t.match(await local.get('r1'), { from: 'remote' });
  t.equal((await local.info()).doc_count, (await remote.info()).doc_count);
});

t.test('PouchDB: a live feed', async (t) => {
  const server = await TestServer.open(t);
  const db = new PouchDB(urlOf(server, '/feed'));
  await db.info();
  const feed = db.changes({ live: true, since: 'now', include_docs: true });
  const change = once(feed, 'change');
  const ended = once(feed, 'complete');
  await db.put({ _id: 'x', v: 1 });
  t.match(await change, [{ id: 'x', doc: { v: 1 } }]);
  feed.cancel();
  await ended;
});

const require = createRequire(import.meta.url);

/** Runs a command of couchbackup with a text as its input; resolves with its output. */
async function couchbackup(
  t: Test,
  command: string,
  args: string[],
  input: string,
): Promise<string> {
  const bin = join(require.resolve('@cloudant/couchbackup/package.json'), '..', 'bin', command);
  const child = spawn(process.execPath, [bin, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  child.stdin.end(input);
  const [code] = await once(child, 'close');
  t.equal(code, 0, Buffer.concat(errors).toString().slice(-500));
  return Buffer.concat(output).toString();
}

t.test('couchbackup backs up and restores a database', async (t) => {
  const server = await TestServer.open(t);
  const docs = Array.from({ length: 700 }, (_, n) => ({ _id: `doc ${n}`, n, nested: { a: [n] } }));
  await server.put('/source');
  await server.put('/copy');
  t.equal((await server.post('/source/_bulk_docs', { docs })).status, 201);
  const log = join(await directory(t), 'backup.log');
  const from = ['--url', urlOf(server), '--db', 'source', '--log', log, '--buffer-size', '100'];
  const backup = await couchbackup(t, 'couchbackup.bin.js', from, '');
  const to = ['--url', urlOf(server), '--db', 'copy'];
  await couchbackup(t, 'couchrestore.bin.js', to, backup);
  t.same(await contentOf(server, 'copy'), await contentOf(server, 'source'));
});
