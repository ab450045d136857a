/**
 * Goal: feeds of changes of every mode go on while shards are split, split again and merged, and neither skip nor repeat a row. Method: documents
 * that are written once each; readers over HTTP, and readers of `Changes` that are interrupted after a few rows, with moves in between.
 */
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { readSeq } from '../../../engine/file/byte-reader.js';
import { readRow } from '../../../engine/shard/seq-tree.js';
import { DesignFilter } from '../../../server/databases/change-filter.js';
import { Changes, type ChangesOptions } from '../../../server/databases/changes.js';
import type { Database } from '../../../server/databases/database.js';
import type { ShardSlot } from '../../../server/databases/shard-slot.js';
import { NOTHING_SEEN } from '../../../server/databases/since-token.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';
import { TestServer } from '../../support/server.js';
import { ShardMover } from '../../support/shard-mover.js';

interface Feed {
  readonly results: readonly { readonly id: string }[];
  readonly last_seq: string;
}

async function start(t: Test, q: number) {
  const settings = { 'compaction/dead_percent': '0' };
  const server = await TestServer.open(t, { settings });
  await server.put(`/db?q=${q}`);
  return { server, mover: new ShardMover(server, 'db') };
}

async function write(database: Database, ids: readonly string[]): Promise<void> {
  const body = Buffer.from('{}');
  const outcomes = await database.update(
    ids.map((id) => ({ id: Buffer.from(id), body, deleted: false, parent: undefined })),
  );
  if (outcomes.some(({ ok }) => !ok)) throw new Error('a write was refused');
}

/** Reads lines of a reply into `ids` until the client leaves. */
async function follow(server: TestServer, path: string, ids: string[], signal: AbortSignal) {
  try {
    const response = await server.fetch('GET', path, { signal });
    let text = '';
    for await (const chunk of response.body ?? []) {
      text += Buffer.from(chunk).toString();
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) {
        const id = /^(?:data: )?\{"seq":.*"id":"([^"]+)"/.exec(line)?.[1];
        if (id !== undefined) ids.push(id);
        if (line.includes('last_seq')) ids.push(`ended: ${line}`);
      }
    }
    ids.push('the feed ended');
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Asks again and again from where the last reply ended. */
async function poll(
  server: TestServer,
  query: string,
  ids: string[],
  since: string,
  signal: AbortSignal,
) {
  let last = since;
  while (!signal.aborted) {
    const path = `/db/_changes?${query}&since=${encodeURIComponent(last)}`;
    const { text, status } = await server.get(path);
    if (status !== 200) throw new Error(text);
    const { results, last_seq }: Feed = JSON.parse(text);
    ids.push(...results.map(({ id }) => id));
    last = last_seq;
    if (results.length === 0) await wait(10);
  }
}

t.test('feeds of all modes', async (t) => {
  const { server, mover } = await start(t, 2);
  const { database } = mover;
  const all: string[] = [];
  const writeSome = async () => {
    const ids = Array.from({ length: 40 }, (_, n) => `doc-${all.length + n}`);
    all.push(...ids);
    await write(database, ids);
  };
  for (let n = 0; n < 20; n++) await writeSome();
  const early = all.length;
  const end = new AbortController();
  const { signal } = end;
  const feeds = new Map<string, string[]>();
  const idsOf = (name: string): string[] => {
    const ids: string[] = [];
    feeds.set(name, ids);
    return ids;
  };
  const running = [
    ...['feed=continuous&since=0', 'feed=continuous&since=now', 'feed=eventsource&since=0'].map(
      (query) => follow(server, `/db/_changes?${query}&heartbeat=50`, idsOf(query), signal),
    ),
    ...[
      'feed=longpoll&timeout=50',
      'feed=longpoll&limit=7&timeout=50',
      'limit=13',
      'limit=1000',
    ].map((query) => poll(server, query, idsOf(query), '0', signal)),
  ];
  await wait(100);
  let isOver = false;
  const writing = (async () => {
    while (!isOver) {
      await writeSome();
      await wait(5);
    }
  })();
  await mover.split(0, 2);
  await wait(50);
  await mover.split(0, 3);
  await mover.merge(1, 3);
  await wait(50);
  await mover.merge(0, mover.count);
  await mover.split(0, 2);
  isOver = true;
  await writing;
  for (const [query, ids] of feeds) {
    const expected = query.endsWith('now') ? all.slice(early) : all;
    for (let n = 0; n < 600 && ids.length < expected.length; n++) await wait(10);
  }
  await wait(50);
  end.abort();
  await Promise.all(running);
  for (const [query, ids] of feeds) {
    const expected = query.endsWith('now') ? all.slice(early) : all;
    t.equal(ids.length, expected.length, query);
    t.same(ids.sort(), [...expected].sort(), query);
  }
});

/** A reader that is interrupted after some rows, and what it was given. */
class Reader {
  readonly ids: string[] = [];
  isDone = false;
  readonly #changes: Changes;

  constructor(database: Database, options: Partial<ChangesOptions>) {
    const defaults = { since: NOTHING_SEEN, descending: false, ends: true, filter: undefined };
    this.#changes = new Changes(database, { ...defaults, ...options });
  }

  get token(): string {
    return this.#changes.position.token();
  }

  async read(rowsMax: number, changed?: readonly ShardSlot[]): Promise<void> {
    this.isDone = await this.#changes.read(async (reading) => {
      let left = rowsMax;
      for await (const run of reading.runs()) {
        for (const row of run.rows) {
          if (left-- === 0) return false;
          this.ids.push(Buffer.from(readRow(row.value).id).toString());
          reading.take(run, readSeq(row.key, 0));
        }
        reading.take(run);
      }
      return true;
    }, changed);
  }
}

interface Kind {
  readonly name: string;
  readonly options: Partial<ChangesOptions>;
  /** Whether the reader has to be given a document. */
  readonly isWanted: (id: string) => boolean;
  /** Whether it may be. */
  readonly mayCome: (id: string) => boolean;
}

const isEarly = (id: string) => !id.startsWith('late');
const always = () => true;

const KINDS: readonly Kind[] = [
  { name: 'all', options: { ends: false }, isWanted: always, mayCome: always },
  // After a merge it may be given a few of those that came after its beginning.
  { name: 'ends', options: {}, isWanted: isEarly, mayCome: always },
  { name: 'descending', options: { descending: true }, isWanted: isEarly, mayCome: isEarly },
  {
    ...{ name: 'now', options: { ends: false, since: 'now' } },
    ...{ isWanted: (id) => !isEarly(id), mayCome: (id) => !isEarly(id) },
  },
  {
    ...{ name: 'filtered', options: { ends: false, filter: new DesignFilter() } },
    ...{ isWanted: (id) => id.includes('_design'), mayCome: (id) => id.includes('_design') },
  },
];

t.test('readers that are interrupted anywhere', async (t) => {
  const random = seededRandom(seedOf(t));
  for (let history = 0; history < 6; history++) {
    const { mover } = await start(t, 1 + randomInt(random, 3));
    const { database } = mover;
    const all = Array.from({ length: 90 }, (_, n) => (n % 9 === 0 ? `_design/${n}` : `doc-${n}`));
    for (let n = 0; n < 90; n += 5) await write(database, all.slice(n, n + 5));
    const readers = KINDS.map((kind) => ({ kind, reader: new Reader(database, kind.options) }));
    for (const { reader } of readers) await reader.read(randomInt(random, 20));
    for (let step = 0; step < 7; step++) {
      const late = Array.from({ length: 9 }, (_, n) => `late-${step}-${n}`);
      all.push(...late);
      await write(database, late);
      const index = randomInt(random, mover.count);
      if (random() < 0.5 && mover.count < 6) await mover.split(index, 2);
      else if (index + 1 < mover.count) await mover.merge(index, 2);
      for (const { reader } of readers) {
        if (!reader.isDone || random() < 0.5) await reader.read(randomInt(random, 12));
      }
    }
    for (const { kind, reader } of readers) {
      await reader.read(1e9);
      const { ids } = reader;
      const what = `${kind.name}, history ${history}`;
      t.equal(new Set(ids).size, ids.length, `${what}: none is repeated`);
      t.same(
        all.filter((id) => kind.isWanted(id) && !ids.includes(id)),
        [],
        `${what}: none is skipped`,
      );
      t.same(
        ids.filter((id) => !kind.mayCome(id)),
        [],
      );
      t.match(reader.token, /^\d+-/);
    }
  }
});

t.test('a move between hearing of changes and reading them', async (t) => {
  const { mover } = await start(t, 2);
  const { database } = mover;
  const reader = new Reader(database, { ends: false });
  await reader.read(1e9);
  const ids = Array.from({ length: 40 }, (_, n) => `doc-${n}`);
  await write(database, ids);
  const changed = database.current.slots.slice(1);
  await mover.split(0, 2);
  await reader.read(1e9, changed);
  t.same(reader.ids.sort(), [...ids].sort());
  await write(database, ['one more']);
  await reader.read(1e9, [database.shardOf(Buffer.from('one more')).slot]);
  t.equal(reader.ids.at(-1), 'one more');
});
