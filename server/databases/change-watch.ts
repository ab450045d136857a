/**
 * Waiting for changes of a database. Holds nothing but its listeners: the shards may be closed meanwhile.
 */
import type { Host } from '../../engine/file/host.js';
import type { Database } from './database.js';
import type { ShardSlot } from './shard-slot.js';

/** `ended`: the database was deleted, some of it went to another node, or one of the signals was aborted. */
export type Woken = 'changed' | 'timeout' | 'ended';

export class ChangeWatch {
  readonly #host: Host;
  readonly #database: Database;
  readonly #changed = new Set<ShardSlot>();
  readonly #isOfAll: boolean;
  readonly #stops: (() => void)[] = [];
  readonly #stopsOfShards: (() => void)[] = [];
  #ended = false;
  #wake: ((woken: Woken) => void) | undefined;

  /** Notices changes from now on until it is closed. */
  constructor(host: Host, database: Database, signals: readonly AbortSignal[]) {
    this.#host = host;
    this.#database = database;
    this.#isOfAll = database.current.isWhole;
    this.#listen();
    this.#stops.push(database.onMove(() => this.#follow()));
    const end = () => this.#end();
    for (const signal of [database.ended, ...signals]) {
      if (signal.aborted) this.#ended = true;
      signal.addEventListener('abort', end);
      this.#stops.push(() => signal.removeEventListener('abort', end));
    }
  }

  /** True once nothing is to be waited for any more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves when a shard has changed since its changes were taken, or after a while. One caller at a time. */
  next(waitMs: number): Promise<Woken> {
    if (this.#ended) return Promise.resolve('ended');
    if (this.#changed.size > 0) return Promise.resolve('changed');
    return new Promise((resolve) => {
      const cancelTimer = this.#host.setTimer(() => this.#wake?.('timeout'), waitMs);
      this.#wake = (woken) => {
        this.#wake = undefined;
        cancelTimer();
        resolve(woken);
      };
    });
  }

  /** The shards that have changed since this was called last, which are about to be read. */
  takeChanged(): readonly ShardSlot[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  close(): void {
    for (const stop of this.#stops.splice(0)) stop();
    for (const stop of this.#stopsOfShards.splice(0)) stop();
    this.#wake?.('ended');
  }

  #listen(): void {
    for (const { slot } of this.#database.shards) {
      const listener = () => {
        if (slot.isDropped) this.#end();
        else this.#notice(slot);
      };
      this.#stopsOfShards.push(slot.onChange(listener));
    }
  }

  /**
   * Other shards have taken the place of some, and may hold what was not noticed in those. Of documents that went to another node nothing is
   * noticed here any more: who waited for changes of all is to ask anew.
   */
  #follow(): void {
    if (this.#isOfAll && !this.#database.current.isWhole) this.#end();
    for (const stop of this.#stopsOfShards.splice(0)) stop();
    this.#changed.clear();
    this.#listen();
    for (const { slot } of this.#database.shards) this.#notice(slot);
  }

  #notice(slot: ShardSlot): void {
    this.#changed.add(slot);
    this.#wake?.('changed');
  }

  #end(): void {
    this.#ended = true;
    this.#wake?.('ended');
  }
}
