/**
 * Goal: local documents stay what they are, whichever way somebody writes to their ids: none becomes a document that is listed and
 * replicated. Destinations of copies are ids, not URLs.
 * Method: a real server on loopback; afterwards the list of all documents is looked at.
 */
import t from 'tap';
import { TestServer } from '../../support/server.js';

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
