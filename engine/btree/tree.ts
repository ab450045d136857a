/**
 * What a B-tree is to those who use it: a root, the totals its shape sums up, and where its nodes come from and go to.
 *
 * Trees are copy-on-write and know no documents: keys are byte strings in byte order, values are byte strings, and the
 * reductions of every tree are sums, so a shape only has to say what one entry adds.
 */
import type { Ref } from '../file/ref.js';
import type { TreeNode } from './node.js';

/** The root of a tree that has entries; an empty tree is `undefined`. */
export interface TreeRoot {
  readonly ref: Ref;
  /** Height above the leaves: 0 when the root is a leaf. */
  readonly level: number;
  /** The sums over all entries, as many as the shape has measures; whole numbers from 0 to 2^53 - 1. */
  readonly totals: readonly number[];
}

/** What distinguishes one tree from another. */
export interface TreeShape {
  /** The name used in the reports of `check`. */
  readonly name: string;
  /** How many sums the tree keeps. */
  readonly measures: number;
  /** Adds what one entry counts for to `totals`. The entry's key is `bytes[keyStart, keyEnd)`, its value `bytes[keyEnd, end)`. */
  measure(
    bytes: Uint8Array,
    keyStart: number,
    keyEnd: number,
    end: number,
    totals: Float64Array,
  ): void;
}

/** Where nodes are read from. */
export interface NodeSource {
  /** The node if it is in memory and of this level. */
  cached(ref: Ref, level: number): TreeNode | undefined;
  /** Reads the node and checks it against its ref and level; rejects with `CHECKSUM`, `CORRUPT` or `IO`. */
  load(ref: Ref, level: number): Promise<TreeNode>;
}

/** Where new nodes go. */
export interface NodeSink {
  /** Takes a copy of `node` and says at once where it will stand. */
  append(node: Uint8Array): Ref;
  /** True when so much waits to be written that the caller should await `drain`. */
  readonly full: boolean;
  /** Resolves when what waits has been handed to the disk and other work has had a turn. */
  drain(): Promise<void>;
}

/** An entry of a tree. Both parts are views of shared bytes. */
export interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** A range of keys; an end that is not given is open. Of `gt` and `gte`, and of `lt` and `lte`, at most one is given. */
export interface KeyRange {
  readonly gt?: Uint8Array | undefined;
  readonly gte?: Uint8Array | undefined;
  readonly lt?: Uint8Array | undefined;
  readonly lte?: Uint8Array | undefined;
  /** From the last key to the first. */
  readonly reverse?: boolean | undefined;
}

/** Trees deeper than this are damage: a cycle or a forged level. */
export const TREE_LEVEL_MAX = 24;
