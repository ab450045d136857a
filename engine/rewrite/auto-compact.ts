/** Compacting a shard by itself whenever too much of its file is dead. */
import { DivanError } from '../errors.js';
import type { Shard, ShardWorld } from '../shard/shard.js';
import { compactLive, type LiveCompaction } from './compact-live.js';
import type { JobOptions } from './job.js';

export interface AutoCompactOptions extends JobOptions {
  /** A shard is compacted when more than this share of its file is dead, 0 to 1. */
  readonly deadShareMax: number;
  /** Smaller files are left alone. */
  readonly fileBytesMin: number;
  /** Called after each compaction. Must not throw. */
  readonly onCompacted?: ((compaction: LiveCompaction) => void) | undefined;
  /** Compacts in the place of `compactLive`, once the shard may be compacted; undefined if it did not have to be any more. */
  readonly compact?: ((signal: AbortSignal) => Promise<LiveCompaction | undefined>) | undefined;
  /** Called when one failed; the next is tried when the file has grown. Must not throw. */
  readonly onError: (error: unknown) => void;
}

/** How much is dead is looked at again when the file has grown by this share of itself. */
const GROWTH = 0.1;

/** Watches a shard until `stop`, which waits for a compaction under way to be cancelled. */
export class AutoCompaction {
  readonly #world: ShardWorld;
  readonly #shard: Shard;
  readonly #options: AutoCompactOptions;
  readonly #stopListening: () => void;
  readonly #abort = new AbortController();
  #running: Promise<void> | undefined;
  /** The file is looked at when it is this long. */
  #nextBytes: number;

  /** Throws `LIMIT` for a share that is none. */
  constructor(world: ShardWorld, shard: Shard, options: AutoCompactOptions) {
    if (!(options.deadShareMax > 0 && options.deadShareMax < 1)) {
      throw new DivanError('LIMIT', 'the share of a file that may be dead is between 0 and 1');
    }
    this.#world = world;
    this.#shard = shard;
    this.#options = options;
    this.#nextBytes = options.fileBytesMin;
    this.#stopListening = shard.onChange(() => this.#look());
    this.#look();
  }

  async stop(): Promise<void> {
    this.#stopListening();
    this.#abort.abort();
    await this.#running;
  }

  #look(): void {
    if (this.#running !== undefined || this.#abort.signal.aborted) return;
    if (this.#shard.file.end < this.#nextBytes) return;
    this.#running = this.#compactIfWorn()
      .catch((error: unknown) => {
        if (!this.#abort.signal.aborted) this.#options.onError(error);
      })
      .then(() => {
        this.#nextBytes = Math.max(this.#options.fileBytesMin, this.#shard.file.end * (1 + GROWTH));
        this.#running = undefined;
      });
  }

  async #compactIfWorn(): Promise<void> {
    const live = await this.#shard.snapshot().liveBytes();
    if (live >= this.#shard.file.end * (1 - this.#options.deadShareMax)) return;
    const { signal } = this.#abort;
    const compaction =
      this.#options.compact === undefined
        ? await compactLive(this.#world, this.#shard, { ...this.#options, signal })
        : await this.#options.compact(signal);
    if (compaction !== undefined) this.#options.onCompacted?.(compaction);
  }
}
