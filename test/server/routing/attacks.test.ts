// Goal: whoever calls has the same rights at any node as at the one that has the documents, and one request is one request, however it is written.
// Method: nodes in this process, asked over raw sockets where a client would not send what an attacker does.
import t from 'tap';
import { InnerServer } from '../../../server/routing/inner-server.js';
import { InProcessCluster } from '../../support/in-process-cluster.js';
import { RawClient } from '../../support/raw-client.js';
import { ADMIN, basic, memberOf, type TestServer } from '../../support/server.js';

const MEMBER = 'member:member-password';

/** The status of the reply to a request whose body is sent in chunks. */
async function chunked(
  { listener }: TestServer,
  line: string,
  headers: readonly string[],
  body: string,
): Promise<number | undefined> {
  const client = await RawClient.open(listener.address.port);
  const head = [line, 'Host: a', `Authorization: ${basic(ADMIN)}`, ...headers].join('\r\n');
  client.send(`${head}\r\n\r\n${body}`);
  const reply = await client.reply();
  client.close();
  return reply?.status;
}

t.test('the body of a request is never another request', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  const [id = ''] = await cluster.idsOf(0, true);
  const through = cluster.node(1);
  const hidden = 'PUT /hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n';
  const chunks = `${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`;
  const coding = 'Transfer-Encoding: chunked';
  for (const method of ['GET', 'DELETE']) {
    const status = await chunked(through, `${method} /db/${id} HTTP/1.1`, [coding], chunks);
    t.equal(status, method === 'DELETE' ? 409 : 200, method);
    const counted = [`Content-Length: ${hidden.length}`, 'Connection: content-length'];
    await chunked(through, `${method} /db/${id} HTTP/1.1`, counted, hidden);
  }
  // It would be made by then.
  t.equal((await cluster.node(0).get(`/db/${id}`)).status, 200);
  t.equal((await cluster.node(0).get('/hidden')).status, 404);
  const doc = JSON.stringify({ n: 1 });
  const counted = [`Content-Length: ${doc.length}`, 'Connection: content-length'];
  t.equal(await chunked(through, 'PUT /db/fresh HTTP/1.1', counted, doc), 201);
});

t.test('what can not be written is refused, and leaves nothing behind', async (t) => {
  let connections = 0;
  const server = new InnerServer(() => {
    connections++;
  });
  const caller = { name: undefined, roles: [], isServerAdmin: false, via: undefined };
  const request = {
    ...{ method: 'GET', headers: [], hasBody: false, caller, shape: {} },
    ...{ database: undefined, cover: undefined },
  };
  const { signal } = new AbortController();
  const none = (async function* () {})();
  for (const bad of [
    { url: '/a b' },
    { method: 'G T' },
    { headers: [['a', 'b\r\nc: d']] as const },
  ]) {
    const sent = server.request({ ...request, url: '/', ...bad }, none, signal);
    await t.rejects(sent, { code: 'BAD_REQUEST' }, JSON.stringify(bad));
  }
  t.equal(connections, 0);
});

t.test('where the parts of a database are is told to its readers alone, by any node', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  const first = cluster.node(0);
  await first.put('/_users');
  const user = { name: 'member', type: 'user', roles: ['readers'], password: 'member-password' };
  t.equal((await first.put('/_users/org.couchdb.user:member', user)).status, 201);
  const other = { ...user, name: 'other', roles: [], password: 'other-password' };
  t.equal((await first.put('/_users/org.couchdb.user:other', other)).status, 201);
  await first.put('/db/_security', { members: { roles: ['readers'] } });
  for (const node of cluster.nodes) {
    for (const path of ['/db/_shards', '/db/_shards/1', '/db', '/db/1']) {
      t.equal((await node.get(path, { as: null })).status, 401, path);
      t.equal((await node.get(path, { as: 'other:other-password' })).status, 403, path);
      t.equal((await node.get(path, { as: MEMBER })).status, 200, path);
      t.equal((await node.get(path)).status, 200, path);
    }
    t.same(memberOf((await node.get('/db/_shards', { as: null })).body, 'shards'), undefined);
    t.equal((await node.get('/none/_shards', { as: null })).status, 404);
  }
});

t.test('who asks for nothing is asked who it is as well', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  await cluster.node(0).put('/db/_security', { members: { roles: ['readers'] } });
  for (const node of cluster.nodes) {
    for (const [path, body] of [
      ['_bulk_docs', { docs: [] }],
      ['_bulk_get', { docs: [] }],
      ['_revs_diff', {}],
      ['_missing_revs', {}],
      ['_purge', {}],
      ['_all_docs', { keys: [] }],
      ['_all_docs/queries', { queries: [] }],
      ['_all_docs/queries', { queries: [{ keys: [] }] }],
      ['_local_docs', { keys: [] }],
      ['_changes?filter=_doc_ids', { doc_ids: [] }],
    ] as const) {
      const reply = await node.post(`/db/${path}`, body, { as: null });
      t.equal(reply.status, 401, `${path} ${reply.text}`);
    }
    const options = { as: null, headers: { accept: 'multipart/mixed' } };
    t.equal((await node.post('/db/_bulk_get', { docs: [] }, options)).status, 401);
    t.equal((await node.post('/db/_all_docs/queries', { queries: [] })).status, 200);
  }
});
