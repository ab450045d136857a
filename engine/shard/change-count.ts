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
import { readSeq } from '../file/byte-reader.js';
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
  const [flushed = 0] = await reduceRange(source, seqShape, root, { gt: seqKey(since) });
  let count = flushed;
  let last = await lastSeq(source, root);
  for (const overlay of overlays.toReversed()) {
    const cursor = overlay.cursor(version, false);
    cursor.seek(seqKey(since), false);
    let highest = last;
    for (; cursor.handle !== 0; cursor.next()) {
      const seq = readSeq(overlay.keyOf(cursor.handle), 0);
      if (overlay.valueOf(cursor.handle) !== undefined) count++;
      else if (seq <= last) count--;
      highest = seq;
    }
    last = Math.max(last, highest);
  }
  return count;
}

/** The seq of the last row of a tree, 0 if it has none. */
async function lastSeq(source: NodeSource, root: TreeRoot | undefined): Promise<number> {
  for await (const { node, to } of leafSlices(source, root, { reverse: true })) {
    return readSeq(node.key(to - 1), 0);
  }
  return 0;
}
