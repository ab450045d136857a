/**
 * A program: a client that sends what wrk does not, and prints what it took as JSON.
 *
 * `node http-client.js bulk PORT PATH DOCS SIZE SEED` posts new documents, 1,000 at a time; `rows PORT PATH DOCS` reads a list that has a
 * row for each of so many documents.
 */
import { Agent, type IncomingMessage, request } from 'node:http';
import { syntheticLines } from '../fixtures/synthetic.js';
import { AUTHORIZATION } from './http-servers.js';
import type { BenchRun } from './result.js';

const BATCH = 1000;
/** So many posts are on their way at a time: one is read while another is synced. */
const CONNECTIONS = 4;
/** The share of the posts that come before those that count. */
const WARM_UP = 0.1;
/** Lines of a list that are no rows, at most. */
const OTHER_LINES_MAX = 4;
const NEWLINE = 10;

const [, , way = '', port = '', path = '', ...numbers] = process.argv;
const [docs = 0, size = 0, seed = 1] = numbers.map(Number);
const agent = new Agent({ keepAlive: true });

function send(method: string, body?: Buffer): Promise<IncomingMessage> {
  const headers = {
    Authorization: AUTHORIZATION,
    ...(body && { 'Content-Type': 'application/json', 'Content-Length': body.length }),
  };
  return new Promise((resolve, reject) => {
    const sent = request({ agent, host: '127.0.0.1', port, path, method, headers }, (response) => {
      const { statusCode = 0 } = response;
      if (statusCode < 300) resolve(response);
      else reject(new Error(`${method} ${path}: ${statusCode}`));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Reads all of a reply and counts its lines. */
function linesOf(response: IncomingMessage): Promise<number> {
  return new Promise((resolve, reject) => {
    let lines = 0;
    response.on('data', (chunk: Buffer) => {
      for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, at + 1)) lines++;
    });
    response.once('end', () => resolve(lines));
    response.once('error', reject);
  });
}

function bodies(): Buffer[] {
  const lines = [...syntheticLines(docs, size, seed)];
  const starts = Array.from({ length: Math.ceil(docs / BATCH) }, (_, index) => index * BATCH);
  return starts.map((start) =>
    Buffer.from(`{"docs":[${lines.slice(start, start + BATCH).join(',')}]}`),
  );
}

/** Posts all of them, and returns how many milliseconds each took, sorted. */
async function postAll(posts: readonly Buffer[]): Promise<number[]> {
  const rest = posts.values();
  const taken: number[] = [];
  const one = async () => {
    for (const body of rest) {
      const start = performance.now();
      await linesOf(await send('POST', body));
      taken.push(performance.now() - start);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, one));
  return taken.sort((a, b) => a - b);
}

async function bulk(): Promise<BenchRun> {
  const posts = bodies();
  const skipped = Math.floor(posts.length * WARM_UP);
  await postAll(posts.slice(0, skipped));
  const start = performance.now();
  const taken = await postAll(posts.slice(skipped));
  const seconds = (performance.now() - start) / 1000;
  const at = (share: number) => taken[Math.floor((taken.length - 1) * share)];
  return { seconds, docs: docs - skipped * BATCH, p50Ms: at(0.5), p99Ms: at(0.99) };
}

async function rows(): Promise<BenchRun> {
  const start = performance.now();
  const lines = await linesOf(await send('GET'));
  const seconds = (performance.now() - start) / 1000;
  if (lines < docs || lines > docs + OTHER_LINES_MAX) {
    throw new Error(`${path} has ${lines} lines for ${docs} documents`);
  }
  return { seconds, docs };
}

const run = way === 'bulk' ? await bulk() : await rows();
agent.destroy();
process.stdout.write(JSON.stringify(run));
