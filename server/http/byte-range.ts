/**
 * The `Range` header (RFC 9110, section 14): the one part of a body that a client asks for.
 *
 * A server may ignore any range. Divan ignores those of other units than bytes, malformed ones and lists of several, whose
 * answers cost more than the whole body would: the client then gets all of it.
 */
import { DivanError } from '../../engine/errors.js';

/** Bytes from `start` up to but without `end`; never empty. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * The part of a body of `length` bytes that `header` asks for; undefined: the whole body.
 * Throws `RANGE_NOT_SATISFIABLE`, with `length` as the fact `actual`, if no byte of the body is in the range.
 */
export function parseRange(header: string | undefined, length: number): ByteRange | undefined {
  if (header === undefined) return undefined;
  const match = /^bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*$/i.exec(header);
  if (match === null) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '') return last === '' ? undefined : suffix(Number(last), length);
  const start = Number(first);
  const end = last === '' ? length : Math.min(Number(last) + 1, length);
  if (last !== '' && Number(last) < start) return undefined;
  if (start >= length) throw unsatisfiable(length);
  return { start, end };
}

/** The value of `Content-Range` for a part of a body of `length` bytes. */
export function contentRange(range: ByteRange, length: number): string {
  return `bytes ${range.start}-${range.end - 1}/${length}`;
}

/** The value of `Content-Range` beside the status 416. */
export function unsatisfiedContentRange(length: number): string {
  return `bytes */${length}`;
}

/** The last `count` bytes. All of an empty body are none, which no part can say. */
function suffix(count: number, length: number): ByteRange | undefined {
  if (count === 0) throw unsatisfiable(length);
  return length === 0 ? undefined : { start: Math.max(0, length - count), end: length };
}

function unsatisfiable(length: number): DivanError {
  return new DivanError('RANGE_NOT_SATISFIABLE', `the body has ${length} bytes`, {
    actual: length,
  });
}
