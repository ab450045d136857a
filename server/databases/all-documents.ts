/** The documents of a database in the order of their ids: the by-id trees of its shards, merged. */
import type { Entry, KeyRange } from '../../engine/btree/tree.js';
import { compareBytes } from '../../engine/file/bytes.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';

/** An entry with the snapshot that it is of. */
export interface ShardEntry extends Entry {
  readonly snapshot: Snapshot;
}

interface Head {
  readonly snapshot: Snapshot;
  readonly entries: AsyncGenerator<Entry>;
  entry: Entry;
}

/** The entries of one tree of all snapshots, in the order of their keys or, with `reverse`, against it. No key is in two of them. */
export async function* mergedEntries(
  snapshots: readonly Snapshot[],
  tree: 'byId' | 'local',
  range: KeyRange,
): AsyncGenerator<ShardEntry> {
  const heads: Head[] = [];
  try {
    for (const snapshot of snapshots) {
      const entries = snapshot.entries(tree, range);
      const first = await entries.next();
      if (first.done !== true) heads.push({ snapshot, entries, entry: first.value });
    }
    while (heads.length > 0) {
      const head = firstOf(heads, range.reverse === true);
      yield { snapshot: head.snapshot, key: head.entry.key, value: head.entry.value };
      const next = await head.entries.next();
      if (next.done === true) heads.splice(heads.indexOf(head), 1);
      else head.entry = next.value;
    }
  } finally {
    for (const { entries } of heads) await entries.return(undefined);
  }
}

function firstOf(heads: readonly Head[], reverse: boolean): Head {
  let [best] = heads;
  for (const head of heads) {
    if (best === undefined || head === best) continue;
    const order = compareKeys(head.entry.key, best.entry.key);
    if (reverse ? order > 0 : order < 0) best = head;
  }
  if (best === undefined) throw new RangeError('there is no head');
  return best;
}

function compareKeys(a: Uint8Array, b: Uint8Array): number {
  return compareBytes(a, 0, a.length, b, 0, b.length);
}
