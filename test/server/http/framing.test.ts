/**
 * Goal: bodies whose framing is not understood whole are refused, never stored as something else, and replies without content say so.
 * Method: requests byte by byte over a socket.
 */
import t from 'tap';
import { RawClient } from '../../support/raw-client.js';
import { ADMIN, basic, TestServer } from '../../support/server.js';

t.test('a transfer coding besides chunked', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const send = async (path: string, codings: string) => {
    const client = await RawClient.open(server.listener.address.port);
    client.send(
      `PUT ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: ${basic(ADMIN)}\r\nTransfer-Encoding: ${codings}\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
    );
    const status = (await client.reply())?.status;
    client.close();
    return status;
  };
  for (const path of ['/db/a', '/db/a/attachment']) {
    t.equal(await send(path, 'gzip, chunked'), 415, path);
    t.equal(await send(path, 'identity, chunked'), 415, path);
    t.equal((await server.get('/db/a')).status, 404);
  }
  t.equal(await send('/db/a', 'Chunked'), 201);
});

t.test('a reply without content has no length', async (t) => {
  const server = await TestServer.open(t);
  const client = await RawClient.open(server.listener.address.port);
  client.send('GET /favicon.ico HTTP/1.1\r\nHost: a\r\n\r\n');
  const reply = await client.reply();
  t.equal(reply?.status, 204);
  t.equal(reply?.headers.has('content-length'), false);
  t.equal(reply?.headers.has('transfer-encoding'), false);
  client.send('GET /_up HTTP/1.1\r\nHost: a\r\n\r\n');
  t.equal((await client.reply())?.status, 200, 'the connection goes on');
  client.close();
});

t.test('a request that names two hosts is for neither', async (t) => {
  const server = await TestServer.open(t);
  const client = await RawClient.open(server.listener.address.port);
  client.send('GET /_up HTTP/1.1\r\nHost: a\r\nhoSt: b\r\n\r\n');
  t.equal((await client.reply())?.status, 400);
  client.send('GET /_up HTTP/1.1\r\nHost: a\r\nHos: b\r\n\r\n');
  t.equal((await client.reply())?.status, 200);
  client.close();
});
