/**
 * Goal: an attachment that takes ten seconds to come arrives whole, though the shard that it is written to is split meanwhile.
 * Method: a server on loopback, a client that sends slowly until there was a cutover, and for ten seconds at least.
 */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import t from 'tap';
import { ADMIN, memberOf, TestServer } from '../../support/server.js';
import { runJob, shardsOf } from '../../support/split-jobs.js';

const UPLOAD_MS = 10_000;
const GAP_MS = 250;
const PIECE_BYTES = 100_000;

function piece(number: number): Buffer {
  return Buffer.alloc(PIECE_BYTES, `piece ${number} `);
}

interface Uploaded {
  readonly status: number;
  readonly pieces: number;
}

/** Sends an attachment piece by piece until it took long enough and `cutOver` is settled. */
async function upload(
  server: TestServer,
  path: string,
  cutOver: Promise<unknown>,
): Promise<Uploaded> {
  const over = { isSo: false };
  cutOver.finally(() => {
    over.isSo = true;
  });
  const sent = request(server.url + path, {
    method: 'PUT',
    auth: ADMIN,
    headers: { 'Content-Type': 'text/plain', 'Transfer-Encoding': 'chunked' },
  });
  const answer = once(sent, 'response');
  const start = performance.now();
  let pieces = 0;
  for (; performance.now() - start < UPLOAD_MS || !over.isSo; pieces++) {
    sent.write(piece(pieces));
    await wait(GAP_MS);
  }
  sent.end();
  const [response]: IncomingMessage[] = await answer;
  response?.resume();
  return { status: response?.statusCode ?? 0, pieces };
}

/** Resolves when the database has so many shards. A job goes on then until nobody uses the old ones any more. */
async function untilShards(server: TestServer, count: number): Promise<void> {
  while (shardsOf(server).length !== count) await wait(20);
}

t.test('a slow upload across a cutover', async (t) => {
  const server = await TestServer.open(t, { settings: { 'reshard/rate': '0' } });
  await server.put('/db?q=1');
  await server.put('/db/there', { n: 1 });
  const rev = memberOf((await server.get('/db/there')).body, '_rev');
  const jobs: Promise<void>[] = [];
  const cutOver = async () => {
    await wait(UPLOAD_MS / 5);
    jobs.push(runJob(t, server, { shard: shardsOf(server)[0] }));
    await untilShards(server, 2);
    t.equal((await server.put('/db/beside', {})).status, 201, 'others write meanwhile');
  };
  // They go on for as long as this does: a cutover that waited for uploads would never come.
  const cutting = cutOver();
  const uploads = new Map([
    ['new', upload(server, '/db/new/file', cutting)],
    ['there', upload(server, `/db/there/file?rev=${rev}`, cutting)],
  ]);
  await cutting;
  for (const [id, uploaded] of uploads) {
    const { status, pieces } = await uploaded;
    t.equal(status, 201);
    const expected = Buffer.concat(Array.from({ length: pieces }, (_, number) => piece(number)));
    const found = await server.fetch('GET', `/db/${id}/file`);
    t.ok(Buffer.from(await found.arrayBuffer()).equals(expected), `all of it in ${id}`);
  }
  await Promise.all(jobs);
  t.match((await server.get('/db')).body, { doc_count: 3 });
});
