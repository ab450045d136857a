/**
 * One target of a rewrite: a new shard file that is written as one stream, in an order that depends on nothing but source, range
 * and plan.
 */
import { BulkBuilder } from '../btree/bulk.js';
import type { NodeSink, TreeRoot } from '../btree/tree.js';
import { AppendFile, RUN_FRAME_BYTES } from '../file/append-file.js';
import { RECORD_BYTES } from '../file/commit-record.js';
import { checksum, type FilePos, filePos, type Ref } from '../file/ref.js';
import type { Storage } from '../file/storage.js';
import { TREE_SHAPES } from '../shard/flush.js';
import type { ShardRange } from '../shard/hash.js';
import {
  type Counters,
  encodeState,
  type Metadata,
  type PerTree,
  perTree,
} from '../shard/state.js';

/** The stream is written in pieces of this size. */
const BUFFER_BYTES = 1024 * 1024;

/** What the plan says of a target: everything about it that is not copied. */
export interface TargetPlan {
  /** Where the file is written before it gets its name. */
  readonly temporaryPath: string;
  readonly path: string;
  readonly range: ShardRange;
  readonly fileId: Uint8Array;
  readonly salt: Uint8Array;
  readonly uuid: Uint8Array;
}

export class Target implements NodeSink {
  readonly plan: TargetPlan;
  readonly builders: PerTree<BulkBuilder>;
  readonly #file: AppendFile;
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #used = 0;
  /** Where the first byte of the buffer will stand. */
  #bufferPos: FilePos;
  readonly #filled: { readonly pos: FilePos; readonly bytes: Uint8Array }[] = [];

  private constructor(plan: TargetPlan, file: AppendFile) {
    this.plan = plan;
    this.#file = file;
    this.#bufferPos = file.end;
    this.builders = perTree((name) => new BulkBuilder(this, TREE_SHAPES[name]));
  }

  /** Makes the file under its temporary name. Throws `EXISTS`, `NO_SPACE`, `IO`. */
  static async create(storage: Storage, plan: TargetPlan): Promise<Target> {
    const { fileId, salt } = plan;
    const file = await AppendFile.begin(storage, plan.temporaryPath, { fileId, salt }, false);
    return new Target(plan, file);
  }

  /** True when there is a piece to write: the caller awaits `drain` now and then. */
  get full(): boolean {
    return this.#filled.length > 0;
  }

  /** Bytes of the stream so far. */
  get bytes(): number {
    return this.#bufferPos + this.#used;
  }

  /** Appends bytes to the stream and returns where they will stand. */
  appendBytes(bytes: Uint8Array): FilePos {
    this.#makeRoom(bytes.length);
    const pos = filePos(this.#bufferPos + this.#used);
    this.#buffer.set(bytes, this.#used);
    this.#used += bytes.length;
    return pos;
  }

  /** Of `NodeSink`: appends a node in its salvage frame. */
  append(node: Uint8Array): Ref {
    this.#makeRoom(RUN_FRAME_BYTES + node.length);
    const crc = checksum(node);
    this.#file.frame(this.#buffer, this.#used, node.length, crc);
    this.#used += RUN_FRAME_BYTES;
    return { pos: this.appendBytes(node), length: node.length, crc, codec: 0 };
  }

  async drain(): Promise<void> {
    for (let piece = this.#filled.shift(); piece !== undefined; piece = this.#filled.shift()) {
      await this.#file.write(piece.bytes, piece.pos);
    }
  }

  /** Writes the roots, the state, the first commit and a seal, all durable, and closes the file. */
  async finish(metadata: Metadata, source: Counters): Promise<Counters> {
    const roots = perTree((name): TreeRoot | undefined => this.builders[name].finish());
    const [liveDocs = 0, deletedDocs = 0, activeBytes = 0, externalBytes = 0] =
      roots.byId?.totals ?? [];
    const purgeInfos = roots.purgeBySeq?.totals[0] ?? 0;
    const { updateSeq, purgeSeq, localSeq } = source;
    const seqs = { updateSeq, purgeSeq, localSeq, purgeInfos };
    const counters = { ...seqs, liveDocs, deletedDocs, activeBytes, externalBytes };
    const ref = this.append(encodeState({ metadata, counters, roots }));
    this.#fill();
    await this.drain();
    const start = this.#file.reserve(RECORD_BYTES);
    const bytes = new Uint8Array(RECORD_BYTES);
    const state = { ref, replayFrom: start };
    await this.#file.commit({ bytes, start, changesLength: 0, foreign: true, state });
    await this.#file.seal();
    await this.#file.close();
    return counters;
  }

  /** Closes the file as it is. */
  async abandon(): Promise<void> {
    await this.#file.close();
  }

  #makeRoom(length: number): void {
    if (this.#used + length <= this.#buffer.length) return;
    this.#fill();
    if (length > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(length);
  }

  /** Sets what is in the buffer aside to be written. */
  #fill(): void {
    if (this.#used === 0) return;
    const pos = this.#file.reserve(this.#used);
    this.#filled.push({ pos, bytes: this.#buffer.subarray(0, this.#used) });
    this.#bufferPos = this.#file.end;
    this.#buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    this.#used = 0;
  }
}
