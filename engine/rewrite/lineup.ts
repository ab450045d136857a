/** What all passes of a rewrite need to know: the sources and how their seqs map, and which hash goes to which target. */
import { DivanError } from '../errors.js';
import { formatRange, hashOf, type ShardRange } from '../shard/hash.js';
import type { Metadata, Parent, Seqs } from '../shard/state.js';
import { commonCuts, lineageOf } from './lineage.js';
import type { RewritePlan } from './plan.js';
import { UNWANTED } from './row-windows.js';
import { type SeqMaps, seqMapsOf } from './seq-map.js';
import type { Source } from './source.js';
import type { Target } from './target.js';

export interface Lineup {
  readonly plan: RewritePlan;
  readonly sources: readonly Source[];
  /** For each source, how its seqs map. */
  readonly seqMaps: readonly SeqMaps[];
  /** The hash of an id; with the rule that all sources share. */
  hashOf(id: Uint8Array): number;
  /** Those of this worker. */
  readonly targets: readonly Target[];
  /** The index in `targets` of the target for a hash; `UNWANTED` if another worker has it. Throws `OUT_OF_RANGE`. */
  route(hash: number): number;
  /** What a finished target says of itself. */
  identityOf(target: Target): { readonly metadata: Metadata; readonly seqs: Seqs };
}

/** REQUIRES: the sources agree on the hash rule. */
export function lineUp(
  plan: RewritePlan,
  sources: readonly Source[],
  targets: readonly Target[],
): Lineup {
  const base = commonCuts(sources.map(({ state }) => state.metadata));
  const lineage = lineageOf(
    sources.map(({ state, plan: { fileId } }) => ({ fileId, ...state })),
    base,
  );
  const parentCount = sources.length;
  const seqMaps = sources.map((_, parentIndex) => seqMapsOf({ parentCount, parentIndex, base }));
  const rule = sources[0]?.state.metadata.hashRule ?? 'document';
  const route = new Route(plan, targets);
  return {
    plan,
    sources,
    seqMaps,
    hashOf: (id) => hashOf(id, rule),
    targets,
    route: (hash) => route.of(hash),
    identityOf: (target) => ({
      metadata: metadataOf(plan, sources, target, lineage),
      seqs: {
        updateSeq: highest(sources, seqMaps, 'updateSeq'),
        purgeSeq: highest(sources, seqMaps, 'purgeSeq'),
        localSeq: highest(sources, seqMaps, 'localSeq'),
      },
    }),
  };
}

function highest(sources: readonly Source[], maps: readonly SeqMaps[], name: keyof Seqs): number {
  return Math.max(
    ...sources.map(({ state }, index) => {
      const seq = state.counters[name];
      return seq === 0 ? 0 : (maps[index]?.[name].map(seq) ?? seq);
    }),
  );
}

function metadataOf(
  plan: RewritePlan,
  sources: readonly Source[],
  target: Target,
  lineage: readonly Parent[],
): Metadata {
  const settings = sources[plan.settingsFrom]?.state.metadata;
  if (settings === undefined) throw new RangeError('the plan takes settings from no source');
  const { uuid, range } = target.plan;
  // A compaction is the same shard in another file, which nobody has to look up.
  if (plan.kind === 'compact') return { ...settings, uuid, range };
  return { ...settings, uuid, range, lineage };
}

/** Hashes are looked up by so many of their highest bits: fewer steps that a processor can't foresee than a binary search. */
const SLOT_BITS = 10;

/** Finds targets by hash. */
class Route {
  readonly #ranges: readonly ShardRange[];
  readonly #ends: Float64Array;
  readonly #first: number;
  readonly #last: number;
  /** For each range the number of its target. */
  readonly #numbers: Int32Array;
  /** For each slot of hashes the first range that has one of it. */
  readonly #rangeOfSlot: Uint32Array;

  constructor(plan: RewritePlan, targets: readonly Target[]) {
    this.#ranges = plan.targets.map(({ range }) => range);
    this.#ends = Float64Array.from(this.#ranges, ({ end }) => end);
    this.#first = this.#ranges[0]?.start ?? 0;
    this.#last = this.#ranges.at(-1)?.end ?? 0;
    const numbers = plan.targets.map((_, index) =>
      targets.findIndex((target) => target.index === index),
    );
    this.#numbers = Int32Array.from(numbers, (number) => (number < 0 ? UNWANTED : number));
    this.#rangeOfSlot = Uint32Array.from({ length: 2 ** SLOT_BITS }, (_, slot) => {
      const lowest = slot * 2 ** (32 - SLOT_BITS);
      return Math.max(
        0,
        this.#ranges.findIndex(({ end }) => lowest <= end),
      );
    });
  }

  /** REQUIRES: the ranges adjoin. */
  of(hash: number): number {
    if (hash < this.#first || hash > this.#last) return this.#outOfRange(hash);
    let range = this.#rangeOfSlot[hash >>> (32 - SLOT_BITS)] ?? 0;
    while (hash > (this.#ends[range] ?? 0)) range++;
    return this.#numbers[range] ?? UNWANTED;
  }

  #outOfRange(hash: number): never {
    const first = this.#ranges[0]?.start ?? 0;
    const all = formatRange({ start: first, end: this.#ranges.at(-1)?.end ?? 0 });
    throw new DivanError(
      'OUT_OF_RANGE',
      `a source holds a document that hashes to ${hash.toString(16)}, outside of ${all}`,
    );
  }
}
