/**
 * Waiting for changes of a database. Holds nothing but its listeners: the shards may be closed meanwhile.
 */
import type { Host } from '../../engine/file/host.js';
import type { Database } from './database.js';

/** `ended`: the database was deleted, a shard went, or one of the signals was aborted. */
export type Woken = 'changed' | 'timeout' | 'ended';

export class ChangeWatch {
  readonly #host: Host;
  readonly #changed = new Set<number>();
  readonly #stops: (() => void)[] = [];
  #ended = false;
  #wake: ((woken: Woken) => void) | undefined;

  /** Notices changes from now on until it is closed. */
  constructor(host: Host, database: Database, signals: readonly AbortSignal[]) {
    this.#host = host;
    for (const [index, { slot }] of database.shards.entries()) {
      const listener = () => {
        if (slot.isDropped) this.#end();
        else this.#notice(index);
      };
      this.#stops.push(slot.onChange(listener));
    }
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
  takeChanged(): readonly number[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  close(): void {
    for (const stop of this.#stops.splice(0)) stop();
    this.#wake?.('ended');
  }

  #notice(index: number): void {
    this.#changed.add(index);
    this.#wake?.('changed');
  }

  #end(): void {
    this.#ended = true;
    this.#wake?.('ended');
  }
}
