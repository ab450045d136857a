/**
 * Memory for cached runs, bounded by bytes and shared by any number of files. Which run to drop is decided by the clock algorithm: one
 * that was used since the hand last came by is passed over once.
 */

/** What an entry costs besides the bytes of its run. */
const ENTRY_OVERHEAD_BYTES = 300;

/** A run in memory, in the map of its file by its position. */
export interface CachedRun<Value> {
  readonly value: Value;
  readonly pos: number;
  readonly bytes: number;
  /** Where it is taken out when it is dropped. */
  readonly home: { delete(pos: number): boolean };
  used: boolean;
}

export class CacheSpace {
  readonly #bytesMax: number;
  /** The hand stands before the first one. */
  readonly #clock = new Set<CachedRun<unknown>>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Takes a run that its home holds already, and drops others for it. */
  add(run: CachedRun<unknown>): void {
    this.#clock.add(run);
    this.#bytes += run.bytes + ENTRY_OVERHEAD_BYTES;
    for (const next of this.#clock) {
      if (this.#bytes <= this.#bytesMax) break;
      if (next.used) {
        next.used = false;
        this.#clock.delete(next);
        this.#clock.add(next);
      } else {
        next.home.delete(next.pos);
        this.remove(next);
      }
    }
  }

  /** Forgets a run that its home does not hold any more. */
  remove(run: CachedRun<unknown>): void {
    if (this.#clock.delete(run)) this.#bytes -= run.bytes + ENTRY_OVERHEAD_BYTES;
  }
}
