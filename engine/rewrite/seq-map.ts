/**
 * How the seqs of a source become those of a target. Merging `count` sources, the seq `s` of source `index` becomes
 * `s * count + index`: the order stays, no two are the same, and no table is needed. Sources that were split from one file have disjoint
 * seqs up to the split at `base`; these stay as they are, and later ones become `base + (s - base) * count + index`.
 */
import { DivanError } from '../errors.js';
import { readSeq } from '../file/byte-reader.js';
import { SEQ_BYTES, writeSeq } from '../file/byte-writer.js';
import type { Parent, Seqs } from '../shard/state.js';

/** How all seqs of a source become those of a target. */
export type SeqMaps = { readonly [name in keyof Seqs]: SeqMap };

export function seqMapsOf({
  parentCount,
  parentIndex,
  base,
}: Pick<Parent, 'parentCount' | 'parentIndex' | 'base'>): SeqMaps {
  const mapOf = (name: keyof Seqs) => new SeqMap(parentCount, parentIndex, base[name]);
  return {
    updateSeq: mapOf('updateSeq'),
    purgeSeq: mapOf('purgeSeq'),
    localSeq: mapOf('localSeq'),
  };
}

export class SeqMap {
  readonly count: number;
  readonly index: number;
  readonly base: number;

  constructor(count: number, index: number, base: number) {
    this.count = count;
    this.index = index;
    this.base = base;
  }

  /** Whether any seq up to `seqMax` becomes another one. */
  changes(seqMax: number): boolean {
    return this.count > 1 && seqMax > this.base;
  }

  /** Throws `LIMIT` for a result beyond 2^53 - 1. */
  map(seq: number): number {
    if (this.count === 1 || seq <= this.base) return seq;
    const mapped = this.base + (seq - this.base) * this.count + this.index;
    if (Number.isSafeInteger(mapped)) return mapped;
    throw new DivanError('LIMIT', 'merged seqs would go beyond 2^53 - 1');
  }

  /** The key of the last seq of the source whose key in the target is `key` or before it. */
  keyBefore(key: Uint8Array): Uint8Array {
    const target = readSeq(key, 0);
    const { base, count, index } = this;
    const seq =
      count === 1 || target <= base ? target : base + Math.floor((target - base - index) / count);
    const own = new Uint8Array(SEQ_BYTES);
    writeSeq(own, 0, Math.max(seq, Math.min(target, base)));
    return own;
  }
}
