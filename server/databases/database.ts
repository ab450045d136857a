/**
 * A database on this node, or its part of one: documents, placed on shards by the hash of their ids. Those of ranges that are not here are
 * refused with `MOVED`.
 *
 * Every read is of a snapshot of one shard; every write resolves when it is durable.
 */
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { StoredBytes } from '../../engine/shard/attachment-list.js';
import { type AttachmentSource, storeAttachment } from '../../engine/shard/attachment-upload.js';
import type { EditOutcome } from '../../engine/shard/document-writer.js';
import type { DocumentEdit } from '../../engine/shard/edit.js';
import { LOCAL_PREFIX } from '../../engine/shard/local-tree.js';
import type { LocalEdit } from '../../engine/shard/local-writer.js';
import type { PurgeRequest } from '../../engine/shard/purge-writer.js';
import type { Revision } from '../../engine/shard/revision.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { NodeRecords } from '../node-records.js';
import type { ServerWorld } from '../world.js';
import { SettingsWriter } from './database-settings.js';
import type { ShardMap } from './shard-map.js';
import type { ShardPool } from './shard-pool.js';
import { type DatabaseShard, readTogether, ShardSet } from './shard-set.js';
import { type DocumentWrite, ShardWriter, withRefused, withStored } from './shard-writer.js';
import { WriteQueue, type WriteRefused } from './write-queue.js';

/** Stores an attachment in the shard of a document. Throws `TOO_LARGE`, `BAD_REQUEST`, what the source throws. */
export type DatabaseUpload = (source: AttachmentSource) => Promise<StoredBytes>;

/** Has a say in every write of documents of a database, whichever way it comes. */
export interface WriteGuard {
  /** What is to be stored. Rejects with a `DivanError` for what may not be. */
  prepare(write: DocumentWrite): Promise<DocumentWrite>;
  /** Told of a document when its write is durable or has failed, before whoever wrote it. Must not throw. */
  written(id: Uint8Array): void;
}

export interface DatabaseParts {
  readonly pool: ShardPool;
  readonly records: NodeRecords;
  readonly dataDir: string;
  readonly guard?: WriteGuard | undefined;
}

export class Database {
  readonly world: ServerWorld;
  readonly settings: SettingsWriter;
  readonly #pool: ShardPool;
  readonly #dataDir: string;
  readonly #guard: WriteGuard | undefined;
  readonly #ended = new AbortController();
  /** What goes on in the background and must stop before the files go. */
  readonly #jobs = new Set<Promise<unknown>>();
  readonly #later = new WriteQueue((writes) => this.update(writes));
  readonly #writer = new ShardWriter(() => this.#current);
  readonly #moveListeners = new Set<() => void>();
  /** How many of its shards are about to go to another node. */
  #leaving = 0;
  #current: ShardSet;

  constructor(world: ServerWorld, parts: DatabaseParts, map: ShardMap) {
    const { pool, records, dataDir, guard } = parts;
    this.#pool = pool;
    this.#dataDir = dataDir;
    this.#guard = guard;
    this.world = world;
    // Any number of feeds listen to it.
    setMaxListeners(0, this.#ended.signal);
    this.#current = this.#setOf(map);
    this.settings = new SettingsWriter(records, map.name, () => this.#current.slots);
  }

  /** The shards as they are now. Whoever needs several of them takes this once. */
  get current(): ShardSet {
    return this.#current;
  }

  get map(): ShardMap {
    return this.#current.map;
  }

  /** In the order of their ranges. */
  get shards(): readonly DatabaseShard[] {
    return this.#current.shards;
  }

  get name(): string {
    return this.map.name;
  }

  /** True if all of it is here and stays so: who is served with it need not be ready to go to another node. */
  get isSettledHere(): boolean {
    return this.#leaving === 0 && this.#current.isWhole;
  }

  /** Says that a shard is about to go to another node, until the returned function is called. */
  beginLeaving(): () => void {
    this.#leaving++;
    return () => {
      this.#leaving--;
    };
  }

  /**
   * Of `Catalog`: goes on with the shards of a newer map, from now on. Those that it does not have any more are retired: who holds them reads
   * on, and writes that come too late for them are sent to the new ones. REQUIRES: those hold all that was acknowledged.
   */
  take(map: ShardMap): void {
    const before = this.#current;
    this.#current = this.#setOf(map);
    const kept = new Set(this.#current.slots);
    for (const slot of before.slots) if (!kept.has(slot)) void this.#pool.retire(slot.path);
    for (const listener of [...this.#moveListeners]) listener();
  }

  /** Calls `listener`, which must not throw, when other shards have taken the place of some. Returns what ends that. */
  onMove(listener: () => void): () => void {
    this.#moveListeners.add(listener);
    return () => this.#moveListeners.delete(listener);
  }

  #setOf(map: ShardMap): ShardSet {
    const shards = map.shards.map(({ range, file }) => ({
      range,
      slot: this.#pool.slot(join(this.#dataDir, ...file.split('/'))),
    }));
    return new ShardSet(map, shards);
  }

  /** True while one of its shards is being compacted, or is about to be. */
  get isCompacting(): boolean {
    return this.shards.some(({ slot }) => slot.compactions > 0);
  }

  /** Aborted when the database is deleted. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Stops what goes on in the background. Called when the database is deleted. */
  async end(): Promise<void> {
    this.#ended.abort();
    await Promise.allSettled(this.#jobs);
  }

  /** Runs something in the background that stops soon when `ended` is aborted. */
  run<T>(job: Promise<T>): Promise<T> {
    this.#jobs.add(job);
    const forget = () => this.#jobs.delete(job);
    job.then(forget, forget);
    return job;
  }

  /** The shard that a document belongs to; `id` in UTF-8. */
  shardOf(id: Uint8Array): DatabaseShard {
    return this.#current.of(id);
  }

  /** Calls `work` with a snapshot of the shard of a document, which stays readable until its promise settles. */
  async read<T>(id: Uint8Array, work: (snapshot: Snapshot) => Promise<T>): Promise<T> {
    this.#pool.documentReads++;
    return this.shardOf(id).slot.read((reader) => work(reader.snapshot()));
  }

  /** As `read`, for work that gives its results one by one. */
  async *readEach<T>(
    id: Uint8Array,
    work: (snapshot: Snapshot) => AsyncIterable<T>,
  ): AsyncGenerator<T, void> {
    this.#pool.documentReads++;
    // The shard is looked up when the first result is asked for, which holds it at once.
    yield* this.shardOf(id).slot.readEach((reader) => work(reader.snapshot()));
  }

  /**
   * Writes documents, each on its own, and resolves when they are durable. The outcomes are in the order of the writes; a shard that
   * fails refuses those that are its own. Rejects if all shards fail.
   */
  update(writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
    const guard = this.#guard;
    return guard === undefined ? this.#update(writes) : this.#guarded(guard, writes);
  }

  /** As `update`, of documents that were let in when they were written first, and come as they were stored then. */
  async updateStored(writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
    try {
      return await this.#update(writes);
    } finally {
      for (const { id } of writes) this.#guard?.written(id);
    }
  }

  async #guarded(guard: WriteGuard, writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
    const prepared: DocumentWrite[] = [];
    const refused = new Map<number, DivanError>();
    for (const [index, write] of writes.entries()) {
      try {
        prepared.push(await guard.prepare(write));
      } catch (error) {
        if (!isDivanError(error)) throw error;
        refused.set(index, error);
      }
    }
    try {
      return withRefused(await this.#update(prepared), refused, writes.length);
    } finally {
      for (const { id } of prepared) guard.written(id);
    }
  }

  #update(writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
    this.#pool.documentWrites += writes.length;
    return this.#writer.update(writes);
  }

  /** As `update` with one document, whose refusal it throws. */
  async put(write: DocumentWrite): Promise<{ readonly rev: Revision; readonly seq: number }> {
    if (this.#guard !== undefined) return this.#outcomeOf(await this.update([write]));
    this.#pool.documentWrites++;
    return this.#outcomeOf(await this.#writer.updateOne(write));
  }

  #outcomeOf([outcome]: readonly EditOutcome[]): { readonly rev: Revision; readonly seq: number } {
    if (outcome?.ok === true) return outcome;
    throw outcome?.error ?? new DivanError('FAILED', 'the shard did not answer');
  }

  /** Writes a document in the background; resolves when that is sure to be tried, unless the server dies before. */
  putLater(write: DocumentWrite, refused: WriteRefused): Promise<void> {
    return this.#later.add(write, refused);
  }

  /** Resolves when all that was to be written later is durable or refused. */
  flushLater(): Promise<void> {
    return this.#later.flush();
  }

  /**
   * As `put`, of a document whose attachments come as slowly as a client likes: `upload` stores them in the shard of the document and
   * then says what to write. It must end soon when `ending` is aborted. No other write waits for it.
   */
  async putUploaded(
    id: Uint8Array,
    upload: (store: DatabaseUpload, ending: AbortSignal) => Promise<DocumentWrite>,
  ): Promise<{ readonly rev: Revision; readonly seq: number }> {
    let edit: DocumentEdit | undefined;
    try {
      return await this.#writer.write(id, async (shard, ending) => {
        // What a client sends comes once; the shard that it went to may have been replaced when it is complete.
        if (edit === undefined) {
          this.#pool.documentWrites++;
          const uploaded = await upload((source) => storeAttachment(shard, source), ending);
          const write = (await this.#guard?.prepare(uploaded)) ?? uploaded;
          edit = await withStored(shard, write);
        }
        return shard.put(edit);
      });
    } finally {
      if (edit !== undefined) this.#guard?.written(id);
    }
  }

  /** Purges leaf revisions of a document and returns those that were there. Throws `LIMIT`, and what a write throws. */
  async purge(request: PurgeRequest): Promise<readonly Revision[]> {
    try {
      return await this.#writer.write(request.id, (shard) => shard.purge(request));
    } finally {
      this.#guard?.written(request.id);
    }
  }

  /** Writes or deletes a local doc; its id is without `_local/`. Returns the `N` of its new `0-N`. Throws `CONFLICT` or `LIMIT`. */
  putLocal(edit: LocalEdit): Promise<number> {
    return this.#writer.write(localId(edit.id), (shard) => shard.putLocal(edit));
  }

  /** The shard of a local doc: `_local/` counts. */
  localShardOf(id: Uint8Array): DatabaseShard {
    return this.shardOf(localId(id));
  }

  /** Snapshots of all shards, in the order in which `shards` has them, readable until the promise of `work` settles. */
  readAll<T>(work: (snapshots: readonly Snapshot[], shards: ShardSet) => Promise<T>): Promise<T> {
    const current = this.#current;
    return readTogether(current.slots, (snapshots) => work(snapshots, current));
  }
}

const LOCAL_PREFIX_BYTES = Buffer.from(LOCAL_PREFIX);

function localId(id: Uint8Array): Uint8Array {
  return Buffer.concat([LOCAL_PREFIX_BYTES, id]);
}
