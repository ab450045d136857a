/**
 * The shards of a database at one time. A database whose shards are split or merged has another set from then on; whoever took this one
 * before goes on with it, as long as all that it reads was held before it waited for anything: what is held stays readable.
 */
import { DivanError } from '../../engine/errors.js';
import { hashOf, type ShardRange } from '../../engine/shard/hash.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { ShardMap } from './shard-map.js';
import type { ShardSlot } from './shard-slot.js';

/** A shard of a database. */
export interface DatabaseShard {
  readonly range: ShardRange;
  readonly slot: ShardSlot;
}

export class ShardSet {
  readonly map: ShardMap;
  /** In the order of their ranges. */
  readonly shards: readonly DatabaseShard[];

  constructor(map: ShardMap, shards: readonly DatabaseShard[]) {
    this.map = map;
    this.shards = shards;
  }

  get slots(): readonly ShardSlot[] {
    return this.shards.map(({ slot }) => slot);
  }

  /** Which shard a document belongs to; `id` in UTF-8. */
  indexOf(id: Uint8Array): number {
    const hash = hashOf(id, this.map.hashRule);
    return this.shards.findIndex(({ range }) => hash <= range.end);
  }

  /** The shard that a document belongs to; `id` in UTF-8. */
  of(id: Uint8Array): DatabaseShard {
    const shard = this.shards[this.indexOf(id)];
    if (shard === undefined) throw new DivanError('OUT_OF_RANGE', 'the shard map has a gap');
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
