/**
 * A model of shard files and of what is in them: which has what under which seq, of each kind of seq, and what it says of its ancestors
 * (FORMAT.md section 11). Files may be kept when they are split, merged or compacted, written on, and split or merged once more.
 */
import { commonCuts, lineageOf } from '../../engine/rewrite/lineage.js';
import { seqMapsOf } from '../../engine/rewrite/seq-map.js';
import { evenRanges, isInRange, type ShardRange } from '../../engine/shard/hash.js';
import { type Metadata, type Seqs, ZERO_SEQS } from '../../engine/shard/state.js';
import { randomInt } from './seed.js';

export const SEQ_NAMES = ['updateSeq', 'purgeSeq', 'localSeq'] as const;
type SeqName = (typeof SEQ_NAMES)[number];

export interface ForestFile {
  readonly fileId: Uint8Array;
  readonly metadata: Pick<Metadata, 'uuid' | 'range' | 'lineage'>;
  readonly counters: { [name in SeqName]: number };
  /** For each kind of seq, of what has a hash the seq that it has. */
  readonly seqs: { readonly [name in SeqName]: ReadonlyMap<number, number> };
}

export interface MergedFile extends ForestFile {
  /** What stayed. */
  readonly base: Seqs;
}

export class FileForest {
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  file(range: ShardRange): ForestFile {
    return this.#file({ range, lineage: [] }, ZERO_SEQS, () => new Map());
  }

  /** Writes something, under the next seq of each of these kinds. */
  write(file: ForestFile, names: readonly SeqName[] = SEQ_NAMES): ForestFile {
    const { start, end } = file.metadata.range;
    const counters = { ...file.counters };
    const seqs = { ...file.seqs };
    for (const name of names) {
      counters[name]++;
      // One of some, so that what is there is written over too.
      const hash = start + Math.floor((randomInt(this.#random, 8) * (end - start)) / 8);
      seqs[name] = new Map(seqs[name]).set(hash, counters[name]);
    }
    return { ...file, counters, seqs };
  }

  writes(file: ForestFile, count: number): ForestFile {
    let written = file;
    for (let n = 0; n < count; n++) written = this.write(written);
    return written;
  }

  split(source: ForestFile, parts: number): ForestFile[] {
    const lineage = lineageOf([source], ZERO_SEQS);
    return evenRanges(source.metadata.range, parts).map((range) =>
      this.#file(
        { range, lineage },
        source.counters,
        (name) => new Map([...source.seqs[name]].filter(([hash]) => isInRange(hash, range))),
      ),
    );
  }

  /** REQUIRES: they adjoin. Throws a `RangeError` if a seq would be there twice, or if one is beyond the counters. */
  merge(...sources: readonly ForestFile[]): MergedFile {
    const base = commonCuts(sources.map(({ metadata }) => metadata));
    const parentCount = sources.length;
    const maps = sources.map((_, parentIndex) => seqMapsOf({ parentCount, parentIndex, base }));
    const counters = { ...ZERO_SEQS };
    const mapped = (name: SeqName) => {
      const all = new Map<number, number>();
      for (const [index, source] of sources.entries()) {
        const map = (seq: number) => maps[index]?.[name].map(seq) ?? 0;
        const last = source.counters[name];
        if (last > 0) counters[name] = Math.max(counters[name], map(last));
        for (const [hash, seq] of source.seqs[name]) all.set(hash, map(seq));
      }
      if (new Set(all.values()).size < all.size) throw new RangeError(`a ${name} is there twice`);
      if (Math.max(0, ...all.values()) > counters[name]) throw new RangeError(`${name}s go back`);
      return all;
    };
    const start = sources[0]?.metadata.range.start ?? 0;
    const range = { start, end: sources.at(-1)?.metadata.range.end ?? 0 };
    const seqs = {
      updateSeq: mapped('updateSeq'),
      purgeSeq: mapped('purgeSeq'),
      localSeq: mapped('localSeq'),
    };
    const lineage = lineageOf(sources, base);
    return { ...this.#file({ range, lineage }, counters, (name) => seqs[name]), base };
  }

  /** The same shard in another file. */
  compact(source: ForestFile): ForestFile {
    return { ...source, fileId: this.#bytes() };
  }

  #file(
    metadata: Omit<ForestFile['metadata'], 'uuid'>,
    counters: Seqs,
    seqsOf: (name: SeqName) => ReadonlyMap<number, number>,
  ): ForestFile {
    return {
      fileId: this.#bytes(),
      metadata: { uuid: this.#bytes(), ...metadata },
      counters: { ...counters },
      seqs: {
        updateSeq: seqsOf('updateSeq'),
        purgeSeq: seqsOf('purgeSeq'),
        localSeq: seqsOf('localSeq'),
      },
    };
  }

  #bytes(): Uint8Array {
    return Uint8Array.from({ length: 16 }, () => randomInt(this.#random, 256));
  }
}
