/**
 * What lineages (FORMAT.md section 11) say of the shards that have them: which files had the documents of a hash before, and up to
 * where the seqs of shards that are merged are those of one file, so that no two are the same.
 */
import { isInRange, type ShardRange } from '../shard/hash.js';
import { type Metadata, type Parent, type Seqs, seqsOf, ZERO_SEQS } from '../shard/state.js';

/** What a lineage is of. */
export type Descendant = Pick<Metadata, 'range' | 'lineage'>;

/** A file that something is made from, as it is left. */
export interface Origin {
  readonly fileId: Uint8Array;
  readonly metadata: Pick<Metadata, 'uuid' | 'range' | 'lineage'>;
  readonly counters: Seqs;
}

type SeqName = keyof Seqs;

/** A range, cut wherever that of an ancestor ends: in each part each of them was whole or not there. */
export function partsOf({ range, lineage }: Descendant): ShardRange[] {
  const ends = new Set([range.end]);
  for (const parent of lineage) {
    for (const end of [parent.range.start - 1, parent.range.end]) {
      if (end >= range.start && end < range.end) ends.add(end);
    }
  }
  let { start } = range;
  return [...ends]
    .sort((a, b) => a - b)
    .map((end) => {
      const part = { start, end };
      start = end + 1;
      return part;
    });
}

/** The lineage of what is made from all of these, whose seqs up to `base` stay. */
export function lineageOf(sources: readonly Origin[], base: Seqs): Parent[] {
  const earlier = new Map<string, Parent>();
  for (const { metadata } of sources) {
    for (const parent of metadata.lineage) earlier.set(nameOf(parent), parent);
  }
  const parents = sources.map(({ fileId, metadata, counters }, parentIndex): Parent => {
    const { uuid, range } = metadata;
    const cut = seqsOf(counters);
    return { fileId, uuid, range, cut, parentCount: sources.length, parentIndex, base };
  });
  return [...earlier.values(), ...parents];
}

/**
 * The seqs up to which shards have nothing but what one file had that all of them were split from, under the seqs that it had there: they
 * may stay as they are when the shards are merged. 0 where there is no such file, and where there is any doubt.
 */
export function commonCuts(shards: readonly Descendant[]): Seqs {
  if (shards.length < 2) return ZERO_SEQS;
  const named = shards.map(({ range, lineage }) => ({
    parts: partsOf({ range, lineage }),
    ancestors: lineage.map((parent) => ({ name: nameOf(parent), parent })),
  }));
  const all = named.flatMap(({ ancestors }) => ancestors);
  const chains = named.flatMap(({ parts, ancestors }) =>
    parts.map(({ start }) => ancestors.filter(({ parent }) => isInRange(start, parent.range))),
  );
  const cutOf = (seq: SeqName) => (agree(all, seq) ? commonCut(chains, seq) : 0);
  return {
    updateSeq: cutOf('updateSeq'),
    purgeSeq: cutOf('purgeSeq'),
    localSeq: cutOf('localSeq'),
  };
}

interface Ancestor {
  readonly name: string;
  readonly parent: Parent;
}

/** The files that the documents of one part of a range were in, one after the other. */
type Chain = readonly Ancestor[];

function commonCut(chains: readonly Chain[], seq: SeqName): number {
  const [first, ...others] = chains.map((chain) => keptCuts(chain, seq));
  // From the last one on, whose cut is the greatest.
  for (const [name, cut] of first ?? []) {
    if (others.every((cuts) => cuts.get(name) === cut)) return cut;
  }
  return 0;
}

/**
 * The files that were split, by their names, the last one first, with the seqs up to which all that there is in the part is what they had. What was
 * written after one was left has greater seqs, and a merge makes no seq less and leaves those up to its base as they are. But a
 * merge with a lower base changed some of them, perhaps to what is in another part.
 */
function keptCuts(chain: Chain, seq: SeqName): Map<string, number> {
  const cuts = new Map<string, number>();
  let kept = Number.POSITIVE_INFINITY;
  for (const { name, parent } of [...chain].reverse()) {
    if (parent.parentCount > 1) kept = Math.min(kept, parent.base[seq]);
    else if (parent.cut[seq] <= kept) cuts.set(name, parent.cut[seq]);
  }
  return cuts;
}

/**
 * False if a file was left in two ways, as when it was kept and merged with others once more: a lineage has room for one of them, so that of
 * what is made from both it says what is not true of all parts. Such a merge has base 0, beyond which no later question goes back.
 */
function agree(ancestors: readonly Ancestor[], seq: SeqName): boolean {
  const known = new Map<string, Parent>();
  for (const { name, parent } of ancestors) {
    const other = known.get(name) ?? parent;
    known.set(name, other);
    if (
      other.cut[seq] !== parent.cut[seq] ||
      other.base[seq] !== parent.base[seq] ||
      other.parentCount !== parent.parentCount ||
      other.parentIndex !== parent.parentIndex
    ) {
      return false;
    }
  }
  return true;
}

function nameOf({ fileId }: Parent): string {
  return Buffer.from(fileId).toString('hex');
}
