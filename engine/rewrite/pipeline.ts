/**
 * The rewrite: one pass over by-seq that copies bodies, one over by-id, and the small trees. Streams a flushed shard into
 * targets by hash range, with memory that does not depend on its size.
 *
 * Several workers can rewrite one source at a time, each for targets of its own: every one reads the trees and only its own
 * bodies.
 */
import type { LeafSlice } from '../btree/range.js';
import { leafSlices } from '../btree/range.js';
import { DivanError } from '../errors.js';
import { ByteWriter, SEQ_BYTES } from '../file/byte-writer.js';
import { readU32 } from '../file/bytes.js';
import { type Ref, readRef, writeRef } from '../file/ref.js';
import type { Storage } from '../file/storage.js';
import type { Attachment } from '../shard/attachment-list.js';
import { hashOf, type ShardRange } from '../shard/hash.js';
import { LOCAL_PREFIX } from '../shard/local-tree.js';
import { decodePurgeInfo } from '../shard/purge-tree.js';
import { ReadOnlyShard } from '../shard/read-only-shard.js';
import {
  type Leaf,
  PlainRowReader,
  readRow,
  writeLeaves,
  writeRowHead,
} from '../shard/seq-tree.js';
import type { Counters } from '../shard/state.js';
import { BodyWindow } from './body-window.js';
import { Target, type TargetPlan } from './target.js';

/** Rows whose bodies are read together have at most so many bytes of them. */
const WINDOW_BYTES = 4 * 1024 * 1024;
const WINDOW_ROWS = 16_384;
const CACHE_BYTES = 4 * 1024 * 1024;

/** What one worker does. Plain data: it travels between threads. */
export interface RewriteTask {
  readonly sourcePath: string;
  /** The source must still be this file, with this newest commit. */
  readonly sourceFileId: Uint8Array;
  readonly sourceCommitPos: number;
  /** The ranges of all targets of the rewrite, those of other workers too, in order. */
  readonly ranges: readonly ShardRange[];
  /** The targets of this worker. */
  readonly targets: readonly TargetPlan[];
}

export interface RewriteProgress {
  readonly phase: 'documents' | 'ids' | 'finish';
  /** Entries of the tree of this phase that were read. */
  readonly docsDone: number;
  /** Bytes written to all targets of the task. */
  readonly bytesDone: number;
}

/** Hears of progress, and throws to stop the work. */
export type OnProgress = (progress: RewriteProgress) => void;

/** Writes the targets of a task, complete and durable under their temporary names, and returns their counters. */
export async function rewrite(
  storage: Storage,
  task: RewriteTask,
  onProgress: OnProgress,
): Promise<Counters[]> {
  const source = await openSource(storage, task);
  const targets: Target[] = [];
  try {
    for (const plan of task.targets) targets.push(await Target.create(storage, plan));
    const pass = new Rewrite(source, task, targets, onProgress);
    await pass.documents();
    await pass.ids();
    await pass.locals();
    await pass.purges();
    return await pass.finish();
  } finally {
    for (const target of targets) await target.abandon();
    await source.close();
  }
}

async function openSource(storage: Storage, task: RewriteTask): Promise<ReadOnlyShard> {
  const source = await ReadOnlyShard.open({ storage }, task.sourcePath, {
    cacheBytes: CACHE_BYTES,
  });
  const { block, newest, replay } = source.recovered;
  const same =
    Buffer.compare(block.fileId, task.sourceFileId) === 0 &&
    newest.pos === task.sourceCommitPos &&
    replay.length === 0;
  if (same) return source;
  await source.close();
  throw new DivanError('REPLACED', `${task.sourcePath} was changed while it was being rewritten`, {
    path: task.sourcePath,
  });
}

/** A row of the window that waits for its body. */
interface PendingRow {
  readonly target: Target;
  readonly slice: LeafSlice;
  readonly index: number;
  /** Where the packed ref of the body starts; -1 for a row that is not plain. */
  readonly refAt: number;
}

class Rewrite {
  readonly #source: ReadOnlyShard;
  readonly #ranges: readonly ShardRange[];
  /** For each range its target, undefined where another worker has it. */
  readonly #targetOfRange: readonly (Target | undefined)[];
  readonly #targets: readonly Target[];
  readonly #onProgress: OnProgress;
  readonly #window: BodyWindow;
  #rows: PendingRow[] = [];
  readonly #plainRow = new PlainRowReader();
  readonly #value = new ByteWriter();
  #docsDone = 0;

  constructor(
    source: ReadOnlyShard,
    task: RewriteTask,
    targets: readonly Target[],
    onProgress: OnProgress,
  ) {
    this.#source = source;
    this.#ranges = task.ranges;
    this.#targets = targets;
    this.#targetOfRange = task.ranges.map(({ start }) =>
      targets.find(({ plan }) => plan.range.start === start),
    );
    this.#onProgress = onProgress;
    this.#window = new BodyWindow(source.file);
  }

  /** The by-seq pass: bodies, attachments and the trees by-seq. */
  async documents(): Promise<void> {
    const { nodes, snapshot } = this.#source;
    for await (const slice of leafSlices(nodes, snapshot.roots.bySeq, {})) {
      this.#addRows(slice);
      const full = this.#window.bytes >= WINDOW_BYTES || this.#rows.length >= WINDOW_ROWS;
      if (full) await this.#copyWindow();
      this.#count(slice, 'documents');
    }
    await this.#copyWindow();
  }

  #addRows(slice: LeafSlice): void {
    const { node } = slice;
    for (let index = slice.from; index < slice.to; index++) {
      const valueAt = node.keyEnd(index);
      const target = this.#targetOf(readU32(node.bytes, valueAt));
      if (target === undefined) continue;
      const plain = this.#plainRow.read(node.bytes, valueAt);
      const refAt = plain ? this.#plainRow.refAt : -1;
      if (plain) {
        const { pos, length } = readRef(node.bytes, refAt);
        if (length > 0) this.#window.add(pos, length);
      }
      this.#rows.push({ target, slice, index, refAt });
    }
  }

  async #copyWindow(): Promise<void> {
    await this.#window.read();
    for (const row of this.#rows) {
      if (row.refAt >= 0) this.#copyPlainRow(row);
      else await this.#copyRow(row);
      if (row.target.full) await row.target.drain();
    }
    this.#rows = [];
    this.#window.clear();
  }

  /** Copies a row byte for byte but for the place of its body. */
  #copyPlainRow({ target, slice, index, refAt }: PendingRow): void {
    const { node } = slice;
    const ref = readRef(node.bytes, refAt);
    const value = this.#value;
    value.clear();
    value.append(node.value(index));
    if (ref.length > 0) {
      const pos = target.appendBytes(this.#window.body(ref));
      writeRef(value.bytes, refAt - node.keyEnd(index), { ...ref, pos });
    }
    target.builders.bySeq.add(node.key(index), value.view());
  }

  /** Copies a row with several leaves or attachments. What leaves share is copied once. */
  async #copyRow({ target, slice, index }: PendingRow): Promise<void> {
    const { node } = slice;
    const bytes = node.value(index);
    const row = readRow(bytes);
    const moved = new Map<number, Ref>();
    const leaves: Leaf[] = [];
    for (const leaf of row.leaves) {
      const body = await this.#moveRun(target, leaf.body, moved);
      const attachments: Attachment[] = [];
      for (const attachment of leaf.attachments) {
        const refs: Ref[] = [];
        for (const ref of attachment.refs) refs.push(await this.#moveRun(target, ref, moved));
        attachments.push({ ...attachment, refs });
      }
      leaves.push({ ...leaf, body, attachments });
    }
    this.#value.clear();
    writeRowHead(this.#value, bytes, row.id);
    writeLeaves(this.#value, leaves);
    target.builders.bySeq.add(node.key(index), this.#value.view());
  }

  async #moveRun(target: Target, ref: Ref, moved: Map<number, Ref>): Promise<Ref> {
    if (ref.length === 0) return ref;
    const known = moved.get(ref.pos);
    if (known !== undefined) return known;
    const copy = { ...ref, pos: target.appendBytes(await this.#source.read(ref)) };
    if (target.full) await target.drain();
    moved.set(ref.pos, copy);
    return copy;
  }

  /** The by-id pass: entries are copied byte for byte. */
  async ids(): Promise<void> {
    const { nodes, snapshot } = this.#source;
    this.#docsDone = 0;
    for await (const slice of leafSlices(nodes, snapshot.roots.byId, {})) {
      const { node } = slice;
      for (let index = slice.from; index < slice.to; index++) {
        const target = this.#targetOf(readU32(node.bytes, node.keyEnd(index) + SEQ_BYTES));
        target?.builders.byId.add(node.key(index), node.value(index));
      }
      await this.#drain();
      this.#count(slice, 'ids');
    }
  }

  async locals(): Promise<void> {
    const { snapshot } = this.#source;
    for await (const { key, value } of snapshot.entries('local')) {
      this.#localTarget(key)?.builders.local.add(key, value);
      await this.#drain();
    }
    for await (const { key, value } of snapshot.entries('localBySeq')) {
      this.#localTarget(value)?.builders.localBySeq.add(key, value);
      await this.#drain();
    }
  }

  /** Local docs go where their whole id, `_local/` included, hashes to. */
  #localTarget(key: Uint8Array): Target | undefined {
    const id = Buffer.concat([Buffer.from(LOCAL_PREFIX), key]);
    return this.#targetOf(hashOf(id, this.#source.snapshot.metadata.hashRule));
  }

  async purges(): Promise<void> {
    const { snapshot } = this.#source;
    const { hashRule } = snapshot.metadata;
    const targetOfSeq = new Map<string, Target>();
    for await (const { key, value } of snapshot.entries('purgeBySeq')) {
      const target = this.#targetOf(hashOf(Buffer.from(decodePurgeInfo(value).id), hashRule));
      if (target === undefined) continue;
      target.builders.purgeBySeq.add(key, value);
      targetOfSeq.set(Buffer.from(key).toString('hex'), target);
    }
    for await (const { key, value } of snapshot.entries('purgeByUuid')) {
      targetOfSeq.get(Buffer.from(value).toString('hex'))?.builders.purgeByUuid.add(key, value);
    }
    await this.#drain();
  }

  async finish(): Promise<Counters[]> {
    const { snapshot, recovered } = this.#source;
    const { counters, metadata } = snapshot;
    const parent = {
      fileId: recovered.block.fileId,
      uuid: metadata.uuid,
      range: metadata.range,
      cutSeq: counters.updateSeq,
      parentCount: 1,
      parentIndex: 0,
    };
    const results: Counters[] = [];
    for (const target of this.#targets) {
      const { uuid, range } = target.plan;
      const lineage = [...metadata.lineage, parent];
      results.push(await target.finish({ ...metadata, uuid, range, lineage }, counters));
    }
    return results;
  }

  /** The target for a hash; undefined if another worker has it. Throws `OUT_OF_RANGE`. */
  #targetOf(hash: number): Target | undefined {
    let low = 0;
    let high = this.#ranges.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (hash > (this.#ranges[middle]?.end ?? 0)) low = middle + 1;
      else high = middle;
    }
    const range = this.#ranges[low];
    if (range === undefined || hash < range.start || hash > range.end) {
      throw new DivanError(
        'OUT_OF_RANGE',
        `${this.#source.path} holds a document that hashes to ${hash.toString(16)}, outside of every target`,
        { path: this.#source.path },
      );
    }
    return this.#targetOfRange[low];
  }

  async #drain(): Promise<void> {
    for (const target of this.#targets) if (target.full) await target.drain();
  }

  #count(slice: LeafSlice, phase: RewriteProgress['phase']): void {
    this.#docsDone += slice.to - slice.from;
    let bytesDone = 0;
    for (const target of this.#targets) bytesDone += target.bytes;
    this.#onProgress({ phase, docsDone: this.#docsDone, bytesDone });
  }
}
