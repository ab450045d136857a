/** Finding one key of a tree. */
import type { NodeSource, TreeRoot } from './tree.js';

/** The value of a key, or undefined. A view of a shared node. Rejects with `CHECKSUM`, `CORRUPT` or `IO`. */
export async function lookup(
  source: NodeSource,
  root: TreeRoot | undefined,
  key: Uint8Array,
): Promise<Uint8Array | undefined> {
  if (root === undefined) return undefined;
  let { ref, level } = root;
  for (;;) {
    const node = source.cached(ref, level) ?? (await source.load(ref, level));
    if (level === 0) {
      const index = node.lowerBound(key);
      if (index === node.count || node.compareKey(index, key) !== 0) return undefined;
      return node.value(index);
    }
    ref = node.childRef(node.childIndex(key));
    level--;
  }
}

/** Says that a value can't be told without reading the file. */
export const NOT_CACHED = Symbol('not cached');

/** As `lookup`, from nodes in memory alone, without a promise. */
export function lookupCached(
  source: NodeSource,
  root: TreeRoot | undefined,
  key: Uint8Array,
): Uint8Array | undefined | typeof NOT_CACHED {
  if (root === undefined) return undefined;
  let { ref } = root;
  for (let level = root.level; ; level--) {
    const node = source.cached(ref, level);
    if (node === undefined) return NOT_CACHED;
    if (level > 0) {
      ref = node.childRef(node.childIndex(key));
      continue;
    }
    const index = node.lowerBound(key);
    if (index === node.count || node.compareKey(index, key) !== 0) return undefined;
    return node.value(index);
  }
}
