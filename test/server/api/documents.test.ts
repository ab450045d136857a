/**
 * Goal: statuses, headers and refusals of writing single documents as CouchDB's clients expect them.
 * Method: a server on a port of its own, through fetch.
 */
import t, { type Test } from 'tap';
import { TestServer } from '../../support/server.js';

async function open(t: Test, query = ''): Promise<TestServer> {
  const server = await TestServer.open(t);
  await server.put(`/db${query}`);
  return server;
}

t.test('deleting what is not there, or not any more, is no conflict', async (t) => {
  const server = await open(t);
  const rev = '1-967a00dff5e02add41819138abb3284d';
  const missing = { status: 404, body: { error: 'not_found', reason: 'missing' } };
  t.match(await server.delete(`/db/none?rev=${rev}`), missing);
  t.match(await server.delete('/db/none'), missing);
  const { body } = await server.put('/db/a', {});
  t.match(await server.delete('/db/a'), { status: 409 });
  t.match(await server.delete(`/db/a?rev=${rev}`), { status: 409 });
  const known = new URLSearchParams(Object(body)).get('rev');
  t.match(await server.delete(`/db/a?rev=${known}`), { status: 200 });
  const deleted = { status: 404, body: { error: 'not_found', reason: 'deleted' } };
  t.match(await server.delete(`/db/a?rev=${known}`), deleted, 'it was sent again');
  t.match(await server.delete('/db/a'), deleted);
});

t.test('a reply to a write says where the document is', async (t) => {
  const server = await open(t);
  const writes = [
    await server.put('/db/a%20b', {}),
    await server.post('/db', { _id: 'c d' }),
    await server.post('/db', { _id: '_design/e' }),
    await server.post('/db', { _id: '_local/f' }),
  ];
  const paths = ['a%20b', 'c%20d', '_design/e', '_local/f'];
  for (const [index, { status, headers }] of writes.entries()) {
    t.equal(status, 201);
    t.equal(headers.get('Location'), `${server.url}/db/${paths[index]}`);
  }
});

t.test('ids of a partitioned database name a partition', async (t) => {
  const server = await open(t, '?partitioned=true');
  await server.put('/db/p:a', {});
  const refused: [string, string][] = [
    ['a', 'Doc id must be of form partition:id'],
    [':a', 'Partition must not be empty'],
    ['p:', 'Document id must not be empty'],
    ['p:_a', 'Only reserved document ids may start with underscore.'],
  ];
  for (const [id, reason] of refused) {
    const reply = { status: 400, body: { reason } };
    t.match(await server.put(`/db/${id}`, {}), reply, id);
    t.match(await server.put(`/db/${id}/text`, 'hello'), reply, id);
    t.match(await server.post('/db', { _id: id }), reply, id);
    const docs = [{ _id: 'p:b' }, { _id: id }];
    t.match(await server.post('/db/_bulk_docs', { docs }), reply, id);
    const headers = { Destination: id };
    t.match(await server.call('COPY', '/db/p:a', { headers }), reply, id);
  }
  t.match(await server.post('/db', {}), { status: 400 }, 'the server knows no partition for it');
  for (const id of ['_design/d', '_local/l', 'p:_design/x', 'p:q:r']) {
    t.match(await server.put(`/db/${encodeURIComponent(id)}`, {}), { status: 201 }, id);
  }
  t.match((await server.get('/db')).body, { doc_count: 4 });
  t.match(await server.put('/_users?partitioned=true'), { status: 400 });
});
