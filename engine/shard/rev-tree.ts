/**
 * Revision trees with CouchDB's semantics (couch_key_tree there): the revisions of a document and which came from which. A forest
 * in truth, since stemming forgets the oldest revisions of each branch.
 *
 * Encoded (FORMAT.md section 9, "revision tree") as a path, where no edit conflicts with another, or as a list of nodes.
 * Nothing here changes its arguments.
 */
import { DivanError } from '../errors.js';
import { ByteReader } from '../file/byte-reader.js';
import type { ByteWriter } from '../file/byte-writer.js';
import { type Packable, pack, unpack } from '../file/pack.js';
import { compareRevisions, type Revision, readCode, revisionKey } from './revision.js';

export const LEAVES_MAX = 10_000;
/** No tree has more nodes than this; far above what stemming leaves of a sane one. */
export const REV_NODES_MAX = 2_000_000;

export interface RevNode {
  readonly revision: Revision;
  /** Index of the parent, which stands before its children; -1 for a root. */
  readonly parent: number;
  /** Of a leaf: it is a tombstone. */
  readonly deleted: boolean;
}

export type RevTree = readonly RevNode[];

/** Encodings begin with one of these. */
const LIVE_PATH = 0;
const DELETED_PATH = 1;
const NODES = 2;

/** Appends the encoding of a path: `codes` are the codes of its revisions, the leaf's first, one after another. */
export function writePath(
  out: ByteWriter,
  gen: number,
  deleted: boolean,
  count: number,
  codes: readonly Uint8Array[],
): void {
  out.u8(deleted ? DELETED_PATH : LIVE_PATH);
  out.varint(gen);
  out.varint(count);
  for (const code of codes) out.append(code);
}

/** What the encoding of a path says, without an object for each of its revisions. */
export interface EncodedPath {
  readonly leaf: Revision;
  readonly deleted: boolean;
  readonly count: number;
  /** The codes of all its revisions, the leaf's first. */
  readonly codes: Uint8Array;
}

/** Reads an encoded tree that is a path; undefined if it is not. Views of `encoded`. Throws `CORRUPT`. */
export function readPath(encoded: Uint8Array): EncodedPath | undefined {
  const reader = new ByteReader().reset(encoded);
  const kind = reader.u8();
  if (kind !== LIVE_PATH && kind !== DELETED_PATH) return undefined;
  const gen = reader.varint();
  const count = reader.varint();
  const codes = encoded.subarray(reader.at);
  return { leaf: { gen, code: readCode(reader) }, deleted: kind === DELETED_PATH, count, codes };
}

export function encodeTree(out: ByteWriter, tree: RevTree): void {
  if (leafIndexes(tree).length === 1) {
    const leaf = tree[tree.length - 1];
    const codes = tree.map((node) => node.revision.code).reverse();
    writePath(out, leaf?.revision.gen ?? 0, leaf?.deleted ?? false, codes.length, codes);
    return;
  }
  out.u8(NODES);
  out.append(
    pack(
      tree.map(
        ({ revision, parent, deleted }): Packable => [
          revision.gen,
          revision.code,
          parent + 1,
          deleted ? 1 : 0,
        ],
      ),
    ),
  );
}

/** Throws `CORRUPT`. */
export function decodeTree(encoded: Uint8Array): RevTree {
  const path = readPath(encoded);
  return path === undefined ? decodeNodes(encoded) : decodePath(path);
}

function decodePath(path: EncodedPath): RevTree {
  const reader = new ByteReader().reset(path.codes);
  if (path.count < 1 || path.count > path.leaf.gen) throw corrupt('a path has a wrong length');
  const revisions: Revision[] = [];
  for (let index = 0; index < path.count; index++) {
    revisions.push({ gen: path.leaf.gen - index, code: readCode(reader) });
  }
  return revisions.reverse().map((revision, index) => ({
    revision,
    parent: index - 1,
    deleted: path.deleted && index === path.count - 1,
  }));
}

function decodeNodes(encoded: Uint8Array): RevTree {
  if (encoded[0] !== NODES) throw corrupt('it is of an unknown kind');
  const tree = unpack(encoded.subarray(1)).each((list): RevNode => {
    const node = list.array();
    const revision = { gen: node.int(), code: node.binary() };
    return { revision, parent: node.int() - 1, deleted: node.int() === 1 };
  });
  for (const [index, { revision, parent }] of tree.entries()) {
    const gen = tree[parent]?.revision.gen;
    if (parent >= index || (parent >= 0 && gen !== revision.gen - 1)) {
      throw corrupt('a revision stands before its parent');
    }
  }
  return tree;
}

function corrupt(what: string): DivanError {
  return new DivanError('CORRUPT', `a revision tree can not be read: ${what}`);
}

/** The indexes of the leaves, in no particular order. */
export function leafIndexes(tree: RevTree): number[] {
  const isParent = new Uint8Array(tree.length);
  for (const { parent } of tree) if (parent >= 0) isParent[parent] = 1;
  const leaves: number[] = [];
  for (let index = 0; index < tree.length; index++) if (isParent[index] === 0) leaves.push(index);
  return leaves;
}

/** The leaves, the winner first: living ones before tombstones, then the higher revision. The same on every machine. */
export function leavesOf(tree: RevTree): RevNode[] {
  const leaves = leafIndexes(tree).flatMap((index) => tree[index] ?? []);
  return leaves.sort(
    (a, b) => Number(a.deleted) - Number(b.deleted) || compareRevisions(b.revision, a.revision),
  );
}

/** The winner of an encoded tree, without decoding one that is a path. Throws `CORRUPT`. */
export function winnerOf(encoded: Uint8Array): {
  readonly revision: Revision;
  readonly deleted: boolean;
} {
  const path = readPath(encoded);
  if (path !== undefined) return { revision: path.leaf, deleted: path.deleted };
  const [winner] = leavesOf(decodeTree(encoded));
  if (winner === undefined) throw corrupt('it has no leaf');
  return winner;
}

/** The index of a revision, -1 if the tree does not know it. */
export function indexOfRevision(tree: RevTree, revision: Revision): number {
  return tree.findIndex((node) => compareRevisions(node.revision, revision) === 0);
}

/** The revisions from the one at `index` to the oldest known, newest first: `_revisions`. */
export function pathTo(tree: RevTree, index: number): Revision[] {
  const path: Revision[] = [];
  for (let node = tree[index]; node !== undefined; node = tree[node.parent]) {
    path.push(node.revision);
  }
  return path;
}

export interface MergeResult {
  readonly tree: RevTree;
  /** `known`: its newest revision was there; `new_leaf`: it extends a leaf; `new_branch`: it makes a conflict. */
  readonly outcome: 'known' | 'new_leaf' | 'new_branch';
  /** Also a known revision can bring news: ancestors of what was a root. */
  readonly changed: boolean;
}

/** Adds a path, its newest revision first, to a tree. REQUIRES: generations fall by one. Throws `LIMIT`. */
export function mergePath(tree: RevTree, path: readonly Revision[], deleted: boolean): MergeResult {
  const nodes = new Draft(tree);
  const known = path.findIndex((revision) => nodes.find(revision) !== undefined);
  const extends_ = known > 0 && nodes.isLeaf(path[known]);
  for (let index = path.length - 1; index >= 0; index--) {
    nodes.add(path[index], path[index + 1], deleted && index === 0);
  }
  if (!nodes.changed) return { tree, outcome: 'known', changed: false };
  const merged = nodes.finish();
  if (leafIndexes(merged).length > LEAVES_MAX) {
    throw new DivanError('LIMIT', `a document has at most ${LEAVES_MAX} leaf revisions`);
  }
  const isNewLeaf = extends_ || tree.length === 0;
  const outcome = known === 0 ? 'known' : isNewLeaf ? 'new_leaf' : 'new_branch';
  return { tree: merged, outcome, changed: true };
}

/** A tree while it is being changed. */
class Draft {
  readonly #nodes = new Map<
    string,
    { revision: Revision; parent: string | undefined; deleted: boolean }
  >();
  readonly #parents = new Set<string>();
  /** True once something was added to the tree that was given. */
  changed = false;

  constructor(tree: RevTree) {
    for (const { revision, parent, deleted } of tree) {
      const above = tree[parent]?.revision;
      this.add(revision, above, deleted);
    }
    this.changed = false;
  }

  find(revision: Revision): string | undefined {
    const key = revisionKey(revision);
    return this.#nodes.has(key) ? key : undefined;
  }

  isLeaf(revision: Revision | undefined): boolean {
    return revision !== undefined && !this.#parents.has(revisionKey(revision));
  }

  /** Adds a revision, or gives a root that is known already the parent that was not known. */
  add(revision: Revision | undefined, parent: Revision | undefined, deleted: boolean): void {
    if (revision === undefined) return;
    const key = revisionKey(revision);
    const parentKey = parent === undefined ? undefined : revisionKey(parent);
    if (parentKey !== undefined) this.#parents.add(parentKey);
    const existing = this.#nodes.get(key);
    if (existing === undefined) {
      this.#nodes.set(key, { revision, parent: parentKey, deleted });
      this.changed = true;
    } else if (existing.parent === undefined && parentKey !== undefined) {
      existing.parent = parentKey;
      this.changed = true;
    }
  }

  /** The nodes, parents before children. */
  finish(): RevTree {
    const sorted = [...this.#nodes].sort(([, a], [, b]) => a.revision.gen - b.revision.gen);
    const indexes = new Map(sorted.map(([key], index) => [key, index]));
    return sorted.map(([, { revision, parent, deleted }]) => ({
      revision,
      parent: parent === undefined ? -1 : (indexes.get(parent) ?? -1),
      deleted,
    }));
  }
}

/** Keeps the newest `limit` revisions of each branch. */
export function stem(tree: RevTree, limit: number): RevTree {
  if (tree.length <= limit) return tree;
  const kept = new Uint8Array(tree.length);
  for (const leaf of leafIndexes(tree)) {
    let index = leaf;
    for (let left = limit; left > 0 && index >= 0; left--) {
      kept[index] = 1;
      index = tree[index]?.parent ?? -1;
    }
  }
  return keepOnly(tree, kept);
}

/** Removes leaves, with what of their branches no other leaf shares. Revisions that are no leaves are ignored. */
export function removeLeaves(
  tree: RevTree,
  revisions: readonly Revision[],
): { readonly tree: RevTree; readonly removed: Revision[] } {
  const removed: Revision[] = [];
  const kept = new Uint8Array(tree.length);
  const wanted = new Set(revisions.map(revisionKey));
  for (const leaf of leafIndexes(tree)) {
    const revision = tree[leaf]?.revision;
    if (revision !== undefined && wanted.has(revisionKey(revision))) removed.push(revision);
    else
      for (let index = leaf; index >= 0 && kept[index] === 0; index = tree[index]?.parent ?? -1)
        kept[index] = 1;
  }
  return { tree: keepOnly(tree, kept), removed };
}

/** The nodes with a mark; a node whose parent has none becomes a root. */
function keepOnly(tree: RevTree, kept: Uint8Array): RevTree {
  const indexes = new Map<number, number>();
  const result: RevNode[] = [];
  for (const [index, node] of tree.entries()) {
    if (kept[index] === 0) continue;
    indexes.set(index, result.length);
    result.push({ ...node, parent: indexes.get(node.parent) ?? -1 });
  }
  return result;
}
