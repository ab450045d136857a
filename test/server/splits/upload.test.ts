/**
 * Goal: an attachment that takes ten seconds to come arrives whole, though the shard that it is written to is split and merged meanwhile.
 * Method: a server on loopback, a client that sends slowly, and cutovers in between.
 */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import t from 'tap';
import { ADMIN, memberOf, TestServer } from '../../support/server.js';
import { runJob, shardsOf } from '../../support/split-jobs.js';

const UPLOAD_MS = 10_000;
const PIECES = 40;
const PIECE_BYTES = 100_000;

function piece(number: number): Buffer {
  return Buffer.alloc(PIECE_BYTES, `piece ${number} `);
}

/** Sends an attachment piece by piece, and resolves with the status of the answer. */
async function upload(server: TestServer, path: string): Promise<number> {
  const sent = request(server.url + path, {
    method: 'PUT',
    auth: ADMIN,
    headers: { 'Content-Type': 'text/plain', 'Content-Length': PIECES * PIECE_BYTES },
  });
  const answer = once(sent, 'response');
  for (let number = 0; number < PIECES; number++) {
    sent.write(piece(number));
    await wait(UPLOAD_MS / PIECES);
  }
  sent.end();
  const [response]: IncomingMessage[] = await answer;
  response?.resume();
  return response?.statusCode ?? 0;
}

t.test('a slow upload across cutovers', async (t) => {
  const server = await TestServer.open(t, { settings: { 'reshard/rate': '0' } });
  await server.put('/db?q=1');
  await server.put('/db/there', { n: 1 });
  let isUploading = true;
  const uploads = Promise.all([
    upload(server, '/db/new/file'),
    // To a document that is there, in a database that is split and merged back.
    server
      .get('/db/there')
      .then(({ body }) => upload(server, `/db/there/file?rev=${memberOf(body, '_rev')}`)),
  ]).finally(() => {
    isUploading = false;
  });
  await wait(UPLOAD_MS / 5);
  await runJob(t, server, { shard: shardsOf(server)[0] });
  t.equal(shardsOf(server).length, 2);
  t.equal((await server.put('/db/beside', {})).status, 201, 'others write meanwhile');
  await runJob(t, server, { type: 'merge', shards: shardsOf(server) });
  t.equal(shardsOf(server).length, 1);
  t.ok(isUploading, 'the cutovers did not wait for the uploads');
  t.strictSame(await uploads, [201, 201]);
  const expected = Buffer.concat(Array.from({ length: PIECES }, (_, number) => piece(number)));
  for (const id of ['new', 'there']) {
    const found = await server.fetch('GET', `/db/${id}/file`);
    t.ok(Buffer.from(await found.arrayBuffer()).equals(expected), `all of it in ${id}`);
  }
  t.match((await server.get('/db')).body, { doc_count: 3 });
});
