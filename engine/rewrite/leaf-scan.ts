/** Reading the leaves of a tree in key order, in large pieces, one piece ahead of its use. */
import type { TreeNode } from '../btree/node.js';
import { openNode } from '../btree/node.js';
import type { TreeName } from '../shard/state.js';
import { Extents } from './extents.js';
import type { Source } from './source.js';

/** Leaves are read in pieces of about this size. */
const PIECE_BYTES = 1024 * 1024;

/** In files that a rewrite made, the bodies of a leaf's rows stand before it: they are not to be read twice. */
const GAP_BYTES_MAX = 4 * 1024;

/** The leaves of a tree of a source from the one that may hold the first key after `after`, in pieces. Throws `CHECKSUM`, `CORRUPT`, `IO`. */
export async function* leafPieces(
  source: Source,
  tree: TreeName,
  after: Uint8Array | undefined,
): AsyncGenerator<TreeNode[], undefined> {
  const root = source.state.roots[tree];
  if (root === undefined) return;
  const node = await source.load(root.ref, root.level);
  if (root.level === 0) {
    yield [node];
    return;
  }
  let ahead: Promise<TreeNode[]> | undefined;
  for await (const { parent, first } of parentsOfLeaves(source, node, after)) {
    for (let from = first; from < parent.count; ) {
      const to = endOfPiece(parent, from);
      const next = readLeaves(source, parent, from, to);
      // A reader that stops early never awaits it: its failure then concerns nobody.
      next.catch(() => undefined);
      if (ahead !== undefined) yield await ahead;
      ahead = next;
      from = to;
    }
  }
  if (ahead !== undefined) yield await ahead;
}

/** The nodes above the leaves, in order, each with the first child that matters. */
async function* parentsOfLeaves(
  source: Source,
  node: TreeNode,
  after: Uint8Array | undefined,
): AsyncGenerator<{ readonly parent: TreeNode; readonly first: number }, undefined> {
  const first = after === undefined ? 0 : node.childIndex(after);
  if (node.level === 1) {
    yield { parent: node, first };
    return;
  }
  for (let index = first; index < node.count; index++) {
    const child = await source.load(node.childRef(index), node.level - 1);
    yield* parentsOfLeaves(source, child, index === first ? after : undefined);
  }
}

function endOfPiece(parent: TreeNode, from: number): number {
  let bytes = 0;
  let to = from;
  while (to < parent.count && (to === from || bytes < PIECE_BYTES)) {
    bytes += parent.childRef(to).length;
    to++;
  }
  return to;
}

async function readLeaves(
  source: Source,
  parent: TreeNode,
  from: number,
  to: number,
): Promise<TreeNode[]> {
  const refs = Array.from({ length: to - from }, (_, index) => parent.childRef(from + index));
  const extents = new Extents(source.file, GAP_BYTES_MAX);
  const numbers = refs.map(({ pos, length, crc }) => extents.add(pos, length, crc));
  await extents.read();
  const { buffer } = extents.buffer;
  return refs.map(({ length }, index) =>
    openNode(new Uint8Array(buffer, extents.place(numbers[index] ?? 0), length), 0),
  );
}
