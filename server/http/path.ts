/**
 * The target of a request (RFC 9112, section 3.2): the segments of its path and its raw query.
 *
 * The path is split at each `/` first and each segment decoded once after that, so that an encoded `/` is part of a name.
 * Nothing is normalized: a segment that is `.` or `..` as it stands is refused, and one that only decodes to that is a name
 * like any other, since no path of a request is ever mapped to one of a file.
 */
import { DivanError } from '../../engine/errors.js';
import { percentDecode } from './percent.js';

export interface RequestTarget {
  /** The path as it was sent, from its `/` on, without the query. */
  readonly path: string;
  /** Decoded. Empty segments are left out, as in CouchDB: `/db/` and `//db` are `/db`. */
  readonly segments: readonly string[];
  /** What stands behind the `?`, as it was sent; '' if there is none. */
  readonly query: string;
}

/**
 * Takes a target in origin form (`/a/b?c`) or in absolute form (`http://host/a/b?c`) apart. Throws `TOO_LARGE` if it has
 * more than `charactersMax` characters, and `BAD_REQUEST` if it has another form, cannot be decoded, or has a segment that
 * is `.` or `..` or holds a NUL.
 */
export function parseTarget(target: string, charactersMax: number): RequestTarget {
  if (target.length > charactersMax) {
    throw new DivanError('TOO_LARGE', `a request target has at most ${charactersMax} characters`, {
      expected: charactersMax,
      actual: target.length,
    });
  }
  // Clients keep it to themselves; who is sent one can not know what it was to be a part of.
  if (target.includes('#')) throw new DivanError('BAD_REQUEST', 'the request target has a #');
  const relative = target.startsWith('/') ? target : withoutOrigin(target);
  const mark = relative.indexOf('?');
  const path = mark === -1 ? relative : relative.slice(0, mark);
  const query = mark === -1 ? '' : relative.slice(mark + 1);
  return { path, segments: splitPath(path), query };
}

/** The path and query of an absolute target; its host is of no interest here. */
function withoutOrigin(target: string): string {
  const origin = /^https?:\/\/[^/?#]+/i.exec(target);
  if (origin === null) throw new DivanError('BAD_REQUEST', 'the request target is not a path');
  const rest = target.slice(origin[0].length);
  return rest.startsWith('/') ? rest : `/${rest}`;
}

function splitPath(path: string): string[] {
  const segments: string[] = [];
  for (let start = 1; start < path.length; ) {
    const slash = path.indexOf('/', start);
    const end = slash === -1 ? path.length : slash;
    if (end > start) segments.push(segmentOf(path, start, end));
    start = end + 1;
  }
  return segments;
}

function segmentOf(path: string, start: number, end: number): string {
  const isDot = path.startsWith('.', start);
  if (isDot && (end - start === 1 || (end - start === 2 && path.startsWith('..', start)))) {
    throw new DivanError('BAD_REQUEST', 'a path has no segments that are . or ..');
  }
  const segment = percentDecode(path, start, end, false, 'the path');
  if (segment.includes('\0')) throw new DivanError('BAD_REQUEST', 'the path has a NUL');
  return segment;
}
