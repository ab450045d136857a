/**
 * Goal: what a client announces takes no memory before it comes.
 * Method: many connections that announce bodies near the limit and send a few bytes; the memory of this process, which is that of the server.
 */
import t from 'tap';
import { RawClient } from '../../support/raw-client.js';
import { ADMIN, basic, TestServer } from '../../support/server.js';

const MIB = 1024 * 1024;
const CLIENTS = 60;

t.test('large bodies that are announced', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const { bodyBudget } = server.server.services;
  const before = process.memoryUsage().arrayBuffers;
  const clients: RawClient[] = [];
  for (let index = 0; index < CLIENTS; index++) {
    const client = await RawClient.open(server.listener.address.port);
    client.send(
      `PUT /db/${index} HTTP/1.1\r\nHost: a\r\nAuthorization: ${basic(ADMIN)}\r\nContent-Length: ${60 * MIB}\r\n\r\n{"a":`,
    );
    clients.push(client);
  }
  while (bodyBudget.bytes < CLIENTS * '{"a":'.length) await new Promise((go) => setTimeout(go, 10));
  const taken = process.memoryUsage().arrayBuffers - before;
  t.ok(taken < 60 * MIB, `${CLIENTS} of 60 MiB take ${Math.round(taken / MIB)} MiB`);
  for (const client of clients) client.close();
});

t.test('a large body in pieces of any size comes as it was sent', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const text = JSON.stringify({ a: 'xyz'.repeat(2_000_000) });
  for (const framing of [`Content-Length: ${text.length}`, 'Transfer-Encoding: chunked']) {
    const client = await RawClient.open(server.listener.address.port);
    const id = framing.slice(0, 7).toLowerCase();
    client.send(
      `PUT /db/${id} HTTP/1.1\r\nHost: a\r\nAuthorization: ${basic(ADMIN)}\r\n${framing}\r\n\r\n`,
    );
    let size = 1;
    for (let at = 0; at < text.length; at += size, size = Math.min(size * 3, 100_000)) {
      const piece = text.slice(at, at + size);
      const isChunked = framing.endsWith('chunked');
      client.send(isChunked ? `${piece.length.toString(16)}\r\n${piece}\r\n` : piece);
    }
    if (framing.endsWith('chunked')) client.send('0\r\n\r\n');
    t.equal((await client.reply())?.status, 201, framing);
    client.close();
    const { body } = await server.get(`/db/${id}`);
    t.match(body, JSON.parse(text));
  }
});
