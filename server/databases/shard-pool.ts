/** The shard files of this node, opened on demand and closed when idle, at most so many at a time. */
import { type CreateOptions, Shard, type ShardOptions } from '../../engine/shard/shard.js';
import type { ServerWorld } from '../world.js';
import { ShardSlot } from './shard-slot.js';

export interface PoolOptions extends ShardOptions {
  /** So many shards are open at a time, unless more are in use. */
  readonly openMax: number;
  /** A shard that nobody used for so long is closed. */
  readonly idleMs: number;
  /** Called when a shard was opened for writing. Must not throw. */
  readonly onOpened?: ((slot: ShardSlot, shard: Shard) => void) | undefined;
}

export class ShardPool {
  readonly world: ServerWorld;
  readonly options: PoolOptions;
  readonly #open = new Set<ShardSlot>();
  readonly #slots = new Map<string, ShardSlot>();
  readonly #dropping = new Set<Promise<void>>();
  /** Slots that are closed for good once nobody reads them, by path. */
  readonly #retiring = new Map<string, Promise<void>>();
  #cancelTimer: (() => void) | undefined;
  #closed = false;

  constructor(world: ServerWorld, options: PoolOptions) {
    this.world = world;
    this.options = options;
  }

  /** Of all databases: documents that were read one by one, and that were written. */
  documentReads = 0;
  documentWrites = 0;

  /** The files of the shards that are open. */
  get openPaths(): string[] {
    return [...this.#open].map(({ path }) => path);
  }

  /** How many shards are open. */
  get openCount(): number {
    return this.#open.size;
  }

  /** The slot of a file: always the same one for the same path, until it is dropped. */
  slot(path: string): ShardSlot {
    let slot = this.#slots.get(path);
    if (slot === undefined) {
      slot = new ShardSlot(this, path);
      this.#slots.set(path, slot);
    }
    return slot;
  }

  /** Makes a shard file, which is then open. Throws what `Shard.create` throws. */
  async create(path: string, options: CreateOptions): Promise<void> {
    const shard = await Shard.create(this.world, path, { ...this.options, ...options });
    this.slot(path).adopt(shard);
  }

  /** Takes a shard that is open, whose file has no slot yet, and closes it when it is idle. */
  adopt(path: string, shard: Shard): void {
    this.slot(path).adopt(shard);
  }

  /**
   * Ends a slot whose documents are in other files: who uses it reads on, and nobody writes. Resolves when nobody uses it any more and it
   * is closed, at once if it is not there. Safe to call again.
   */
  retire(path: string): Promise<void> {
    const slot = this.#slots.get(path);
    if (slot === undefined) return this.#retiring.get(path) ?? Promise.resolve();
    this.#slots.delete(path);
    // The file is not used again: that closing it fails harms nobody.
    const retiring = slot.retire().catch(() => undefined);
    this.#retiring.set(path, retiring);
    retiring.finally(() => this.#retiring.delete(path));
    return retiring;
  }

  /** Closes a slot for good, once its users are done; using it throws `NOT_FOUND` from now on. */
  drop(path: string): void {
    const slot = this.#slots.get(path);
    if (slot === undefined) return;
    this.#slots.delete(path);
    // The file is removed: that closing it fails harms nobody.
    const dropping = slot.drop().catch(() => undefined);
    this.#dropping.add(dropping);
    dropping.finally(() => this.#dropping.delete(dropping));
  }

  /** Closes all of them, once their users are done. Rejects with the first failure, after all are closed. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelTimer?.();
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    const closed = await Promise.allSettled(slots.map((slot) => slot.drop()));
    await Promise.all([...this.#dropping, ...this.#retiring.values()]);
    for (const result of closed) if (result.status === 'rejected') throw result.reason;
  }

  /** Of `ShardSlot`. */
  opened(slot: ShardSlot): void {
    this.#open.add(slot);
    this.#closeSurplus();
    this.#watchIdle();
  }

  /** Of `ShardSlot`. */
  closed(slot: ShardSlot): void {
    this.#open.delete(slot);
  }

  /** Of `ShardSlot`: nobody uses it any more. */
  released(): void {
    this.#closeSurplus();
  }

  #closeSurplus(): void {
    let surplus = this.#open.size - this.options.openMax;
    if (surplus <= 0) return;
    for (const slot of [...this.#open].sort((a, b) => a.usedAt - b.usedAt)) {
      if (surplus <= 0) return;
      if (slot.closeIfIdle()) surplus--;
    }
  }

  #watchIdle(): void {
    if (this.#cancelTimer !== undefined || this.#closed) return;
    this.#cancelTimer = this.world.host.setTimer(() => {
      this.#cancelTimer = undefined;
      const before = this.world.host.now() - this.options.idleMs;
      for (const slot of [...this.#open]) if (slot.usedAt <= before) slot.closeIfIdle();
      if (this.#open.size > 0) this.#watchIdle();
    }, this.options.idleMs / 2);
  }
}
