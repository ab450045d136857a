/**
 * Goal: shards are split, split again and merged under clients who write and read without pause, and nobody notices: no error, no lost,
 * doubled or late write, no feed that ends, skips or repeats.
 * Method: a server on loopback, clients that know what must be there, a continuous feed from before the first split to the end, and a since
 * token from before; PouchDB that syncs live both ways meanwhile.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import PouchDB from 'pouchdb';
import t, { type Test } from 'tap';
import { seededRandom, seedOf } from '../../support/seed.js';
import { listOf, memberOf, TestServer } from '../../support/server.js';
import { splitAndMerge } from '../../support/split-jobs.js';
import { SplitLoad } from '../../support/split-load.js';

const DOCUMENTS = 20_000;
/** Those that PouchDB copies before it hears of others. */
const FEW_DOCUMENTS = 2000;
const BATCH = 2000;

/** The rows of a continuous feed, as they came. */
class Feed {
  readonly rows: { readonly id: string; readonly rev: string }[] = [];
  ended = false;
  readonly #abort = new AbortController();
  readonly #reading: Promise<void>;

  constructor(server: TestServer, path: string) {
    this.#reading = this.#read(server, path).catch((error: unknown) => {
      if (!this.#abort.signal.aborted) throw error;
    });
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#reading;
  }

  async #read(server: TestServer, path: string): Promise<void> {
    const response = await server.fetch('GET', path, { signal: this.#abort.signal });
    let rest = '';
    for await (const chunk of response.body ?? []) {
      const lines = (rest + Buffer.from(chunk).toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') this.#take(JSON.parse(line));
    }
    this.ended = true;
  }

  #take(row: { id?: string; changes?: readonly { rev: string }[] }): void {
    if (row.id === undefined) return;
    this.rows.push({ id: row.id, rev: row.changes?.[0]?.rev ?? '' });
  }
}

async function fill(server: TestServer, count: number): Promise<string[]> {
  await server.put('/db?q=1');
  const ids: string[] = [];
  for (let from = 0; from < count; from += BATCH) {
    const docs = Array.from({ length: BATCH }, (_, n) => ({ _id: `d${from + n}`, n }));
    await server.post('/db/_bulk_docs', { docs });
    ids.push(...docs.map(({ _id }) => _id));
  }
  return ids;
}

t.test('five splits and merges under load', async (t) => {
  const server = await TestServer.open(t, { settings: { 'reshard/rate': '0' } });
  const ids = await fill(server, DOCUMENTS);
  const before = (await server.get('/db/_changes?limit=0&since=now')).body;
  const since = encodeURIComponent(String(memberOf(before, 'last_seq')));
  const feed = new Feed(server, `/db/_changes?feed=continuous&heartbeat=1000&since=${since}`);
  const load = new SplitLoad(server, 'db', ids, seededRandom(seedOf(t)));
  await server.put('/db/_security', { members: { roles: ['kept'] } });
  load.start(4, 8);
  await splitAndMerge(t, server);
  await load.stop();
  t.comment(`${load.writes} writes, ${load.reads} reads`);
  t.strictSame(load.problems.slice(0, 10), [], 'no client saw an error');
  t.match((await server.get('/db/_security')).body, { members: { roles: ['kept'] } });
  await assertAll(t, server, load);
  await assertChanges(t, server, load, since);
  await assertFeed(t, feed, load);
});

/** The revision in a row of `_all_docs`. */
function revOfRow(row: unknown): string {
  return String(memberOf(memberOf(row, 'value'), 'rev'));
}

/** Everything that was acknowledged is in `_all_docs`, once, and nothing else. */
async function assertAll(t: Test, server: TestServer, load: SplitLoad): Promise<void> {
  const rows = listOf((await server.get('/db/_all_docs')).body, 'rows');
  const found = new Map(rows.map((row) => [String(memberOf(row, 'id')), revOfRow(row)]));
  t.equal(found.size, rows.length, 'nothing is there twice');
  const alive = [...load.documents].flatMap(([id, known]) =>
    known === undefined || known.deleted ? [] : [[id, known.rev] as const],
  );
  t.equal(found.size, DOCUMENTS + alive.length);
  t.strictSame(
    alive.filter(([id, rev]) => found.get(id) !== rev),
    [],
  );
  for (const [id, revision] of load.locals) {
    t.match((await server.get(`/db/_local/${id}`)).body, { _rev: `0-${revision}` });
  }
  const info = (await server.get('/db')).body;
  t.match(info, { doc_count: found.size });
}

/** From the token of before the first split on there is each document that was written since, once. */
async function assertChanges(
  t: Test,
  server: TestServer,
  load: SplitLoad,
  since: string,
): Promise<void> {
  const results = listOf((await server.get(`/db/_changes?since=${since}`)).body, 'results');
  const expected = [...load.documents].flatMap(([id, known]) =>
    known === undefined ? [] : [`${id} ${known.rev}`],
  );
  const actual = results.map(
    (row) => `${memberOf(row, 'id')} ${memberOf(listOf(row, 'changes')[0], 'rev')}`,
  );
  t.strictSame(actual.sort(), expected.sort());
}

/** The feed told of the last revision of each document, and of none twice. */
async function assertFeed(t: Test, feed: Feed, load: SplitLoad): Promise<void> {
  const missing = () => {
    const seen = new Set(feed.rows.map(({ id, rev }) => `${id} ${rev}`));
    return [...load.documents].filter(
      ([id, known]) => known !== undefined && !seen.has(`${id} ${known.rev}`),
    );
  };
  for (let turn = 0; turn < 100 && missing().length > 0; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.strictSame(missing().slice(0, 10), [], 'nothing was skipped');
  const times = new Map<string, number>();
  for (const { id, rev } of feed.rows) {
    times.set(`${id} ${rev}`, (times.get(`${id} ${rev}`) ?? 0) + 1);
  }
  t.strictSame(
    [...times].filter(([, count]) => count > 1).slice(0, 10),
    [],
    'nothing was repeated',
  );
  t.equal(feed.ended, false, 'it goes on');
  await feed.stop();
}

t.test('a live sync of PouchDB goes on over splits and merges', async (t) => {
  const server = await TestServer.open(t, { settings: { 'reshard/rate': '0' } });
  const ids = await fill(server, FEW_DOCUMENTS);
  const directory = await mkdtemp(join(tmpdir(), 'divan-sync-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const local = new PouchDB(join(directory, 'local'));
  const remote = new PouchDB(
    `${server.url.replace('http://', 'http://admin:secret-of-the-tests@')}/db`,
  );
  const sync = local.sync(remote, { live: true });
  const written: string[] = [];
  let going = true;
  const write = async (db: typeof local, side: string) => {
    for (let n = 0; going; n++) {
      const { id } = await db.put({ _id: `${side}-${n}`, n });
      written.push(id);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const writers = [write(local, 'local'), write(remote, 'remote')];
  await splitAndMerge(t, server);
  going = false;
  await Promise.all(writers);
  const missing = async (db: typeof local) => {
    const { rows } = await db.allDocs({ keys: written });
    return rows.filter((row) => 'error' in row).map(({ key }) => key);
  };
  for (let turn = 0; turn < 200; turn++) {
    if ((await missing(local)).length === 0 && (await missing(remote)).length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.strictSame(await missing(local), [], `all of ${written.length} came to the client`);
  t.strictSame(await missing(remote), [], 'and to the server');
  t.match((await server.get('/db')).body, { doc_count: ids.length + written.length });
  const completed = once(sync, 'complete');
  sync.cancel();
  await completed;
});
