/** Sums over a range of keys, from the totals of whole subtrees wherever the range covers them. */
import type { TreeNode } from './node.js';
import { endOfRange, firstInRange } from './range.js';
import type { KeyRange, NodeSource, TreeRoot, TreeShape } from './tree.js';

/** The totals of the entries in a range: as many numbers as the shape has measures. */
export async function reduceRange(
  source: NodeSource,
  shape: TreeShape,
  root: TreeRoot | undefined,
  range: KeyRange,
): Promise<Float64Array> {
  const totals = new Float64Array(shape.measures);
  if (root === undefined) return totals;
  const node = source.cached(root.ref, root.level) ?? (await source.load(root.ref, root.level));
  await reduceNode(source, shape, node, range, totals);
  return totals;
}

async function reduceNode(
  source: NodeSource,
  shape: TreeShape,
  node: TreeNode,
  range: KeyRange,
  totals: Float64Array,
): Promise<void> {
  const low = range.gt ?? range.gte;
  const high = range.lt ?? range.lte;
  if (node.level === 0) {
    measureEntries(shape, node, firstInRange(node, range), endOfRange(node, range), totals);
    return;
  }
  const first = low === undefined ? -1 : node.childIndex(low);
  const last = high === undefined ? node.count : node.childIndex(high);
  for (let index = Math.max(first, 0); index <= Math.min(last, node.count - 1); index++) {
    // Only the children at the two ends may hold keys outside the range.
    if (index !== first && index !== last) {
      node.addChildTotals(index, totals);
      continue;
    }
    const ref = node.childRef(index);
    const level = node.level - 1;
    const child = source.cached(ref, level) ?? (await source.load(ref, level));
    await reduceNode(source, shape, child, range, totals);
  }
}

/** Adds what entries `[from, to)` of a leaf node count for. */
export function measureEntries(
  shape: TreeShape,
  node: TreeNode,
  from: number,
  to: number,
  totals: Float64Array,
): void {
  for (let index = from; index < to; index++) {
    const keyStart = node.keyStart(index);
    shape.measure(node.bytes, keyStart, node.keyEnd(index), node.entryEnd(index), totals);
  }
}
