/**
 * Reading a range of a tree, leaf node by leaf node or entry by entry, in either direction.
 *
 * The leaf nodes ahead are loaded while one is being used, so that a scan of a tree that is not in memory does not wait for the
 * disk once per node.
 */
import type { TreeNode } from './node.js';
import type { Entry, KeyRange, NodeSource, TreeRoot } from './tree.js';

const READ_AHEAD_NODES = 8;

/** Entries `[from, to)` of a leaf node. */
export interface LeafSlice {
  readonly node: TreeNode;
  readonly from: number;
  readonly to: number;
}

/** The leaf nodes that hold keys of the range. Slices come in the order of reading; entries inside one always ascend. */
export async function* leafSlices(
  source: NodeSource,
  root: TreeRoot | undefined,
  range: KeyRange,
): AsyncGenerator<LeafSlice, undefined> {
  if (root === undefined) return;
  const node = source.cached(root.ref, root.level) ?? (await source.load(root.ref, root.level));
  yield* slicesBelow(source, node, range);
}

async function* slicesBelow(
  source: NodeSource,
  node: TreeNode,
  range: KeyRange,
): AsyncGenerator<LeafSlice, undefined> {
  if (node.level === 0) {
    const from = firstInRange(node, range);
    const to = endOfRange(node, range);
    if (from < to) yield { node, from, to };
    return;
  }
  for await (const child of childrenInRange(source, node, range)) {
    if (child.level === 0) {
      const from = firstInRange(child, range);
      const to = endOfRange(child, range);
      if (from < to) yield { node: child, from, to };
    } else yield* slicesBelow(source, child, range);
  }
}

/** The children that may hold keys of the range, some of them loaded ahead. */
async function* childrenInRange(
  source: NodeSource,
  node: TreeNode,
  range: KeyRange,
): AsyncGenerator<TreeNode, undefined> {
  const low = range.gt ?? range.gte;
  const high = range.lt ?? range.lte;
  const first = low === undefined ? 0 : node.childIndex(low);
  const last = high === undefined ? node.count - 1 : node.childIndex(high);
  const count = last - first + 1;
  const ahead: Promise<TreeNode>[] = [];
  for (let next = 0, done = 0; done < count; done++) {
    for (; next < count && next - done < READ_AHEAD_NODES; next++) {
      const index = range.reverse === true ? last - next : first + next;
      ahead.push(loadAhead(source, node, index));
    }
    const child = await ahead.shift();
    if (child !== undefined) yield child;
  }
}

/** Starts to load a child. A reader that stops early never awaits it: its failure then concerns nobody. */
function loadAhead(source: NodeSource, node: TreeNode, index: number): Promise<TreeNode> {
  const ref = node.childRef(index);
  const cached = source.cached(ref, node.level - 1);
  if (cached !== undefined) return Promise.resolve(cached);
  const loading = source.load(ref, node.level - 1);
  loading.catch(() => undefined);
  return loading;
}

/** The first entry of a leaf node that is in the range. */
export function firstInRange(node: TreeNode, range: KeyRange): number {
  if (range.gte !== undefined) return node.lowerBound(range.gte);
  return range.gt === undefined ? 0 : indexAfter(node, range.gt);
}

/** The entry after the last one that is in the range. */
export function endOfRange(node: TreeNode, range: KeyRange): number {
  if (range.lt !== undefined) return node.lowerBound(range.lt);
  return range.lte === undefined ? node.count : indexAfter(node, range.lte);
}

function indexAfter(node: TreeNode, key: Uint8Array): number {
  const bound = node.lowerBound(key);
  return bound < node.count && node.compareKey(bound, key) === 0 ? bound + 1 : bound;
}

/** The entries of a range, one by one. Keys and values are views of shared nodes. */
export async function* entries(
  source: NodeSource,
  root: TreeRoot | undefined,
  range: KeyRange,
): AsyncGenerator<Entry, undefined> {
  for await (const { node, from, to } of leafSlices(source, root, range)) {
    for (let step = from; step < to; step++) {
      const index = range.reverse === true ? to - 1 - (step - from) : step;
      yield { key: node.key(index), value: node.value(index) };
    }
  }
}
