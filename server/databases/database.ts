/**
 * A database on this node: its documents, placed on its shards by the hash of their ids.
 *
 * Every read is of a snapshot of one shard; every write resolves when it is durable.
 */
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { StoredBytes } from '../../engine/shard/attachment-list.js';
import { type AttachmentSource, storeAttachment } from '../../engine/shard/attachment-upload.js';
import type { EditOutcome } from '../../engine/shard/document-writer.js';
import type { DocumentEdit, EditedAttachment } from '../../engine/shard/edit.js';
import { hashOf, type ShardRange } from '../../engine/shard/hash.js';
import { LOCAL_PREFIX } from '../../engine/shard/local-tree.js';
import type { LocalEdit } from '../../engine/shard/local-writer.js';
import type { PurgeRequest } from '../../engine/shard/purge-writer.js';
import type { Revision } from '../../engine/shard/revision.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { NodeRecords } from '../node-records.js';
import type { ServerWorld } from '../world.js';
import { SettingsWriter } from './database-settings.js';
import type { ShardMap } from './shard-map.js';
import type { ShardPool, ShardSlot } from './shard-pool.js';
import { WriteQueue, type WriteRefused } from './write-queue.js';

/** A shard of a database. */
export interface DatabaseShard {
  readonly range: ShardRange;
  readonly slot: ShardSlot;
}

/** An attachment as a write brings it. */
export interface NewAttachment {
  readonly contentType: string;
  readonly revpos: number | undefined;
  /** Bytes to be stored, or stored already by `DatabaseUpload`; undefined in a stub. */
  readonly content: AttachmentSource | StoredBytes | undefined;
}

/** Stores an attachment in the shard of a document. Throws `TOO_LARGE`, `BAD_REQUEST`, what the source throws. */
export type DatabaseUpload = (source: AttachmentSource) => Promise<StoredBytes>;

/** A write of one document. */
export interface DocumentWrite extends Omit<DocumentEdit, 'attachments'> {
  readonly attachments?: ReadonlyMap<string, NewAttachment> | undefined;
}

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

/** The writes of one request to one shard, with their places in the request. */
interface ShardWrites {
  readonly slot: ShardSlot;
  readonly writes: DocumentWrite[];
  readonly places: number[];
}

export class Database {
  readonly world: ServerWorld;
  readonly map: ShardMap;
  /** In the order of their ranges. */
  readonly shards: readonly DatabaseShard[];
  readonly settings: SettingsWriter;
  readonly #pool: ShardPool;
  readonly #guard: WriteGuard | undefined;
  readonly #ended = new AbortController();
  /** What goes on in the background and must stop before the files go. */
  readonly #jobs = new Set<Promise<unknown>>();
  readonly #later = new WriteQueue((writes) => this.update(writes));

  constructor(world: ServerWorld, parts: DatabaseParts, map: ShardMap) {
    const { pool, records, dataDir, guard } = parts;
    this.#pool = pool;
    this.#guard = guard;
    this.world = world;
    this.map = map;
    // Any number of feeds listen to it.
    setMaxListeners(0, this.#ended.signal);
    this.shards = map.shards.map(({ range, file }) => ({
      range,
      slot: pool.slot(join(dataDir, ...file.split('/'))),
    }));
    const slots = this.shards.map(({ slot }) => slot);
    this.settings = new SettingsWriter(records, map.name, slots);
  }

  get name(): string {
    return this.map.name;
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

  /** Which shard a document belongs to; `id` in UTF-8. */
  shardIndexOf(id: Uint8Array): number {
    const hash = hashOf(id, this.map.hashRule);
    return this.shards.findIndex(({ range }) => hash <= range.end);
  }

  /** The shard that a document belongs to; `id` in UTF-8. */
  shardOf(id: Uint8Array): DatabaseShard {
    const shard = this.shards[this.shardIndexOf(id)];
    if (shard === undefined) throw new DivanError('OUT_OF_RANGE', 'the shard map has a gap');
    return shard;
  }

  /** Calls `work` with a snapshot of the shard of a document, which stays readable until its promise settles. */
  read<T>(id: Uint8Array, work: (snapshot: Snapshot) => Promise<T>): Promise<T> {
    this.#pool.documentReads++;
    return this.shardOf(id).slot.read((reader) => work(reader.snapshot()));
  }

  /** As `read`, for work that gives its results one by one. */
  readEach<T>(
    id: Uint8Array,
    work: (snapshot: Snapshot) => AsyncIterable<T>,
  ): AsyncGenerator<T, void> {
    this.#pool.documentReads++;
    return this.shardOf(id).slot.readEach((reader) => work(reader.snapshot()));
  }

  /**
   * Writes documents, each on its own, and resolves when they are durable. The outcomes are in the order of the writes; a shard that
   * fails refuses those that are its own. Rejects if all shards fail.
   */
  update(writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
    const guard = this.#guard;
    return guard === undefined ? this.#update(writes) : this.#guarded(guard, writes);
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

  async #update(writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
    this.#pool.documentWrites += writes.length;
    const groups = this.#byShard(writes);
    const results = await Promise.allSettled(
      groups.map(({ slot, writes }) => updateShard(slot, writes)),
    );
    const outcomes: EditOutcome[] = new Array(writes.length);
    let failures = 0;
    for (const [index, { writes, places }] of groups.entries()) {
      const result = results[index];
      if (result?.status === 'rejected') {
        if (!isDivanError(result.reason) || ++failures === groups.length) throw result.reason;
        for (const place of places) outcomes[place] = { ok: false, error: result.reason };
        continue;
      }
      for (const at of writes.keys()) {
        const outcome = result?.value[at];
        if (outcome !== undefined) outcomes[places[at] ?? 0] = outcome;
      }
    }
    return outcomes;
  }

  /** As `update` with one document, whose refusal it throws. */
  async put(write: DocumentWrite): Promise<{ readonly rev: Revision; readonly seq: number }> {
    if (this.#guard !== undefined) return this.#outcomeOf(await this.update([write]));
    this.#pool.documentWrites++;
    return this.#outcomeOf(await updateShard(this.shardOf(write.id).slot, [write]));
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
    return this.shardOf(id).slot.write(async (shard, ending) => {
      this.#pool.documentWrites++;
      const uploaded = await upload((source) => storeAttachment(shard, source), ending);
      const write = (await this.#guard?.prepare(uploaded)) ?? uploaded;
      try {
        return await shard.put(await withStored(shard, write));
      } finally {
        this.#guard?.written(id);
      }
    });
  }

  /** Purges leaf revisions of a document and returns those that were there. Throws `LIMIT`, and what a write throws. */
  async purge(request: PurgeRequest): Promise<readonly Revision[]> {
    try {
      return await this.shardOf(request.id).slot.write((shard) => shard.purge(request));
    } finally {
      this.#guard?.written(request.id);
    }
  }

  /** Writes or deletes a local doc; its id is without `_local/`. Returns the `N` of its new `0-N`. Throws `CONFLICT` or `LIMIT`. */
  putLocal(edit: LocalEdit): Promise<number> {
    return this.localShardOf(edit.id).slot.write((shard) => shard.putLocal(edit));
  }

  /** The shard of a local doc: `_local/` counts. */
  localShardOf(id: Uint8Array): DatabaseShard {
    return this.shardOf(Buffer.concat([LOCAL_PREFIX_BYTES, id]));
  }

  /** Snapshots of all shards, in their order, readable until the promise of `work` settles. */
  readAll<T>(work: (snapshots: readonly Snapshot[]) => Promise<T>): Promise<T> {
    const gather = (snapshots: readonly Snapshot[]): Promise<T> => {
      const shard = this.shards[snapshots.length];
      if (shard === undefined) return work(snapshots);
      return shard.slot.read((reader) => gather([...snapshots, reader.snapshot()]));
    };
    return gather([]);
  }

  #byShard(writes: readonly DocumentWrite[]): ShardWrites[] {
    const groups = new Map<ShardSlot, ShardWrites>();
    for (const [place, write] of writes.entries()) {
      const { slot } = this.shardOf(write.id);
      let group = groups.get(slot);
      if (group === undefined) {
        group = { slot, writes: [], places: [] };
        groups.set(slot, group);
      }
      group.writes.push(write);
      group.places.push(place);
    }
    return [...groups.values()];
  }
}

const LOCAL_PREFIX_BYTES = Buffer.from(LOCAL_PREFIX);

function updateShard(slot: ShardSlot, writes: readonly DocumentWrite[]): Promise<EditOutcome[]> {
  return slot.write(async (shard) => {
    const edits: DocumentEdit[] = [];
    const refused = new Map<number, DivanError>();
    for (const [index, write] of writes.entries()) {
      if (write.attachments === undefined) edits.push({ ...write, attachments: undefined });
      else {
        try {
          edits.push(await withStored(shard, write));
        } catch (error) {
          // What is wrong with the bytes of one document concerns no other.
          if (!isDivanError(error) || shard.file.failed) throw error;
          refused.set(index, error);
        }
      }
    }
    const outcomes = await shard.update(edits);
    return refused.size === 0 ? outcomes : withRefused(outcomes, refused, writes.length);
  });
}

/** Outcomes with those of the refused writes in their places. */
function withRefused(
  outcomes: readonly EditOutcome[],
  refused: ReadonlyMap<number, DivanError>,
  count: number,
): EditOutcome[] {
  const all: EditOutcome[] = [];
  let next = 0;
  for (let index = 0; index < count; index++) {
    const error = refused.get(index);
    const outcome = error === undefined ? outcomes[next++] : { ok: false as const, error };
    if (outcome !== undefined) all.push(outcome);
  }
  return all;
}

/** A write with its attachments stored in the shard of its document. */
async function withStored(shard: Shard, write: DocumentWrite): Promise<DocumentEdit> {
  if (write.attachments === undefined) return { ...write, attachments: undefined };
  const attachments = new Map<string, EditedAttachment>();
  for (const [name, { contentType, revpos, content }] of write.attachments) {
    const stored =
      content === undefined || 'refs' in content ? content : await storeAttachment(shard, content);
    attachments.set(name, { contentType, revpos, stored });
  }
  return { ...write, attachments };
}
