/**
 * The shards of a database that this node has, at one time. A database whose shards are split or merged has another set from then on; whoever
 * took this one before goes on with it, as long as all that it reads was held before it waited for anything: what is held stays readable.
 */
import assert from 'node:assert';
import { DivanError } from '../../engine/errors.js';
import { FULL_RANGE, hashOf, type ShardRange } from '../../engine/shard/hash.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import { formatCover, type ShardMap } from './shard-map.js';
import type { ShardSlot } from './shard-slot.js';

const FULL = formatCover([{ range: FULL_RANGE }]);

/** A shard of a database. */
export interface DatabaseShard {
  readonly range: ShardRange;
  readonly slot: ShardSlot;
}

export class ShardSet {
  readonly map: ShardMap;
  /** In the order of their ranges. */
  readonly shards: readonly DatabaseShard[];
  /** Whether these are all of the database. */
  readonly isWhole: boolean;

  constructor(map: ShardMap, shards: readonly DatabaseShard[]) {
    this.map = map;
    this.shards = shards;
    this.isWhole = formatCover(shards) === FULL;
  }

  get slots(): readonly ShardSlot[] {
    return this.shards.map(({ slot }) => slot);
  }

  /** Which shard a document belongs to; `id` in UTF-8. Throws `MOVED` if none of these has its range. */
  indexOf(id: Uint8Array): number {
    const index = this.find(id);
    if (index >= 0) return index;
    throw new DivanError('MOVED', 'the range of the document is not on this node');
  }

  /** As `indexOf`, -1 if none has it. */
  find(id: Uint8Array): number {
    const hash = hashOf(id, this.map.hashRule);
    const index = this.shards.findIndex(({ range }) => hash <= range.end);
    return hash >= (this.shards[index]?.range.start ?? 0) ? index : -1;
  }

  /** The shard that a document belongs to; `id` in UTF-8. Throws `MOVED` as `indexOf`. */
  of(id: Uint8Array): DatabaseShard {
    const shard = this.shards[this.indexOf(id)];
    assert(shard !== undefined, 'the index is that of a shard');
    return shard;
  }
}

/**
 * Calls `work` with snapshots of shards, in their order, which are readable until its promise settles. All are held before any is
 * opened. Throws `NOT_FOUND` if one was dropped, and what opening throws.
 */
export async function readTogether<T>(
  slots: readonly ShardSlot[],
  work: (snapshots: readonly Snapshot[]) => Promise<T>,
): Promise<T> {
  const releases: (() => void)[] = [];
  try {
    for (const slot of slots) releases.push(slot.keep());
    const snapshots: Snapshot[] = [];
    for (const slot of slots) {
      snapshots.push(await slot.read(async (reader) => reader.snapshot()));
    }
    return await work(snapshots);
  } finally {
    for (const release of releases) release();
  }
}
