/**
 * What happens to databases, as documents of the database `_global_changes`, as in CouchDB: `created:name`, `updated:name`, `deleted:name`,
 * each with a new revision every time. This node tells of what it makes and removes, and of what is written to its shards, some at once, a
 * moment later; what can not be written yet waits. What a crash takes with it is not made up for.
 */
import { byteAt } from '../../engine/file/bytes.js';
import { DOCUMENT_DELETED } from '../../engine/shard/id-tree.js';
import { ROW_FLAGS_AT } from '../../engine/shard/seq-tree.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { ServerHost } from '../world.js';
import type { Catalog } from './catalog.js';
import { type ChangeFilter, idOfRow } from './change-filter.js';
import { namesOfShardFile } from './shard-map.js';
import { UPDATES_BATCH, UPDATES_DATABASE, type UpdateWriter } from './update-writer.js';

export type UpdateKind = 'created' | 'updated' | 'deleted';

/** So long what happened waits for more. */
const WAIT_MS = 500;
/** More do not wait; updates are left out first. */
const WAITING_MAX = 20_000;

export class DatabaseUpdates {
  readonly #host: ServerHost;
  /** By the id of the document; a number that is another one each time that it happens. What happened last is at the end. */
  readonly #waiting = new Map<string, number>();
  #noted = 0;
  #writer: UpdateWriter | undefined;
  #stopListening: (() => void) | undefined;
  #cancelTimer: (() => void) | undefined;
  /** When the timer ends, by `host.now`. */
  #dueMs = 0;
  #writing: Promise<void> | undefined;
  #isClosed = false;

  constructor(host: ServerHost) {
    this.#host = host;
  }

  /** Takes from now on what happens to the databases. */
  attach(catalog: Catalog, writer: UpdateWriter): void {
    this.#writer = writer;
    this.#stopListening = catalog.onChange((name, what) => {
      // Another node made or removed it: what it is made with, or had before, is no news.
      if (what !== 'moved') this.#waiting.delete(`updated:${name}`);
    });
  }

  /** Hears of the documents that are written to a shard from now on. */
  watch(path: string, shard: Shard): void {
    const { database } = namesOfShardFile(path);
    if (database === UPDATES_DATABASE) return;
    let { updateSeq } = shard.snapshot().counters;
    shard.onChange(() => {
      if (this.#writer?.isWanted !== true) return;
      const { counters } = shard.snapshot();
      // Checkpoints of replications are no updates.
      if (counters.updateSeq === updateSeq) return;
      updateSeq = counters.updateSeq;
      this.note('updated', database);
    });
  }

  /** Something happened; nothing, if there is no database to write it to. */
  note(kind: UpdateKind, name: string): void {
    if (this.#isClosed || name === UPDATES_DATABASE || this.#writer?.isWanted !== true) return;
    const id = `${kind}:${name}`;
    const isKnown = this.#waiting.delete(id);
    if (!isKnown && this.#waiting.size >= WAITING_MAX && kind === 'updated') return;
    // What a database is made with, or had before it was removed, is no news.
    if (kind !== 'updated') this.#waiting.delete(`updated:${name}`);
    this.#waiting.set(id, this.#noted++);
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size > WAITING_MAX && oldest !== undefined) this.#waiting.delete(oldest);
    this.#writeLater(WAIT_MS);
  }

  /** Writes what waits, as far as that can be done now. Never rejects. */
  async flush(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    while (this.#writing !== undefined) await this.#writing;
    this.#writing = this.#write();
    await this.#writing;
    this.#writing = undefined;
    if (this.#waiting.size > 0) this.#writeLater(this.#writer?.pauseMs ?? WAIT_MS);
  }

  /** Writes what waits, and hears no more. REQUIRES: the databases are still open. */
  async close(): Promise<void> {
    this.#stopListening?.();
    await this.flush();
    this.#isClosed = true;
    this.#cancelTimer?.();
  }

  #writeLater(ms: number): void {
    if (this.#isClosed) return;
    const dueMs = this.#host.now() + ms;
    if (this.#cancelTimer !== undefined && this.#dueMs <= dueMs) return;
    this.#cancelTimer?.();
    this.#dueMs = dueMs;
    this.#cancelTimer = this.#host.setTimer(() => void this.flush(), ms);
  }

  async #write(): Promise<void> {
    // What comes meanwhile waits for the next time.
    const all = [...this.#waiting];
    for (let at = 0; at < all.length; at += UPDATES_BATCH) {
      const writer = this.#writer;
      if (writer?.isWanted !== true) return this.#waiting.clear();
      const batch = new Map(all.slice(at, at + UPDATES_BATCH));
      const ids = [...batch.keys()].filter((id) => this.#waiting.get(id) === batch.get(id));
      for (const id of await writer.write(ids)) {
        // It may have happened again since.
        if (this.#waiting.get(id) === batch.get(id)) this.#waiting.delete(id);
      }
      // Of what can not be written now there may be much.
      await this.#host.yieldTurn();
    }
  }
}

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
