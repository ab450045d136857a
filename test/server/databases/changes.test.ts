// Goal: readers of changes that stop anywhere neither miss nor repeat one, whatever becomes of the shard files between. Method: random
// writes, splits, merges, compactions and flushes of real shards in memory; readers go on from their tokens, and what they were given
// is compared with what is there.
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { readSeq } from '../../../engine/file/byte-reader.js';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import { compact } from '../../../engine/rewrite/compact.js';
import { merge } from '../../../engine/rewrite/merge.js';
import { split } from '../../../engine/rewrite/split.js';
import { evenRanges, FULL_RANGE, formatRange } from '../../../engine/shard/hash.js';
import { formatRev, type Revision } from '../../../engine/shard/revision.js';
import { readRow } from '../../../engine/shard/seq-tree.js';
import { DesignFilter, IdFilter } from '../../../server/databases/change-filter.js';
import { Changes, type ChangesOptions } from '../../../server/databases/changes.js';
import { Database } from '../../../server/databases/database.js';
import type { ShardPlace } from '../../../server/databases/shard-map.js';
import { ShardPool } from '../../../server/databases/shard-pool.js';
import { parseSince } from '../../../server/databases/since-token.js';
import { NodeRecords } from '../../../server/node-records.js';
import type { ServerWorld } from '../../../server/world.js';
import { HastyHost } from '../../support/hasty-host.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';

const DATA = '/data';
const HISTORIES = 12;
const STEPS = 120;

/** A database whose files are rewritten while it is closed. */
class Files {
  readonly world: ServerWorld;
  readonly #records: NodeRecords;
  readonly random: () => number;
  places: readonly ShardPlace[] = [];
  /** Of each document its revision. */
  readonly revs = new Map<string, Revision>();
  database: Database;
  #pool: ShardPool;
  #generation = 0;

  private constructor(seed: number, world: ServerWorld, records: NodeRecords) {
    this.random = seededRandom(seed);
    this.world = world;
    this.#records = records;
    this.#pool = this.#newPool();
    this.database = this.#open();
  }

  static async make(seed: number): Promise<Files> {
    const host = Object.assign(new HastyHost(seed), { timeOfDay: () => 0 });
    const world = { storage: new MemoryStorage(), host };
    await world.storage.makeDirectory(DATA);
    return new Files(seed, world, await NodeRecords.open(world, DATA));
  }

  async create(q: number): Promise<void> {
    await this.world.storage.makeDirectory(join(DATA, 'shards'));
    this.places = evenRanges(FULL_RANGE, q).map((range) => ({ range, file: this.#file(range) }));
    for (const { range, file } of this.places) {
      await this.world.storage.makeDirectory(join(DATA, 'shards', formatRange(range)));
      await this.#pool.create(join(DATA, file), { range });
    }
    this.database = this.#open();
  }

  async step(): Promise<void> {
    const dice = this.random();
    const index = randomInt(this.random, this.places.length);
    if (dice < 0.05) await this.#split(index, 2 + randomInt(this.random, 2));
    else if (dice < 0.1) await this.#merge(index, 2 + randomInt(this.random, 2));
    else if (dice < 0.13) await this.#compact(index);
    else if (dice < 0.2) await this.#flush(index);
    else for (let n = randomInt(this.random, 6); n >= 0; n--) await this.write();
  }

  async write(id = `document ${randomInt(this.random, 40)}`): Promise<void> {
    const parent = this.revs.get(id);
    const body = Buffer.from(`{"r":${this.random()}}`);
    const { rev } = await this.database.put({
      ...{ id: Buffer.from(id), body, parent },
      deleted: this.random() < 0.1,
    });
    this.revs.set(id, rev);
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  #newPool(): ShardPool {
    return new ShardPool(this.world, { openMax: 100, idleMs: 1e9, nodeBytes: 300 });
  }

  #open(): Database {
    const parts = { pool: this.#pool, records: this.#records, dataDir: DATA };
    return new Database(this.world, parts, {
      ...{ name: 'db', incarnation: 'i', state: 'live', epoch: 1, copies: 1, timestamp: 1 },
      ...{ hashRule: 'document', shards: this.places },
    });
  }

  #file(range: ShardPlace['range'], generation = this.#generation): string {
    return `shards/${formatRange(range)}/db.${generation}.divan`;
  }

  async #rewritten(work: () => Promise<void>): Promise<void> {
    await this.#pool.close();
    await work();
    this.#pool = this.#newPool();
    this.database = this.#open();
  }

  async #split(index: number, parts: number): Promise<void> {
    const source = this.places[index];
    if (source === undefined || this.places.length > 8) return;
    await this.#rewritten(async () => {
      const out = join(DATA, 'shards');
      await split(this.world, join(DATA, source.file), { out, into: { parts }, workers: 0 });
      const name = source.file.split('/').at(-1);
      const children = evenRanges(source.range, parts).map((range) => ({
        range,
        file: `shards/${formatRange(range)}/${name}`,
      }));
      this.places = this.places.toSpliced(index, 1, ...children);
    });
  }

  async #merge(index: number, count: number): Promise<void> {
    const sources = this.places.slice(index, index + count);
    const [first] = sources;
    const last = sources.at(-1);
    if (first === undefined || last === undefined || sources.length < 2) return;
    await this.#rewritten(async () => {
      this.#generation++;
      const range = { start: first.range.start, end: last.range.end };
      const file = this.#file(range);
      await this.world.storage.makeDirectory(join(DATA, 'shards', formatRange(range)));
      const paths = sources.map((source) => join(DATA, source.file));
      await merge(this.world, paths, { out: join(DATA, file), workers: 0 });
      this.places = this.places.toSpliced(index, sources.length, { range, file });
    });
  }

  async #compact(index: number): Promise<void> {
    const file = this.places[index]?.file ?? '';
    await this.#rewritten(async () => {
      await compact(this.world, join(DATA, file), { workers: 0 });
    });
  }

  async #flush(index: number): Promise<void> {
    await this.database.shards[index]?.slot.write((shard) => shard.flush());
  }
}

/** A client that goes on from the token that it had last. */
class Reader {
  token = '0';
  readonly seen = new Map<string, string>();
  readonly problems: string[] = [];
  readonly #files: Files;

  constructor(files: Files) {
    this.#files = files;
  }

  /** Reads at most so many rows; true if it read all there were. */
  async read(rowsMax: number, more: Partial<ChangesOptions> = {}): Promise<boolean> {
    const since = parseSince(this.token);
    const options = { since, descending: false, ends: true, filter: undefined, ...more };
    const changes = new Changes(this.#files.database, options);
    return changes.read(async (reading) => {
      let left = rowsMax;
      for await (const run of reading.runs()) {
        for (const row of run.rows) {
          if (left-- === 0) return false;
          const { id, leaves } = readRow(row.value);
          this.#take(Buffer.from(id).toString(), leaves[0]?.revision);
          const seq = readSeq(row.key, 0);
          this.token = changes.position.tokenAt(run.index, seq);
          reading.take(run, seq);
          if (changes.position.token() !== this.token) this.problems.push('another token');
        }
        reading.take(run);
      }
      this.token = changes.position.token();
      if ((await reading.pending()) !== 0) this.problems.push('something is left');
      return true;
    });
  }

  #take(id: string, revision: Revision | undefined): void {
    const rev = revision === undefined ? '' : formatRev(revision);
    if (this.seen.get(id) === rev) this.problems.push(`${id} was repeated`);
    this.seen.set(id, rev);
  }

  /** What is not as it should be once everything was read. */
  missing(isWanted: (id: string) => boolean = () => true): string[] {
    return [...this.#files.revs].flatMap(([id, rev]) =>
      isWanted(id) && this.seen.get(id) !== formatRev(rev) ? [id] : [],
    );
  }
}

t.test('readers miss and repeat nothing, whatever becomes of the files', async (t) => {
  const seed = seedOf(t);
  for (let n = 0; n < HISTORIES; n++) {
    const files = await Files.make(seed + n);
    const { random } = files;
    await files.create(1 + randomInt(random, 3));
    const readers = Array.from({ length: 3 }, () => new Reader(files));
    for (let step = 0; step < STEPS; step++) {
      await files.step();
      for (const reader of readers) {
        if (random() > 0.15) continue;
        if (await reader.read(randomInt(random, 15))) {
          reader.problems.push(...reader.missing().map((id) => `${id} is missing`));
        }
        if (reader.problems.length === 0) continue;
        t.fail(`history ${n}, step ${step}: ${reader.problems}`);
        return;
      }
      if (step % 10 === 0) await countsAreRight(t, files);
    }
    for (const reader of readers) {
      while (!(await reader.read(7)));
      t.same([reader.missing(), reader.problems], [[], []]);
    }
    await files.close();
  }
});

/** Counts of what comes after a seq, which come from totals, are those of what is read. */
async function countsAreRight(t: Test, { database, random }: Files): Promise<void> {
  await database.readAll(async (snapshots) => {
    for (const snapshot of snapshots) {
      const since = randomInt(random, snapshot.counters.updateSeq + 2);
      let count = 0;
      for await (const _ of snapshot.changes({ since })) count++;
      const counted = await snapshot.changesAfter(since);
      if (counted !== count) t.fail(`${counted} changes after ${since}, not ${count}`);
    }
  });
}

t.test('changes are counted while a flush goes on', async (t) => {
  const files = await Files.make(seedOf(t));
  await files.create(1);
  for (let round = 0; round < 30; round++) {
    for (let n = 0; n < 20; n++) await files.write();
    const flushing = files.database.shards[0]?.slot.write((shard) => shard.flush());
    for (let n = 0; n < 10; n++) {
      await files.write();
      await countsAreRight(t, files);
    }
    await flushing;
  }
  await files.close();
});

t.test('filters give the same whether documents are looked up or all rows are read', async (t) => {
  const files = await Files.make(seedOf(t));
  await files.create(2);
  const ids = ['document 1', 'document 7', 'missing'];
  const few = new IdFilter(ids);
  const scan = { passes: few.passes.bind(few), fewIds: async () => undefined };
  const readers = [new Reader(files), new Reader(files), new Reader(files)];
  const filters = [few, scan, new DesignFilter()];
  for (let step = 0; step < 60; step++) {
    for (let n = 0; n < 40; n++) await files.write();
    await files.write(`_design/${step % 7}`);
    for (const [index, reader] of readers.entries())
      await reader.read(1e9, { filter: filters[index] });
    const [first, second, third] = readers;
    t.same(first?.token, second?.token);
    t.same([...(first?.seen ?? [])].sort(), [...(second?.seen ?? [])].sort());
    t.same(
      first?.missing((id) => ids.includes(id)),
      [],
    );
    t.same(
      third?.missing((id) => id.startsWith('_')),
      [],
    );
  }
  for (const reader of readers) t.same(reader.problems, []);
  await files.close();
});

t.test(
  'what ends does so with what there was at its beginning, and goes on where it was left',
  async (t) => {
    const files = await Files.make(seedOf(t));
    await files.create(2);
    for (let n = 0; n < 30; n++) await files.write(`early ${n}`);
    const options = { since: parseSince('0'), filter: undefined, ends: true };
    for (const descending of [false, true]) {
      const changes = new Changes(files.database, { ...options, descending });
      const found: string[] = [];
      for (let isLeft = true; isLeft; ) {
        await files.write(`late ${found.length} ${descending}`);
        isLeft = await changes.read(async (reading) => {
          for await (const run of reading.runs()) {
            for (const row of run.rows) {
              found.push(Buffer.from(readRow(row.value).id).toString());
              reading.take(run, readSeq(row.key, 0));
              if (found.length % 4 === 0) return true;
            }
            reading.take(run);
          }
          return false;
        });
      }
      const late = found.filter((id) => id.startsWith('late'));
      t.equal(found.filter((id) => id.startsWith('early')).length, 30);
      t.equal(new Set(found).size, found.length);
      t.notMatch(late, [`late 4 ${descending}`]);
    }
    await files.close();
  },
);
