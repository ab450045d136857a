/**
 * One target of a rewrite: a new shard file that is written as one stream, in an order that depends on nothing but the sources and
 * the plan. Pieces, syncs, checkpoints and resuming leave no trace in it.
 */
import { BulkBuilder, type TreeEdge } from '../btree/bulk.js';
import type { NodeRun } from '../btree/node-run.js';
import type { NodeSink, TreeRoot } from '../btree/tree.js';
import { AppendFile, RUN_FRAME_BYTES } from '../file/append-file.js';
import { RECORD_BYTES } from '../file/commit-record.js';
import { checksum, type FilePos, filePos, type Ref } from '../file/ref.js';
import type { Storage } from '../file/storage.js';
import { TREE_SHAPES } from '../shard/flush.js';
import {
  type Counters,
  countersOf,
  encodeState,
  type Metadata,
  perTree,
  type Seqs,
  type TreeName,
} from '../shard/state.js';
import type { TargetPlan } from './plan.js';

/** More pieces than this are not written at a time. */
const WRITES_AT_ONCE = 2;

/** The trees of a target in the order in which they are written. */
export const PASSES: readonly TreeName[] = [
  'bySeq',
  'byId',
  'local',
  'localBySeq',
  'purgeBySeq',
  'purgeByUuid',
];

/** How far a target is: what a rewrite needs to go on with it. */
export interface TargetState {
  /** Its index in the plan. */
  readonly index: number;
  /** Bytes of the file that are durable and stay. */
  readonly length: number;
  /** The roots of the trees that are done, in the order of `PASSES`. */
  readonly roots: readonly (TreeRoot | undefined)[];
  /** Of the tree that is being built: the key of the last entry that was read for it, and its right edge. */
  readonly cursor: Uint8Array | undefined;
  readonly edge: TreeEdge;
  /** How many entries of that tree, and for by-seq how many bytes of bodies, came before the cursor. */
  readonly entriesDone: number;
  readonly bodyBytesDone: number;
}

/** What is known of a target besides its content. */
export interface TargetInput {
  readonly index: number;
  readonly path: string;
  readonly plan: TargetPlan;
  /** The file whose permissions it gets. */
  readonly like: string | undefined;
  /** The stream is written in pieces of this size. */
  readonly pieceBytes: number;
}

export class Target implements NodeSink {
  readonly index: number;
  readonly plan: TargetPlan;
  readonly #file: AppendFile;
  readonly #pieceBytes: number;
  readonly #roots: (TreeRoot | undefined)[] = [];
  #builder: BulkBuilder;
  #run: NodeRun;
  #piece: Buffer;
  #used = 0;
  /** Where the first byte of the piece will stand. */
  #piecePos: FilePos;
  /** Pieces that were written and can be filled again. */
  readonly #spare: Buffer[] = [];
  readonly #writing = new Set<Promise<void>>();
  #failure: unknown;

  private constructor(input: TargetInput, file: AppendFile) {
    this.index = input.index;
    this.plan = input.plan;
    this.#file = file;
    this.#pieceBytes = input.pieceBytes;
    this.#piece = Buffer.allocUnsafeSlow(input.pieceBytes);
    this.#piecePos = file.end;
    this.#builder = this.#newBuilder();
    this.#run = this.#builder.leafRun;
  }

  /** Makes the file. Throws `EXISTS`, `NO_SPACE`, `IO`. */
  static async create(storage: Storage, input: TargetInput): Promise<Target> {
    const { fileId, salt } = input.plan;
    const { path, like } = input;
    const file = await AppendFile.begin(storage, path, { fileId, salt }, false, like);
    return new Target(input, file);
  }

  /** Goes on with a file as of a state. Throws `CORRUPT`, `NOT_FOUND`, `IO`. */
  static async resume(storage: Storage, input: TargetInput, state: TargetState): Promise<Target> {
    const { fileId, salt } = input.plan;
    const length = filePos(state.length);
    const file = await AppendFile.resume(storage, input.path, { fileId, salt }, length);
    const target = new Target(input, file);
    target.#roots.push(...state.roots);
    target.#beginTree();
    target.#builder.resume(state.edge);
    return target;
  }

  /** Entries of the tree that is being built go here. At hand: with many targets each step to it would miss the cache. */
  get run(): NodeRun {
    return this.#run;
  }

  /** Bytes of the stream so far. */
  get bytes(): number {
    return this.#piecePos + this.#used;
  }

  /** True when so much is being written that the caller should await `drain`. */
  get full(): boolean {
    return this.#writing.size > WRITES_AT_ONCE;
  }

  /** Appends bytes to the stream and returns where they will stand. */
  appendBytes(bytes: Uint8Array): FilePos {
    this.#makeRoom(bytes.length);
    const pos = filePos(this.#piecePos + this.#used);
    this.#piece.set(bytes, this.#used);
    this.#used += bytes.length;
    return pos;
  }

  /** Of `NodeSink`: appends a node in its salvage frame. */
  append(node: Uint8Array): Ref {
    this.#makeRoom(RUN_FRAME_BYTES + node.length);
    const crc = checksum(node);
    this.#file.frame(this.#piece, this.#used, node.length, crc);
    this.#used += RUN_FRAME_BYTES;
    return { pos: this.appendBytes(node), length: node.length, crc, codec: 0 };
  }

  /** Resolves when few enough pieces are being written. Rejects with what a write was rejected with. */
  async drain(): Promise<void> {
    while (this.full) await Promise.race(this.#writing);
    this.#assertWritten();
  }

  /** Ends the tree that is being built. */
  endPass(): void {
    this.#roots.push(this.#builder.finish());
    this.#beginTree();
  }

  /** The state as of now, and a promise that resolves when it is durable. */
  capture(place: Pick<TargetState, 'cursor' | 'entriesDone' | 'bodyBytesDone'>): {
    readonly state: TargetState;
    readonly durable: Promise<void>;
  } {
    this.#writePiece();
    const state: TargetState = {
      index: this.index,
      length: this.bytes,
      roots: [...this.#roots],
      edge: this.#builder.edge(),
      ...place,
    };
    return { state, durable: this.#sync([...this.#writing]) };
  }

  /** Writes the state, the first commit and a seal, all durable, and closes the file. REQUIRES: all passes are done. */
  async finish(
    metadata: Metadata,
    seqs: Seqs,
  ): Promise<{ readonly counters: Counters; readonly state: Ref }> {
    const roots = perTree((name) => this.#roots[PASSES.indexOf(name)]);
    const counters = countersOf(seqs, roots);
    const ref = this.append(encodeState({ metadata, counters, roots }));
    this.#writePiece();
    await Promise.all(this.#writing);
    this.#assertWritten();
    const start = this.#file.reserve(RECORD_BYTES);
    const bytes = new Uint8Array(RECORD_BYTES);
    const state = { ref, replayFrom: start };
    await this.#file.commit({ bytes, start, changesLength: 0, foreign: true, state });
    await this.#file.seal();
    await this.#file.close();
    return { counters, state: ref };
  }

  /** Closes the file as it is. */
  async abandon(): Promise<void> {
    await Promise.all(this.#writing);
    await this.#file.close();
  }

  async #sync(writes: readonly Promise<void>[]): Promise<void> {
    await Promise.all(writes);
    this.#assertWritten();
    await this.#file.sync();
  }

  #assertWritten(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #beginTree(): void {
    this.#builder = this.#newBuilder();
    this.#run = this.#builder.leafRun;
  }

  #newBuilder(): BulkBuilder {
    // After the last pass nothing is built any more, whatever shape this one has.
    return new BulkBuilder(this, TREE_SHAPES[PASSES[this.#roots.length] ?? 'byId']);
  }

  #makeRoom(length: number): void {
    if (this.#used + length <= this.#piece.length) return;
    this.#writePiece();
    if (length > this.#piece.length) this.#piece = Buffer.allocUnsafeSlow(length);
  }

  /** Begins to write what is in the piece, and takes another one. */
  #writePiece(): void {
    if (this.#used === 0) return;
    const piece = this.#piece;
    const pos = this.#file.reserve(this.#used);
    const written = this.#file.write(piece.subarray(0, this.#used), pos);
    const writing = written
      .catch((error: unknown) => {
        // Whoever drains, captures or finishes hears of it.
        this.#failure ??= error;
      })
      .then(() => {
        this.#writing.delete(writing);
        if (piece.length === this.#pieceBytes) this.#spare.push(piece);
      });
    this.#writing.add(writing);
    this.#piecePos = this.#file.end;
    this.#piece = this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.#pieceBytes);
    this.#used = 0;
  }
}
