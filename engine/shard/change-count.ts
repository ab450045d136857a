/**
 * How many changes come after a seq, without reading them: the flushed tree knows how many rows its nodes have, and each overlay above it
 * which rows it adds and removes.
 *
 * Every update takes a new seq, so what an overlay adds stands behind all that was there when it began; and what it removes stood in
 * what was there, unless it is a row of its own that was superseded before it was ever flushed.
 */
import { leafSlices } from '../btree/range.js';
import { reduceRange } from '../btree/reduce.js';
import type { NodeSource, TreeRoot } from '../btree/tree.js';
import type { Overlay } from './overlay.js';
import { seqKey, seqShape } from './seq-tree.js';

/** `overlays`: newest first. */
export async function countChangesAfter(
  source: NodeSource,
  root: TreeRoot | undefined,
  overlays: readonly Overlay[],
  version: number,
  since: number,
): Promise<number> {
  const key = seqKey(since);
  const [flushed = 0] = await reduceRange(source, seqShape, root, { gt: key });
  let count = flushed;
  let last = await lastKeyOf(source, root);
  for (const overlay of overlays.toReversed()) {
    count += overlay.countAfter(key, version, last);
    const { lastKey } = overlay;
    if (lastKey !== undefined && Buffer.compare(lastKey, last) > 0) last = lastKey;
  }
  return count;
}

/** The key of the last row of a tree, that of no row if it has none. */
async function lastKeyOf(source: NodeSource, root: TreeRoot | undefined): Promise<Uint8Array> {
  for await (const { node, to } of leafSlices(source, root, { reverse: true })) {
    return node.key(to - 1);
  }
  return seqKey(0);
}
