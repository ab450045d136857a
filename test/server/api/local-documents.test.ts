/**
 * Goal: local documents are local ones whichever way they are named, and their revision may stand in the body, the query or a header.
 * Method: a server on a port of its own, through fetch.
 */
import t, { type Test } from 'tap';
import { TestServer } from '../../support/server.js';

async function open(t: Test): Promise<TestServer> {
  const server = await TestServer.open(t);
  await server.put('/db?q=2');
  return server;
}

t.test('the revision of a local document', async (t) => {
  const server = await open(t);
  const path = '/db/_local/x';
  t.match(await server.put(path, { a: 1 }), { status: 201, body: { rev: '0-1' } });
  t.match(await server.put(path, { a: 2 }), { status: 409 }, 'one must be named');
  t.match(await server.put(path, { _rev: '0-1', a: 2 }), { status: 201, body: { rev: '0-2' } });
  t.match(await server.put(`${path}?rev=0-2`, { a: 3 }), { status: 201, body: { rev: '0-3' } });
  const headers = { 'If-Match': '"0-3"' };
  t.match(await server.put(path, { a: 4 }, { headers }), { status: 201, body: { rev: '0-4' } });
  t.same((await server.get(path)).body, { _id: '_local/x', _rev: '0-4', a: 4 });
  t.match(await server.put(`${path}?rev=0-3`, { _rev: '0-4' }), { status: 400 });
  t.match(await server.put(`${path}?rev=0-3`, {}), { status: 409 });
  for (const rev of ['1-abc', '0-', 'x']) {
    t.match(await server.put(path, { _rev: rev }), { status: 400, body: { error: 'bad_request' } });
    t.match(await server.put(`${path}?rev=${rev}`, {}), { status: 400 });
    t.match(await server.delete(`${path}?rev=${rev}`), { status: 400 });
  }
  t.match(await server.delete(path, { headers: { 'If-Match': '0-4' } }), { status: 200 });
  t.equal((await server.get(path)).status, 404);
});

t.test('such a revision is none of any other document', async (t) => {
  const server = await open(t);
  const reason = 'Invalid rev format: 0-1';
  t.match(await server.put('/db/a', { _rev: '0-1' }), { status: 400, body: { reason } });
  t.match(await server.post('/db', { _rev: '0-1' }), { status: 400, body: { reason } });
  const docs = [{ _id: 'a', _rev: '0-1' }];
  t.match(await server.post('/db/_bulk_docs', { docs }), { status: 400, body: { reason } });
  t.match((await server.get('/db')).body, { doc_count: 0 });
});

t.test('nothing makes a document of the id of a local one', async (t) => {
  const server = await open(t);
  await server.put('/db/a', { a: 1 });
  await server.put('/db/_local/x', { a: 1 });
  for (const [from, to] of [
    ['a', '_local/y'],
    ['a', '_local%2Fy'],
    ['_local/x', 'b'],
    ['_local%2Fx', '_local/y'],
  ]) {
    const headers = { Destination: to ?? '' };
    t.match(
      await server.call('COPY', `/db/${from}`, { headers }),
      { status: 400 },
      `${from} ${to}`,
    );
  }
  t.match(await server.put('/db/_local%2Fx/text', 'hello'), { status: 400 });
  t.match(await server.put('/db/_local%2Fy/text', 'hello'), { status: 400 });
  t.match(await server.delete('/db/_local%2Fx/text'), { status: 400 });
  t.match((await server.get('/db')).body, { doc_count: 1 });
  t.match((await server.get('/db/_changes')).body, { results: [{ id: 'a' }] });
});
