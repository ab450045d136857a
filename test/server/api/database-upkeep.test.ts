/**
 * Goal: what operators do with a database: purge, compact, ask for its shards.
 * Method: a server on a port of its own, through fetch.
 */
import t from 'tap';
import { TestServer } from '../../support/server.js';

const JSON_TYPE = { headers: { 'Content-Type': 'application/json' } };

/** The revision that a write answered. */
function revOf(body: unknown): string {
  if (typeof body === 'object' && body !== null && 'rev' in body) return String(body.rev);
  throw new Error('there is no revision');
}

t.test('commits are full, and there are no views', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const info = await server.get('/db');
  const ensured = await server.post('/db/_ensure_full_commit', undefined, JSON_TYPE);
  t.match(ensured, { status: 201, body: { ok: true, instance_start_time: /^[0-9]+$/ } });
  t.match(info.body, ensured.body === null ? {} : { instance_start_time: String });
  for (const path of ['_compact/views', '_view_cleanup', '_sync_shards']) {
    const reply = await server.post(`/db/${path}`, undefined, JSON_TYPE);
    t.match(reply, { status: 202, body: { ok: true } }, path);
    t.equal((await server.get(`/db/${path}`)).status, 405, path);
    t.equal((await server.post(`/none/${path}`, {})).status, 404, path);
  }
  const plain = { headers: { 'Content-Type': 'text/plain' } };
  for (const path of ['_ensure_full_commit', '_compact', '_purge']) {
    const reply = await server.post(`/db/${path}`, '{}', plain);
    t.match(reply, { status: 415, body: { error: 'bad_content_type' } }, path);
  }
});

t.test('shards', async (t) => {
  const server = await TestServer.open(t, { settings: { 'node/name': 'n1@host' } });
  await server.put('/db?q=2');
  t.same((await server.get('/db/_shards')).body, {
    shards: { '00000000-7fffffff': ['n1@host'], '80000000-ffffffff': ['n1@host'] },
  });
  const joan = { range: '80000000-ffffffff', nodes: ['n1@host'] };
  t.same((await server.get('/db/_shards/joan')).body, joan, 'CRC-32 e0b852df');
  const robert = { range: '00000000-7fffffff', nodes: ['n1@host'] };
  t.same((await server.get('/db/_shards/robert')).body, robert, 'CRC-32 791875e7');
  for (const path of ['_design/x', '_design%2Fx', '_local/abc']) {
    t.equal((await server.get(`/db/_shards/${path}`)).status, 200, path);
  }
  t.equal((await server.get('/db/_shards/_wrong')).status, 400);
  const membership = { all_nodes: ['n1@host'], cluster_nodes: ['n1@host'] };
  t.same((await server.get('/_membership')).body, membership);
});

t.test('purging', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const a = revOf((await server.put('/db/a', { n: 1 })).body);
  await server.put('/db/b', { n: 1 });
  const reply = await server.post('/db/_purge', { a: [a, '9-abc'], nobody: ['1-abc'] });
  t.equal(reply.status, 201);
  t.same(reply.body, { purge_seq: null, purged: { a: [a], nobody: [] } });
  t.match(await server.get('/db/a'), { status: 404, body: { reason: 'missing' } });
  t.match((await server.get('/db')).body, { doc_count: 1, doc_del_count: 0, purge_seq: '2' });
  const again = await server.post('/db/_purge', { a: [a] });
  t.same(again.body, { purge_seq: null, purged: { a: [] } });
});

t.test('what can not be purged', async (t) => {
  const settings = { 'purge/max_document_id_number': '3', 'purge/max_revisions_number': '4' };
  const server = await TestServer.open(t, { settings });
  await server.put('/db');
  const a = revOf((await server.put('/db/a', { n: 1 })).body);
  const refused: [unknown, RegExp][] = [
    [[], /must be a JSON object/],
    ['{', /invalid JSON/],
    [{ a: '1-x' }, /must be an array/],
    [{ a: [1] }, /strings only/],
    [{ a: [a], b: ['x'] }, /Invalid rev format/],
    ['{"a":["1-a"],"__proto__":["1-a"]}', /./],
    [{ a: [a], '_local/x': ['0-1'] }, /can not be purged/],
    [{ a: [a], b: [], c: [], d: [] }, /Exceeded maximum number of documents/],
    [{ a: [a, a, a], b: ['1-a', '1-b'] }, /Exceeded maximum number of revisions/],
  ];
  for (const [body, reason] of refused) {
    const options = { headers: { 'Content-Type': 'application/json' } };
    const reply = await server.post('/db/_purge', body, options);
    t.match(reply, { status: 400, body: { error: 'bad_request', reason } }, String(reason));
  }
  t.equal((await server.get('/db/a')).status, 200, 'nothing was purged');
  const named = await server.post('/db/_purge', { constructor: ['1-abc'], 7: ['1-abc'] });
  t.equal(named.text.trim(), '{"purge_seq":null,"purged":{"7":[],"constructor":[]}}');
  t.equal(
    (await server.post('/db/_purge', { a: ['1-a', '1-b', '1-c', '1-d', '1-e'] })).status,
    413,
  );
});
