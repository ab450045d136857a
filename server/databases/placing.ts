/**
 * On which nodes the ranges of a new database are placed: by turns over the members, beginning at the hash of the name, so that each has as
 * many as any other, or one more, and many small databases are not all on one node. All nodes would choose the same.
 */
import { formatRange, hashOf, type ShardRange } from '../../engine/shard/hash.js';

/** How many copies of a range there are, however many are asked for. */
const COPIES_SERVED = 1;

/** For each range, by its name, the identities of the nodes that are to hold it. REQUIRES: there is a node. */
export function placeRanges(
  name: string,
  ranges: readonly ShardRange[],
  identities: readonly string[],
): ReadonlyMap<string, readonly string[]> {
  const nodes = [...identities].sort();
  const first = hashOf(Buffer.from(name), 'document');
  const copies = Math.min(COPIES_SERVED, nodes.length);
  return new Map(
    ranges.map((range, index) => {
      const owners = Array.from({ length: copies }, (_, copy) => {
        return nodes[(first + index + copy) % nodes.length] ?? '';
      });
      return [formatRange(range), owners];
    }),
  );
}
