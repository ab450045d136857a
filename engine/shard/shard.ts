/**
 * A shard that is open for writing: documents on their trees, in one append-only file.
 *
 * One `Shard` for a file at a time (its lock sees to that); any number of callers. Reading goes through snapshots, which see
 * only what is durable. Writes go through the commit queue. Lifecycle: open -> (failed) -> closed; a shard whose file
 * failed still reads, refuses writes with `FAILED`, and must be opened again.
 */

import { basename, dirname, join } from 'node:path';
import { NODE_BYTES_DEFAULT } from '../btree/node-run.js';
import { DivanError, isDivanError } from '../errors.js';
import { AppendFile, type CommitInput } from '../file/append-file.js';
import { RECORD_BYTES } from '../file/commit-record.js';
import { FILE_ID_BYTES, SALT_BYTES } from '../file/first-block.js';
import type { Host } from '../file/host.js';
import type { Storage } from '../file/storage.js';
import type { StoredBytes } from './attachment-list.js';
import { CacheSpace } from './cache-space.js';
import { CommitQueue, type CommitTarget } from './commit-queue.js';
import { EditBatch, type EditOutcome, inBatches } from './document-writer.js';
import type { DocumentEdit } from './edit.js';
import { CACHE_BYTES_DEFAULT, FileCache } from './file-cache.js';
import { flush } from './flush.js';
import { FULL_RANGE, type HashRule, type ShardRange } from './hash.js';
import { LiveState } from './live-state.js';
import { type LocalEdit, LocalWrite, LocalWrites } from './local-writer.js';
import { type MetadataEdit, MetadataWrite } from './metadata-writer.js';
import { loadState, type OpenedState } from './opening.js';
import { OverlaySet } from './overlay-set.js';
import { type PurgeRequest, PurgeWrite } from './purge-writer.js';
import type { Revision } from './revision.js';
import type { Snapshot } from './snapshot.js';
import {
  encodeState,
  type Metadata,
  PURGE_INFOS_LIMIT_DEFAULT,
  perTree,
  REVS_LIMIT_DEFAULT,
  type Seqs,
  UUID_BYTES,
  ZERO_COUNTERS,
} from './state.js';
import { storePieces } from './stored-pieces.js';

/** The world that a shard lives in. */
export interface ShardWorld {
  readonly storage: Storage;
  readonly host: Host;
}

export interface ShardOptions {
  /** Where tree nodes and small bodies are kept in memory; if it is left out, the shard has a space of its own. */
  readonly cache?: CacheSpace;
  /** The overlay is flushed when it holds so many bytes; meanwhile the next one grows to at most a quarter of that. */
  readonly overlayBytes?: number;
  /** Nodes of the trees have at most so many bytes. */
  readonly nodeBytes?: number;
}

export interface CreateOptions extends ShardOptions {
  readonly range?: ShardRange;
  readonly hashRule?: HashRule;
}

export const OVERLAY_BYTES_DEFAULT = 96 * 1024 * 1024;
/** A flush is also due when so many bytes of commits would have to be replayed. */
const REPLAY_BYTES_MAX = 256 * 1024 * 1024;
/** A seal is written when nothing was committed for so long. */
const SEAL_AFTER_MS = 1000;

export class Shard implements CommitTarget {
  readonly #world: ShardWorld;
  readonly #options: ShardOptions;
  readonly #overlayBytes: number;
  readonly #nodeBytes: number;
  readonly #queue: CommitQueue;
  readonly #context: LiveState;
  #flushing: Promise<void> | undefined;
  /** Bytes of the commits since the last flush began. */
  #unflushedBytes = 0;
  #cancelSeal: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #handedOver = false;
  readonly #listeners = new Set<() => void>();
  readonly #stopBeforeClosing = new Set<() => Promise<void>>();

  private constructor(
    world: ShardWorld,
    file: AppendFile,
    options: ShardOptions,
    opened: OpenedState,
  ) {
    this.#world = world;
    this.#options = options;
    this.#overlayBytes = options.overlayBytes ?? OVERLAY_BYTES_DEFAULT;
    this.#nodeBytes = options.nodeBytes ?? NODE_BYTES_DEFAULT;
    const space = options.cache ?? new CacheSpace(CACHE_BYTES_DEFAULT);
    this.#context = new LiveState(file, new FileCache(space, (ref) => file.read(ref)), opened);
    this.#queue = new CommitQueue(this);
  }

  /** Makes a new shard file. Throws `EXISTS`, `NOT_FOUND` (no such directory), `IO` or `NO_SPACE`. */
  static async create(
    world: ShardWorld,
    path: string,
    options: CreateOptions = {},
  ): Promise<Shard> {
    const { host, storage } = world;
    if ((await storage.identity(path)) !== undefined) {
      throw new DivanError('EXISTS', `can not make ${path}: it is there already`, { path });
    }
    const metadata: Metadata = {
      uuid: host.randomBytes(UUID_BYTES),
      range: options.range ?? FULL_RANGE,
      hashRule: options.hashRule ?? 'document',
      lineage: [],
      security: new Uint8Array(0),
      revsLimit: REVS_LIMIT_DEFAULT,
      purgeInfosLimit: PURGE_INFOS_LIMIT_DEFAULT,
    };
    const name = `.${basename(path)}.${Buffer.from(host.randomBytes(6)).toString('hex')}.new`;
    const block = { fileId: host.randomBytes(FILE_ID_BYTES), salt: host.randomBytes(SALT_BYTES) };
    const file = await AppendFile.begin(storage, join(dirname(path), name), block, true);
    try {
      const roots = perTree(() => undefined);
      await writeFirstCommit(file, encodeState({ metadata, counters: ZERO_COUNTERS, roots }));
      await file.publish(path);
      const overlays = new OverlaySet();
      return new Shard(world, file, options, {
        roots,
        counters: ZERO_COUNTERS,
        metadata,
        overlays,
      });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Opens a shard file for writing. Throws what `AppendFile.openForWriting` throws. */
  static async open(world: ShardWorld, path: string, options: ShardOptions = {}): Promise<Shard> {
    const opened = await AppendFile.openForWriting(world.storage, path, loadState);
    return new Shard(world, opened.file, options, opened.loaded);
  }

  /** The file; another one after a compaction. */
  get file(): AppendFile {
    return this.#context.file;
  }

  get path(): string {
    return this.file.path;
  }

  /** What is durable now. */
  snapshot(): Snapshot {
    return this.#context.snapshot();
  }

  /**
   * Applies edits, each on its own, and resolves when they are durable. Rejects, with nothing acknowledged, only when the shard fails.
   * The outcome of those that came too late for this file is `MOVED`.
   */
  async update(edits: readonly DocumentEdit[]): Promise<EditOutcome[]> {
    const batches: EditBatch[] = [];
    for (const batch of inBatches(edits)) batches.push(new EditBatch(this.#context, batch));
    for (const batch of batches) if (batch.hasAttachments) await batch.bringAttachments();
    const outcomes = await Promise.all(batches.map((batch) => this.#outcomesOf(batch)));
    return outcomes.flat();
  }

  /** Some batches of an update may be durable when the documents move, and others come too late. */
  async #outcomesOf(batch: EditBatch): Promise<readonly EditOutcome[]> {
    try {
      await this.#submit(batch);
      return batch.outcomes;
    } catch (error) {
      if (!isDivanError(error, 'MOVED')) throw error;
      return batch.refused(error);
    }
  }

  /** As `update` with one edit, whose refusal it throws. */
  async put(edit: DocumentEdit): Promise<{ readonly rev: Revision; readonly seq: number }> {
    const [outcome] = await this.update([edit]);
    if (outcome?.ok === true) return outcome;
    throw outcome?.error ?? new DivanError('FAILED', `${this.path} did not answer`);
  }

  /** Stores the bytes of an attachment. They take effect with the edit that names them; without one they are dead bytes. */
  store(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<StoredBytes> {
    // The file may be exchanged meanwhile: all pieces go to the one that the first went to.
    return storePieces(this.file, source);
  }

  /** Writes or deletes a local doc and returns the `N` of its new `0-N`. Throws `CONFLICT` or `LIMIT`. */
  async putLocal(edit: LocalEdit): Promise<number> {
    const write = new LocalWrite(this.#context, edit);
    await this.#submit(write);
    return write.revision;
  }

  /**
   * Writes or deletes several local docs, whatever is there, in one commit: after a crash all of them are there or none. Throws `LIMIT`.
   * REQUIRES: the shard has the whole range of hashes, so that none of them can be outside of it.
   */
  async putLocals(edits: readonly Pick<LocalEdit, 'id' | 'body'>[]): Promise<void> {
    const byId = new Map(edits.map(({ id, body }) => [Buffer.from(id).toString(), { id, body }]));
    const whole = [...byId.values()].map((edit) => ({ ...edit, revision: 'any' as const }));
    await this.#submit(new LocalWrites(this.#context, whole));
  }

  /** Purges leaf revisions of a document and returns those that were there. Throws `LIMIT`. */
  async purge(request: PurgeRequest): Promise<readonly Revision[]> {
    const write = new PurgeWrite(this.#context, request);
    await this.#submit(write);
    return write.purged;
  }

  /** Changes security or limits. Throws `LIMIT`. */
  async setMetadata(edit: MetadataEdit): Promise<void> {
    await this.#submit(new MetadataWrite(this.#context, edit));
  }

  /** Calls `listener`, which must not throw, whenever changes have become durable. Returns what ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Merges all changes that were acknowledged so far into the trees and makes that durable. */
  async flush(): Promise<void> {
    // One that is running may have begun before some of them.
    await this.#flushing;
    await this.#queue.exclusively(async () => {
      this.file.assertWritable();
      if (this.#flushing === undefined && !this.#context.active.empty) this.#startFlush();
    });
    await this.#flushing;
  }

  /** Opens another file as this one was opened. Throws what `open` throws. */
  openAlike(path: string): Promise<Shard> {
    return Shard.open(this.#world, path, this.#options);
  }

  /** From now on purge infos after this purge seq are not dropped; undefined ends that. */
  keepPurgesAfter(seq: number | undefined): void {
    this.#context.purgesKeptAfter = seq ?? Number.POSITIVE_INFINITY;
  }

  /**
   * Merges entries that were copied from another file of this shard into the trees, as one flush. The runs that they refer to
   * must have been written to this file. REQUIRES: nobody else writes to this shard. Throws `IO`, `NO_SPACE`, `FAILED`.
   */
  async absorb(copied: OverlaySet, seqs: Seqs, metadata: Metadata): Promise<void> {
    const { file, cache, roots } = this.#context;
    file.assertWritable();
    const { host } = this.#world;
    const state = { metadata, roots, counters: { ...this.#context.counters, ...seqs } };
    const input = { file, host, cache, nodeBytes: this.#nodeBytes, state, frozen: copied };
    const flushed = await flush({ ...input, replayFrom: file.end, alone: true });
    this.#context.absorb(flushed.roots, flushed.counters, metadata);
  }

  /**
   * Puts another file, which holds the same, in the place of this one's. Writes wait while `complete` makes it hold the same, and
   * until its name is durable; they see no error. Snapshots and uploads go on with the old file, whose room is freed when the last
   * of them is gone. Throws what `complete` throws, with nothing changed; if the name could not be made durable, the shard is
   * failed. REQUIRES: nobody else uses `other`, which must not be used afterwards.
   */
  async exchangeFile(other: Shard, complete: () => Promise<void>): Promise<void> {
    await this.#flushing;
    await this.#queue.exclusively(async () => {
      await this.#flushing;
      this.#assertOpen();
      this.file.assertWritable();
      await complete();
      const { file: old, path } = this;
      this.#context.assertExchangeable(other.#context);
      await other.file.takeName(path);
      try {
        this.#context.takeOver(other.#context);
      } catch (error) {
        // What went on being written to the old file would be lost with its name.
        old.fail(error);
        throw error;
      }
      this.#unflushedBytes = 0;
      old.retire();
      await this.file.syncName();
      this.#sealLater();
    });
  }

  /** Runs `work` while writes wait, and nothing is being written. */
  holdWrites<T>(work: () => Promise<T>): Promise<T> {
    return this.#queue.exclusively(work);
  }

  /**
   * Ends the writing to this shard for good, unless `complete` resolves to false: its documents are in other files then. Writes wait
   * meanwhile, and are refused with `MOVED` afterwards, having done nothing. Reading goes on. Throws what `complete` throws, with nothing
   * changed.
   */
  async handOver(complete: () => Promise<boolean>): Promise<boolean> {
    return this.#queue.exclusively(async () => {
      this.#assertOpen();
      this.file.assertWritable();
      this.#handedOver = await complete();
      const { path } = this;
      if (this.#handedOver)
        this.#queue.refuse(new DivanError('MOVED', `${path} was moved`, { path }));
      return this.#handedOver;
    });
  }

  /**
   * Has `stop` called, and waits for it, before the shard is closed: for those who work on it in the background. Returns what ends
   * that. Throws `CLOSED`.
   */
  onClosing(stop: () => Promise<void>): () => void {
    this.#assertOpen();
    this.#stopBeforeClosing.add(stop);
    return () => this.#stopBeforeClosing.delete(stop);
  }

  /** Flushes, seals and closes; a failed shard is only closed. Safe to call again. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#cancelSeal?.();
    for (const stop of this.#stopBeforeClosing) await stop();
    try {
      await this.#queue.idle();
      await this.#flushing;
      if (this.file.failed || this.#handedOver) return;
      await this.flush();
      await this.#queue.exclusively(() => this.file.seal());
    } finally {
      this.#context.cache.clear();
      await this.#queue.exclusively(() => this.file.close());
    }
  }

  #assertOpen(): void {
    if (this.#closing === undefined) return;
    throw new DivanError('CLOSED', `${this.path} is closed`, { path: this.path });
  }

  async #submit(
    request: EditBatch | LocalWrite | LocalWrites | PurgeWrite | MetadataWrite,
  ): Promise<void> {
    this.#assertOpen();
    await this.#queue.submit(request);
  }

  /** Of `CommitTarget`: starts a flush when one is due, and waits for a running one when the overlay behind it is a quarter full. */
  async beforeGroup(): Promise<void> {
    if (this.#flushing !== undefined && this.#overlayFilledTo(0.25)) {
      await this.#flushing;
      this.file.assertWritable();
    }
    if (this.#flushing === undefined && this.#overlayFilledTo(1)) this.#startFlush();
  }

  #overlayFilledTo(part: number): boolean {
    return (
      this.#context.active.bytes >= part * this.#overlayBytes ||
      this.#unflushedBytes >= part * REPLAY_BYTES_MAX
    );
  }

  #startFlush(): void {
    const context = this.#context;
    const replayFrom = this.file.end;
    const { metadata, roots } = context;
    const done = flush({
      file: this.file,
      host: this.#world.host,
      cache: context.cache,
      nodeBytes: this.#nodeBytes,
      state: { metadata, roots, counters: { ...context.counters } },
      frozen: context.freeze(),
      replayFrom,
    }).then(({ roots }) => context.thaw(roots));
    this.#unflushedBytes = 0;
    this.#flushing = done.finally(() => {
      this.#flushing = undefined;
    });
    // Whoever waits for the flush hears of its failure; if nobody does, the failed file says so at the next write.
    this.#flushing.catch(() => undefined);
  }

  /** Of `CommitTarget`. */
  beginCommit(): void {
    this.#context.begin();
  }

  /** Of `CommitTarget`. */
  finishCommit(): { readonly commit: CommitInput; readonly published: () => void } | undefined {
    const finished = this.#context.finish();
    if (finished === undefined) return undefined;
    const { commit, published } = finished;
    this.#unflushedBytes += commit.bytes.length;
    return {
      commit,
      published: () => {
        published();
        this.#sealLater();
        for (const listener of this.#listeners) listener();
      },
    };
  }

  /** A second after the last commit a seal vouches for it. */
  #sealLater(): void {
    this.#cancelSeal?.();
    this.#cancelSeal = this.#world.host.setTimer(() => {
      if (this.#closing !== undefined || this.file.failed) return;
      // A seal that fails fails the file, which the next write reports.
      this.file.seal().catch(() => undefined);
    }, SEAL_AFTER_MS);
  }
}

async function writeFirstCommit(file: AppendFile, state: Uint8Array): Promise<void> {
  const ref = await file.appendFramed(state);
  const start = file.reserve(RECORD_BYTES);
  await file.commit({
    bytes: new Uint8Array(RECORD_BYTES),
    start,
    changesLength: 0,
    foreign: true,
    state: { ref, replayFrom: start },
  });
}
