/** The pass over by-seq: copies rows with their bodies and attachments. */
import assert from 'node:assert';
import { readSeq } from '../file/byte-reader.js';
import { ByteWriter, SEQ_BYTES, writeSeq } from '../file/byte-writer.js';
import { writeU48 } from '../file/bytes.js';
import type { Ref } from '../file/ref.js';
import type { Attachment } from '../shard/attachment-list.js';
import { type Leaf, readRow, writeLeaves, writeRowHead } from '../shard/seq-tree.js';
import type { OnStep } from './entries-pass.js';
import type { Lineup } from './lineup.js';
import { type RowWindow, type RowWindowsOptions, rowWindows } from './row-windows.js';
import type { Target } from './target.js';

/** Copies the rows whose key in the target is after `after`; `small` is as for windows. */
export async function copyDocuments(
  lineup: Lineup,
  { after, small }: Pick<RowWindowsOptions, 'after' | 'small'>,
  onStep: OnStep,
): Promise<void> {
  const pass = new DocumentsPass(lineup);
  const options = {
    seqMaps:
      lineup.sources.length > 1 ? lineup.seqMaps.map(({ updateSeq }) => updateSeq) : undefined,
    ...{ after, small },
    route: (hash: number) => lineup.route(hash),
  };
  for await (const window of rowWindows(lineup.sources, options)) {
    await pass.copyWindow(window);
    await onStep(window.read, window.bodyBytes, pass.cursorOf(window));
  }
}

class DocumentsPass {
  readonly #lineup: Lineup;
  /** For each source whether its seqs are others in the target. */
  readonly #mapped: readonly boolean[];
  readonly #scratch = new ByteWriter();

  constructor(lineup: Lineup) {
    this.#lineup = lineup;
    this.#mapped = lineup.sources.map(
      ({ state }, index) =>
        lineup.seqMaps[index]?.updateSeq.changes(state.counters.updateSeq) === true,
    );
  }

  async copyWindow(window: RowWindow): Promise<void> {
    for (let row = 0; row < window.rows; row++) {
      if (window.isPlain(row)) this.#copyPlainRow(window, row);
      else await this.#copyRow(window, row);
    }
  }

  /** The key in the target of the last row that was read for a window. */
  cursorOf({ lastSource, lastSeq }: RowWindow): Uint8Array {
    const cursor = new Uint8Array(SEQ_BYTES);
    writeSeq(cursor, 0, this.#seqInTarget(lastSource, lastSeq));
    return cursor;
  }

  #seqInTarget(source: number, seq: number): number {
    return this.#lineup.seqMaps[source]?.updateSeq.map(seq) ?? seq;
  }

  #targetOf(window: RowWindow, row: number): Target {
    return this.#lineup.targets[window.target(row)] ?? assert.fail('a row has a target');
  }

  /** Copies a row byte for byte but for the place of its body and, in a merge, its seq. */
  #copyPlainRow(window: RowWindow, row: number): void {
    const target = this.#targetOf(window, row);
    const node = window.node(row);
    const index = window.index(row);
    const { run } = target;
    const start = node.entryStart(index);
    const at = run.beginEntry(node.bytes, start, node.entryEnd(index));
    const bodyAt = window.bodyAt(row);
    if (bodyAt !== undefined) {
      const body = window.bodies(row).subarray(bodyAt, bodyAt + window.bodyLength(row));
      writeU48(run.entryBytes, at + window.refAt(row) - start, target.appendBytes(body));
    }
    const source = window.source(row);
    if (this.#mapped[source] === true) {
      const keyAt = at + node.keyStart(index) - start;
      const seq = readSeq(run.entryBytes, keyAt);
      writeSeq(run.entryBytes, keyAt, this.#seqInTarget(source, seq));
    }
    run.endEntry();
  }

  /** Copies a row with several leaves or attachments. What leaves share is copied once. */
  async #copyRow(window: RowWindow, row: number): Promise<void> {
    const target = this.#targetOf(window, row);
    const node = window.node(row);
    const index = window.index(row);
    const value = node.value(index);
    const { id, leaves } = readRow(value);
    const moved = new Map<number, Ref>();
    const move = (ref: Ref) => moveRun(window, row, target, ref, moved);
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
    const seq = readSeq(node.bytes, node.keyStart(index));
    const key = new Uint8Array(SEQ_BYTES);
    writeSeq(key, 0, this.#seqInTarget(window.source(row), seq));
    target.run.add(key, this.#scratch.view());
  }
}

/** Copies a run to a target, or finds where it was copied before. */
async function moveRun(
  window: RowWindow,
  row: number,
  target: Target,
  ref: Ref,
  moved: Map<number, Ref>,
): Promise<Ref> {
  if (ref.length === 0) return ref;
  const known = moved.get(ref.pos);
  if (known !== undefined) return known;
  const copy = { ...ref, pos: target.appendBytes(await window.run(row, ref)) };
  if (target.full) await target.drain();
  moved.set(ref.pos, copy);
  return copy;
}
