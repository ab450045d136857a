/**
 * The entries of one tree of several sources in the order of their keys in the target: runs of entries of one leaf that come
 * before everything that the other sources still have.
 */
import type { TreeNode } from '../btree/node.js';
import { DivanError } from '../errors.js';
import { readSeq } from '../file/byte-reader.js';
import { compareBytes } from '../file/bytes.js';
import type { TreeName } from '../shard/state.js';
import { leafPieces } from './leaf-scan.js';
import type { SeqMap } from './seq-map.js';
import type { Source } from './source.js';

/** How far one source has been read. */
interface Cursor {
  readonly source: number;
  readonly pieces: AsyncGenerator<TreeNode[], undefined>;
  piece: readonly TreeNode[];
  nextInPiece: number;
  /** Undefined before the first load and at the end. */
  node: TreeNode | undefined;
  index: number;
  /** Where keys are seqs: that of the entry at `index`, in the target. */
  seq: number;
  ended: boolean;
}

export interface MergedRunsOptions {
  /** How the keys of each source become those of the target; without it they stay, and are compared as bytes. */
  readonly seqMaps: readonly SeqMap[] | undefined;
  /** Only entries whose key in the target is after this one. */
  readonly after: Uint8Array | undefined;
}

export class MergedRuns {
  readonly #cursors: readonly Cursor[];
  readonly #seqMaps: readonly SeqMap[] | undefined;
  readonly #after: Uint8Array | undefined;
  /** Of the present run: its source, its node and its entries `[from, to)`. */
  source = 0;
  node: TreeNode | undefined;
  from = 0;
  to = 0;

  constructor(sources: readonly Source[], tree: TreeName, options: MergedRunsOptions) {
    const { seqMaps, after } = options;
    this.#seqMaps = seqMaps;
    this.#after = after;
    this.#cursors = sources.map((source, index): Cursor => {
      const ownAfter =
        after === undefined ? undefined : (seqMaps?.[index]?.keyBefore(after) ?? after);
      const pieces = leafPieces(source, tree, ownAfter);
      return {
        source: index,
        pieces,
        piece: [],
        nextInPiece: 0,
        node: undefined,
        index: 0,
        seq: 0,
        ended: false,
      };
    });
  }

  /** Moves to the next run; false if a leaf must be loaded first. */
  next(): boolean {
    let least: Cursor | undefined;
    let second: Cursor | undefined;
    for (const cursor of this.#cursors) {
      if (cursor.ended) continue;
      if (cursor.node === undefined) return false;
      if (least === undefined || this.#compareHeads(cursor, least) < 0) {
        second = least;
        least = cursor;
      } else if (second === undefined || this.#compareHeads(cursor, second) < 0) {
        second = cursor;
      }
    }
    if (least?.node === undefined) return false;
    this.source = least.source;
    this.node = least.node;
    this.from = least.index;
    this.to = second === undefined ? least.node.count : this.#endBefore(least, least.node, second);
    least.index = this.to;
    if (least.index === least.node.count) least.node = undefined;
    return true;
  }

  /** Loads what `next` lacks; false at the end of all sources. Throws `CHECKSUM`, `CORRUPT`, `IO`. */
  async load(): Promise<boolean> {
    for (const cursor of this.#cursors) {
      while (!cursor.ended && cursor.node === undefined) await this.#loadLeaf(cursor);
    }
    return this.#cursors.some(({ ended }) => !ended);
  }

  async #loadLeaf(cursor: Cursor): Promise<void> {
    if (cursor.nextInPiece === cursor.piece.length) {
      const { value } = await cursor.pieces.next();
      cursor.ended = value === undefined;
      cursor.piece = value ?? [];
      cursor.nextInPiece = 0;
      if (value === undefined) return;
    }
    const node = cursor.piece[cursor.nextInPiece++];
    if (node === undefined) return;
    cursor.index = this.#firstAfter(cursor.source, node);
    if (cursor.index === node.count) return;
    cursor.node = node;
    cursor.seq = this.#seqOf(cursor.source, node, cursor.index);
  }

  /** The first entry whose key in the target is after the one to begin after. */
  #firstAfter(source: number, node: TreeNode): number {
    if (this.#after === undefined) return 0;
    const key = this.#seqMaps?.[source]?.keyBefore(this.#after) ?? this.#after;
    const bound = node.lowerBound(key);
    return bound < node.count && node.compareKey(bound, key) === 0 ? bound + 1 : bound;
  }

  /** The first entry of `least` that does not come before the present one of `second`. */
  #endBefore(least: Cursor, node: TreeNode, second: Cursor): number {
    let to = least.index + 1;
    for (; to < node.count; to++) {
      if (this.#seqMaps === undefined) {
        if (second.node === undefined || compareKeys(node, to, second.node, second.index) >= 0)
          break;
      } else {
        least.seq = this.#seqOf(least.source, node, to);
        if (least.seq >= second.seq) break;
      }
    }
    return to;
  }

  /** Compares the present entries of two cursors. Throws `CORRUPT` if they have the same key. */
  #compareHeads(a: Cursor, b: Cursor): number {
    if (a.node === undefined || b.node === undefined) return 0;
    const order =
      this.#seqMaps === undefined ? compareKeys(a.node, a.index, b.node, b.index) : a.seq - b.seq;
    if (order !== 0) return order;
    const key = Buffer.from(a.node.key(a.index)).toString('latin1');
    throw new DivanError('CORRUPT', `two of the sources hold the key ${JSON.stringify(key)}`);
  }

  /** Where keys are seqs, that of an entry in the target. */
  #seqOf(source: number, node: TreeNode, index: number): number {
    if (this.#seqMaps === undefined) return 0;
    const seq = readSeq(node.bytes, node.keyStart(index));
    return this.#seqMaps[source]?.map(seq) ?? seq;
  }
}

function compareKeys(a: TreeNode, aIndex: number, b: TreeNode, bIndex: number): number {
  return compareBytes(
    a.bytes,
    a.keyStart(aIndex),
    a.keyEnd(aIndex),
    b.bytes,
    b.keyStart(bIndex),
    b.keyEnd(bIndex),
  );
}
