/**
 * Salvage: what can be saved from a shard file that is refused. Goes through the file byte by byte and takes everything whose
 * checksum holds: leaf nodes of the trees by-id and by-seq by their salvage frames (FORMAT.md section 5) and change lists by
 * their records. Of each document the newest update whose bodies are whole is kept.
 */
import { openNode } from '../btree/node.js';
import { isDivanError } from '../errors.js';
import { RUN_FRAME_BYTES } from '../file/append-file.js';
import { readSeq } from '../file/byte-reader.js';
import { SEQ_BYTES } from '../file/byte-writer.js';
import { readU32 } from '../file/bytes.js';
import { decodeRecord, RECORD_BYTES } from '../file/commit-record.js';
import { readRun, readUpTo } from '../file/file-reader.js';
import {
  DATA_START,
  decodeFirstBlock,
  type FirstBlock,
  recordMark,
  runMark,
} from '../file/first-block.js';
import { checksum, type Ref } from '../file/ref.js';
import type { StorageFile } from '../file/storage.js';
import { type ChangeTarget, readChangeList } from './change-list.js';
import { readStoredDocument } from './id-tree.js';
import { OverlaySet } from './overlay-set.js';
import { decodeTree, indexOfRevision, pathTo } from './rev-tree.js';
import { formatRev, type Revision } from './revision.js';
import { type Leaf, readRow } from './seq-tree.js';

/** The search for frames reads the file in pieces of this size. */
const SEARCH_BYTES = 4 * 1024 * 1024;

/** A leaf revision that is whole. */
export interface SalvagedRevision {
  readonly id: Uint8Array;
  readonly path: readonly Revision[];
  readonly leaf: Leaf;
  readonly body: Uint8Array;
}

/** A revision that the file names and does not hold any more. */
export interface LostRevision {
  readonly id: string;
  readonly rev: string;
  readonly reason: string;
}

interface FoundRow {
  readonly seq: number;
  readonly value: Uint8Array;
}

export class Salvage {
  readonly lost: LostRevision[] = [];
  readonly #file: StorageFile;
  readonly #size: number;
  readonly #block: FirstBlock;
  /** The newest row of each document, by id. */
  readonly #rows = new Map<string, FoundRow>();
  /** The revision trees of by-id, by id, newest only. */
  readonly #trees = new Map<string, { readonly seq: number; readonly tree: Uint8Array }>();
  /** Documents purged at or after which seq. */
  readonly #purged = new Map<string, number>();

  private constructor(file: StorageFile, size: number, block: FirstBlock) {
    this.#file = file;
    this.#size = size;
    this.#block = block;
  }

  /** Searches the whole file. Throws `NOT_A_SHARD`, `FORMAT_VERSION` or `CORRUPT` if the first block can't be read, and `IO`. */
  static async search(
    file: StorageFile,
    progress: (pos: number, size: number) => void,
  ): Promise<Salvage> {
    const size = await file.size();
    const block = decodeFirstBlock(await readUpTo(file, 0, DATA_START), file.path, false);
    const salvage = new Salvage(file, size, block);
    await salvage.#searchNodes(progress);
    await salvage.#searchRecords(progress);
    return salvage;
  }

  /** The revisions that are whole, in no particular order; `lost` is complete when they are exhausted. */
  async *revisions(): AsyncGenerator<SalvagedRevision> {
    for (const [id, { seq, value }] of this.#rows) {
      if ((this.#purged.get(id) ?? -1) >= seq) continue;
      const row = readRow(value);
      const found = this.#trees.get(id);
      const tree = found?.seq === seq ? decodeTree(found.tree) : [];
      for (const leaf of row.leaves) {
        const index = indexOfRevision(tree, leaf.revision);
        const path = index < 0 ? [leaf.revision] : pathTo(tree, index);
        const body = await this.#content(id, leaf);
        if (body !== undefined) yield { id: row.id, path, leaf, body };
      }
    }
  }

  /** Reads a piece of an attachment. Throws `CHECKSUM` or `IO`. */
  read(ref: Ref): Promise<Uint8Array> {
    return readRun(this.#file, ref, this.#size);
  }

  /** The body of a leaf if it and all its attachments are whole. */
  async #content(id: string, leaf: Leaf): Promise<Uint8Array | undefined> {
    try {
      for (const { refs } of leaf.attachments) for (const ref of refs) await this.read(ref);
      return leaf.body.length === 0 ? Buffer.from('{}') : await this.read(leaf.body);
    } catch (error) {
      if (!isDivanError(error, 'CHECKSUM')) throw error;
      const text = Buffer.from(id, 'latin1').toString();
      this.lost.push({ id: text, rev: formatRev(leaf.revision), reason: error.message });
      return undefined;
    }
  }

  async #searchNodes(progress: (pos: number, size: number) => void): Promise<void> {
    for await (const pos of this.#positionsOf(runMark(this.#block), progress)) {
      const frame = await readUpTo(this.#file, pos, RUN_FRAME_BYTES);
      if (frame.length < RUN_FRAME_BYTES) continue;
      const length = readU32(frame, 4);
      if (pos + RUN_FRAME_BYTES + length > this.#size) continue;
      const run = await readUpTo(this.#file, pos + RUN_FRAME_BYTES, length);
      if (checksum(run) === readU32(frame, 8)) this.#takeNode(run);
    }
  }

  /** A run can also be a node of another tree, or a state: whatever can't be read as an entry of by-id or by-seq is passed over. */
  #takeNode(run: Uint8Array): void {
    tolerant(() => {
      const node = openNode(run, 0);
      for (let index = 0; index < node.count; index++) {
        const [key, value] = [node.key(index), node.value(index)];
        tolerant(() => this.#takeRow(key, value));
        tolerant(() => this.#takeDocument(key, value));
      }
    });
  }

  #takeRow(key: Uint8Array, value: Uint8Array): void {
    if (key.length !== SEQ_BYTES) return;
    const seq = readSeq(key, 0);
    const { id, leaves } = readRow(value);
    if (id.length === 0 || leaves.length === 0) return;
    const name = Buffer.from(id).toString('latin1');
    if ((this.#rows.get(name)?.seq ?? -1) < seq) this.#rows.set(name, { seq, value });
  }

  #takeDocument(key: Uint8Array, value: Uint8Array): void {
    const { seq, tree } = readStoredDocument(value);
    if (decodeTree(tree).length === 0) return;
    const name = Buffer.from(key).toString('latin1');
    if ((this.#trees.get(name)?.seq ?? -1) < seq) this.#trees.set(name, { seq, tree });
  }

  async #searchRecords(progress: (pos: number, size: number) => void): Promise<void> {
    const mark = recordMark(this.#block);
    for await (const pos of this.#positionsOf(mark, progress)) {
      const record = decodeRecord(await readUpTo(this.#file, pos, RECORD_BYTES), 0, mark, pos);
      if (record === undefined || record.changesLength === 0) continue;
      const changes = await readUpTo(this.#file, pos - record.changesLength, record.changesLength);
      if (checksum(changes) === record.changesCrc) tolerant(() => this.#takeChanges(changes));
    }
  }

  /** Replays one list into overlays of its own, and takes what it put there. */
  #takeChanges(changes: Uint8Array): void {
    const overlays = new OverlaySet();
    let seq = 0;
    readChangeList(
      changes,
      this.#watchPurges(overlays, () => seq),
      (firstSeq, after) => {
        overlays.begin(0, firstSeq);
        seq = after.updateSeq;
      },
    );
    const { byId, bySeq } = overlays.overlays;
    for (const [overlay, take] of [
      [bySeq, (key: Uint8Array, value: Uint8Array) => this.#takeRow(key, value)],
      [byId, (key: Uint8Array, value: Uint8Array) => this.#takeDocument(key, value)],
    ] as const) {
      const cursor = overlay.cursor(0, false);
      for (cursor.seek(undefined, true); cursor.handle !== 0; cursor.next()) {
        const value = overlay.valueOf(cursor.handle);
        if (value !== undefined) take(overlay.keyOf(cursor.handle), value);
      }
    }
  }

  #watchPurges(overlays: OverlaySet, seq: () => number): ChangeTarget {
    return {
      document: (...args) => overlays.document(...args),
      plainDocument: (...args) => overlays.plainDocument(...args),
      purgedDocument: (_oldSeq, id) => {
        this.#purged.set(Buffer.from(id).toString('latin1'), seq());
      },
      localDoc: () => undefined,
      purgeInfo: () => undefined,
      droppedPurgeInfo: () => undefined,
      metadata: (metadata) => overlays.metadata(metadata),
    };
  }

  /** Every position at which the mark stands. */
  async *#positionsOf(
    mark: Buffer,
    progress: (pos: number, size: number) => void,
  ): AsyncGenerator<number> {
    for (let start = 0; start < this.#size; start += SEARCH_BYTES) {
      const bytes = await readUpTo(this.#file, start, SEARCH_BYTES + mark.length - 1);
      for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, at + 1))
        yield start + at;
      progress(start, this.#size);
    }
  }
}

/** Runs `take` and passes over what turns out not to be what it was taken for. */
function tolerant(take: () => void): void {
  try {
    take();
  } catch (error) {
    if (!isDivanError(error) && !(error instanceof RangeError)) throw error;
  }
}
