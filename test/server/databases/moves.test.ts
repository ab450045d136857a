/**
 * Goal: no client notices that shards of the database that it uses are split or merged: no error, nothing lost, and it reads its own writes.
 * Method: a server with real files and clients of all kinds that speak to it through fetch, while its shards are moved again and again.
 */
import { createHash } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { TestServer } from '../../support/server.js';
import { ShardMover } from '../../support/shard-mover.js';

const SETTINGS = { 'compaction/dead_percent': '0' } as const;

interface Row {
  readonly id: string;
  readonly value: { readonly rev: string };
}

interface Change {
  readonly id: string;
  readonly changes: readonly { readonly rev: string }[];
}

interface Written {
  readonly id: string;
  readonly rev: string;
  readonly ok?: boolean;
}

async function start(t: Test, q: number) {
  const server = await TestServer.open(t, { settings: SETTINGS });
  await server.put(`/db?q=${q}`);
  return { server, mover: new ShardMover(server, 'db') };
}

/** What was acknowledged, and what was not as it should be. */
class Ledger {
  readonly server: TestServer;
  /** Of each document its revision. */
  readonly revs = new Map<string, string>();
  readonly locals = new Map<string, string>();
  readonly purged = new Set<string>();
  readonly problems: string[] = [];
  isOver = false;

  constructor(server: TestServer) {
    this.server = server;
  }

  /** Repeats something until it is over. */
  async loop(work: (n: number) => Promise<void>): Promise<void> {
    for (let n = 0; !this.isOver; n++) await work(n);
  }

  async sends(method: string, path: string, body?: unknown): Promise<string> {
    const reply = await this.server.call(method, path, { body });
    if (reply.status >= 300) this.problems.push(`${method} ${path}: ${reply.text}`);
    return reply.text;
  }

  /** New documents and updates, each read back at once. */
  async put(id: string): Promise<void> {
    const known = this.revs.get(id);
    const text = await this.sends('PUT', `/db/${id}${known === undefined ? '' : `?rev=${known}`}`, {
      text: `${id} after ${known}`,
    });
    const { rev }: Written = JSON.parse(text);
    this.revs.set(id, rev);
    const read: { _rev?: string } = JSON.parse(await this.sends('GET', `/db/${id}`));
    if (read._rev !== rev) this.problems.push(`${id} reads ${read._rev} after ${rev}`);
  }

  async bulk(ids: readonly string[]): Promise<void> {
    const docs = ids.map((_id) => {
      const _attachments = { a: { content_type: 'text/plain', data: btoa(`bytes of ${_id}`) } };
      return { _id, text: 'x'.repeat(100), ...(_id.endsWith('3') ? { _attachments } : {}) };
    });
    const rows: Written[] = JSON.parse(await this.sends('POST', '/db/_bulk_docs', { docs }));
    for (const [index, { id, rev, ok }] of rows.entries()) {
      if (id !== ids[index] || ok !== true) this.problems.push(`bulk: ${JSON.stringify(rows)}`);
      this.revs.set(id, rev);
    }
    const list = await this.sends('POST', '/db/_all_docs', { keys: ids });
    const { rows: found }: { rows: Row[] } = JSON.parse(list);
    for (const [index, { value }] of found.entries()) {
      if (value?.rev !== rows[index]?.rev) this.problems.push(`${ids[index]} is not listed`);
    }
  }

  async local(n: number): Promise<void> {
    const id = `_local/${n % 10}`;
    const known = this.locals.get(id);
    const _rev = known === undefined ? {} : { _rev: known };
    const { rev }: Written = JSON.parse(
      await this.sends('PUT', `/db/${id}`, { _id: id, ..._rev, n }),
    );
    this.locals.set(id, rev);
    const read: { n?: number } = JSON.parse(await this.sends('GET', `/db/${id}`));
    if (read.n !== n) this.problems.push(`${id} reads ${read.n}, not ${n}`);
  }

  async purge(id: string): Promise<void> {
    const written: Written = JSON.parse(await this.sends('PUT', `/db/${id}`, {}));
    const { purged }: { purged: { [id: string]: string[] } } = JSON.parse(
      await this.sends('POST', '/db/_purge', { [id]: [written.rev] }),
    );
    if (purged[id]?.[0] !== written.rev) this.problems.push(`${id} was not purged`);
    this.purged.add(id);
  }

  /** Copies over itself would be conflicts: each copy is another document. */
  async copy(from: string, to: string): Promise<void> {
    const reply = await this.server.call('COPY', `/db/${from}`, { headers: { Destination: to } });
    if (reply.status !== 201) this.problems.push(`COPY: ${reply.text}`);
    const { rev }: Written = JSON.parse(reply.text);
    this.revs.set(to, rev);
  }

  async settings(n: number): Promise<void> {
    const security = { admins: { names: [`admin ${n}`], roles: [] } };
    await this.sends('PUT', '/db/_security', security);
    const text = await this.sends('GET', '/db/_security');
    if (!text.includes(`admin ${n}"`)) this.problems.push(`security ${n} reads ${text}`);
  }

  /** Every list is in order and holds every document once. */
  async list(): Promise<void> {
    const before = [...this.revs.keys()].sort();
    const { rows }: { rows: Row[] } = JSON.parse(await this.sends('GET', '/db/_all_docs'));
    const ids = rows.map(({ id }) => id);
    const isInOrder = ids.every((id, at) => at === 0 || (ids[at - 1] ?? '') < id);
    if (!isInOrder) this.problems.push('a list is out of order');
    const found = new Set(ids);
    for (const id of before) if (!found.has(id)) this.problems.push(`${id} is not listed`);
  }

  /** What is there now is what was acknowledged, each once. */
  async check(t: Test): Promise<void> {
    t.same(this.problems.slice(0, 5), []);
    const expected = [...this.revs].sort(([a], [b]) => (a < b ? -1 : 1));
    const { rows }: { rows: Row[] } = JSON.parse(await this.sends('GET', '/db/_all_docs'));
    t.same(
      rows.map(({ id, value }) => [id, value.rev]),
      expected,
    );
    const feed = await this.sends('GET', '/db/_changes?style=all_docs');
    const { results }: { results: Change[] } = JSON.parse(feed);
    const changes = results.map(({ id, changes }) => [id, changes.map(({ rev }) => rev).join()]);
    t.same(
      changes.sort(([a = ''], [b = '']) => (a < b ? -1 : 1)),
      expected,
    );
    const info: { doc_count: number; cluster: { q: number } } = JSON.parse(
      await this.sends('GET', '/db'),
    );
    const { shards } = this.server.server.services.catalog.get('db');
    t.same([info.doc_count, info.cluster.q], [expected.length, shards.length]);
  }
}

t.test('clients of all kinds notice nothing', async (t) => {
  const { server, mover } = await start(t, 2);
  const ledger = new Ledger(server);
  await ledger.put('copied');
  const clients = [
    ...[0, 1, 2].map((c) => ledger.loop((n) => ledger.put(`put-${c}-${n % 40}`))),
    ...[0, 1].map((c) =>
      ledger.loop((n) =>
        ledger.bulk(Array.from({ length: 30 }, (_, at) => `bulk-${c}-${n}-${at}`)),
      ),
    ),
    ledger.loop((n) => ledger.local(n)),
    ledger.loop((n) => ledger.purge(`purge-${n}`)),
    ledger.loop((n) => ledger.copy('copied', `copy-${n}`)),
    ledger.loop((n) => ledger.settings(n)),
    ledger.loop(() => ledger.list()),
  ];
  await wait(100);
  const moves = [
    () => mover.split(0, 2),
    () => mover.split(1, 3),
    () => mover.merge(0, 2),
    () => mover.split(mover.count - 1, 2),
    () => mover.merge(0, mover.count),
    () => mover.split(0, 4),
  ];
  for (const move of moves) {
    await move();
    await wait(100);
  }
  ledger.isOver = true;
  await Promise.all(clients);
  await ledger.check(t);
  const { shards } = JSON.parse(await ledger.sends('GET', '/db/_shards'));
  t.equal(Object.keys(shards).length, 4);
  await server.close();
  const again = await TestServer.open(t, { dataDir: server.dataDir, settings: SETTINGS });
  Object.assign(ledger, { server: again });
  await ledger.check(t);
});

t.test('what waits at the gate is written to the new shards', async (t) => {
  const { server, mover } = await start(t, 1);
  const ledger = new Ledger(server);
  await ledger.put('copied');
  for (const move of ['split', 'split again', 'merge'] as const) {
    const sent: Promise<void>[] = [];
    const atGate = async () => {
      sent.push(
        ledger.put(`${move}-put`),
        ledger.put('copied'),
        ledger.bulk(Array.from({ length: 1200 }, (_, n) => `${move}-${n}`)),
        ledger.local(7),
        ledger.purge(`${move}-purged`),
        ledger.settings(1),
      );
      await wait(300);
    };
    if (move === 'merge') await mover.merge(0, mover.count, { atGate });
    else await mover.split(0, 3, { atGate });
    await Promise.all(sent);
  }
  await ledger.check(t);
  const { body } = await server.get('/db/merge-3/a');
  t.equal(body, 'bytes of merge-3');
});

/** Bytes that come in pieces, the last ones when `open` is called. */
function slowBody(pieces: readonly Uint8Array[], last: Uint8Array) {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  async function* body() {
    for (const piece of pieces) yield piece;
    await opened;
    yield last;
  }
  return { body: body(), open };
}

t.test('an upload goes on while its shard is split twice and merged', async (t) => {
  const { server, mover } = await start(t, 1);
  const { database } = mover;
  const id = Buffer.from('uploaded');
  const piece = Buffer.alloc(300_000, 'piece');
  const last = Buffer.from('the end');
  const { body, open } = slowBody([piece, piece], last);
  let begun = 0;
  const uploading = database.putUploaded(id, async (store) => {
    begun++;
    const content = await store({ chunks: body, bytesMax: 1e9 });
    const attachments = new Map([['a', { contentType: 'x/y', revpos: undefined, content }]]);
    return { id, body: Buffer.from('{}'), deleted: false, parent: undefined, attachments };
  });
  await wait(50);
  const [first] = database.shards;
  await mover.split(0, 2, { removes: false });
  await mover.split(database.current.indexOf(id), 2);
  await mover.merge(0, mover.count);
  let isClosed = false;
  const closed = server.server.services.pool.retire(first?.slot.path ?? '').then(() => {
    isClosed = true;
  });
  await wait(20);
  t.equal(isClosed, false, 'its bytes are in the first file');
  open();
  await uploading;
  await closed;
  t.equal(begun, 1);
  const response = await server.fetch('GET', '/db/uploaded/a');
  const expected = Buffer.concat([piece, piece, last]);
  const found = Buffer.from(await response.arrayBuffer());
  t.equal(sumOf(found), sumOf(expected));
});

function sumOf(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}
