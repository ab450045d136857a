/**
 * A model of the shards of a database that are written, split, merged and compacted: which document has which update seq where, and
 * what each shard's metadata says of its ancestors. Seqs and lineages follow FORMAT.md section 11.
 */
import { commonCuts, lineageOf } from '../../engine/rewrite/lineage.js';
import { SeqMap } from '../../engine/rewrite/seq-map.js';
import { evenRanges, FULL_RANGE, isInRange, type ShardRange } from '../../engine/shard/hash.js';
import { type Parent, type Seqs, ZERO_SEQS } from '../../engine/shard/state.js';
import { randomInt } from './seed.js';

export interface ModelShard {
  readonly fileId: Uint8Array;
  readonly metadata: {
    readonly uuid: Uint8Array;
    readonly range: ShardRange;
    readonly lineage: readonly Parent[];
  };
  readonly counters: Seqs & { updateSeq: number };
  /** The update seq of each document. */
  readonly rows: Map<number, number>;
}

export class ShardHistory {
  shards: ModelShard[];
  /** Of each document the hash of its id. */
  readonly hashes: readonly number[];
  /** Of each document how often it was written. */
  readonly versions: number[];
  readonly #random: () => number;

  constructor(random: () => number, documents: number, q: number) {
    this.#random = random;
    this.hashes = Array.from({ length: documents }, () => randomInt(random, 2 ** 32));
    this.versions = this.hashes.map(() => 0);
    this.shards = evenRanges(FULL_RANGE, q).map((range) =>
      this.#shard(range, this.#bytes(), [], 0, new Map()),
    );
  }

  /** Does something to the shards, writing mostly. */
  step(): void {
    const dice = this.#random();
    if (dice < 0.04) this.split(this.#any(this.shards.length), 2 + this.#any(3));
    else if (dice < 0.08) this.merge(this.#any(this.shards.length), 2 + this.#any(2));
    else if (dice < 0.1) this.compact(this.#any(this.shards.length));
    else this.write(this.#any(this.hashes.length));
  }

  write(document: number): void {
    const hash = this.hashes[document] ?? 0;
    const shard = this.shards.find(({ metadata }) => isInRange(hash, metadata.range));
    if (shard === undefined) throw new RangeError('the shards have a gap');
    shard.rows.set(document, ++shard.counters.updateSeq);
    this.versions[document] = (this.versions[document] ?? 0) + 1;
  }

  split(index: number, parts: number): void {
    const [source] = this.shards.slice(index, index + 1);
    if (source === undefined || this.shards.length > 12) return;
    const { range } = source.metadata;
    const lineage = lineageOf([source], ZERO_SEQS);
    const children = evenRanges(range, parts).map((part) => {
      const rows = [...source.rows].filter(([doc]) => isInRange(this.hashes[doc] ?? 0, part));
      const { updateSeq } = source.counters;
      return this.#shard(part, this.#bytes(), lineage, updateSeq, new Map(rows));
    });
    this.shards.splice(index, 1, ...children);
  }

  merge(index: number, count: number): void {
    const sources = this.shards.slice(index, index + count);
    const [first] = sources;
    if (first === undefined || sources.length < 2) return;
    const base = commonCuts(sources.map(({ metadata }) => metadata));
    const rows = new Map<number, number>();
    let updateSeq = 0;
    for (const [at, source] of sources.entries()) {
      const seqs = new SeqMap(sources.length, at, base.updateSeq);
      const last = source.counters.updateSeq;
      if (last > 0) updateSeq = Math.max(updateSeq, seqs.map(last));
      for (const [document, seq] of source.rows) rows.set(document, seqs.map(seq));
    }
    if (new Set(rows.values()).size < rows.size) throw new RangeError('a seq is there twice');
    const end = sources.at(-1)?.metadata.range.end ?? 0;
    const range = { start: first.metadata.range.start, end };
    const lineage = lineageOf(sources, base);
    this.shards.splice(
      index,
      sources.length,
      this.#shard(range, this.#bytes(), lineage, updateSeq, rows),
    );
  }

  compact(index: number): void {
    const [shard] = this.shards.slice(index, index + 1);
    if (shard !== undefined) this.shards[index] = { ...shard, fileId: this.#bytes() };
  }

  #shard(
    range: ShardRange,
    uuid: Uint8Array,
    lineage: readonly Parent[],
    updateSeq: number,
    rows: Map<number, number>,
  ): ModelShard {
    const metadata = { uuid, range, lineage };
    const counters = { ...ZERO_SEQS, updateSeq };
    return { fileId: this.#bytes(), metadata, counters, rows };
  }

  #bytes(): Uint8Array {
    return Uint8Array.from({ length: 16 }, () => this.#any(256));
  }

  #any(below: number): number {
    return randomInt(this.#random, below);
  }
}
