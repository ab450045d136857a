/**
 * Reading the rows of by-seq with their bodies, a window of rows at a time. While one window is used, the bodies of the next are
 * read, so that the disk and the processor both have work.
 */
import assert from 'node:assert';
import type { TreeNode } from '../btree/node.js';
import { readSeq } from '../file/byte-reader.js';
import { readU32, readU48 } from '../file/bytes.js';
import { REF_CRC_AT, REF_LENGTH_AT, type Ref } from '../file/ref.js';
import { type Leaf, PlainRowReader, readRow } from '../shard/seq-tree.js';
import { Extents } from './extents.js';
import { MergedRuns } from './merged-runs.js';
import type { SeqMap } from './seq-map.js';
import type { Source } from './source.js';

/** A window has at most so many rows, and bodies of at most so many bytes and one row. */
const WINDOW_ROWS = 16_384;
const WINDOW_BYTES = 4 * 1024 * 1024;
/** A small one has this share of that. */
const SMALL_SHARE = 1 / 16;

/** Of a row with several leaves or attachments the runs are read ahead if they have at most so many bytes. */
const AHEAD_BYTES_MAX = 256 * 1024;

const NO_BODY = -1;
/** In the place of a body's number: the row has several leaves or attachments. */
const NOT_PLAIN = -2;

export const UNWANTED = -1;

export interface RowWindowsOptions {
  /** How update seqs map, for each source; without it they stay. */
  readonly seqMaps: readonly SeqMap[] | undefined;
  /** Only rows whose key in the target is after this one. */
  readonly after: Uint8Array | undefined;
  /** The number of the target of rows with a hash; `UNWANTED` for those whose bodies are not to be read. */
  readonly route: (hash: number) => number;
  /** Where others want the disk and the processors too, they wait less for a small window than for a large one. */
  readonly small: boolean;
}

/**
 * The windows of all rows, in the order of their seqs in the target. Each is valid until the next is asked for. Throws `CHECKSUM`,
 * `CORRUPT`, `IO`.
 */
export async function* rowWindows(
  sources: readonly Source[],
  options: RowWindowsOptions,
): AsyncGenerator<RowWindow, undefined> {
  const { seqMaps, after, small } = options;
  const runs = new MergedRuns(sources, 'bySeq', { seqMaps, after });
  let filling = new RowWindow(sources, small);
  let ready = new RowWindow(sources, small);
  for (let more = true; more; ) {
    more = await filling.fill(runs, options.route);
    const read = filling.readBodies();
    // If whoever uses the window before it fails first, nobody waits for it.
    read.catch(() => undefined);
    if (ready.read > 0) yield ready;
    await read;
    [filling, ready] = [ready, filling];
  }
  if (ready.read > 0) yield ready;
}

/** Rows on their way, without an object for each. */
export class RowWindow {
  readonly #sources: readonly Source[];
  /** The bodies, for each source. */
  readonly #bodies: readonly Extents[];
  readonly #nodes: TreeNode[] = [];
  readonly #rowsMax: number;
  readonly #bytesMax: number;
  readonly #nodeOf: Uint32Array;
  readonly #indexOf: Uint32Array;
  readonly #sourceOf: Uint32Array;
  readonly #targetOf: Uint32Array;
  readonly #refAt: Uint32Array;
  readonly #bodyOf: Int32Array;
  readonly #plainRow = new PlainRowReader();
  /** Of rows that are not plain: the numbers of the runs that were read ahead, by position. */
  readonly #ahead = new Map<number, ReadonlyMap<number, number>>();
  /** How many rows there are. */
  rows = 0;
  bodyBytes = 0;
  /** Rows that were read for it, those that nobody wants too. */
  read = 0;
  /** The last of these: its source and its seq there. */
  lastSource = 0;
  lastSeq = 0;

  constructor(sources: readonly Source[], small: boolean) {
    const share = small ? SMALL_SHARE : 1;
    this.#rowsMax = Math.ceil(WINDOW_ROWS * share);
    this.#bytesMax = WINDOW_BYTES * share;
    this.#nodeOf = new Uint32Array(this.#rowsMax);
    this.#indexOf = new Uint32Array(this.#rowsMax);
    this.#sourceOf = new Uint32Array(this.#rowsMax);
    this.#targetOf = new Uint32Array(this.#rowsMax);
    this.#refAt = new Uint32Array(this.#rowsMax);
    this.#bodyOf = new Int32Array(this.#rowsMax);
    this.#sources = sources;
    this.#bodies = sources.map(({ file }) => new Extents(file));
  }

  /** Takes rows until the window is full; false if there are no more. */
  async fill(runs: MergedRuns, route: RowWindowsOptions['route']): Promise<boolean> {
    this.#clear();
    while (!this.#full) {
      if (runs.from < runs.to) this.#addRows(runs, route);
      else if (!runs.next() && !(await runs.load())) return false;
    }
    return true;
  }

  async readBodies(): Promise<void> {
    await Promise.all(this.#bodies.map((extents) => extents.read()));
  }

  /** The leaf node that a row stands in. */
  node(row: number): TreeNode {
    return this.#nodes[this.#nodeOf[row] ?? 0] ?? noSuchRow(row);
  }

  /** The index of a row in its node. */
  index(row: number): number {
    return this.#indexOf[row] ?? 0;
  }

  source(row: number): number {
    return this.#sourceOf[row] ?? 0;
  }

  /** The number that `route` gave for a row. */
  target(row: number): number {
    return this.#targetOf[row] ?? 0;
  }

  /** True for a row of one leaf without attachments. */
  isPlain(row: number): boolean {
    return this.#bodyOf[row] !== NOT_PLAIN;
  }

  /** Of a plain row: where the packed ref of its body starts in its node. */
  refAt(row: number): number {
    return this.#refAt[row] ?? 0;
  }

  /** Where the body of a plain row stands in `bodies`; undefined for the empty one. */
  bodyAt(row: number): number | undefined {
    const number = this.#bodyOf[row] ?? NO_BODY;
    if (number === NO_BODY) return undefined;
    return (this.#bodies[this.source(row)] ?? noSuchRow(row)).place(number);
  }

  /** How many bytes the body of a plain row has. */
  bodyLength(row: number): number {
    return readU32(this.node(row).bytes, this.refAt(row) + REF_LENGTH_AT);
  }

  /** The memory that holds the bodies of the source of a row. */
  bodies(row: number): Uint8Array {
    return (this.#bodies[this.source(row)] ?? noSuchRow(row)).buffer;
  }

  /** A run of a row that is not plain. Throws `CHECKSUM`, `IO`. */
  async run(row: number, ref: Ref): Promise<Uint8Array> {
    const number = this.#ahead.get(row)?.get(ref.pos);
    if (number === undefined) return (this.#sources[this.source(row)] ?? noSuchRow(row)).read(ref);
    const extents = this.#bodies[this.source(row)] ?? noSuchRow(row);
    const at = extents.place(number);
    return extents.buffer.subarray(at, at + ref.length);
  }

  get #full(): boolean {
    return this.rows === this.#rowsMax || this.bodyBytes >= this.#bytesMax;
  }

  #clear(): void {
    this.#nodes.length = 0;
    this.#ahead.clear();
    this.rows = 0;
    this.bodyBytes = 0;
    this.read = 0;
    for (const extents of this.#bodies) extents.clear();
  }

  /** Adds rows of the present run until it ends or the window is full. */
  #addRows(runs: MergedRuns, route: RowWindowsOptions['route']): void {
    const { node, source } = runs;
    assert(node !== undefined);
    const { bytes } = node;
    this.#nodes.push(node);
    let index = runs.from;
    for (; index < runs.to && !this.#full; index++) {
      const valueAt = node.keyEnd(index);
      const target = route(readU32(bytes, valueAt));
      if (target === UNWANTED) continue;
      this.#targetOf[this.rows] = target;
      this.#addRow(bytes, valueAt, index, source);
    }
    this.read += index - runs.from;
    this.lastSource = source;
    this.lastSeq = readSeq(bytes, node.keyStart(index - 1));
    runs.from = index;
  }

  #addRow(bytes: Uint8Array, valueAt: number, index: number, source: number): void {
    const row = this.rows++;
    this.#nodeOf[row] = this.#nodes.length - 1;
    this.#indexOf[row] = index;
    this.#sourceOf[row] = source;
    if (!this.#plainRow.read(bytes, valueAt)) {
      this.#bodyOf[row] = NOT_PLAIN;
      this.#readAhead(row, readRow(bytes.subarray(valueAt)).leaves);
      return;
    }
    const { refAt } = this.#plainRow;
    const length = readU32(bytes, refAt + REF_LENGTH_AT);
    this.#refAt[row] = refAt;
    this.#bodyOf[row] = NO_BODY;
    if (length === 0) return;
    const extents = this.#bodies[source] ?? noSuchRow(row);
    this.#bodyOf[row] = extents.add(
      readU48(bytes, refAt),
      length,
      readU32(bytes, refAt + REF_CRC_AT),
    );
    this.bodyBytes += length;
  }

  /** Has the runs of a row that is not plain read with the window, unless they are long. */
  #readAhead(row: number, leaves: readonly Leaf[]): void {
    const refs = leaves.flatMap(({ body, attachments }) => [
      body,
      ...attachments.flatMap((attachment) => attachment.refs),
    ]);
    const bytes = refs.reduce((sum, { length }) => sum + length, 0);
    const extents = this.#bodies[this.source(row)];
    if (bytes > AHEAD_BYTES_MAX || extents === undefined) return;
    const numbers = new Map<number, number>();
    for (const { pos, length, crc } of refs) {
      if (length > 0 && !numbers.has(pos)) numbers.set(pos, extents.add(pos, length, crc));
    }
    this.#ahead.set(row, numbers);
    this.bodyBytes += bytes;
  }
}

/** Never returns: for what is broken if it is called. */
function noSuchRow(row: number): never {
  assert.fail(`a window has no row ${row}`);
}
