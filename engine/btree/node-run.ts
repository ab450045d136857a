/**
 * A run of entries of one level on their way into nodes: what modifying and bulk building share.
 *
 * Entries are added in key order. Once they fill more than one node or two, full ones are cut off; `cut` cuts the rest. So a run
 * holds little, and what a long run becomes does not depend on when its entries came.
 */
import assert from 'node:assert';
import { ByteWriter } from '../file/byte-writer.js';
import { byteAt } from '../file/bytes.js';
import { REF_BYTES, type Ref } from '../file/ref.js';
import { VarintReader, varintBytes, writeVarint } from '../file/varint.js';
import { addTotals, encodeNode, NODE_ENTRIES_MAX, nodeBytes, type TreeNode } from './node.js';
import type { NodeSink, TreeShape } from './tree.js';

/** Nodes are at most this large unless a single entry is larger. */
export const NODE_BYTES_DEFAULT = 8192;
const EMPTY_KEY = new Uint8Array(0);

/** Takes the nodes that a run becomes: the lowest key each may hold, its ref and its totals. Views, valid during the call. */
export type NodeTaker = (separator: Uint8Array, ref: Ref, totals: Float64Array) => void;

/** What a half-built run holds, for a checkpoint. */
export interface RunEdge {
  readonly lower: Uint8Array;
  readonly starts: readonly number[];
  readonly entries: Uint8Array;
}

export interface RunOptions {
  readonly nodeBytes: number;
  /** Of the nodes. */
  readonly level: number;
  /** Two nodes are held back so that they can be made even at the end; at the right edge of a tree one is enough. */
  readonly nodesHeld: 1 | 2;
}

/** Where nodes are laid out before the sink takes its copy. */
let scratch = new Uint8Array(2 * NODE_BYTES_DEFAULT);

export class NodeRun {
  readonly level: number;
  readonly #sink: NodeSink;
  readonly #shape: TreeShape;
  readonly #nodeBytes: number;
  readonly #take: NodeTaker;
  /** Full nodes are cut off once the entries fill more than so many. */
  readonly #nodesHeld: number;
  readonly #entries = new ByteWriter();
  /** Where each entry starts. */
  #starts = new Uint32Array(64);
  #count = 0;
  /** The lowest key that the first node of the run may hold. */
  #lower: Uint8Array = EMPTY_KEY;
  readonly #childValue = new ByteWriter();
  readonly #varint = new VarintReader();
  readonly #totals: Float64Array;
  #keyLength = 0;

  constructor(
    sink: NodeSink,
    shape: TreeShape,
    { nodeBytes, level, nodesHeld }: RunOptions,
    take: NodeTaker,
  ) {
    this.level = level;
    this.#nodesHeld = nodesHeld;
    this.#sink = sink;
    this.#shape = shape;
    this.#nodeBytes = nodeBytes;
    this.#take = take;
    this.#totals = new Float64Array(shape.measures);
  }

  get empty(): boolean {
    return this.#count === 0;
  }

  /** True if what is left would make a node so small that it should be joined with the entries that follow. */
  get underfull(): boolean {
    return this.#size() < this.#nodeBytes / 4;
  }

  /** Says which key is the lowest that the next entries may have. REQUIRES: the run is empty. */
  begin(lower: Uint8Array): void {
    assert(this.empty, 'a run begins empty');
    this.#lower = Uint8Array.prototype.slice.call(lower);
  }

  /** Adds an entry. */
  add(key: Uint8Array, value: Uint8Array): void {
    const keyLengthBytes = varintBytes(key.length);
    const at = this.#entries.skip(keyLengthBytes + key.length + value.length);
    const { bytes } = this.#entries;
    writeVarint(bytes, at, key.length);
    bytes.set(key, at + keyLengthBytes);
    bytes.set(value, at + keyLengthBytes + key.length);
    this.#addStart(at);
    this.#cutFull();
  }

  /**
   * Begins to add an entry of another node, `bytes[start, end)`, as it is. Returns where it starts in `entryBytes`, where some
   * of it may be changed before `endEntry`; its length and its order among the keys must stay.
   */
  beginEntry(bytes: Uint8Array, start: number, end: number): number {
    const at = this.#entries.skip(end - start);
    this.#entries.bytes.set(bytes.subarray(start, end), at);
    this.#addStart(at);
    return at;
  }

  /** The entries of the run; replaced when more are added. */
  get entryBytes(): Uint8Array {
    return this.#entries.bytes;
  }

  endEntry(): void {
    this.#cutFull();
  }

  /** Adds a child of an interior node. */
  addChild(separator: Uint8Array, ref: Ref, totals: Float64Array): void {
    const value = this.#childValue;
    value.clear();
    value.ref(ref);
    for (const total of totals) value.varint(total);
    this.add(separator, value.view());
  }

  /** Adds entries `[from, to)` of a node as they are. */
  addRange(node: TreeNode, from: number, to: number): void {
    if (from === to) return;
    this.beginRange(node, from, to);
    this.#cutFull();
  }

  /**
   * As `beginEntry` of entries `[from, to)` of a node, at least one. Returns how far `entryBytes` has them from where they
   * stand in the node.
   */
  beginRange(node: TreeNode, from: number, to: number): number {
    const start = node.entryStart(from);
    const end = node.entryStart(to);
    const shift = this.#entries.skip(end - start) - start;
    this.#entries.bytes.set(node.bytes.subarray(start, end), start + shift);
    for (let index = from; index < to; index++) this.#addStart(node.entryStart(index) + shift);
    return shift;
  }

  /** Makes nodes of everything. At the right edge of a tree all but the last are full, elsewhere the last two are even. */
  cut(rightEdge: boolean): void {
    while (this.#size() > this.#nodeBytes && this.#count > this.#countMin) {
      this.#cutAt(rightEdge ? this.#nodeBytes : this.#size() / 2);
    }
    if (!this.empty) this.#emit(this.#count);
  }

  /** What the run holds now: a run resumed from it becomes the same nodes. */
  edge(): RunEdge {
    const starts = [...this.#starts.subarray(0, this.#count)];
    return { lower: this.#lower, starts, entries: this.#entries.copy() };
  }

  /** Goes on from an edge. REQUIRES: the run is new. */
  resume(edge: RunEdge): void {
    this.#lower = edge.lower;
    for (const start of edge.starts) this.#addStart(start);
    this.#entries.append(edge.entries);
  }

  /** An interior node has at least two children where it can, however small nodes are: else a tree would grow without end. */
  get #countMin(): number {
    return this.level === 0 ? 1 : 2;
  }

  #size(): number {
    return nodeBytes(this.#count, this.#entries.length);
  }

  #cutFull(): void {
    while (
      this.#count > this.#countMin &&
      (this.#size() > this.#nodesHeld * this.#nodeBytes || this.#count > NODE_ENTRIES_MAX)
    ) {
      this.#cutAt(this.#nodeBytes);
    }
  }

  /** Cuts off a node of as many entries as fit into `bytes`, at least the minimum. */
  #cutAt(bytes: number): void {
    let count = this.#countMin;
    while (
      count < this.#count - 1 &&
      count < NODE_ENTRIES_MAX &&
      nodeBytes(count + 1, this.#starts[count + 1] ?? 0) <= bytes
    ) {
      count++;
    }
    this.#emit(count);
  }

  /** Makes a node of the first `count` entries and moves the others to the front. */
  #emit(count: number): void {
    const end = count < this.#count ? (this.#starts[count] ?? 0) : this.#entries.length;
    const length = nodeBytes(count, end);
    if (scratch.length < length) scratch = new Uint8Array(length * 2);
    encodeNode(scratch, this.level, this.#entries.bytes, this.#starts, 0, count, end);
    this.#measure(count, end);
    const ref = this.#sink.append(scratch.subarray(0, length));
    const lower = this.#lower;
    if (count < this.#count) this.#lower = this.#separatorAt(count);
    this.#dropFront(count, end);
    this.#take(lower, ref, this.#totals);
  }

  #measure(count: number, end: number): void {
    const { bytes } = this.#entries;
    this.#totals.fill(0);
    for (let index = 0; index < count; index++) {
      const keyStart = this.#keyStart(index);
      const keyEnd = keyStart + this.#keyLength;
      const entryEnd = index + 1 < count ? (this.#starts[index + 1] ?? end) : end;
      if (this.level === 0) {
        this.#shape.measure(bytes, keyStart, keyEnd, entryEnd, this.#totals);
      } else addTotals(bytes, keyEnd + REF_BYTES, this.#totals);
    }
  }

  /** Where the key of an entry starts; leaves its length in `#keyLength`. */
  #keyStart(index: number): number {
    const start = this.#starts[index] ?? 0;
    const first = byteAt(this.#entries.bytes, start);
    if (first < 0x80) {
      this.#keyLength = first;
      return start + 1;
    }
    this.#varint.reset(this.#entries.bytes, start);
    this.#keyLength = this.#varint.next();
    return this.#varint.at;
  }

  /**
   * The lowest key of the node that begins with entry `index`: above the leaves the key of its first entry; at the leaves the
   * shortest prefix of that key which comes after every key before, so that interior nodes stay small.
   */
  #separatorAt(index: number): Uint8Array {
    const { bytes } = this.#entries;
    const start = this.#keyStart(index);
    const end = start + this.#keyLength;
    if (this.level > 0) return Uint8Array.prototype.slice.call(bytes, start, end);
    const before = this.#keyStart(index - 1);
    const beforeEnd = before + this.#keyLength;
    let common = 0;
    while (
      before + common < beforeEnd &&
      byteAt(bytes, before + common) === byteAt(bytes, start + common)
    ) {
      common++;
    }
    assert(start + common < end, 'keys are added in ascending order');
    return Uint8Array.prototype.slice.call(bytes, start, start + common + 1);
  }

  #dropFront(count: number, end: number): void {
    const entries = this.#entries;
    entries.bytes.copyWithin(0, end, entries.length);
    entries.length -= end;
    this.#count -= count;
    for (let index = 0; index < this.#count; index++) {
      this.#starts[index] = (this.#starts[index + count] ?? 0) - end;
    }
  }

  #addStart(at: number): void {
    if (this.#count === this.#starts.length) {
      const larger = new Uint32Array(this.#count * 2);
      larger.set(this.#starts);
      this.#starts = larger;
    }
    this.#starts[this.#count++] = at;
  }
}
