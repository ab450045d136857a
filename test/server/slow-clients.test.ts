/**
 * Goal: limits of time and of what is held at a time hold: who is too slow is cut off and holds nothing; a server that is told to stop
 * finishes what it began.
 * Method: clients over raw sockets that send and read slowly, with short times; the real command and signals.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { nodeStorage } from '../../engine/file/node-storage.js';
import { temporaryDirectory } from '../support/cli.js';
import { FailingStorage } from '../support/failing-storage.js';
import { RawClient } from '../support/raw-client.js';
import { ADMIN, basic, TestServer, type TestServerOptions } from '../support/server.js';
import { ServerProcess } from '../support/server-process.js';

type Settings = NonNullable<TestServerOptions['settings']>;

/** In such pieces attachments are stored. */
const PIECE_BYTES = 1024 * 1024;
const JSON_TYPE = { 'Content-Type': 'application/json' };

/** A raw client, closed at the end of the test. */
async function rawClient(t: Test, server: { readonly port: number }): Promise<RawClient> {
  const client = await RawClient.open(server.port);
  t.teardown(() => client.close());
  return client;
}

const portOf = (server: TestServer) => ({ port: server.listener.address.port });

function head(method: string, path: string, ...lines: string[]): string {
  const all = [
    'Host: a',
    `Authorization: ${basic(ADMIN)}`,
    'Content-Type: application/json',
    ...lines,
  ];
  return `${method} ${path} HTTP/1.1\r\n${all.join('\r\n')}\r\n\r\n`;
}

/** Waits, at most for some seconds, for what must come. */
async function until(condition: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 500 && !condition(); tries++) await delay(10);
  return condition();
}

t.test('connections', async (t) => {
  const server = await TestServer.open(t, { settings: { 'chttpd/max_connections': '2' } });
  const clients = [await rawClient(t, portOf(server)), await rawClient(t, portOf(server))];
  for (const client of clients) {
    client.send(head('GET', '/_up'));
    t.equal((await client.reply())?.status, 200);
  }
  const third = await rawClient(t, portOf(server));
  await third.ended();
  clients[0]?.close();
  t.ok(await until(() => server.listener.connections === 1));
  t.equal((await server.get('/_up')).status, 200, 'there is room again');
});

t.test('the time for headers, for a body, and between requests', async (t) => {
  const server = await TestServer.open(t, {
    settings: {
      'chttpd/header_timeout': '150',
      'chttpd/body_timeout': '150',
      'chttpd/idle_timeout': '150',
    },
  });
  await server.put('/db');
  const slowHeaders = await rawClient(t, portOf(server));
  slowHeaders.send('GET / HTTP/1.1\r\nHost: a\r\n');
  t.equal((await slowHeaders.reply())?.status, 408);
  await slowHeaders.ended();
  const slowBody = await rawClient(t, portOf(server));
  slowBody.send(`${head('PUT', '/db/a', 'Content-Length: 20')}{"a":`);
  t.match(await slowBody.reply(), { status: 408, body: /"error":"timeout"/ });
  await slowBody.ended();
  const steady = await rawClient(t, portOf(server));
  steady.send(head('PUT', '/db/a', 'Content-Length: 14'));
  for (const part of ['{', '"a"', ':', '"b', 'c', 'de', '"', '  ', '}']) {
    await delay(50);
    steady.send(part);
  }
  t.equal((await steady.reply())?.status, 201, 'a body may take long as long as it comes');
  const idle = await rawClient(t, portOf(server));
  idle.send(head('GET', '/_up'));
  t.equal((await idle.reply())?.status, 200);
  await idle.ended();
  const silent = await rawClient(t, portOf(server));
  await silent.ended();
  t.ok(await until(() => server.listener.connections === 0), 'no connection is left');
  t.equal(server.server.services.bodyBudget.bytes, 0);
});

t.test('a client that does not read is cut off and holds nothing', async (t) => {
  const settings: Settings = { 'chttpd/slow_reader_timeout': '300', 'chttpd/idle_timeout': '300' };
  const server = await TestServer.open(t, { settings });
  await server.put('/db');
  const large = { a: 'x'.repeat(7_000_000) };
  for (const id of ['a', 'b', 'c']) t.equal((await server.put(`/db/${id}`, large)).status, 201);
  const paths = ['/db/_all_docs?include_docs=true', '/db/a'];
  const clients: RawClient[] = [];
  for (const path of [...paths, ...paths]) {
    const client = await rawClient(t, portOf(server));
    client.socket.pause();
    client.send(head('GET', path));
    clients.push(client);
  }
  t.ok(await until(() => server.listener.connections >= 4));
  t.ok(await until(() => server.listener.connections === 0), 'all are cut off');
  for (const client of clients) client.close();
  const reply = await server.get('/db/_all_docs');
  t.match(reply.body, { total_rows: 3 }, 'others are served');
});

t.test('a slow client that reads is not cut off', async (t) => {
  const server = await TestServer.open(t, { settings: { 'chttpd/slow_reader_timeout': '1500' } });
  await server.put('/db');
  await server.put('/db/a', { a: 'x'.repeat(7_900_000) });
  const client = await rawClient(t, portOf(server));
  client.send(head('GET', '/db/a'));
  for (let turn = 0; turn < 30; turn++) {
    client.socket.pause();
    await delay(60);
    client.socket.resume();
    await delay(10);
  }
  const reply = await client.reply();
  t.equal(reply?.status, 200);
  t.ok((reply?.body.length ?? 0) > 7_900_000);
});

t.test('feeds that wait for changes', async (t) => {
  const server = await TestServer.open(t, { settings: { 'chttpd/max_changes_feeds': '1' } });
  await server.put('/db');
  const feed = await rawClient(t, portOf(server));
  feed.send(head('GET', '/db/_changes?feed=continuous'));
  await delay(100);
  const refused = await server.get('/db/_changes?feed=longpoll&timeout=100');
  t.ok(refused.status === 429 || refused.status === 503, `${refused.status}`);
  t.equal((await server.get('/db/_changes')).status, 200, 'what does not wait is no feed');
  feed.close();
  t.ok(await until(() => server.listener.connections <= 2));
  await delay(100);
  const reply = await server.get('/db/_changes?feed=longpoll&timeout=100');
  t.equal(reply.status, 200, 'there is room again');
});

t.test('bytes of bodies in flight', async (t) => {
  const settings: Settings = {
    'chttpd/max_request_bytes_in_flight': '1 MiB',
    'chttpd/max_http_request_size': '1 MiB',
  };
  const server = await TestServer.open(t, { settings });
  const { bodyBudget } = server.server.services;
  await server.put('/db');
  const body = JSON.stringify({ a: 'x'.repeat(700_000) });
  const first = await rawClient(t, portOf(server));
  first.send(head('PUT', '/db/a', `Content-Length: ${body.length}`) + body.slice(0, -1));
  t.ok(await until(() => bodyBudget.bytes >= body.length - 1));
  const second = await server.put('/db/b', body, { headers: JSON_TYPE });
  t.match(second, { status: 503, body: { error: 'service_unavailable' } });
  first.send(body.slice(-1));
  t.equal((await first.reply())?.status, 201);
  t.equal(
    (await server.put('/db/b', body, { headers: JSON_TYPE })).status,
    201,
    'there is room again',
  );
  t.equal(bodyBudget.bytes, 0);
});

t.test('a length that is announced takes no memory', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const before = process.memoryUsage().rss;
  const clients: RawClient[] = [];
  for (let count = 0; count < 100; count++) {
    const client = await rawClient(t, portOf(server));
    client.send(`${head('PUT', '/db/a', 'Content-Length: 60000000')}{"a":`);
    clients.push(client);
  }
  t.ok(await until(() => server.server.services.bodyBudget.bytes >= 500));
  t.ok(process.memoryUsage().rss - before < 200e6, 'of 6 GB');
  for (const client of clients) client.close();
  t.ok(await until(() => server.server.services.bodyBudget.bytes === 0));
});

t.test('shards that are open', async (t) => {
  const server = await TestServer.open(t, {
    settings: { 'couchdb/max_dbs_open': '2', 'couchdb/idle_shard_timeout': '200' },
  });
  const { pool } = server.server.services;
  for (const db of ['a', 'b', 'c', 'd']) {
    await server.put(`/${db}?q=2`);
    t.equal((await server.put(`/${db}/x`, { db })).status, 201);
    t.ok(await until(() => pool.openCount <= 2), `${pool.openCount} are open`);
  }
  for (const db of ['a', 'b', 'c', 'd']) {
    t.match((await server.get(`/${db}/x`)).body, { db }, 'all can be read');
  }
  t.ok(await until(() => pool.openCount === 0), 'those that nobody uses are closed');
  t.match((await server.get('/a/x')).body, { db: 'a' }, 'and opened again');
});

t.test('a server that is told to stop finishes what it began', async (t) => {
  const dataDir = join(temporaryDirectory(t), 'data');
  const server = await ServerProcess.start({ dataDir });
  t.teardown(() => server.end('SIGKILL'));
  await server.client().call('PUT', '/db');
  const single = await rawClient(t, server);
  const bulk = await rawClient(t, server);
  const idle = await rawClient(t, server);
  idle.send(head('GET', '/_up'));
  t.equal((await idle.reply())?.status, 200);
  const doc = '{"a":1}';
  const docs = '{"docs":[{"_id":"b"},{"_id":"c"}]}';
  single.send(head('PUT', '/db/a', `Content-Length: ${doc.length}`) + doc.slice(0, 3));
  bulk.send(head('POST', '/db/_bulk_docs', `Content-Length: ${docs.length}`) + docs.slice(0, 9));
  await delay(200);
  server.child.kill('SIGTERM');
  await idle.ended();
  single.send(doc.slice(3));
  t.equal((await single.reply())?.status, 201, 'a document that was on its way is stored');
  await single.ended();
  bulk.send(docs.slice(9));
  t.equal((await bulk.reply())?.status, 201);
  await bulk.ended();
  t.strictSame(await server.ended, { code: 0, signal: null });
  const after = await ServerProcess.start({ dataDir });
  t.teardown(() => after.end('SIGKILL'));
  for (const id of ['a', 'b', 'c']) {
    t.equal((await after.client().call('GET', `/db/${id}`)).status, 200, id);
  }
  const stuck = await rawClient(t, after);
  stuck.send(`${head('PUT', '/db/d', 'Content-Length: 100')}{`);
  await delay(200);
  const startedAt = performance.now();
  after.child.kill('SIGTERM');
  await delay(200);
  after.child.kill('SIGTERM');
  t.not((await after.ended).code, 0, 'a second signal ends it');
  t.ok(performance.now() - startedAt < 5000, 'before the time to finish is over');
});

for (const [path, reader] of [
  ['/db/a?attachments=true', 'a document'],
  ['/db/_all_docs?include_docs=true&attachments=true', 'a list'],
  ['/db/_changes?include_docs=true&attachments=true', 'a feed'],
] as const) {
  t.test(`attachments in ${reader} are read as slowly as the client takes them`, async (t) => {
    const storage = new FailingStorage(nodeStorage);
    const server = await TestServer.open(t, { storage });
    await server.put('/db?q=1');
    const pieces = 48;
    const type = { headers: { 'Content-Type': 'application/x-bytes' } };
    await server.put('/db/a/file', Buffer.alloc(pieces * PIECE_BYTES), type);
    const client = await rawClient(t, portOf(server));
    client.socket.pause();
    storage.plan();
    client.send(head('GET', path));
    t.ok(await until(() => storage.calls.read > 0));
    await delay(500);
    t.ok(storage.calls.read < pieces / 2, `${storage.calls.read} reads for nobody`);
    const whole = await server.get(path);
    t.ok(whole.text.length > pieces * PIECE_BYTES, 'who reads gets all');
    t.match(whole.text, /"length":50331648,"data":"A+"\}\}\}/);
  });
}
