/** Open shards that a rewrite works on: another one of the same shard would take its place, or be left behind. */
import { DivanError } from '../errors.js';
import type { Shard } from '../shard/shard.js';

const busy = new WeakSet<Shard>();

/** Claims shards for one rewrite, until the returned function is called. Throws `LOCKED` if another one has one of them. */
export function claimShards(shards: readonly Shard[]): () => void {
  for (const shard of shards) {
    const { path } = shard;
    if (!busy.has(shard)) continue;
    throw new DivanError('LOCKED', `${path} is being compacted or split already`, { path });
  }
  for (const shard of shards) busy.add(shard);
  return () => {
    for (const shard of shards) busy.delete(shard);
  };
}
