/**
 * Entity tags and the conditions made of them (RFC 9110, sections 8.8.3 and 13.1).
 *
 * A list of tags is written `"a", W/"b"` or `*`. CouchDB's clients also send a bare revision where a tag belongs, without
 * quotes; such a word counts as the strong tag that it is meant to be.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';

/** A tag without its quotes. */
export interface ETag {
  readonly text: string;
  readonly weak: boolean;
}

/** `*` stands for any tag of something that exists. */
export type ETagList = '*' | readonly ETag[];

/** An entry of a list with the comma behind it: a weak mark and a quoted text, or a bare word, or nothing. */
const ENTRY =
  /[ \t]*(?:(?:(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"|([\x21\x23-\x29\x2b\x2d-\x7e]+))[ \t]*)?(?:,|$)/y;
const TAGS_MAX = 1000;

/** The tag as a header has it; undefined for a text that none can hold, such as a revision that another store named at will. */
export function formatETag(text: string): string | undefined {
  return /^[\x21\x23-\x7e]*$/.test(text) ? `"${text}"` : undefined;
}

/** The list that a header holds. Empty entries are passed over, as in any list of HTTP. Throws `BAD_REQUEST`. */
export function parseETags(header: string): ETagList {
  if (header.trim() === '*') return '*';
  const tags: ETag[] = [];
  for (let at = 0; at < header.length; at = ENTRY.lastIndex) {
    ENTRY.lastIndex = at;
    const match = ENTRY.exec(header);
    if (match === null || tags.length === TAGS_MAX) throw malformed();
    const text = match[2] ?? match[3];
    if (text !== undefined) tags.push({ text, weak: match[1] !== undefined });
  }
  return tags;
}

/**
 * True if `If-None-Match` says that the client has what has the tag `current` (without quotes), so that a GET answers 304.
 * Weak tags count. A malformed header names nothing: the client gets what it asked for.
 */
export function isNotModified(ifNoneMatch: string | undefined, current: string): boolean {
  if (ifNoneMatch === undefined) return false;
  const tags = tagsOrNone(ifNoneMatch);
  return tags === '*' || tags.some((tag) => tag.text === current);
}

/** True if a `Range` is to be honoured beside this `If-Range`, which a date or a malformed tag forbids. */
export function isRangeWanted(ifRange: string | undefined, current: string): boolean {
  return ifRange === undefined || ifRange.trim() === formatETag(current);
}

/**
 * The revision that `If-Match` names, as CouchDB reads it for an edit: the text of the one tag, weak or not, since a proxy that
 * compresses makes tags weak and revisions are exact anyway. Throws `BAD_REQUEST` for `*` and for several tags.
 */
export function revisionOfIfMatch(ifMatch: string | undefined): string | undefined {
  if (ifMatch === undefined) return undefined;
  const tags = parseETags(ifMatch);
  const [tag, another] = tags === '*' ? [] : tags;
  if (tag !== undefined && another === undefined) return tag.text;
  throw new DivanError('BAD_REQUEST', 'If-Match must name one revision');
}

function tagsOrNone(header: string): ETagList {
  try {
    return parseETags(header);
  } catch (error) {
    if (isDivanError(error, 'BAD_REQUEST')) return [];
    throw error;
  }
}

function malformed(): DivanError {
  return new DivanError('BAD_REQUEST', 'a header with entity tags is malformed');
}
