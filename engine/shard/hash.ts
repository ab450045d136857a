/**
 * Where a document belongs: the hash of its id and the ranges that shards cover. The hash is CouchDB's, CRC-32 of the id
 * in UTF-8; in a partitioned database, of the part before the first colon (mem3_hash and
 * couch_partition there).
 */
import { crc32 } from 'node:zlib';
import { DivanError } from '../errors.js';
import { byteAt } from '../file/bytes.js';

/** `document`: the whole id counts; `partition`: the part before the first `:`, except in ids that begin with `_`. */
export type HashRule = 'document' | 'partition';

/** Hashes from `start` to `end`, both included. */
export interface ShardRange {
  readonly start: number;
  readonly end: number;
}

export const HASH_MAX = 0xffff_ffff;
export const FULL_RANGE: ShardRange = { start: 0, end: HASH_MAX };
/** A shard is split into at most so many. */
export const PARTS_MAX = 64;

const COLON = 0x3a;
const UNDERSCORE = 0x5f;
/** Up to this length a table in JavaScript is faster than a call of zlib. */
const SHORT_ID_BYTES = 64;

const TABLE = new Int32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  TABLE[byte] = value;
}

/** The 32-bit hash of a document id. */
export function hashOf(id: Uint8Array, rule: HashRule): number {
  const end = rule === 'partition' ? partitionEnd(id) : id.length;
  if (end > SHORT_ID_BYTES) return crc32(id.subarray(0, end));
  let crc = -1;
  for (let at = 0; at < end; at++) {
    crc = (crc >>> 8) ^ (TABLE[(crc ^ byteAt(id, at)) & 0xff] ?? 0);
  }
  return ~crc >>> 0;
}

function partitionEnd(id: Uint8Array): number {
  if (id.length > 0 && byteAt(id, 0) === UNDERSCORE) return id.length;
  const colon = id.indexOf(COLON);
  return colon < 0 ? id.length : colon;
}

export function isInRange(hash: number, range: ShardRange): boolean {
  return hash >= range.start && hash <= range.end;
}

/** Throws `OUT_OF_RANGE` for an id that belongs to another shard. */
export function assertInRange(
  id: Uint8Array,
  { range, hashRule }: { readonly range: ShardRange; readonly hashRule: HashRule },
  hash = hashOf(id, hashRule),
): void {
  if (isInRange(hash, range)) return;
  const text = Buffer.from(id).toString();
  throw new DivanError(
    'OUT_OF_RANGE',
    `${text} hashes to ${hex(hash)}, outside of ${formatRange(range)}`,
    { id: text },
  );
}

/** A range as it stands in names: `00000000-7fffffff`. */
export function formatRange(range: ShardRange): string {
  return `${hex(range.start)}-${hex(range.end)}`;
}

function hex(hash: number): string {
  return hash.toString(16).padStart(8, '0');
}

/** Whether a name is that of a range. */
export function isRangeName(text: string): boolean {
  return /^[0-9a-f]{8}-[0-9a-f]{8}$/.test(text);
}

/** Reads `hhhhhhhh-hhhhhhhh` in either case. Throws `INVALID_RANGE`. */
export function parseRange(text: string): ShardRange {
  const match = /^([0-9a-f]{8})-([0-9a-f]{8})$/i.exec(text);
  const range = {
    start: Number.parseInt(match?.[1] ?? '', 16),
    end: Number.parseInt(match?.[2] ?? '', 16),
  };
  if (match === null || range.start > range.end) {
    throw new DivanError(
      'INVALID_RANGE',
      `${text} is no hash range; ranges look like 00000000-7fffffff`,
    );
  }
  return range;
}

/**
 * Divides a range into `parts` of equal length, the last of which takes the remainder: what CouchDB's splits do, so that
 * names agree. Throws `INVALID_RANGE`.
 */
export function evenRanges(range: ShardRange, parts: number): ShardRange[] {
  const length = range.end - range.start + 1;
  if (!Number.isInteger(parts) || parts < 1 || parts > PARTS_MAX || parts > length) {
    throw new DivanError(
      'INVALID_RANGE',
      `${formatRange(range)} can not be divided into ${parts} parts; give a number from 2 to ${Math.min(PARTS_MAX, length)}`,
    );
  }
  const step = Math.floor(length / parts);
  return Array.from({ length: parts }, (_, index) => {
    const start = range.start + index * step;
    return { start, end: index === parts - 1 ? range.end : start + step - 1 };
  });
}

/** Refuses ranges that do not cover `whole` exactly once, and returns them in order. Throws `INVALID_RANGE`. */
export function checkTiling(whole: ShardRange, ranges: readonly ShardRange[]): ShardRange[] {
  const sorted = [...ranges].sort((a, b) => a.start - b.start);
  let next = whole.start;
  for (const range of sorted) {
    if (range.start < whole.start) throw notTiling(whole, 'reach beyond it with', range);
    if (range.start < next) throw notTiling(whole, 'overlap at', range);
    if (range.start > next) throw notTiling(whole, 'leave a gap before', range);
    next = range.end + 1;
  }
  const last = sorted[sorted.length - 1];
  if (last === undefined || next <= whole.end) {
    throw new DivanError(
      'INVALID_RANGE',
      `the ranges end before ${formatRange(whole)} does; ${hex(Math.min(next, HASH_MAX))} belongs to none`,
    );
  }
  if (last.end > whole.end) throw notTiling(whole, 'reach beyond it with', last);
  return sorted;
}

function notTiling(whole: ShardRange, what: string, range: ShardRange): DivanError {
  return new DivanError(
    'INVALID_RANGE',
    `the ranges do not tile ${formatRange(whole)}: they ${what} ${formatRange(range)}`,
  );
}
