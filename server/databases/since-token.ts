/**
 * Since tokens: how far somebody has read the changes of a database. Opaque to clients.
 *
 * A token says of files, which it names by the beginning of their uuids, up to which update seq of each all changes were seen. What was
 * seen is all of that together. So a token outlives splits, merges and compactions: a file's metadata has its lineage (FORMAT.md section
 * 11), along which an entry for an ancestor becomes a seq in the file. Files that are not known count for nothing, so that what is
 * read from a token may repeat what its holder knows but never lacks a change.
 *
 *     token = sum "-" entries [ "~" entries ]      entry = name seq
 *
 * `name` is the first 9 bytes of a uuid in base64url, `seq` a number in base 36. The first entries are of the shards that the database has
 * now, and `sum` is the sum of their seqs, by which people see how far a token is. The others are of ancestors, and are carried along
 * as long as a shard has not been read up to where they reach.
 */
import assert from 'node:assert';
import { DivanError } from '../../engine/errors.js';
import { partsOf } from '../../engine/rewrite/lineage.js';
import { SeqMap } from '../../engine/rewrite/seq-map.js';
import { isInRange, type ShardRange } from '../../engine/shard/hash.js';
import type { Counters, Metadata, Parent } from '../../engine/shard/state.js';

/** For files, by their names in tokens, the update seqs up to which their changes were seen. */
export type SeenSeqs = ReadonlyMap<string, number>;

export const NOTHING_SEEN: SeenSeqs = new Map();

/** What a token needs to know of a shard; a snapshot is one. */
export interface TokenShard {
  readonly metadata: Pick<Metadata, 'uuid' | 'range' | 'lineage'>;
  readonly counters: Pick<Counters, 'updateSeq'>;
}

const NAME_UUID_BYTES = 9;
const SEQ_RADIX = 36;
const TOKEN_LENGTH_MAX = 64 * 1024;
const TOKEN = /^([0-9]{1,22})-([^~]*)(?:~([^~]+))?$/;
const ENTRY = /^([A-Za-z0-9_-]{12})(0|[1-9a-z][0-9a-z]{0,10})$/;

/** The name of a file in tokens. */
export function tokenName(uuid: Uint8Array): string {
  const bytes = Buffer.from(uuid.buffer, uuid.byteOffset, NAME_UUID_BYTES);
  return bytes.toString('base64url');
}

/**
 * Reads a token, perhaps in quotes, as CouchDB takes it. `0`, and whatever begins with `0-` and is no token, stands for the beginning. A
 * bare number says nothing of which file it is, so it is refused rather than guessed at. Throws `BAD_REQUEST`.
 */
export function parseSince(since: string): SeenSeqs {
  const text = /^".*"$/.test(since) ? since.slice(1, -1) : since;
  if (text === '0') return NOTHING_SEEN;
  const seen = text.length > TOKEN_LENGTH_MAX ? undefined : parseToken(text);
  if (seen !== undefined) return seen;
  if (text.startsWith('0-')) return NOTHING_SEEN;
  throw new DivanError('BAD_REQUEST', "Malformed sequence supplied in 'since' parameter.");
}

function parseToken(text: string): SeenSeqs | undefined {
  const match = TOKEN.exec(text);
  if (match === null) return undefined;
  const [, sumText = '', entries = '', carried] = match;
  const seen = new Map<string, number>();
  const sum = addEntries(seen, entries);
  // The sum is there for people, but a token that was changed on its way rarely keeps it.
  if (sum === undefined || String(sum) !== sumText) return undefined;
  if (carried !== undefined && addEntries(seen, carried) === undefined) return undefined;
  return seen;
}

/** Returns the sum of the seqs, undefined if the entries are malformed. */
function addEntries(seen: Map<string, number>, text: string): number | undefined {
  let sum = 0;
  for (const entry of text.split('.')) {
    const match = ENTRY.exec(entry);
    const name = match?.[1] ?? '';
    const seq = Number.parseInt(match?.[2] ?? '', SEQ_RADIX);
    if (!Number.isSafeInteger(seq) || seen.has(name)) return undefined;
    seen.set(name, seq);
    sum += seq;
  }
  return sum;
}

/** The token of everything that snapshots of all shards hold. */
export function updateSeqOf(snapshots: readonly TokenShard[]): string {
  return new Position(NOTHING_SEEN, snapshots).ofEverything();
}

/** The hashes up to `end`, from where the part before it ended. */
export interface CoveragePart {
  readonly end: number;
  readonly seq: number;
}

/** Which rows of a shard were seen: in each part of its range those up to a seq. */
export class Coverage {
  /** All rows up to this seq were seen. */
  readonly from: number;
  /** No row after this seq was seen. */
  readonly to: number;
  readonly #parts: readonly CoveragePart[];

  /** REQUIRES: `parts` are in order and cover the range of the shard. */
  constructor(parts: readonly CoveragePart[]) {
    this.#parts = parts;
    this.from = Math.min(...parts.map(({ seq }) => seq));
    this.to = Math.max(...parts.map(({ seq }) => seq));
  }

  /** Its parts, in order. */
  get parts(): readonly CoveragePart[] {
    return this.#parts;
  }

  /** Up to which seq the rows of documents whose ids have a hash were seen. */
  seqOf(hash: number): number {
    return this.#parts.find(({ end }) => hash <= end)?.seq ?? 0;
  }

  /** Whether the row of an update seq, of a document whose id has this hash, was seen. */
  isSeen(seq: number, hash: number): boolean {
    if (seq <= this.from) return true;
    if (seq > this.to) return false;
    return seq <= this.seqOf(hash);
  }
}

/** What of a shard was seen by the holder of a token. */
export function coverageOf(seen: SeenSeqs, { metadata, counters }: TokenShard): Coverage {
  const { uuid, range, lineage } = metadata;
  const own = reached(seen, uuid, counters.updateSeq);
  const ancestors = lineage.filter((parent) => seen.has(tokenName(parent.uuid)));
  if (ancestors.length === 0) return new Coverage([{ end: range.end, seq: own }]);
  const parts = partsOf({ range, lineage }).map((part) => {
    const seq = Math.max(own, inherited(seen, lineage, part));
    return { end: part.end, seq };
  });
  return new Coverage(parts);
}

/**
 * The seq of a shard up to which an entry of any of its ancestors reaches, in a part of its range in which each was whole or not there.
 * The ancestors that had the part are in the order in which they followed one another, so the seq of one is mapped to that of the next.
 */
function inherited(seen: SeenSeqs, lineage: readonly Parent[], part: ShardRange): number {
  let seq = 0;
  for (const parent of lineage) {
    if (!isInRange(part.start, parent.range)) continue;
    seq = Math.max(seq, reached(seen, parent.uuid, parent.cut.updateSeq));
    const { parentCount, parentIndex, base } = parent;
    seq = new SeqMap(parentCount, parentIndex, base.updateSeq).map(seq);
  }
  return seq;
}

/** What a token says of a file; nothing if that is more than the file ever held, since it then is of another past. */
function reached(seen: SeenSeqs, uuid: Uint8Array, updateSeq: number): number {
  const seq = seen.get(tokenName(uuid)) ?? 0;
  return seq <= updateSeq ? seq : 0;
}

/** A shard in a position. */
interface Place {
  readonly name: string;
  readonly updateSeq: number;
  readonly coverage: Coverage;
  /** Names of its ancestors. */
  readonly ancestors: readonly string[];
  /** All rows up to this seq were seen. */
  seq: number;
}

/**
 * How far a reader of changes is in the shards of a database. Gives a token for each row: one that only moves on within a shard costs
 * the text of two numbers.
 */
export class Position {
  readonly #seen: SeenSeqs;
  readonly #places: readonly Place[];
  /** The shard that moved last, and the text around its seq. */
  #index = -1;
  #head = '';
  #tail = '';
  #others = 0;
  /** Where this text holds no longer, since what it carries along is not needed from there on. */
  #until = 0;

  /** `shards`: in their order, as of what is to be read. */
  constructor(seen: SeenSeqs, shards: readonly TokenShard[]) {
    this.#seen = seen;
    this.#places = shards.map((shard) => {
      const { metadata, counters } = shard;
      const coverage = coverageOf(seen, shard);
      return {
        name: tokenName(metadata.uuid),
        updateSeq: counters.updateSeq,
        coverage,
        ancestors: metadata.lineage.map(({ uuid }) => tokenName(uuid)),
        seq: coverage.from,
      };
    });
  }

  /** What of a shard was seen before. */
  coverage(index: number): Coverage {
    return this.#place(index).coverage;
  }

  /** Up to where all rows of a shard were seen. */
  seqOf(index: number): number {
    return this.#place(index).seq;
  }

  /** Says that all rows of a shard up to `seq` were seen by now. */
  move(index: number, seq: number): void {
    this.#place(index).seq = seq;
    if (index !== this.#index) this.#index = -1;
  }

  /** The token once a shard is read up to `seq`; the position stays. */
  tokenAt(index: number, seq: number): string {
    if (index !== this.#index || seq >= this.#until) this.#prepare(index, seq);
    return `${this.#others + seq}-${this.#head}${seq.toString(SEQ_RADIX)}${this.#tail}`;
  }

  /** The token of this position. */
  token(): string {
    return this.tokenAt(0, this.seqOf(0));
  }

  /** The token of everything that is there. */
  ofEverything(): string {
    for (const [index, { updateSeq }] of this.#places.entries()) this.move(index, updateSeq);
    return this.token();
  }

  /** What was seen by now. */
  seen(): SeenSeqs {
    const seen = new Map(this.#carried(-1, 0));
    for (const { name, seq } of this.#places) seen.set(name, seq);
    return seen;
  }

  #prepare(index: number, seq: number): void {
    const place = this.#place(index);
    const entries = this.#places.map((other) => other.name + other.seq.toString(SEQ_RADIX));
    const before = entries.slice(0, index);
    const after = entries.slice(index + 1);
    const carried = [...this.#carried(index, seq)].map(
      ([name, known]) => name + known.toString(SEQ_RADIX),
    );
    this.#head = [...before, place.name].join('.');
    this.#tail = ['', ...after].join('.') + (carried.length === 0 ? '' : `~${carried.join('.')}`);
    this.#others = 0;
    for (const other of this.#places) if (other !== place) this.#others += other.seq;
    const isSettled = seq >= place.coverage.to;
    this.#until = isSettled ? Number.POSITIVE_INFINITY : place.coverage.to;
    this.#index = index;
  }

  /** The entries of ancestors that somebody needs who goes on from here, with shard `index` read up to `seq`. */
  #carried(index: number, seq: number): Map<string, number> {
    const carried = new Map<string, number>();
    for (const [at, { ancestors, coverage, seq: own }] of this.#places.entries()) {
      if ((at === index ? seq : own) >= coverage.to) continue;
      for (const name of ancestors) {
        const known = this.#seen.get(name);
        if (known !== undefined && known > 0) carried.set(name, known);
      }
    }
    return carried;
  }

  #place(index: number): Place {
    const place = this.#places[index];
    assert(place !== undefined, 'a position has a place for every shard');
    return place;
  }
}
