/**
 * Catching up: brings copies of shards that are being written up to date, in rounds: one copy of one shard, the parts that one is split
 * into, or what several are merged into. A round takes what came since the one before from the by-seq trees of snapshots: purges first,
 * since a purged document leaves no trace in by-seq, then documents, local docs and metadata.
 */
import { DivanError } from '../errors.js';
import { readSeq } from '../file/byte-reader.js';
import { ByteWriter, SEQ_BYTES, writeSeq } from '../file/byte-writer.js';
import { CODEC_RAW, type Ref } from '../file/ref.js';
import type { Attachment } from '../shard/attachment-list.js';
import { hashOf, isInRange } from '../shard/hash.js';
import { LOCAL_PREFIX, localSeqOf } from '../shard/local-tree.js';
import { decodePurgeInfo } from '../shard/purge-tree.js';
import { type Leaf, readRow, seqKey, writeLeaves } from '../shard/seq-tree.js';
import type { Shard } from '../shard/shard.js';
import { type Change, changesKeys, type Snapshot } from '../shard/snapshot.js';
import { type Seqs, ZERO_SEQS } from '../shard/state.js';
import { Copies, type Copy } from './copies.js';
import { Extents } from './extents.js';
import { type SeqMaps, seqMapsOf } from './seq-map.js';

/** Few enough that what is done with them, some milliseconds, does not keep requests waiting. */
const DOCUMENTS_AT_ONCE = 256;
/** Longer bodies are read by themselves. */
const GATHERED_BYTES_MAX = 64 * 1024;
const DOCUMENTS_BYTES = 8 * 1024 * 1024;
const LOCAL_PREFIX_BYTES = Buffer.from(LOCAL_PREFIX);

/** A shard that is written, and what the copies have of it. */
interface CatchUpSource {
  readonly shard: Shard;
  has: Seqs;
  readonly seqMaps: SeqMaps;
}

export class CatchUp {
  readonly #sources: readonly CatchUpSource[];
  readonly #copies: Copies;

  /**
   * REQUIRES: nobody else writes to `copies`, which hold the sources, each as of its `seqs` at least; the sources are in the order in which
   * they are the parents of the copies.
   */
  constructor(sources: readonly Shard[], copies: readonly Shard[], seqs: readonly Seqs[]) {
    const base = copies[0]?.snapshot().metadata.lineage.at(-1)?.base ?? ZERO_SEQS;
    const parentCount = sources.length;
    this.#sources = sources.map((shard, parentIndex) => ({
      shard,
      has: seqs[parentIndex] ?? ZERO_SEQS,
      seqMaps: seqMapsOf({ parentCount, parentIndex, base }),
    }));
    this.#copies = new Copies(copies);
  }

  /** About how many changes the copies lack. */
  get behind(): number {
    let behind = 0;
    for (const { shard, has } of this.#sources) {
      const { updateSeq, purgeSeq, localSeq } = shard.snapshot().counters;
      behind += updateSeq - has.updateSeq + (purgeSeq - has.purgeSeq) + (localSeq - has.localSeq);
    }
    return behind;
  }

  /** What the copies have of each source. */
  get seqs(): readonly Seqs[] {
    return this.#sources.map(({ has }) => has);
  }

  /**
   * Brings the copies up to what is durable in the sources now. Calls `goOn` now and then, which throws to stop. Throws what reading and
   * writing throw; the copies are then as of something in between, and a later round from the same seqs mends that.
   */
  async round(goOn: () => void): Promise<void> {
    const snapshots = this.#sources.map(({ shard }) => shard.snapshot());
    this.#copies.expect(this.#sources, snapshots);
    for (const [index, source] of this.#sources.entries()) {
      const snapshot = snapshots[index];
      if (snapshot === undefined) continue;
      const round = new Round(source, snapshot, this.#copies, goOn);
      await round.purges(source.has.purgeSeq);
      await round.documents(source.has.updateSeq);
      await round.localDocs(source.has.localSeq);
    }
    await this.#copies.merge();
    for (const [index, source] of this.#sources.entries()) {
      source.has = snapshots[index]?.counters ?? source.has;
      // What was read of the purge infos may go.
      source.shard.keepPurgesAfter(source.has.purgeSeq);
    }
  }
}

/** False if purge infos after what copies have were dropped, as they may have been since an interrupted run. */
export async function knowPurges(
  sources: readonly Shard[],
  seqs: readonly Seqs[],
): Promise<boolean> {
  for (const [index, source] of sources.entries()) {
    if (!(await knowsPurgesAfter(source.snapshot(), seqs[index]?.purgeSeq ?? 0))) return false;
  }
  return true;
}

async function knowsPurgesAfter(snapshot: Snapshot, seq: number): Promise<boolean> {
  if (snapshot.counters.purgeSeq === seq) return true;
  for await (const { key } of snapshot.entries('purgeBySeq')) return readSeq(key, 0) <= seq + 1;
  return false;
}

/** What a round takes of one source. */
class Round {
  readonly #source: CatchUpSource;
  readonly #snapshot: Snapshot;
  readonly #copies: Copies;
  readonly #goOn: () => void;
  readonly #leaves = new ByteWriter();
  /** Of the documents that are copied together. */
  readonly #bodies: Extents;
  readonly #bodyNumbers = new Map<number, number>();

  constructor(source: CatchUpSource, snapshot: Snapshot, copies: Copies, goOn: () => void) {
    this.#source = source;
    this.#snapshot = snapshot;
    this.#copies = copies;
    this.#goOn = goOn;
    const { file } = source.shard;
    this.#bodies = new Extents({
      path: file.path,
      read: (into, position) => file.readInto(into, position),
    });
  }

  /** Purge infos after a purge seq, and what they removed; and those that were dropped meanwhile go. */
  async purges(since: number): Promise<void> {
    let first: number | undefined;
    for await (const { key, value } of this.#snapshot.entries('purgeBySeq')) {
      const seq = readSeq(key, 0);
      first ??= seq;
      if (seq <= since) continue;
      const id = Buffer.from(decodePurgeInfo(value).id);
      const copy = this.#copies.of(this.#hashOf(id));
      if ((await this.#snapshot.stored(id)) === undefined) await this.#removeDocument(copy, id);
      copy.batch.purgeInfo(this.#source.seqMaps.purgeSeq.map(seq), value);
      await this.#mergeIfFull();
    }
    const before = first ?? this.#snapshot.counters.purgeSeq + 1;
    for (const copy of this.#copies.all) await this.#dropPurges(copy, before);
  }

  #hashOf(id: Uint8Array): number {
    return hashOf(id, this.#snapshot.metadata.hashRule);
  }

  async #removeDocument(copy: Copy, id: Uint8Array): Promise<void> {
    const old = await copy.shard.snapshot().stored(id);
    if (old !== undefined) copy.batch.purgedDocument(old.seq, id);
  }

  /** Purge infos are dropped from the oldest on. */
  async #dropPurges(copy: Copy, before: number): Promise<void> {
    const lt = seqKey(this.#source.seqMaps.purgeSeq.map(before));
    for await (const { key, value } of copy.shard.snapshot().entries('purgeBySeq', { lt })) {
      const { uuid, id } = decodePurgeInfo(value);
      // In a merge they are between those of other sources.
      if (!isInRange(this.#hashOf(Buffer.from(id)), this.#snapshot.metadata.range)) continue;
      copy.batch.droppedPurgeInfo(readSeq(key, 0), uuid);
      await this.#mergeIfFull();
    }
  }

  async documents(since: number): Promise<void> {
    let together: Change[] = [];
    let bytes = 0;
    const copyAll = async () => {
      await this.#readBodies(together);
      await Promise.all(together.map((change) => this.#copyDocument(change)));
      together = [];
      bytes = 0;
      await this.#mergeIfFull();
    };
    for await (const entries of this.#snapshot.entryBatches('bySeq', changesKeys({ since }))) {
      for (const { key, value } of entries) {
        const change = { seq: readSeq(key, 0), ...readRow(value) };
        together.push(change);
        for (const { body } of change.leaves) bytes += body.length;
        if (together.length === DOCUMENTS_AT_ONCE || bytes >= DOCUMENTS_BYTES) await copyAll();
      }
    }
    await copyAll();
  }

  /** Documents that were written one after the other mostly have their bodies next to each other. */
  async #readBodies(changes: readonly Change[]): Promise<void> {
    this.#bodies.clear();
    this.#bodyNumbers.clear();
    for (const { leaves } of changes) {
      for (const { body } of leaves) {
        if (body.length === 0 || body.length > GATHERED_BYTES_MAX || body.codec !== CODEC_RAW) {
          continue;
        }
        this.#bodyNumbers.set(body.pos, this.#bodies.add(body.pos, body.length, body.crc));
      }
    }
    await this.#bodies.read();
  }

  async #copyDocument({ id, hash, seq, leaves }: Change): Promise<void> {
    const value = await this.#snapshot.value('byId', id);
    if (value === undefined) {
      const text = Buffer.from(id).toString();
      throw new DivanError('CORRUPT', 'by-seq has a document that by-id does not have', {
        id: text,
      });
    }
    const copy = this.#copies.of(hash);
    const before = copy.shard.snapshot();
    const stored = await before.stored(id);
    const old = stored === undefined ? undefined : await before.row(stored.seq);
    const copied: Leaf[] = [];
    for (const leaf of leaves) copied.push(await this.#copyLeaf(copy, leaf, old?.leaves ?? []));
    this.#leaves.clear();
    writeLeaves(this.#leaves, copied);
    copy.batch.begin(0, this.#source.seqMaps.updateSeq.map(seq));
    copy.batch.document(stored?.seq ?? 0, id, value.subarray(SEQ_BYTES), this.#leaves.view());
  }

  async #copyLeaf(copy: Copy, leaf: Leaf, old: readonly Leaf[]): Promise<Leaf> {
    const { body } = leaf;
    const moved = body.length === 0 ? body : await this.#copyRun(copy, body);
    const attachments: Attachment[] = [];
    for (const attachment of leaf.attachments) {
      const refs = refsOfSame(attachment, old) ?? (await this.#copyRuns(copy, attachment.refs));
      attachments.push({ ...attachment, refs });
    }
    return { ...leaf, body: moved, attachments };
  }

  async #copyRuns(copy: Copy, refs: readonly Ref[]): Promise<Ref[]> {
    const copies: Ref[] = [];
    for (const ref of refs) copies.push(await this.#copyRun(copy, ref));
    return copies;
  }

  async #copyRun({ runs }: Copy, ref: Ref): Promise<Ref> {
    const bytes = this.#gathered(ref) ?? (await this.#snapshot.run(ref));
    if (runs.full) await runs.write();
    return runs.append(bytes, ref);
  }

  /** A copy of a body that was read with others. */
  #gathered(ref: Ref): Uint8Array | undefined {
    const number = this.#bodyNumbers.get(ref.pos);
    if (number === undefined) return undefined;
    const place = this.#bodies.place(number);
    return Buffer.from(this.#bodies.buffer.subarray(place, place + ref.length));
  }

  async localDocs(since: number): Promise<void> {
    const changed = this.#snapshot.entries('localBySeq', { gt: seqKey(since) });
    for await (const { value: id } of changed) {
      const value = await this.#snapshot.value('local', id);
      if (value === undefined) continue;
      const copy = this.#copies.of(this.#hashOf(Buffer.concat([LOCAL_PREFIX_BYTES, id])));
      const old = await copy.shard.snapshot().value('local', id);
      const mapped = value.slice();
      writeSeq(mapped, 0, this.#source.seqMaps.localSeq.map(localSeqOf(value)));
      copy.batch.localDoc(old === undefined ? 0 : localSeqOf(old), id, mapped);
      await this.#mergeIfFull();
    }
  }

  async #mergeIfFull(): Promise<void> {
    this.#goOn();
    await this.#copies.mergeIfFull();
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
