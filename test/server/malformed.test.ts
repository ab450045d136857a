/**
 * Goal: no request, however malformed, makes the server fail, hang, leak or change what it has.
 * Method: 20,000 requests from a seeded generator that goes through all routes, over raw sockets, many on one connection; what must be
 * refused is; in the end nothing is open that was not before, and the documents are what they were.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { CountingHost } from '../support/counting-host.js';
import {
  KEPT,
  type MalformedRequest,
  MalformedRequests,
  SCRATCH,
} from '../support/malformed-requests.js';
import { RawClient, type RawReply } from '../support/raw-client.js';
import type { Expectation } from '../support/request-parts.js';
import { randomInt, seededRandom, seedOf } from '../support/seed.js';
import { ADMIN, TestServer } from '../support/server.js';

/** Fewer, or more, for a look at something. */
const REQUESTS = Number(process.env['DIVAN_REQUESTS'] ?? 20_000);
const LANES = 8;
const PER_CONNECTION_MAX = 40;
const FAILURES_SHOWN = 20;
const HEAP_GROWTH_MAX = 24 * 1024 * 1024;
const ENDS: ReadonlySet<Expectation> = new Set(['ended', 'unclear', 'halfClosed'] as const);
const DOCUMENTS = ['d0', 'd1', 'd2', '_design/d3', '_local/d4'];

/** Makes the database that must not change, and returns what is in it. */
async function makeDatabases(t: Test, server: TestServer): Promise<string[]> {
  for (const name of [KEPT, ...SCRATCH]) t.equal((await server.put(`/${name}`)).status, 201);
  for (const id of DOCUMENTS) {
    const body = { views: {}, text: `of ${id}` };
    t.equal((await server.put(`/${KEPT}/${id}`, body)).status, 201);
  }
  return documents(server);
}

async function documents(server: TestServer): Promise<string[]> {
  const paths = [...DOCUMENTS, '_all_docs?include_docs=true', '_local_docs?include_docs=true'];
  const texts: string[] = [];
  for (const path of paths) texts.push((await server.get(`/${KEPT}/${path}`)).text);
  return texts;
}

/** Sends requests over several connections at a time, and judges the replies. */
class Run {
  readonly failures: string[] = [];
  readonly outcomes: Record<string, number> = {};
  done = 0;
  connections = 0;
  readonly #server: TestServer;
  readonly #requests: MalformedRequests;
  readonly #random: () => number;
  #next = 0;

  constructor(server: TestServer, requests: MalformedRequests, seed: number) {
    this.#server = server;
    this.#requests = requests;
    this.#random = seededRandom(seed);
  }

  async requests(from: number, to: number): Promise<void> {
    this.#next = from;
    await Promise.all(Array.from({ length: LANES }, () => this.#lane(to)));
  }

  async #lane(to: number): Promise<void> {
    let waiting: MalformedRequest[] = [];
    while (this.failures.length < FAILURES_SHOWN) {
      const wanted = 1 + randomInt(this.#random, PER_CONNECTION_MAX);
      while (this.#next < to && waiting.length < wanted) {
        waiting.push(this.#requests.request(this.#next++));
      }
      if (waiting.length === 0) return;
      await this.#recreateScratch();
      waiting = await this.#connection(waiting);
    }
  }

  /** Some requests are deletions that nothing is wrong with. */
  async #recreateScratch(): Promise<void> {
    for (const name of SCRATCH) {
      if (this.#server.server.services.catalog.find(name) !== undefined) continue;
      await this.#server.put(`/${name}`);
    }
  }

  /** Sends what it can on one connection; returns what is left. */
  async #connection(requests: readonly MalformedRequest[]): Promise<MalformedRequest[]> {
    this.connections++;
    const client = await RawClient.open(this.#server.listener.address.port);
    const batch = untilLast(requests);
    const isPipelined = this.#random() < 0.5;
    if (isPipelined) client.send(Buffer.concat(batch.map(({ bytes }) => bytes)));
    let sent = 0;
    try {
      for (const request of batch) {
        if (!isPipelined) client.send(request.bytes);
        sent++;
        this.done++;
        if (!(await this.#judged(client, request))) break;
      }
    } catch (error) {
      this.#fail(batch[sent - 1], String(error));
    } finally {
      client.close(this.#random() < 0.3);
    }
    return requests.slice(sent);
  }

  /** False if the connection can not be used any more. */
  async #judged(client: RawClient, request: MalformedRequest): Promise<boolean> {
    const { expect } = request;
    if (expect === 'vanished') {
      if (this.#random() < 0.5) await delay(randomInt(this.#random, 4));
      this.#count(expect);
      return false;
    }
    if (expect === 'halfClosed') client.halfClose();
    const reply = await client.reply(request.isHead);
    this.#count(String(reply?.status));
    this.#judge(request, reply);
    if (ENDS.has(expect)) await client.ended();
    return reply !== undefined && reply.headers.get('connection') !== 'close';
  }

  #judge(request: MalformedRequest, reply: RawReply | undefined): void {
    const { expect } = request;
    if (reply === undefined) {
      if (!ENDS.has(expect)) this.#fail(request, 'the connection was ended without a reply');
      return;
    }
    const { status, body } = reply;
    const isRefused = status >= 400 && status < 500;
    if (status >= 500 || ((expect === 'refused' || expect === 'ended') && !isRefused)) {
      this.#fail(request, `status ${status}: ${body.toString().slice(0, 200)}`);
    }
    // Node itself answers a request without a host, briefly.
    if (isRefused && !request.isHead && request.what !== 'no host' && !isErrorBody(body)) {
      this.#fail(request, `status ${status} with ${body.toString().slice(0, 200)}`);
    }
  }

  #count(outcome: string): void {
    this.outcomes[outcome] = (this.outcomes[outcome] ?? 0) + 1;
  }

  #fail(request: MalformedRequest | undefined, text: string): void {
    const bytes = JSON.stringify(request?.bytes.toString('latin1').slice(0, 500));
    this.failures.push(`${request?.number} (${request?.what}): ${text}\n  ${bytes}`);
  }
}

/** Nothing can be sent behind a request that breaks the framing. */
function untilLast(requests: readonly MalformedRequest[]): readonly MalformedRequest[] {
  const last = requests.findIndex(({ expect }) => expect !== 'refused' && expect !== 'answered');
  return last < 0 ? requests : requests.slice(0, last + 1);
}

/** Whether it is `{"error", "reason"}`, without a path or a stack. */
function isErrorBody(body: Buffer): boolean {
  const text = body.toString();
  return (
    /^\{"error":".+","reason":".*"\}\n$/.test(text) && !/\/tmp\/|node:|\.js:|\\n +at /.test(text)
  );
}

interface Resting {
  readonly connections: number;
  readonly isQuiet: boolean;
  readonly sockets: number;
  readonly files: readonly string[];
  readonly heapBytes: number;
}

/** What is held when nothing goes on. */
async function resting(server: TestServer, host: CountingHost): Promise<Resting> {
  // What nobody wants of a body is passed over for a while, a client that was refused has time to read why, and compactions go on.
  for (let tries = 0; !isQuiet(server, host) && tries < 600; tries++) await delay(50);
  setFlagsFromString('--expose_gc');
  const collect: () => void = runInNewContext('gc');
  for (let turn = 0; turn < 3; turn++) {
    collect();
    await delay(10);
  }
  const { heapUsed, external } = process.memoryUsage();
  const links = readdirSync('/proc/self/fd').map(linkOf);
  return {
    connections: server.listener.connections,
    isQuiet: isQuiet(server, host),
    sockets: links.filter((link) => link.startsWith('socket:')).length,
    files: openFiles(server),
    heapBytes: heapUsed + external,
  };
}

/** The open files of the data directory. */
function openFiles({ dataDir }: TestServer): string[] {
  return readdirSync('/proc/self/fd')
    .map(linkOf)
    .filter((link) => link.startsWith(dataDir));
}

/** No file is open but those of shards and of the node; each may have a timer, for its seal, and the pool of shards has one. */
function isQuiet(server: TestServer, host: CountingHost): boolean {
  const { openCount } = server.server.services.pool;
  return (
    server.listener.connections === 0 &&
    host.timers <= openCount + 2 &&
    openFiles(server).length <= openCount + 1
  );
}

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The one that the list was read with.
    return '';
  }
}

t.test('20,000 malformed requests', async (t) => {
  const seed = seedOf(t);
  const host = new CountingHost();
  const server = await TestServer.open(t, {
    host,
    settings: {
      'chttpd/max_http_request_size': '2 MiB',
      'chttpd/max_request_bytes_in_flight': '32 MiB',
      'chttpd_auth/iterations': '10',
      'chttpd/body_timeout': '5000',
      'chttpd/idle_timeout': '500',
    },
  });
  const kept = await makeDatabases(t, server);
  const requests = new MalformedRequests(server.server.router.routes, seed, ADMIN);
  const run = new Run(server, requests, seed);
  // What is set up at first use is no leak.
  await run.requests(0, Math.floor(REQUESTS / 4));
  const before = await resting(server, host);
  await run.requests(Math.floor(REQUESTS / 4), REQUESTS);
  const after = await resting(server, host);
  t.comment(
    `${run.done} requests, ${run.connections} connections, ${JSON.stringify(run.outcomes)}`,
  );
  t.comment(`${JSON.stringify({ before, after })}`);
  for (const failure of run.failures) t.fail(failure);
  t.ok(run.done >= REQUESTS, 'all were sent');
  t.strictSame(await documents(server), kept, 'the documents are what they were');
  t.equal(after.connections, 0, 'no connection is left');
  t.ok(after.isQuiet, `no timer and no file is left but those of open shards: ${after.files}`);
  t.ok(after.sockets <= before.sockets, 'no socket is left');
  t.ok(after.heapBytes - before.heapBytes < HEAP_GROWTH_MAX, 'no memory is left');
  t.strictSame(server.errors.slice(0, 5), [], 'nothing is logged that an operator should see');
  t.equal(server.server.services.bodyBudget.bytes, 0, 'no body is accounted for');
});

t.test('attachments that are no gzip, as they say', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const bodies = [Buffer.alloc(40), Buffer.from('x'), gzipSync('x').subarray(0, -5)];
  const headers = { 'Content-Type': 'text/plain', 'Content-Encoding': 'gzip' };
  for (const body of bodies) {
    const { status } = await server.put('/db/a/file', body, { headers });
    t.equal(status, 400);
  }
  t.equal((await server.put('/db/a/file', gzipSync('x'), { headers })).status, 201);
  t.equal((await server.delete('/db')).status, 200, 'nobody holds the shard');
});
