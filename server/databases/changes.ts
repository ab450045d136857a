/**
 * The changes of a database, read shard by shard from where a since token says.
 *
 * Nothing is held between two reads but a position: no snapshot and no open shard. A reader that is woken reads the shards in which
 * something changed, from where it was in each.
 */
import assert from 'node:assert';
import type { Entry } from '../../engine/btree/tree.js';
import { DivanError } from '../../engine/errors.js';
import { readSeq } from '../../engine/file/byte-reader.js';
import { readU32 } from '../../engine/file/bytes.js';
import { seqKey } from '../../engine/shard/seq-tree.js';
import { changesKeys, type Snapshot } from '../../engine/shard/snapshot.js';
import { ChangeEnds } from './change-ends.js';
import type { ChangeFilter } from './change-filter.js';
import type { Database } from './database.js';
import { readTogether, type ShardSet } from './shard-set.js';
import type { ShardSlot } from './shard-slot.js';
import { NOTHING_SEEN, Position, type SeenSeqs, type TokenShard } from './since-token.js';

/** A shard is read for so many rows before it is the turn of the next one. */
const TURN_ROWS = 2000;

/** Rows of one shard, as they were read. */
export interface ChangeRun {
  /** Of the shard. */
  readonly index: number;
  readonly snapshot: Snapshot;
  /** Entries of by-seq that were not seen before and pass the filter, in the order of reading. */
  readonly rows: readonly Entry[];
  /** How many rows were read for these. */
  readonly read: number;
  /** With these rows all of the shard up to this seq are read; with `descending`, all down to it. */
  readonly seq: number;
}

export interface ChangesOptions {
  readonly since: SeenSeqs | 'now';
  readonly descending: boolean;
  /** Ends with what there was when the reading began, however often it is interrupted. */
  readonly ends: boolean;
  readonly filter: ChangeFilter | undefined;
}

/** How far the reading of a shard is. */
interface Bounds {
  readonly since: number;
  readonly until: number;
}

/** One reader. */
export class Changes {
  readonly #database: Database;
  readonly #options: ChangesOptions;
  /** The shards of the database when it was read last. */
  #current: ShardSet | undefined;
  /** The same as they were read; without their snapshots. */
  #shards: readonly TokenShard[] = [];
  #position: Position | undefined;
  #ends: ChangeEnds | undefined;

  constructor(database: Database, options: ChangesOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** How far the reader is. Only whoever takes rows moves it. REQUIRES: something was read. */
  get position(): Position {
    assert(this.#position !== undefined, 'something was read');
    return this.#position;
  }

  /**
   * Calls `work` with what there is to read now of some shards, by default of all, which stays readable until its promise settles. What
   * of it is not taken is given again by the next read. The first read is of all, and so is the one after other shards took the place of
   * some. Throws `NOT_FOUND` if the database is gone, and what reading throws.
   */
  read<T>(
    work: (reading: ChangesReading) => Promise<T>,
    changed?: readonly ShardSlot[],
  ): Promise<T> {
    const { current } = this.#database;
    const isAll = changed === undefined || current !== this.#current;
    const indexes = [...current.shards.keys()].filter(
      (index) => isAll || changed.some((slot) => slot === current.shards[index]?.slot),
    );
    const slots = indexes.flatMap((index) => current.shards[index]?.slot ?? []);
    return readTogether(slots, (list) => {
      const snapshots = new Map(
        list.map((snapshot, at): [number, Snapshot] => [indexes[at] ?? 0, snapshot]),
      );
      this.#place(current, snapshots);
      const bounds = new Map([...snapshots].map((of) => [of[0], this.#boundsOf(of)]));
      const { position } = this;
      return work(new ChangesReading(position, this.#options, snapshots, bounds, this.#ends));
    });
  }

  /** Brings the position to the shards as they are now. */
  #place(current: ShardSet, snapshots: ReadonlyMap<number, Snapshot>): void {
    const shards = current.shards.map((_, index): TokenShard => {
      const shard = snapshots.get(index) ?? this.#shards[index];
      assert(shard !== undefined, 'the first read is of all shards');
      // Not the snapshot, which would keep alive what nobody reads any more.
      return { metadata: shard.metadata, counters: shard.counters };
    });
    if (this.#position === undefined) this.#begin(shards);
    else {
      this.#position = new Position(this.#position.seen(), shards);
      if (current !== this.#current) this.#ends = this.#ends?.in(shards);
    }
    this.#current = current;
    this.#shards = shards;
  }

  #begin(shards: readonly TokenShard[]): void {
    const { since, descending, ends } = this.#options;
    const isAtEnd = since === 'now' || descending;
    const position = new Position(isAtEnd ? NOTHING_SEEN : since, shards);
    if (isAtEnd) {
      for (const [index, { counters }] of shards.entries())
        position.move(index, counters.updateSeq);
    }
    this.#position = position;
    if (ends || descending) this.#ends = ChangeEnds.of(shards);
  }

  #boundsOf([index, snapshot]: readonly [number, Snapshot]): Bounds {
    const until = this.#ends?.last(index) ?? snapshot.counters.updateSeq;
    return { since: this.#options.descending ? 0 : this.position.seqOf(index), until };
  }
}

/** What there is to read at one time. */
export class ChangesReading {
  readonly #position: Position;
  readonly #options: ChangesOptions;
  readonly #snapshots: ReadonlyMap<number, Snapshot>;
  readonly #bounds: ReadonlyMap<number, Bounds>;
  readonly #ends: ChangeEnds | undefined;

  constructor(
    position: Position,
    options: ChangesOptions,
    snapshots: ReadonlyMap<number, Snapshot>,
    bounds: ReadonlyMap<number, Bounds>,
    ends: ChangeEnds | undefined,
  ) {
    this.#position = position;
    this.#options = options;
    this.#snapshots = snapshots;
    this.#bounds = bounds;
    this.#ends = ends;
  }

  /** The rows, some of each shard in turn, so that none has to wait until another one is read to its end. */
  async *runs(): AsyncGenerator<ChangeRun> {
    const readers = [...this.#snapshots].map(([index, snapshot]) => this.#runsOf(index, snapshot));
    try {
      while (readers.length > 0) {
        for (const reader of [...readers]) {
          let isLast = false;
          for (let rows = 0; rows < TURN_ROWS && !isLast; ) {
            const next = await reader.next();
            isLast = next.done === true;
            if (next.done === true) break;
            rows += next.value.read;
            yield next.value;
          }
          if (isLast) readers.splice(readers.indexOf(reader), 1);
        }
      }
    } finally {
      for (const reader of readers) await reader.return(undefined);
    }
  }

  /** Says that the rows of a run were taken, or those up to one of them. */
  take(run: ChangeRun, seq = run.seq): void {
    if (this.#options.descending) {
      this.#ends?.lower(run.index, seq);
      // The last one is done when its turn comes again: its token must not be that of nothing.
      if (seq === 0) return;
    }
    this.#position.move(run.index, seq);
  }

  /** How many rows are left to read. */
  async pending(): Promise<number> {
    let pending = 0;
    for (const [index, snapshot] of this.#snapshots) {
      const { descending } = this.#options;
      const { liveDocs, deletedDocs } = snapshot.counters;
      const end = Math.max(0, this.#ends?.last(index) ?? 0);
      const seq = descending ? end : this.#position.seqOf(index);
      const after = await snapshot.changesAfter(seq);
      pending += descending ? liveDocs + deletedDocs - after : after;
    }
    return pending;
  }

  async *#runsOf(index: number, snapshot: Snapshot): AsyncGenerator<ChangeRun> {
    const bounds = this.#bounds.get(index);
    if (bounds === undefined || bounds.since >= bounds.until) return;
    const { filter, descending } = this.#options;
    const end = descending ? 0 : bounds.until;
    const ids = await filter?.fewIds(snapshot, bounds.until - bounds.since);
    if (ids !== undefined) {
      const rows = await this.#rowsOf(snapshot, ids, bounds);
      yield { index, snapshot, rows: this.#unseen(index, rows), read: ids.length, seq: end };
      return;
    }
    const keys = changesKeys({ ...bounds, reverse: descending });
    for await (const batch of snapshot.entryBatches('bySeq', keys)) {
      const unseen = this.#unseen(index, batch);
      const rows =
        filter === undefined ? unseen : unseen.filter(({ value }) => filter.passes(value));
      const last = batch.at(-1);
      if (last === undefined) continue;
      yield { index, snapshot, rows, read: batch.length, seq: readSeq(last.key, 0) };
    }
    yield { index, snapshot, rows: [], read: 0, seq: end };
  }

  /** The rows of some documents, in the order of reading. */
  async #rowsOf(
    snapshot: Snapshot,
    ids: readonly Uint8Array[],
    { since, until }: Bounds,
  ): Promise<Entry[]> {
    const rows: Entry[] = [];
    for (const id of ids) {
      const stored = await snapshot.stored(id);
      if (stored === undefined || stored.seq <= since || stored.seq > until) continue;
      const key = seqKey(stored.seq);
      const value = await snapshot.value('bySeq', key);
      if (value === undefined) throw new DivanError('CORRUPT', 'by-seq lacks a document');
      rows.push({ key, value });
    }
    const sign = this.#options.descending ? -1 : 1;
    return rows.sort((a, b) => sign * (readSeq(a.key, 0) - readSeq(b.key, 0)));
  }

  #unseen(index: number, rows: readonly Entry[]): readonly Entry[] {
    if (this.#options.descending) {
      const ends = this.#ends;
      return rows.filter(
        ({ key, value }) => ends?.isWithin(index, readSeq(key, 0), readU32(value, 0)) === true,
      );
    }
    const coverage = this.#position.coverage(index);
    const [first] = rows;
    if (first === undefined || readSeq(first.key, 0) > coverage.to) return rows;
    return rows.filter(({ key, value }) => !coverage.isSeen(readSeq(key, 0), readU32(value, 0)));
  }
}
