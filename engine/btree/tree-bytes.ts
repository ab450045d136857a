/** How large a tree is: what its nodes take in the file, known from its interior nodes. */
import type { NodeSource, TreeRoot } from './tree.js';

/** Bytes of all nodes of a tree, without what stands between them. Throws `CHECKSUM`, `CORRUPT`, `IO`. */
export async function treeBytes(source: NodeSource, root: TreeRoot | undefined): Promise<number> {
  return root === undefined ? 0 : root.ref.length + (await bytesBelow(source, root));
}

async function bytesBelow(
  source: NodeSource,
  { ref, level }: Pick<TreeRoot, 'ref' | 'level'>,
): Promise<number> {
  if (level === 0) return 0;
  const node = source.cached(ref, level) ?? (await source.load(ref, level));
  let bytes = 0;
  for (let index = 0; index < node.count; index++) {
    const child = node.childRef(index);
    bytes += child.length;
    if (level > 1) bytes += await bytesBelow(source, { ref: child, level: level - 1 });
  }
  return bytes;
}
