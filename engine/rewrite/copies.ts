/** The copies that catch up: the shard for each hash, and what was read for it and is not merged into its trees yet. */
import { DivanError } from '../errors.js';
import type { AppendFile } from '../file/append-file.js';
import { filePos, type Ref } from '../file/ref.js';
import { OverlaySet } from '../shard/overlay-set.js';
import type { Shard } from '../shard/shard.js';
import type { Snapshot } from '../shard/snapshot.js';
import { type Metadata, type Parent, type Seqs, seqsOf, ZERO_SEQS } from '../shard/state.js';
import type { SeqMaps } from './seq-map.js';

/** Entries are merged into the copies when they take so much memory, of all together. */
const BATCH_BYTES = 8 * 1024 * 1024;
const RUNS_BYTES = 1024 * 1024;

/** One of them. */
export interface Copy {
  readonly shard: Shard;
  readonly end: number;
  readonly runs: RunBuffer;
  batch: OverlaySet;
}

/** How the seqs of a source become those of the copies. */
interface SourceSeqs {
  readonly seqMaps: SeqMaps;
}

export class Copies {
  readonly all: readonly Copy[];
  #seqs = ZERO_SEQS;
  #snapshots: readonly Snapshot[] = [];

  /** REQUIRES: they are in the order of their ranges, which adjoin. */
  constructor(shards: readonly Shard[]) {
    this.all = shards.map((shard) => ({
      shard,
      end: shard.snapshot().metadata.range.end,
      runs: new RunBuffer(shard.file),
      batch: new OverlaySet(),
    }));
  }

  /** Says as of which snapshots of the sources the copies are about to be. */
  expect(sources: readonly SourceSeqs[], snapshots: readonly Snapshot[]): void {
    this.#snapshots = snapshots;
    this.#seqs = {
      updateSeq: highest(snapshots, 'updateSeq', sources),
      purgeSeq: highest(snapshots, 'purgeSeq', sources),
      localSeq: highest(snapshots, 'localSeq', sources),
    };
  }

  /** The copy of a hash. Throws `OUT_OF_RANGE`. */
  of(hash: number): Copy {
    const copy = this.all.find(({ end }) => hash <= end);
    if (copy !== undefined) return copy;
    throw new DivanError('OUT_OF_RANGE', `a source has the hash ${hash}, which no target has`);
  }

  async mergeIfFull(): Promise<void> {
    let bytes = 0;
    for (const { batch } of this.all) bytes += batch.bytes;
    if (bytes >= BATCH_BYTES) await this.merge();
  }

  /** Merges what was read into the trees of the copies, with the seqs and the metadata of what is expected. */
  async merge(): Promise<void> {
    await Promise.all(this.all.map((copy) => this.#mergeOne(copy)));
  }

  async #mergeOne(copy: Copy): Promise<void> {
    await copy.runs.write();
    await copy.shard.absorb(copy.batch, this.#seqs, this.#metadataOf(copy));
    copy.batch = new OverlaySet();
  }

  /** The settings of the first source, and how far its parents were followed. */
  #metadataOf({ shard }: Copy): Metadata {
    const [first] = this.#snapshots;
    const own = shard.snapshot().metadata;
    if (first === undefined) return own;
    const { uuid, range, lineage } = own;
    const { metadata } = first;
    // A compaction makes the same shard in another file.
    if (Buffer.compare(uuid, metadata.uuid) === 0) return metadata;
    return { ...metadata, uuid, range, lineage: lineage.map((parent) => this.#followed(parent)) };
  }

  #followed(parent: Parent): Parent {
    const source = this.#snapshots.find(
      ({ metadata }) => Buffer.compare(metadata.uuid, parent.uuid) === 0,
    );
    if (source === undefined) return parent;
    return { ...parent, cut: seqsOf(source.counters) };
  }
}

function highest(
  snapshots: readonly Snapshot[],
  name: keyof Seqs,
  sources: readonly SourceSeqs[],
): number {
  const mapped = snapshots.map(({ counters }, index) => {
    const seq = counters[name];
    return seq === 0 ? 0 : (sources[index]?.seqMaps[name].map(seq) ?? seq);
  });
  return Math.max(0, ...mapped);
}

/** Runs on their way into a file, many in one write. REQUIRES: nobody else reserves places in the file meanwhile. */
export class RunBuffer {
  readonly #file: AppendFile;
  #runs: Uint8Array[] = [];
  #start = filePos(0);
  #bytes = 0;

  constructor(file: AppendFile) {
    this.#file = file;
  }

  get full(): boolean {
    return this.#bytes >= RUNS_BYTES;
  }

  /** Takes a run that has the checksum of `ref`, and returns where it will stand. */
  append(run: Uint8Array, { length, crc, codec }: Ref): Ref {
    const pos = this.#file.reserve(length);
    if (this.#bytes === 0) this.#start = pos;
    this.#runs.push(run);
    this.#bytes += length;
    return { pos, length, crc, codec };
  }

  async write(): Promise<void> {
    const bytes = Buffer.concat(this.#runs);
    this.#runs = [];
    this.#bytes = 0;
    if (bytes.length > 0) await this.#file.write(bytes, this.#start);
  }
}
