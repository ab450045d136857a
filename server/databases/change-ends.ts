/**
 * Up to where a reader of changes that ends reads each shard, whatever takes the place of the shards meanwhile. One that reads downwards has what
 * is left there.
 *
 * For a shard that was merged since, the ends of its sources are different seqs of it: an end for each part of its range.
 */
import {
  Coverage,
  type CoveragePart,
  coverageOf,
  type TokenShard,
  tokenName,
} from './since-token.js';

export class ChangeEnds {
  readonly #shards: readonly TokenShard[];
  readonly #ends: Coverage[];

  private constructor(shards: readonly TokenShard[], ends: Coverage[]) {
    this.#shards = shards;
    this.#ends = ends;
  }

  /** All that there is in shards. */
  static of(shards: readonly TokenShard[]): ChangeEnds {
    const ends = shards.map(({ metadata, counters }) => {
      return new Coverage([{ end: metadata.range.end, seq: counters.updateSeq }]);
    });
    return new ChangeEnds(shards, ends);
  }

  /** The last seq of a shard that may have to be read. */
  last(index: number): number {
    return this.#ends[index]?.to ?? 0;
  }

  /** Whether the row of an update seq, of a document whose id has this hash, is to be read. */
  isWithin(index: number, seq: number, hash: number): boolean {
    return this.#ends[index]?.isSeen(seq, hash) === true;
  }

  /** Says that a shard is read down to a seq. */
  lower(index: number, seq: number): void {
    const parts = this.#ends[index]?.parts ?? [];
    this.#ends[index] = new Coverage(
      parts.map((part) => ({ end: part.end, seq: Math.min(part.seq, seq - 1) })),
    );
  }

  /** The same in the shards that there are now. REQUIRES: their lineages have the ones before that they were made of. */
  in(shards: readonly TokenShard[]): ChangeEnds {
    return new ChangeEnds(
      shards,
      shards.map((shard) => this.#endOf(shard)),
    );
  }

  #endOf(shard: TokenShard): Coverage {
    const { range } = shard.metadata;
    const parts: CoveragePart[] = [];
    for (const [index, { metadata }] of this.#shards.entries()) {
      const name = tokenName(metadata.uuid);
      let { start } = metadata.range;
      for (const { end, seq } of this.#ends[index]?.parts ?? []) {
        const from = Math.max(start, range.start);
        const to = Math.min(end, range.end);
        start = end + 1;
        if (from > to) continue;
        parts.push({ end: to, seq: coverageOf(new Map([[name, seq]]), shard).seqOf(from) });
      }
    }
    return new Coverage(parts);
  }
}
