/**
 * Catching up: brings a copy of a shard that is being written up to date, in rounds. A round takes what came since the one before
 * from the by-seq trees of a snapshot: purges first, since a purged document leaves no trace in by-seq, then documents, local
 * docs and metadata.
 */
import { DivanError } from '../errors.js';
import type { AppendFile } from '../file/append-file.js';
import { readSeq } from '../file/byte-reader.js';
import { ByteWriter, SEQ_BYTES } from '../file/byte-writer.js';
import { filePos, type Ref } from '../file/ref.js';
import type { Attachment } from '../shard/attachment-list.js';
import { localSeqOf } from '../shard/local-tree.js';
import { OverlaySet } from '../shard/overlay-set.js';
import { decodePurgeInfo } from '../shard/purge-tree.js';
import { type Leaf, seqKey, writeLeaves } from '../shard/seq-tree.js';
import type { Shard } from '../shard/shard.js';
import type { Change, Snapshot } from '../shard/snapshot.js';
import type { Seqs } from '../shard/state.js';

/** Entries are merged into the copy when they take so much memory. */
const BATCH_BYTES = 8 * 1024 * 1024;
const DOCUMENTS_AT_ONCE = 64;
const RUNS_BYTES = 1024 * 1024;

export class CatchUp {
  readonly #source: Shard;
  readonly #copy: Shard;
  /** What the copy has. */
  #seqs: Seqs;

  /** REQUIRES: nobody else writes to `copy`, which holds the source as of `seqs`. */
  constructor(source: Shard, copy: Shard, seqs: Seqs) {
    this.#source = source;
    this.#copy = copy;
    this.#seqs = seqs;
  }

  /** About how many changes the copy lacks. */
  get behind(): number {
    const { updateSeq, purgeSeq, localSeq } = this.#source.snapshot().counters;
    const has = this.#seqs;
    return updateSeq - has.updateSeq + (purgeSeq - has.purgeSeq) + (localSeq - has.localSeq);
  }

  /**
   * Brings the copy up to what is durable in the source now. Calls `goOn` now and then, which throws to stop. Throws what
   * reading and writing throw; the copy is then of no use.
   */
  async round(goOn: () => void): Promise<void> {
    const snapshot = this.#source.snapshot();
    const round = new Round(snapshot, this.#copy, goOn);
    await round.purges(this.#seqs.purgeSeq);
    await round.documents(this.#seqs.updateSeq);
    await round.localDocs(this.#seqs.localSeq);
    await round.merge();
    this.#seqs = snapshot.counters;
    // What was read of the purge infos may go.
    this.#source.keepPurgesAfter(this.#seqs.purgeSeq);
  }
}

class Round {
  readonly #snapshot: Snapshot;
  readonly #copy: Shard;
  readonly #goOn: () => void;
  #batch = new OverlaySet();
  readonly #leaves = new ByteWriter();
  readonly #runs: RunBuffer;

  constructor(snapshot: Snapshot, copy: Shard, goOn: () => void) {
    this.#snapshot = snapshot;
    this.#copy = copy;
    this.#goOn = goOn;
    this.#runs = new RunBuffer(copy.file);
  }

  /** Purge infos after a purge seq, and what they removed; and those that were dropped meanwhile go. */
  async purges(since: number): Promise<void> {
    let first: number | undefined;
    for await (const { key, value } of this.#snapshot.entries('purgeBySeq')) {
      const seq = readSeq(key, 0);
      first ??= seq;
      if (seq <= since) continue;
      const id = Buffer.from(decodePurgeInfo(value).id);
      if ((await this.#snapshot.stored(id)) === undefined) await this.#removeDocument(id);
      this.#batch.purgeInfo(seq, value);
      await this.#mergeIfFull();
    }
    await this.#dropPurges(first ?? this.#snapshot.counters.purgeSeq + 1);
  }

  async #removeDocument(id: Uint8Array): Promise<void> {
    const old = await this.#copy.snapshot().stored(id);
    if (old !== undefined) this.#batch.purgedDocument(old.seq, id);
  }

  /** Purge infos are dropped from the oldest on. */
  async #dropPurges(before: number): Promise<void> {
    for await (const { key, value } of this.#copy
      .snapshot()
      .entries('purgeBySeq', { lt: seqKey(before) })) {
      this.#batch.droppedPurgeInfo(readSeq(key, 0), decodePurgeInfo(value).uuid);
      await this.#mergeIfFull();
    }
  }

  async documents(since: number): Promise<void> {
    let together: Change[] = [];
    let bytes = 0;
    const copyAll = async () => {
      await Promise.all(together.map((change) => this.#copyDocument(change)));
      together = [];
      bytes = 0;
      await this.#mergeIfFull();
    };
    for await (const change of this.#snapshot.changes({ since })) {
      together.push(change);
      bytes += change.leaves.reduce((sum, { body }) => sum + body.length, 0);
      if (together.length === DOCUMENTS_AT_ONCE || bytes >= BATCH_BYTES) await copyAll();
    }
    await copyAll();
  }

  async #copyDocument({ id, seq, leaves }: Change): Promise<void> {
    const value = await this.#snapshot.value('byId', id);
    if (value === undefined) {
      const text = Buffer.from(id).toString();
      throw new DivanError('CORRUPT', 'by-seq has a document that by-id does not have', {
        id: text,
      });
    }
    const before = this.#copy.snapshot();
    const stored = await before.stored(id);
    const old = stored === undefined ? undefined : await before.row(stored.seq);
    const copied: Leaf[] = [];
    for (const leaf of leaves) copied.push(await this.#copyLeaf(leaf, old?.leaves ?? []));
    this.#leaves.clear();
    writeLeaves(this.#leaves, copied);
    this.#batch.begin(0, seq);
    this.#batch.document(stored?.seq ?? 0, id, value.subarray(SEQ_BYTES), this.#leaves.view());
  }

  async #copyLeaf(leaf: Leaf, old: readonly Leaf[]): Promise<Leaf> {
    const { body } = leaf;
    const moved = body.length === 0 ? body : await this.#copyRun(body);
    const attachments: Attachment[] = [];
    for (const attachment of leaf.attachments) {
      const refs = refsOfSame(attachment, old) ?? (await this.#copyRuns(attachment.refs));
      attachments.push({ ...attachment, refs });
    }
    return { ...leaf, body: moved, attachments };
  }

  async #copyRuns(refs: readonly Ref[]): Promise<Ref[]> {
    const copies: Ref[] = [];
    for (const ref of refs) copies.push(await this.#copyRun(ref));
    return copies;
  }

  async #copyRun(ref: Ref): Promise<Ref> {
    const bytes = await this.#snapshot.run(ref);
    if (this.#runs.full) await this.#runs.write();
    return this.#runs.append(bytes, ref);
  }

  async localDocs(since: number): Promise<void> {
    const changed = this.#snapshot.entries('localBySeq', { gt: seqKey(since) });
    for await (const { value: id } of changed) {
      const value = await this.#snapshot.value('local', id);
      if (value === undefined) continue;
      const old = await this.#copy.snapshot().value('local', id);
      this.#batch.localDoc(old === undefined ? 0 : localSeqOf(old), id, value);
      await this.#mergeIfFull();
    }
  }

  async #mergeIfFull(): Promise<void> {
    this.#goOn();
    if (this.#batch.bytes >= BATCH_BYTES) await this.merge();
  }

  /** Merges what was read, with the seqs and the metadata of the snapshot. */
  async merge(): Promise<void> {
    const { counters, metadata } = this.#snapshot;
    await this.#runs.write();
    await this.#copy.absorb(this.#batch, counters, metadata);
    this.#batch = new OverlaySet();
  }
}

/** The refs of the same attachment in what the copy has of a document: kept attachments are not copied again. */
function refsOfSame(attachment: Attachment, old: readonly Leaf[]): readonly Ref[] | undefined {
  const same = old
    .flatMap(({ attachments }) => attachments)
    .find(
      ({ digest, length, refs }) =>
        length === attachment.length &&
        Buffer.compare(digest, attachment.digest) === 0 &&
        refs.length === attachment.refs.length &&
        refs.every((ref, index) => ref.crc === attachment.refs[index]?.crc),
    );
  return same?.refs;
}

/** Runs on their way into a file, many in one write. REQUIRES: nobody else reserves places in the file meanwhile. */
class RunBuffer {
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
