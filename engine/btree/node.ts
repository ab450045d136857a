/**
 * The bytes of tree nodes: FORMAT.md section 8. Pure encoding and decoding.
 *
 * A node is searched where it lies: a `TreeNode` is one object for the whole node and none for its entries.
 */
import { DivanError } from '../errors.js';
import { byteAt, compareBytes, readU16, readU32, writeU16, writeU32 } from '../file/bytes.js';
import { REF_BYTES, type Ref, readRef } from '../file/ref.js';
import { VarintReader } from '../file/varint.js';
import { TREE_LEVEL_MAX } from './tree.js';

export const NODE_HEADER_BYTES = 4;
/** A node gets slots of four bytes instead of two once it is larger than this. */
export const NARROW_NODE_BYTES_MAX = 0xffff;
export const NODE_ENTRIES_MAX = 0xffff;

const LEAF = 1;
const INTERIOR = 2;
const WIDE = 0x80;

const varint = new VarintReader();

/** A decoded node. Its bytes are shared and never change. */
export class TreeNode {
  readonly bytes: Uint8Array;
  /** 0 for a leaf node. */
  readonly level: number;
  readonly count: number;
  readonly #wide: boolean;

  constructor(bytes: Uint8Array, level: number, count: number, wide: boolean) {
    this.bytes = bytes;
    this.level = level;
    this.count = count;
    this.#wide = wide;
  }

  /** Where entry `index` starts; for `index` = `count` the end of the last one. */
  entryStart(index: number): number {
    if (index === this.count) return this.bytes.length;
    return this.#wide
      ? readU32(this.bytes, NODE_HEADER_BYTES + index * 4)
      : readU16(this.bytes, NODE_HEADER_BYTES + index * 2);
  }

  entryEnd(index: number): number {
    return this.entryStart(index + 1);
  }

  keyStart(index: number): number {
    const start = this.entryStart(index);
    if (byteAt(this.bytes, start) < 0x80) return start + 1;
    const reader = varint.reset(this.bytes, start);
    reader.next();
    return reader.at;
  }

  /** Where the key of entry `index` ends and its value starts. */
  keyEnd(index: number): number {
    const start = this.entryStart(index);
    const first = byteAt(this.bytes, start);
    if (first < 0x80) return start + 1 + first;
    const reader = varint.reset(this.bytes, start);
    const length = reader.next();
    return reader.at + length;
  }

  key(index: number): Uint8Array {
    return this.bytes.subarray(this.keyStart(index), this.keyEnd(index));
  }

  value(index: number): Uint8Array {
    return this.bytes.subarray(this.keyEnd(index), this.entryEnd(index));
  }

  /** Negative, 0 or positive as the key of entry `index` stands before, at or after `key`. */
  compareKey(index: number, key: Uint8Array): number {
    return compareBytes(this.bytes, this.keyStart(index), this.keyEnd(index), key, 0, key.length);
  }

  /** The first entry from `low` on whose key is not before `key`; `count` if there is none. */
  lowerBound(key: Uint8Array, low = 0): number {
    let from = low;
    let to = this.count;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.compareKey(middle, key) < 0) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  /** In an interior node: the child whose keys may include `key`. The first child takes all that come before the second. */
  childIndex(key: Uint8Array): number {
    const bound = this.lowerBound(key, 1);
    return bound < this.count && this.compareKey(bound, key) === 0 ? bound : bound - 1;
  }

  /** In an interior node: the ref of a child. */
  childRef(index: number): Ref {
    return readRef(this.bytes, this.keyEnd(index));
  }

  /** In an interior node: adds the totals of a child to `totals`. Throws `CORRUPT`. */
  addChildTotals(index: number, totals: Float64Array): void {
    addTotals(this.bytes, this.keyEnd(index) + REF_BYTES, totals);
  }
}

/** Adds the varints at `at`, as many as `totals` has members. */
export function addTotals(bytes: Uint8Array, at: number, totals: Float64Array): void {
  const reader = varint.reset(bytes, at);
  for (let index = 0; index < totals.length; index++) {
    totals[index] = (totals[index] ?? 0) + reader.next();
  }
}

/**
 * Decodes a node and checks its structure, so that nothing that reads it can go astray. `level`: the one that its parent says it
 * has; a cycle of refs ends here. Throws `CORRUPT`.
 */
export function openNode(bytes: Uint8Array, level: number): TreeNode {
  if (bytes.length < NODE_HEADER_BYTES) throw corrupt('is too short');
  const kind = byteAt(bytes, 0);
  const wide = (kind & WIDE) !== 0;
  const count = readU16(bytes, 2);
  if ((kind & ~WIDE) !== (level === 0 ? LEAF : INTERIOR)) throw corrupt('is of another kind');
  if (byteAt(bytes, 1) !== level || level > TREE_LEVEL_MAX) throw corrupt('is of another level');
  if (count === 0) throw corrupt('is empty');
  const entriesStart = NODE_HEADER_BYTES + count * (wide ? 4 : 2);
  if (entriesStart > bytes.length) throw corrupt('has slots past its end');
  const node = new TreeNode(bytes, level, count, wide);
  checkEntries(node, entriesStart);
  return node;
}

function checkEntries(node: TreeNode, entriesStart: number): void {
  const { bytes, count } = node;
  const valueBytesMin = node.level === 0 ? 0 : REF_BYTES + 1;
  let expected = entriesStart;
  for (let index = 0; index < count; index++) {
    const start = node.entryStart(index);
    const end = node.entryStart(index + 1);
    if (start < expected || end <= start || end > bytes.length) throw corrupt('has a bad slot');
    if (index === 0 && start !== entriesStart) throw corrupt('has a gap');
    if (node.keyEnd(index) + valueBytesMin > end) throw corrupt('has a key past its entry');
    expected = end;
  }
}

function corrupt(what: string): DivanError {
  return new DivanError('CORRUPT', `a tree node ${what}`);
}

/**
 * Writes a node into `out`, which must be large enough, and returns its length.
 * `entries[starts[from], entriesEnd)` are the entries, `starts` their places.
 */
export function encodeNode(
  out: Uint8Array,
  level: number,
  entries: Uint8Array,
  starts: Uint32Array,
  from: number,
  to: number,
  entriesEnd: number,
): number {
  const first = starts[from] ?? 0;
  const count = to - from;
  const length = nodeBytes(count, entriesEnd - first);
  const wide = length > NARROW_NODE_BYTES_MAX;
  out[0] = (level === 0 ? LEAF : INTERIOR) | (wide ? WIDE : 0);
  out[1] = level;
  writeU16(out, 2, count);
  const entriesStart = NODE_HEADER_BYTES + count * (wide ? 4 : 2);
  for (let index = 0; index < count; index++) {
    const start = entriesStart + (starts[from + index] ?? 0) - first;
    if (wide) writeU32(out, NODE_HEADER_BYTES + index * 4, start);
    else writeU16(out, NODE_HEADER_BYTES + index * 2, start);
  }
  out.set(entries.subarray(first, entriesEnd), entriesStart);
  return length;
}

/** The size of a node with `count` entries of together `entryBytes`. */
export function nodeBytes(count: number, entryBytes: number): number {
  const narrow = NODE_HEADER_BYTES + count * 2 + entryBytes;
  return narrow <= NARROW_NODE_BYTES_MAX ? narrow : narrow + count * 2;
}
