/**
 * What happens to databases, as documents of the database `_global_changes`, as in CouchDB: `created:name`, `updated:name`, `deleted:name`,
 * each with a new revision every time. This node writes what happens on it, some at once, a moment later: what a crash takes with it is not
 * made up for.
 */
import type { Logger } from 'pino';
import { isDivanError } from '../../engine/errors.js';
import { byteAt } from '../../engine/file/bytes.js';
import { DOCUMENT_DELETED } from '../../engine/shard/id-tree.js';
import { ROW_FLAGS_AT } from '../../engine/shard/seq-tree.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { ServerWorld } from '../world.js';
import type { Catalog } from './catalog.js';
import { type ChangeFilter, idOfRow } from './change-filter.js';
import type { Database } from './database.js';
import { ReadDocument } from './document-view.js';
import { namesOfShardFile } from './shard-map.js';

export const UPDATES_DATABASE = '_global_changes';

export type UpdateKind = 'created' | 'updated' | 'deleted';

/** So long what happened waits for more. */
const WAIT_MS = 500;
/** So many are written at once. */
const BATCH = 100;
/** More do not wait; updates are left out first. */
const WAITING_MAX = 20_000;
/** Another node may write the same at the same time. */
const TRIES = 3;

export class DatabaseUpdates {
  readonly #world: ServerWorld;
  readonly #log: Logger;
  /** By the id of the document; how often it was tried. What happened last is at the end. */
  readonly #waiting = new Map<string, number>();
  #catalog: Catalog | undefined;
  #stopListening: (() => void) | undefined;
  #cancelTimer: (() => void) | undefined;
  #writing: Promise<void> | undefined;
  #isClosed = false;

  constructor(world: ServerWorld, log: Logger) {
    this.#world = world;
    this.#log = log;
  }

  /** Hears from now on what happens to the databases. */
  attach(catalog: Catalog): void {
    this.#catalog = catalog;
    this.#stopListening = catalog.onChange((name, what) => {
      if (what !== 'moved') this.note(what, name);
    });
  }

  /** Hears of the documents that are written to a shard from now on. */
  watch(path: string, shard: Shard): void {
    const { database } = namesOfShardFile(path);
    if (database === UPDATES_DATABASE) return;
    let { updateSeq } = shard.snapshot().counters;
    shard.onChange(() => {
      if (this.#target === undefined) return;
      const { counters } = shard.snapshot();
      // Checkpoints of replications are no updates.
      if (counters.updateSeq === updateSeq) return;
      updateSeq = counters.updateSeq;
      this.note('updated', database);
    });
  }

  /** Something happened; nothing, if there is no database to write it to. */
  note(kind: UpdateKind, name: string): void {
    if (this.#isClosed || name === UPDATES_DATABASE || this.#target === undefined) return;
    if (this.#waiting.size >= WAITING_MAX && kind === 'updated') return;
    const id = `${kind}:${name}`;
    this.#waiting.delete(id);
    // What a database is made with, or had before it was removed, is no news.
    if (kind !== 'updated') this.#waiting.delete(`updated:${name}`);
    this.#waiting.set(id, 0);
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size > WAITING_MAX && oldest !== undefined) this.#waiting.delete(oldest);
    this.#writeLater();
  }

  /** Writes what waits. Never rejects. */
  async flush(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    await this.#writing;
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined;
      if (this.#waiting.size > 0) this.#writeLater();
    });
    await this.#writing;
  }

  /** Writes what waits, and hears no more. REQUIRES: the databases are still open. */
  async close(): Promise<void> {
    this.#stopListening?.();
    await this.flush();
    this.#isClosed = true;
    this.#cancelTimer?.();
  }

  get #target(): Database | undefined {
    return this.#catalog?.find(UPDATES_DATABASE);
  }

  #writeLater(): void {
    if (this.#isClosed) return;
    this.#cancelTimer ??= this.#world.host.setTimer(() => void this.flush(), WAIT_MS);
  }

  async #write(): Promise<void> {
    // What comes meanwhile waits for the next time.
    for (let left = this.#waiting.size; left > 0; left -= BATCH) {
      const database = this.#target;
      const batch = [...this.#waiting].slice(0, Math.min(BATCH, left));
      for (const [id] of batch) this.#waiting.delete(id);
      if (database === undefined) continue;
      try {
        await this.#writeBatch(database, batch);
      } catch (err) {
        // That it is deleted at this moment is no failure.
        if (this.#target === database) this.#log.error({ err }, 'what happened is not written');
      }
    }
  }

  async #writeBatch(
    database: Database,
    batch: readonly (readonly [string, number])[],
  ): Promise<void> {
    const writes = await Promise.all(
      batch.map(async ([text]) => {
        const id = Buffer.from(text);
        const found = await database.read(id, (snapshot) => ReadDocument.find(snapshot, id));
        const winner = found?.winner;
        const parent = winner === undefined || winner.deleted ? undefined : winner.revision;
        return { id, body: EMPTY, deleted: false, parent };
      }),
    );
    const outcomes = await database.update(writes);
    for (const [index, outcome] of outcomes.entries()) {
      const [id = '', tries = 0] = batch[index] ?? [];
      if (outcome.ok || this.#waiting.has(id)) continue;
      if (isDivanError(outcome.error, 'CONFLICT') && tries + 1 < TRIES) {
        this.#waiting.set(id, tries + 1);
      } else {
        this.#log.error({ err: outcome.error, id }, 'what happened to a database is not written');
      }
    }
  }
}

const EMPTY = Buffer.from('{}');
const PREFIXES = ['created:', 'updated:', 'deleted:'].map((text) => Buffer.from(text));

/** The documents that say what happened. */
export class UpdateFilter implements ChangeFilter {
  passes(row: Uint8Array): boolean {
    const id = idOfRow(row);
    const isDeleted = (byteAt(row, ROW_FLAGS_AT) & DOCUMENT_DELETED) !== 0;
    return !isDeleted && PREFIXES.some((prefix) => prefix.every((byte, at) => id[at] === byte));
  }

  async fewIds(): Promise<undefined> {
    return undefined;
  }
}
