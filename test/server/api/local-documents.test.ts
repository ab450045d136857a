/**
 * Goal: local documents are local ones whichever way they are named, and their revision may stand in the body, the query or a header. None
 * becomes a document that is listed and replicated. Destinations of copies are ids, not URLs.
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

t.test('attachments and copies are refused for local documents', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  await server.put('/db/a', { n: 1 });
  await server.put('/db/_local/l', { n: 2 });
  const attachments = { status: 400, body: { reason: /_local documents do not accept/ } };
  for (const id of ['_local%2Fl', '_local%2Fnew']) {
    t.match(await server.put(`/db/${id}/f`, 'x'), attachments);
    t.match(await server.get(`/db/${id}/f`), attachments);
    t.match(await server.delete(`/db/${id}/f`), attachments);
    const copied = await server.call('COPY', '/db/a', { headers: { Destination: id } });
    t.match(copied, { status: 400, body: { reason: '_local documents cannot be copied.' } });
  }
  for (const path of ['/db/_local/l', '/db/_local%2Fl']) {
    t.equal((await server.call('COPY', path, { headers: { Destination: 'b' } })).status, 400);
  }
  t.match((await server.get('/db/_all_docs')).body, { total_rows: 1, rows: [{ id: 'a' }] });
  t.match((await server.get('/db/_local/l')).body, { n: 2 }, 'it is as it was');
});

t.test('a destination is no URL', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  await server.put('/db/a', { n: 1 });
  for (const Destination of ['http://localhost/db/b', 'HTTPS://localhost/db/b']) {
    const copied = await server.call('COPY', '/db/a', { headers: { Destination } });
    t.match(copied, { status: 400, body: { reason: 'Destination URL must be relative.' } });
  }
  t.match((await server.get('/db/_all_docs')).body, { total_rows: 1 });
});
