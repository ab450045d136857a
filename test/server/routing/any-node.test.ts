// Goal: what takes time goes well through any node: bytes as slowly as they are taken, feeds that wait, users and sessions, nodes that die in the
// middle; and no client can pass for a node. Method: nodes in this process, whose connection can be cut.
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import nano from 'nano';
import PouchDB from 'pouchdb';
import t from 'tap';
import { InProcessCluster } from '../../support/in-process-cluster.js';
import { ADMIN, basic, listOf, memberOf, type TestServer } from '../../support/server.js';

const MIB = 1024 * 1024;
const soon = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A reply as it comes. */
function open(
  server: TestServer,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: AsyncIterable<Uint8Array> | string,
): Promise<IncomingMessage> {
  const { port } = server.listener.address;
  return new Promise((resolve, reject) => {
    const sent = httpRequest({
      ...{ host: '127.0.0.1', port, method, path, agent: false },
      headers: { authorization: basic(ADMIN), ...headers },
    });
    sent.on('response', resolve).on('error', reject);
    if (body === undefined || typeof body === 'string') sent.end(body);
    else {
      void (async () => {
        for await (const chunk of body) {
          if (!sent.write(chunk)) await new Promise((resolve) => sent.once('drain', resolve));
        }
        sent.end();
      })();
    }
  });
}

/** The lines of a reply as they come. */
class Lines {
  readonly response: IncomingMessage;
  text = '';
  isBroken = false;
  isEnded = false;

  constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding('utf8').on('data', (part: string) => {
      this.text += part;
    });
    response.on('error', () => {
      this.isBroken = true;
    });
    response.on('close', () => {
      this.isEnded = true;
      if (!response.complete) this.isBroken = true;
    });
  }

  rows(): { seq: string; id: string }[] {
    const lines = this.text.split('\n').slice(0, -1);
    return lines.filter((line) => line.startsWith('{"seq"')).map((line) => JSON.parse(line));
  }

  async until(isSuch: () => boolean): Promise<void> {
    for (let n = 0; n < 500 && !isSuch(); n++) await soon(10);
    if (!isSuch()) throw new Error(`it never came to that: ${this.text.slice(0, 500)}`);
  }
}

t.test('an attachment of 20 MB through another node, neither way in memory', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  const [id = ''] = await cluster.idsOf(0, true);
  const other = cluster.node(1);
  const chunk = Buffer.alloc(MIB, 'x');
  const expected = createHash('md5');
  const { body } = await other.get(`/db/${id}`);
  async function* content() {
    for (let n = 0; n < 20; n++) {
      chunk.writeUInt32BE(n);
      expected.update(chunk);
      yield Buffer.from(chunk);
    }
  }
  const path = `/db/${id}/large?rev=${String(memberOf(body, '_rev'))}`;
  const put = await open(other, 'PUT', path, { 'content-length': String(20 * MIB) }, content());
  t.equal(put.statusCode, 201);
  put.resume();
  const { network } = cluster;
  t.ok(network.bytes >= 20 * MIB, 'it went from node to node');
  const before = network.bytes;
  const reply = await open(other, 'GET', `/db/${id}/large`);
  t.equal(reply.headers['content-length'], String(20 * MIB));
  await soon(300);
  const sent = network.bytes - before;
  t.ok(sent < 8 * MIB, `a client that reads nothing is sent nothing: ${sent}`);
  const found = createHash('md5');
  for await (const part of reply) found.update(part);
  t.equal(found.digest('hex'), expected.digest('hex'));
  const head = await other.fetch('HEAD', `/db/${id}/large`);
  t.equal(head.headers.get('content-length'), String(20 * MIB));
  const part = await other.fetch('GET', `/db/${id}/large`, { headers: { range: 'bytes=5-9' } });
  t.same([part.status, await part.text()], [206, 'xxxxx']);
});

t.test('feeds that wait hear of what is written anywhere', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 3);
  const from = async (index: number, query: string) =>
    new Lines(await open(cluster.node(index), 'GET', `/db/_changes?${query}`));
  const feed = await from(0, 'feed=continuous&heartbeat=200');
  await feed.until(() => feed.rows().length === 100);
  for (const [n, id] of ['x', 'y', 'z', 'v', 'w'].entries()) {
    t.equal((await cluster.node(n % 3).put(`/db/${id}`, {})).status, 201);
  }
  await feed.until(() => feed.rows().length === 105);
  await feed.until(() => feed.text.endsWith('\n\n'));
  // Each token, whichever node it is brought to, leads to what came after its row.
  for (const at of [0, 50, 99, 102, 104]) {
    const { seq } = feed.rows()[at] ?? { seq: '' };
    const node = cluster.node(at % 3);
    const { body } = await node.get(`/db/_changes?since=${encodeURIComponent(seq)}`);
    t.equal(listOf(body, 'results').length, 104 - at, `after row ${at}`);
  }
  feed.response.destroy();
  const now = await from(1, 'feed=longpoll&since=now');
  const silent = await from(2, 'feed=longpoll&since=now&timeout=100');
  await silent.until(() => silent.isEnded);
  t.match(silent.text, /^\{"results":\[\n\n\],\n"last_seq":"\d+-[^"]+","pending":0\}\n$/);
  t.notOk(now.isEnded);
  await cluster.node(2).put('/db/late', {});
  await now.until(() => now.isEnded);
  t.match(now.text, /"id":"late"/);
  let since = '0';
  const seen: string[] = [];
  for (let turn = 0; ; turn++) {
    const path = `/db/_changes?limit=7&since=${encodeURIComponent(since)}`;
    const { body } = await cluster.node(turn % 3).get(path);
    seen.push(...listOf(body, 'results').map((row) => String(memberOf(row, 'id'))));
    since = String(memberOf(body, 'last_seq'));
    t.equal(memberOf(body, 'pending'), 106 - seen.length);
    if (listOf(body, 'results').length < 7) break;
  }
  t.same([seen.length, new Set(seen).size], [106, 106]);
  const ending = await from(0, 'feed=continuous&heartbeat=1000&since=now');
  await cluster.node(1).delete('/db');
  await ending.until(() => ending.isEnded);
});

t.test(
  'a node that is cut off: what needs it is refused by its name, the rest goes on',
  async (t) => {
    const cluster = await InProcessCluster.withDocuments(t, 3);
    const { network } = cluster;
    const [gone = ''] = await cluster.idsOf(2, true);
    const [there = ''] = await cluster.idsOf(0, true);
    const feed = new Lines(
      await open(cluster.node(0), 'GET', '/db/_changes?feed=continuous&since=now&heartbeat=200'),
    );
    network.cutOff(2);
    await feed.until(() => feed.isBroken);
    t.ok(feed.isBroken, 'a feed breaks off rather than to go on without a part');
    const node = cluster.node(0);
    t.equal((await node.get(`/db/${there}`)).status, 200);
    const paths = [
      `/db/${gone}`,
      '/db/_all_docs',
      '/db/_changes',
      '/db',
      '/db/_changes?feed=longpoll',
    ];
    for (const path of paths) {
      const { status, body } = await node.get(path);
      t.equal(status, 503, path);
      t.match(memberOf(body, 'reason'), /n2@127\.0\.0\.1/, path);
    }
    const keys = ['db', 'none'];
    t.same((await node.post('/_dbs_info', { keys })).body, [
      { key: 'db', error: 'service_unavailable' },
      { key: 'none', error: 'not_found' },
    ]);
    const docs = [{ _id: gone }, { _id: `new-${there}` }, { _id: there }];
    const bulk = await node.post('/db/_bulk_docs', { docs });
    t.equal(bulk.status, 201);
    t.match(bulk.text, /"id":"\d+","error":"service_unavailable","reason":"[^"]*n2@/);
    const rows = await node.post('/db/_bulk_get', { docs: [{ id: there }, { id: gone }] });
    t.match(rows.text, /"n":.*"error":"service_unavailable"/s);
    t.equal((await node.put(`/db/${gone}`, {})).status, 503);
    network.mend(2);
    t.equal((await node.get(`/db/${gone}`)).status, 200);
  },
);

t.test('a node that dies in the middle of a reply breaks it off', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  const [id = ''] = await cluster.idsOf(1, true);
  const data = Buffer.alloc(8 * MIB, 'y');
  const { body } = await cluster.node(0).get(`/db/${id}`);
  const path = `/db/${id}/large?rev=${String(memberOf(body, '_rev'))}`;
  t.equal((await cluster.node(0).put(path, data)).status, 201);
  for (const path of [`/db/${id}/large`, '/db/_all_docs?include_docs=true&attachments=true']) {
    const reply = await open(cluster.node(0), 'GET', path);
    t.equal(reply.statusCode, 200);
    cluster.network.cutOff(1);
    const lines = new Lines(reply);
    await lines.until(() => lines.isEnded);
    t.ok(lines.isBroken, path);
    cluster.network.mend(1);
  }
});

t.test('users and sessions at any node', async (t) => {
  const cluster = await InProcessCluster.start(t, 3);
  await cluster.node(0).put('/_users?q=4');
  await cluster.node(0).put('/private?q=4');
  const security = { admins: { names: [] }, members: { names: ['alice'] } };
  t.equal((await cluster.node(0).put('/private/_security', security)).status, 200);
  const id = '/_users/org.couchdb.user:alice';
  const user = { name: 'alice', type: 'user', roles: ['r'], password: 'first' };
  t.equal((await cluster.node(1).put(id, user)).status, 201);
  for (const node of cluster.nodes) {
    t.equal((await node.get('/private/_all_docs', { as: 'alice:first' })).status, 200);
    t.equal((await node.get('/private/_all_docs', { as: 'alice:wrong' })).status, 401);
    t.equal((await node.get('/private/_all_docs', { as: null })).status, 401);
    t.equal((await node.get('/private/_changes', { as: null })).status, 401);
    t.equal(
      (await node.post('/private/_bulk_docs', { docs: [{ _id: 'a' }] }, { as: null })).status,
      401,
    );
    const session = await node.post(
      '/_session',
      { name: 'alice', password: 'first' },
      { as: null },
    );
    t.equal(session.status, 200);
    const headers = { cookie: session.headers.get('set-cookie')?.split(';')[0] ?? '' };
    t.equal(
      (await node.put(`/private/${node.listener.address.port}`, {}, { as: null, headers })).status,
      201,
    );
  }
  const own = await cluster.node(2).get(id, { as: 'alice:first' });
  t.equal(own.status, 200);
  const changed = { ...user, password: 'second', _rev: memberOf(own.body, '_rev') };
  t.equal((await cluster.node(0).put(id, changed)).status, 201);
  await soon(50);
  for (const node of cluster.nodes) {
    t.equal((await node.get('/private', { as: 'alice:first' })).status, 401, 'all were told');
    t.equal((await node.get('/private', { as: 'alice:second' })).status, 200);
  }
});

t.test(
  "no client passes for a node, and what a node says of a caller is not the client's to say",
  async (t) => {
    const cluster = await InProcessCluster.withDocuments(t, 2);
    await cluster
      .node(0)
      .put('/db/_security', { admins: { names: [] }, members: { roles: ['x'] } });
    const headers = {
      'divan-caller': '{"isServerAdmin":true}',
      'divan-error': 'MOVED',
      'x-auth-couchdb-username': 'admin',
      connection: 'authorization, close',
    };
    for (const node of cluster.nodes) {
      for (const id of ['1', '2', '3', '4']) {
        t.equal(
          (await node.get(`/db/${id}`, { as: null, headers: { 'divan-caller': 'x' } })).status,
          401,
        );
      }
      const reply = await open(node, 'GET', '/db/1', { ...headers, authorization: '' });
      t.equal(reply.statusCode, 401);
      reply.resume();
    }
    for (const node of cluster.nodes) {
      const { headers } = await node.fetch('GET', '/db/none-at-all');
      t.equal(headers.get('divan-error'), null);
    }
  },
);

t.test('`_node` and `_membership` through any node', async (t) => {
  const cluster = await InProcessCluster.start(t, 2);
  const names = ['n0@127.0.0.1', 'n1@127.0.0.1'];
  for (const node of cluster.nodes) {
    t.same((await node.get('/_membership')).body, { all_nodes: names, cluster_nodes: names });
    for (const name of names) t.same((await node.get(`/_node/${name}`)).body, { name });
    t.equal((await node.get('/_node/n9@127.0.0.1')).status, 404);
  }
  const set = await cluster.node(0).put('/_node/n1@127.0.0.1/_config/log/level', '"warning"');
  t.equal(set.status, 200, set.text);
  t.equal((await cluster.node(1).get('/_node/_local/_config/log/level')).body, 'warning');
});

t.test('several revisions of many documents as one multipart reply', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 3);
  const { body } = await cluster.node(0).get('/db/7');
  await cluster.node(0).put(`/db/7/a?rev=${String(memberOf(body, '_rev'))}`, 'attached');
  const docs = Array.from({ length: 10 }, (_, n) => ({ id: String(n) }));
  const headers = { accept: 'multipart/mixed', 'content-type': 'application/json' };
  const path = '/db/_bulk_get?attachments=true';
  const reply = await cluster.node(1).fetch('POST', path, { body: { docs }, headers });
  const boundary = /boundary="([^"]+)"/.exec(reply.headers.get('content-type') ?? '')?.[1] ?? '';
  const text = await reply.text();
  const parts = text.split(new RegExp(`(?:^|\r\n)--${boundary}(?:\r\n|--$)`));
  t.equal(parts.length, 12);
  for (const n of docs.keys()) t.match(parts[n + 1], new RegExp(`"_id":"${n}"`));
  t.match(parts[8], /\r\n\r\nattached\r\n/);
});

t.test('nano and PouchDB at a node that has nothing of the database', async (t) => {
  const cluster = await InProcessCluster.start(t, 2);
  await cluster.node(0).put('/one?q=1');
  const { body } = await cluster.node(0).get('/one/_shards/x');
  const [name] = listOf(body, 'nodes');
  const server = cluster.node(cluster.network.nodes[0]?.name === name ? 1 : 0);
  const url = server.url.replace('http://', `http://${ADMIN}@`);
  const db = nano(url).use<{ n: number }>('one');
  const { rev } = await db.insert({ n: 1 }, 'a');
  await db.attachment.insert('a', 'text', 'content', 'text/plain', { rev });
  t.equal(String(await db.attachment.get('a', 'text')), 'content');
  t.match(await db.info(), { doc_count: 1 });
  const directory = await mkdtemp(join(tmpdir(), 'divan-routing-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const local = new PouchDB(join(directory, 'local'));
  for (let n = 0; n < 20; n++) await local.put({ _id: `local-${n}`, n });
  const synced = await PouchDB.sync(local, new PouchDB(`${url}/one`));
  t.match(synced, { push: { docs_written: 20 }, pull: { docs_written: 1 } });
  t.match(await local.get('a'), { n: 1 });
  t.equal(String(await local.getAttachment('a', 'text')), 'content');
  t.equal((await db.list()).rows.length, 21);
  await local.close();
});

t.test('what nobody takes is not taken from the nodes either', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  const { network } = cluster;
  for (const id of (await cluster.idsOf(1, true)).slice(0, 2)) {
    const { body } = await cluster.node(1).get(`/db/${id}`);
    const rev = String(memberOf(body, '_rev'));
    const put = await cluster.node(1).put(`/db/${id}/a?rev=${rev}`, Buffer.alloc(12 * MIB));
    t.equal(put.status, 201);
  }
  const query = 'include_docs=true&attachments=true';
  for (const path of [`/db/_changes?${query}`, `/db/_all_docs?${query}`]) {
    const before = network.bytes;
    const reply = await open(cluster.node(0), 'GET', path);
    await soon(300);
    const sent = network.bytes - before;
    t.ok(sent < 8 * MIB, `${path}: ${sent} bytes`);
    let length = 0;
    for await (const part of reply) length += part.length;
    t.ok(reply.complete && length > 32 * MIB, 'and all of it when it is taken');
  }
});
