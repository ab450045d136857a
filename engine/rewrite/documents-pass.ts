/**
 * The pass over by-seq: copies rows with their bodies and attachments.
 *
 * Rows are taken in windows. While the bodies of one window are read, those of the one before it are checked and copied, so that
 * the disk and the processor both have work.
 */
import assert from 'node:assert';
import type { TreeNode } from '../btree/node.js';
import { readSeq } from '../file/byte-reader.js';
import { ByteWriter, SEQ_BYTES, writeSeq } from '../file/byte-writer.js';
import { readU32, readU48, writeU48 } from '../file/bytes.js';
import { checksumError } from '../file/file-reader.js';
import { checksum, REF_CRC_AT, REF_LENGTH_AT, type Ref, readRef } from '../file/ref.js';
import type { Attachment } from '../shard/attachment-list.js';
import {
  type Leaf,
  PlainRowReader,
  readRow,
  writeLeaves,
  writeRowHead,
} from '../shard/seq-tree.js';
import type { OnStep } from './entries-pass.js';
import { Extents } from './extents.js';
import type { Lineup } from './lineup.js';
import { MergedRuns } from './merged-runs.js';
import type { Source } from './source.js';
import type { Target } from './target.js';

/** A window has at most so many rows, and bodies of at most so many bytes and one row. */
const WINDOW_ROWS = 16_384;
const WINDOW_BYTES = 4 * 1024 * 1024;

const NO_BODY = -1;
/** In the place of a body's number: the row has several leaves or attachments. */
const NOT_PLAIN = -2;

/** Rows on their way, without an object for each. */
class Window {
  /** The bodies, for each source. */
  readonly bodies: readonly Extents[];
  readonly nodes: TreeNode[] = [];
  readonly targets: Target[] = [];
  readonly nodeOf = new Uint32Array(WINDOW_ROWS);
  readonly indexOf = new Uint32Array(WINDOW_ROWS);
  readonly sourceOf = new Uint32Array(WINDOW_ROWS);
  /** Where the packed ref of the body starts in the node. */
  readonly refAt = new Uint32Array(WINDOW_ROWS);
  readonly bodyOf = new Int32Array(WINDOW_ROWS);
  rows = 0;
  bodyBytes = 0;
  /** Rows that were read for it, those for other workers too. */
  read = 0;
  /** The last of these: its source and its seq there. */
  lastSource = 0;
  lastSeq = 0;

  constructor(lineup: Lineup) {
    this.bodies = lineup.sources.map(({ file }) => new Extents(file));
  }

  get full(): boolean {
    return this.rows === WINDOW_ROWS || this.bodyBytes >= WINDOW_BYTES;
  }

  clear(): void {
    this.nodes.length = 0;
    this.targets.length = 0;
    this.rows = 0;
    this.bodyBytes = 0;
    this.read = 0;
    for (const extents of this.bodies) extents.clear();
  }
}

export class DocumentsPass {
  readonly #lineup: Lineup;
  readonly #runs: MergedRuns;
  readonly #onStep: OnStep;
  readonly #mapped: boolean;
  readonly #plainRow = new PlainRowReader();
  readonly #scratch = new ByteWriter();
  #filling: Window;
  #reading: Window;

  constructor(lineup: Lineup, after: Uint8Array | undefined, onStep: OnStep) {
    this.#lineup = lineup;
    this.#mapped = lineup.sources.length > 1;
    const seqMaps = this.#mapped ? lineup.updateSeqs : undefined;
    this.#runs = new MergedRuns(lineup.sources, 'bySeq', { seqMaps, after });
    this.#onStep = onStep;
    this.#filling = new Window(lineup);
    this.#reading = new Window(lineup);
  }

  async run(): Promise<void> {
    for (let more = true; more; ) {
      more = await this.#fill();
      const reads = this.#filling.bodies.map((extents) => extents.read());
      const read = Promise.all(reads);
      // If copying fails first, nobody waits for it.
      read.catch(() => undefined);
      await this.#copyWindow(this.#reading);
      await read;
      [this.#filling, this.#reading] = [this.#reading, this.#filling];
    }
    await this.#copyWindow(this.#reading);
  }

  /** Fills the window; false if there are no more rows. */
  async #fill(): Promise<boolean> {
    const window = this.#filling;
    const runs = this.#runs;
    window.clear();
    while (!window.full) {
      if (runs.from < runs.to) this.#addRows(window);
      else if (!runs.next() && !(await runs.load())) return false;
    }
    return true;
  }

  /** Adds rows of the present run until it ends or the window is full. */
  #addRows(window: Window): void {
    const runs = this.#runs;
    const { node, source } = runs;
    if (node === undefined) return;
    const { bytes } = node;
    window.nodes.push(node);
    let index = runs.from;
    for (; index < runs.to && !window.full; index++) {
      const valueAt = node.keyEnd(index);
      const target = this.#lineup.targetOf(readU32(bytes, valueAt));
      if (target !== undefined) this.#addRow(window, bytes, valueAt, index, target);
    }
    window.read += index - runs.from;
    window.lastSource = source;
    window.lastSeq = readSeq(bytes, node.keyStart(index - 1));
    runs.from = index;
  }

  #addRow(window: Window, bytes: Uint8Array, valueAt: number, index: number, target: Target): void {
    const row = window.rows++;
    const { source } = this.#runs;
    window.targets.push(target);
    window.nodeOf[row] = window.nodes.length - 1;
    window.indexOf[row] = index;
    window.sourceOf[row] = source;
    if (!this.#plainRow.read(bytes, valueAt)) {
      window.bodyOf[row] = NOT_PLAIN;
      return;
    }
    const { refAt } = this.#plainRow;
    const length = readU32(bytes, refAt + REF_LENGTH_AT);
    window.refAt[row] = refAt;
    window.bodyOf[row] =
      length === 0
        ? NO_BODY
        : (window.bodies[source]?.add(readU48(bytes, refAt), length) ?? NO_BODY);
    window.bodyBytes += length;
  }

  async #copyWindow(window: Window): Promise<void> {
    for (let row = 0; row < window.rows; row++) {
      if (window.bodyOf[row] === NOT_PLAIN) await this.#copyRow(window, row);
      else this.#copyPlainRow(window, row);
    }
    if (window.read === 0) return;
    const cursor = new Uint8Array(SEQ_BYTES);
    writeSeq(cursor, 0, this.#seqInTarget(window.lastSource, window.lastSeq));
    await this.#onStep(window.read, window.bodyBytes, cursor);
  }

  #seqInTarget(source: number, seq: number): number {
    return this.#lineup.updateSeqs[source]?.map(seq) ?? seq;
  }

  /** Copies a row byte for byte but for the place of its body and, in a merge, its seq. */
  #copyPlainRow(window: Window, row: number): void {
    const node = window.nodes[window.nodeOf[row] ?? 0];
    const target = window.targets[row];
    assert(node !== undefined && target !== undefined);
    const index = window.indexOf[row] ?? 0;
    const source = window.sourceOf[row] ?? 0;
    const { run } = target;
    const start = node.entryStart(index);
    const at = run.beginEntry(node.bytes, start, node.entryEnd(index));
    const number = window.bodyOf[row] ?? NO_BODY;
    if (number !== NO_BODY) {
      const refAt = window.refAt[row] ?? 0;
      const body = this.#body(window, source, number, node, refAt);
      writeU48(run.entryBytes, at + refAt - start, target.appendBytes(body));
    }
    if (this.#mapped) {
      const keyAt = at + node.keyStart(index) - start;
      writeSeq(run.entryBytes, keyAt, this.#seqInTarget(source, readSeq(run.entryBytes, keyAt)));
    }
    run.endEntry();
  }

  /** The body of a plain row, checked: a view. Throws `CHECKSUM`. */
  #body(
    window: Window,
    source: number,
    number: number,
    { bytes }: TreeNode,
    refAt: number,
  ): Uint8Array {
    const extents = window.bodies[source];
    assert(extents !== undefined);
    const at = extents.place(number);
    const body = extents.buffer.subarray(at, at + readU32(bytes, refAt + REF_LENGTH_AT));
    if (checksum(body) === readU32(bytes, refAt + REF_CRC_AT)) return body;
    const path = this.#lineup.sources[source]?.file.path ?? '';
    throw checksumError(path, readRef(bytes, refAt), 'does not have its checksum');
  }

  /** Copies a row with several leaves or attachments. What leaves share is copied once. */
  async #copyRow(window: Window, row: number): Promise<void> {
    const node = window.nodes[window.nodeOf[row] ?? 0];
    const target = window.targets[row];
    assert(node !== undefined && target !== undefined);
    const sourceIndex = window.sourceOf[row] ?? 0;
    const source = this.#lineup.sources[sourceIndex];
    assert(source !== undefined);
    const index = window.indexOf[row] ?? 0;
    const value = node.value(index);
    const { id, leaves } = readRow(value);
    const moved = new Map<number, Ref>();
    const move = (ref: Ref) => moveRun(source, target, ref, moved);
    const copied: Leaf[] = [];
    for (const leaf of leaves) {
      const body = await move(leaf.body);
      const attachments: Attachment[] = [];
      for (const attachment of leaf.attachments) {
        const refs: Ref[] = [];
        for (const ref of attachment.refs) refs.push(await move(ref));
        attachments.push({ ...attachment, refs });
      }
      copied.push({ ...leaf, body, attachments });
    }
    this.#scratch.clear();
    writeRowHead(this.#scratch, value, id);
    writeLeaves(this.#scratch, copied);
    const key = new Uint8Array(SEQ_BYTES);
    writeSeq(key, 0, this.#seqInTarget(sourceIndex, readSeq(node.bytes, node.keyStart(index))));
    target.run.add(key, this.#scratch.view());
  }
}

/** Copies a run to a target, or finds where it was copied before. */
async function moveRun(
  source: Source,
  target: Target,
  ref: Ref,
  moved: Map<number, Ref>,
): Promise<Ref> {
  if (ref.length === 0) return ref;
  const known = moved.get(ref.pos);
  if (known !== undefined) return known;
  const copy = { ...ref, pos: target.appendBytes(await source.read(ref)) };
  if (target.full) await target.drain();
  moved.set(ref.pos, copy);
  return copy;
}
