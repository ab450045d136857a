// Goal: `_changes` answers as CouchDB does, byte for byte where clients depend on it, and a feed lets go of what it held as soon as it
// ends or waits. Method: a real server on a loopback port; feeds are read as they come.
import type { IncomingMessage } from 'node:http';
import t, { type Test } from 'tap';
import { type LoopbackOptions, LoopbackServer } from '../../support/loopback-server.js';

interface Row {
  readonly seq: string | null;
  readonly id: string;
  readonly changes: readonly { readonly rev: string }[];
  readonly deleted?: boolean;
  readonly doc?: Readonly<Record<string, unknown>> | null;
}

interface Rows {
  readonly results: readonly Row[];
  readonly last_seq: string;
  readonly pending: number;
}

/** A server with a database `db`. */
async function start(t: Test, options: LoopbackOptions = {}): Promise<Fixture> {
  const server = await LoopbackServer.start(t, options);
  await server.ask('PUT', '/db');
  return new Fixture(server);
}

class Fixture {
  readonly server: LoopbackServer;

  constructor(server: LoopbackServer) {
    this.server = server;
  }

  /** Writes documents that are new. */
  async put(...docs: readonly (string | object)[]): Promise<void> {
    const body = { docs: docs.map((doc) => (typeof doc === 'string' ? { _id: doc } : doc)) };
    const { status, text } = await this.server.ask('POST', '/db/_bulk_docs', body);
    if (status !== 201 || text.includes('"error"')) throw new Error(text);
  }

  async changes(query = '', body?: object): Promise<Rows> {
    const method = body === undefined ? 'GET' : 'POST';
    const { status, text } = await this.server.ask(method, `/db/_changes${query}`, body);
    if (status !== 200) throw new Error(text);
    return JSON.parse(text);
  }

  async feed(query: string, headers: Record<string, string> = {}): Promise<Feed> {
    return new Feed(await this.server.open('GET', `/db/_changes?${query}`, undefined, headers));
  }
}

/** A feed as it comes. */
class Feed {
  readonly response: IncomingMessage;
  text = '';
  ended = false;
  #wake: () => void = () => undefined;

  constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding('utf8').on('data', (part: string) => {
      this.text += part;
      this.#wake();
    });
    response.on('close', () => {
      this.ended = true;
      this.#wake();
    });
    response.on('error', () => undefined);
  }

  /** Resolves when the text so far is such, or the feed ended. */
  async until(isSuch: (text: string) => boolean): Promise<string> {
    while (!isSuch(this.text) && !this.ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.text;
  }

  end(): Promise<string> {
    return this.until(() => false);
  }

  /** The whole lines so far that are not empty, as JSON. */
  rows(): Row[] {
    const lines = this.text.split('\n').slice(0, -1);
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line));
  }

  hasRows(count: number): Promise<string> {
    return this.until(() => this.rows().length >= count);
  }
}

const ids = ({ results }: Rows): string[] => results.map(({ id }) => id).sort();
const soon = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something holds. */
async function eventually(holds: () => boolean): Promise<void> {
  for (let n = 0; n < 400 && !holds(); n++) await soon(10);
  if (!holds()) throw new Error('it never held');
}

t.test('a normal feed, byte for byte', async (t) => {
  const { server } = await start(t);
  await server.ask('PUT', '/one?q=1');
  const empty = await server.ask('GET', '/one/_changes');
  t.match(empty.text, /^\{"results":\[\n\n\],\n"last_seq":"1-[\w-]{12}1","pending":0\}\n$/);
  t.equal(empty.headers['content-type'], 'application/json');
  const first = await server.json('PUT', '/one/a', {});
  const second = await server.json('PUT', '/one/b%22%5C%C3%A9', {});
  const deleted = await server.json('DELETE', `/one/a?rev=${first['rev']}`);
  const { text } = await server.ask('GET', '/one/_changes');
  // The seqs before were taken by the security object and by the first revision of `a`.
  const [token3, token4] = [...text.matchAll(/"seq":"([^"]+)"/g)].map(([, seq]) => seq);
  t.match(token3, /^3-/);
  t.match(token4, /^4-/);
  t.equal(
    text,
    `{"results":[\n{"seq":"${token3}","id":"b\\"\\\\é","changes":[{"rev":"${second['rev']}"}]},\n` +
      `{"seq":"${token4}","id":"a","changes":[{"rev":"${deleted['rev']}"}],"deleted":true}\n` +
      `],\n"last_seq":"${token4}","pending":0}\n`,
  );
  const head = await server.ask('HEAD', '/one/_changes?feed=continuous');
  t.same([head.status, head.text], [200, '']);
});

t.test('since, limit and pending: every row once, however it is cut', async (t) => {
  const fixture = await start(t);
  const odd = ['a"', 'b\\', 'c\t', 'd\u007f', 'é', '😀'];
  const plain = Array.from({ length: 94 }, (_, n) => `document ${n}`);
  const all = [...odd, ...plain].sort();
  await fixture.put(...all);
  for (const limit of [1, 7, 33, 100]) {
    const found: string[] = [];
    let since = '0';
    for (;;) {
      const { results, last_seq, pending } = await fixture.changes(
        `?since=${since}&limit=${limit}`,
      );
      found.push(...results.map(({ id }) => id));
      t.equal(pending, 100 - found.length);
      if (results.length > 0) t.equal(results.at(-1)?.seq, last_seq);
      since = encodeURIComponent(last_seq);
      if (results.length < limit) break;
    }
    t.same(found.sort(), all, `${limit} at a time`);
  }
  t.equal((await fixture.changes('?limit=0')).results.length, 1, 'as in CouchDB');
  const { results, last_seq } = await fixture.changes();
  for (const at of [0, 10, 60, 98]) {
    const rest = await fixture.changes(`?since=${results[at]?.seq}`);
    t.equal(rest.results.length, 99 - at, 'the token of any row');
  }
  const now = await fixture.changes('?since=now');
  t.same([now.results.length, now.last_seq], [0, last_seq]);
  const info = await fixture.server.json('GET', '/db');
  t.equal(info['update_seq'], last_seq);
  const sparse = await fixture.changes('?seq_interval=10&limit=30');
  t.equal(sparse.results.filter(({ seq }) => seq !== null).length, 3);
  t.equal(sparse.results.at(-1)?.seq, sparse.last_seq);
});

t.test('a since that is no token is refused; one of another database starts anew', async (t) => {
  const { server } = await start(t);
  for (const since of ['5', 'x', '1-x', '-1', 'NOW', '']) {
    const { status, text } = await server.ask('GET', `/db/_changes?since=${since}`);
    t.equal(status, 400, since);
    t.match(text, /Malformed sequence supplied in 'since' parameter/);
  }
  await server.ask('PUT', '/other');
  await server.ask('PUT', '/other/x', {});
  await server.ask('PUT', '/db/y', {});
  const other = await server.json('GET', '/other/_changes');
  const { results } = await server.json('GET', `/db/_changes?since=${other['last_seq']}`);
  t.equal(results?.[0]?.['id'], 'y');
  for (const query of ['feed=x', 'style=x', 'limit=-1', 'limit=x', 'heartbeat=0', 'timeout=x']) {
    t.equal((await server.ask('GET', `/db/_changes?${query}`)).status, 400, query);
  }
  t.equal((await server.ask('GET', '/missing/_changes')).status, 404);
  t.equal((await server.ask('POST', '/db/_changes', undefined)).status, 415);
  t.equal((await server.ask('DELETE', '/db/_changes')).status, 405);
});

t.test('descending: the newest of each shard first', async (t) => {
  const fixture = await start(t);
  await fixture.server.ask('PUT', '/one?q=1');
  for (const id of ['a', 'b', 'c', 'd']) await fixture.server.ask('PUT', `/one/${id}`, {});
  const down = async (query: string) => {
    const answer = await fixture.server.ask('GET', `/one/_changes?descending=true${query}`);
    const rows: Rows = JSON.parse(answer.text);
    return rows;
  };
  t.same(
    (await down('')).results.map(({ id }) => id),
    ['d', 'c', 'b', 'a'],
  );
  const first = await down('&limit=1');
  t.same([first.results.length, first.pending], [1, 3]);
  const later = await fixture.server.json('GET', `/one/_changes?since=${first.last_seq}`);
  t.same(later['results'], [], 'the token of the newest row is that of everything');
});

t.test('leaves and documents', async (t) => {
  const fixture = await start(t);
  const { server } = fixture;
  const conflict = (rev: string, more: object = {}) => ({ _id: 'c', _rev: rev, ...more });
  await server.ask('POST', '/db/_bulk_docs', {
    new_edits: false,
    docs: [
      conflict('1-aa'),
      conflict('1-bb', { v: 1 }),
      conflict('1-00000000000000000000000000000000'),
    ],
  });
  const [row] = (await fixture.changes()).results;
  t.same(row?.changes, [{ rev: '1-bb' }]);
  const [all] = (await fixture.changes('?style=all_docs')).results;
  t.same(
    all?.changes.map(({ rev }) => rev),
    ['1-bb', '1-aa', '1-00000000000000000000000000000000'],
  );
  const [shown] = (await fixture.changes('?include_docs=true&conflicts=true')).results;
  const others = ['1-aa', '1-00000000000000000000000000000000'];
  t.same(shown?.doc, { _id: 'c', _rev: '1-bb', v: 1, _conflicts: others });
  const attachment = { content_type: 'text/plain', data: 'aGVsbG8=' };
  const { rev } = await server.json('PUT', '/db/x', { _attachments: { f: attachment } });
  const docOf = async (query: string) =>
    (await fixture.changes(`?include_docs=true${query}`)).results.find(({ id }) => id === 'x')?.doc;
  t.match(await docOf(''), { _attachments: { f: { stub: true, length: 5, revpos: 1 } } });
  t.match(await docOf('&attachments=true'), { _attachments: { f: { data: 'aGVsbG8=' } } });
  const gone = await server.json('DELETE', `/db/x?rev=${rev}`);
  t.same(await docOf(''), { _id: 'x', _rev: gone['rev'], _deleted: true });
  const number = '{"n":1.0,"big":12345678901234567890}';
  await server.ask('PUT', '/db/number', number);
  const { text } = await server.ask('GET', '/db/_changes?include_docs=true');
  t.match(text, '"n":1.0,"big":12345678901234567890', 'bodies are what was put');
});

t.test('filters by id', async (t) => {
  const fixture = await start(t);
  const many = Array.from({ length: 300 }, (_, n) => `d${n}`);
  await fixture.put(...many, '_design/one', '_design/two', 'é"');
  const wanted = ['d3', 'd200', 'missing', 'é"'];
  const list = encodeURIComponent(JSON.stringify(wanted));
  const found = ['d200', 'd3', 'é"'];
  t.same(ids(await fixture.changes(`?filter=_doc_ids&doc_ids=${list}`)), found, 'looked up');
  const posted = await fixture.changes('?filter=_doc_ids', { doc_ids: wanted });
  t.same(ids(posted), found);
  t.equal(posted.last_seq, (await fixture.changes()).last_seq, 'all was read');
  t.same(ids(await fixture.changes('?filter=_doc_ids', { doc_ids: many })), [...many].sort());
  const one = await fixture.changes('?filter=_doc_ids&limit=1', { doc_ids: wanted });
  const rest = await fixture.changes(`?filter=_doc_ids&since=${one.last_seq}`, { doc_ids: wanted });
  t.same([...ids(one), ...ids(rest)].sort(), found);
  t.same(ids(await fixture.changes('?filter=_design')), ['_design/one', '_design/two']);
  const later = (await fixture.changes()).last_seq;
  await fixture.put('_design/three', 'd1000');
  t.same(ids(await fixture.changes(`?filter=_design&since=${later}`)), ['_design/three']);
  const { server } = fixture;
  const refused = async (query: string, body?: object) =>
    (await server.ask(body === undefined ? 'GET' : 'POST', `/db/_changes?${query}`, body)).status;
  t.equal(await refused('filter=_doc_ids'), 400);
  t.equal(await refused('filter=_doc_ids', { doc_ids: 1 }), 400);
  t.equal(await refused('filter=_doc_ids', { doc_ids: [1] }), 400);
  t.equal(await refused('filter=_selector', { selector: {} }), 400);
  t.equal(await refused('filter=ddoc/name'), 404);
  t.equal(await refused('filter=name'), 400);
});

t.test('longpoll: what is there, or what comes first', async (t) => {
  const fixture = await start(t, { speed: 20 });
  const { last_seq } = await fixture.changes();
  const feed = await fixture.feed(`feed=longpoll&since=${last_seq}&heartbeat=1000`);
  await feed.until((text) => /\[\n\n\n/.test(text));
  t.equal(feed.ended, false);
  await fixture.put('a');
  const rows: Rows = JSON.parse(await feed.end());
  t.same(ids(rows), ['a']);
  const there = await fixture.feed('feed=longpoll');
  t.same(ids(JSON.parse(await there.end())), ['a']);
  const late = await fixture.feed('feed=longpoll&since=now&timeout=2000');
  const nothing: Rows = JSON.parse(await late.end());
  t.same([nothing.results.length, nothing.last_seq], [0, rows.last_seq]);
  const filtered = await fixture.feed('feed=longpoll&since=now&filter=_design');
  await fixture.put('b');
  await soon(50);
  t.equal(filtered.ended, false);
  await fixture.put('_design/d');
  t.same(ids(JSON.parse(await filtered.end())), ['_design/d']);
});

t.test('continuous: a line for each change until none comes', async (t) => {
  const fixture = await start(t, { speed: 20 });
  await fixture.put('a');
  const feed = await fixture.feed('feed=continuous&timeout=10000');
  await feed.hasRows(1);
  for (let n = 0; n < 20; n++) {
    await fixture.put(`b${n}`);
    await feed.hasRows(2 + n);
  }
  await feed.end();
  const rows = feed.rows();
  t.same(
    rows.slice(0, -1).map(({ id }) => id),
    ['a', ...Array.from({ length: 20 }, (_, n) => `b${n}`)],
  );
  t.match(feed.text, /\n\{"last_seq":"23-[^"]+","pending":0\}\n$/);
  t.match(rows.at(-1), { last_seq: rows.at(-2)?.seq });
  const beating = await fixture.feed('feed=live&since=now&heartbeat=1000');
  await beating.until((text) => text === '\n\n');
  await fixture.put('c');
  await beating.hasRows(1);
  beating.response.destroy();
  const limited = await fixture.feed('feed=continuous&limit=3');
  t.match(await limited.end(), /^(\{"seq".*\n){3}\{"last_seq":"4-[^"]+","pending":19\}\n$/);
});

t.test('eventsource: events, and where they go on', async (t) => {
  const fixture = await start(t, { speed: 20 });
  await fixture.put('a');
  const feed = await fixture.feed('feed=eventsource&heartbeat=2000');
  t.equal(feed.response.headers['content-type'], 'text/event-stream');
  await feed.until((text) => text.includes('event: heartbeat\ndata: \n\n'));
  const match = /^data: (\{.*\})\nid: (\S+)\n\nevent/.exec(feed.text);
  const row: Row = JSON.parse(match?.[1] ?? '{}');
  t.same([row.id, row.seq], ['a', match?.[2]]);
  feed.response.destroy();
  await fixture.put('b');
  const headers = { 'last-event-id': match?.[2] ?? '' };
  const again = await fixture.feed('feed=eventsource&since=0&timeout=1000', headers);
  t.match(await again.end(), /^data: \{"seq":"4-\S+","id":"b",.*\}\nid: 4-\S+\n\n$/);
});

t.test('feeds end as usual when the database goes or the server stops', async (t) => {
  const fixture = await start(t);
  await fixture.put('a', 'b');
  const feed = await fixture.feed('feed=continuous');
  const long = await fixture.feed('feed=longpoll&since=now');
  await feed.hasRows(2);
  await fixture.server.ask('DELETE', '/db');
  t.match(await feed.end(), /\n\{"last_seq":"4-[^"]+","pending":0\}\n$/);
  t.match(await long.end(), /^\{"results":\[\n\n\],\n"last_seq":"4-[^"]+","pending":0\}\n$/);
  await fixture.server.ask('PUT', '/db');
  const other = await fixture.feed('feed=continuous&heartbeat=true');
  fixture.server.server.stop();
  t.match(await other.end(), /^\{"last_seq":"2-[^"]+","pending":0\}\n$/);
});

t.test(
  'so many feeds may wait, and one that ended or whose client left counts no more',
  async (t) => {
    const settings = { 'chttpd/max_changes_feeds': '3', 'chttpd/max_changes_feeds_per_user': '2' };
    const fixture = await start(t, { settings });
    const ask = () => fixture.server.open('GET', '/db/_changes?feed=continuous');
    for (let round = 0; round < 3; round++) {
      const open = [await ask(), await ask()];
      const refused = await fixture.server.ask('GET', '/db/_changes?feed=longpoll');
      t.equal(refused.status, 503);
      t.match(refused.text, /a user has at most 2 feeds/);
      t.equal((await fixture.server.ask('GET', '/db/_changes')).status, 200, 'this one ends');
      for (const response of open) response.destroy();
      let status = 503;
      for (let n = 0; n < 200 && status === 503; n++) {
        const path = '/db/_changes?feed=continuous&timeout=0';
        ({ status } = await fixture.server.ask('GET', path));
        await soon(5);
      }
      t.equal(status, 200);
    }
  },
);

t.test('a feed that waits holds no shard open, and hears of changes nevertheless', async (t) => {
  const settings = { 'couchdb/idle_shard_timeout': '1000' };
  const fixture = await start(t, { settings, speed: 20 });
  const { pool } = fixture.server.server.services;
  await fixture.put('a');
  const feed = await fixture.feed('feed=continuous&heartbeat=true');
  await feed.hasRows(1);
  await eventually(() => pool.openCount === 0);
  await fixture.put('b');
  await feed.hasRows(2);
  t.same(
    feed.rows().map(({ id }) => id),
    ['a', 'b'],
  );
  feed.response.destroy();
});

t.test(
  'a client that stops reading holds neither snapshots nor memory, and misses nothing',
  async (t) => {
    const settings = { 'couchdb/idle_shard_timeout': '1000' };
    const fixture = await start(t, { settings, speed: 20 });
    const { pool } = fixture.server.server.services;
    const text = 'x'.repeat(2000);
    const docs = Array.from({ length: 5000 }, (_, n) => ({ _id: `d${n}`, text }));
    for (let at = 0; at < docs.length; at += 500) await fixture.put(...docs.slice(at, at + 500));
    const response = await fixture.server.open(
      'GET',
      '/db/_changes?feed=continuous&include_docs=true&timeout=5000',
    );
    response.pause();
    await eventually(() => pool.openCount === 0);
    await fixture.put('later');
    await soon(20);
    const feed = new Feed(response);
    response.resume();
    await feed.end();
    const rows = feed.rows();
    t.equal(new Set(rows.slice(0, -1).map(({ id }) => id)).size, docs.length + 1);
    t.equal(rows.length, docs.length + 2, 'each once');
  },
);

t.test('many feeds are no reason for a warning', async (t) => {
  const fixture = await start(t);
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  const wait = () => fixture.changes('?feed=longpoll&since=now&timeout=300');
  await Promise.all(Array.from({ length: 20 }, wait));
  t.same(warnings, []);
});
