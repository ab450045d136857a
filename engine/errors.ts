/**
 * The one error class of Divan and the table of its codes.
 *
 * Two kinds of failure, two mechanisms: bad bytes, bad input and failed I/O give a `DivanError` with a
 * stable code from this table; broken code fails an `assert`, which nothing catches.
 * Callers match `code`, never the message.
 */

/** Every code, with the sentence that says when it is thrown. README and tests are held to this table. */
export const ERROR_CODES = {
  ABORTED: 'The caller cancelled the operation; what it had begun was undone.',
  ATTACHMENT_MISSING: 'A document names an attachment stub that its parent revision does not have.',
  BAD_REQUEST:
    'A request breaks the rules of its route: a query parameter, a header, the shape of its body.',
  BUSY: 'A shard is being split, merged or compacted already.',
  CHECKPOINT:
    'The checkpoint of a rewrite is damaged, or belongs to another source, commit or set of ranges.',
  CHECKSUM: 'Bytes that a reference points to do not have the checksum that the reference holds.',
  CLOSED: 'The shard or file was closed before the call.',
  CONFLICT: 'The edit does not extend a leaf revision of the document.',
  CORRUPT: 'The file is damaged before the point up to which it was known to be durable.',
  EXISTS: 'A file that was to be created is there already.',
  FAILED: 'An earlier write or sync of this shard failed; it must be opened again.',
  FORBIDDEN: 'The caller is known and may not do that.',
  FORMAT_VERSION:
    'The file has a format version or an incompatible feature that this program does not know.',
  INVALID_DOCUMENT:
    'A document breaks a rule for documents: its id, a system member, a revision, an attachment.',
  INVALID_JSON:
    'A text is not the JSON that Divan stores: syntax, UTF-8, duplicate members, depth, surrogates.',
  INVALID_NAME: 'A database has a name that none may have.',
  INVALID_PLAN: 'The plan of a rewrite is malformed, or is not for this command and these files.',
  INVALID_RANGE:
    'Hash ranges are malformed, or leave a gap, overlap, or do not tile the range of the source.',
  INVALID_SETTING:
    'A setting is unknown, malformed or out of its bounds, or may not be changed in this way.',
  IO: 'The operating system refused to read, write or sync.',
  LIMIT: 'A value is larger than the limit that the format sets for it.',
  LOCKED: 'Another process, or another handle of this one, has the file open for writing.',
  MAX_JOBS: 'So many jobs that split or merge shards wait already that no other is taken.',
  METHOD_NOT_ALLOWED: 'The path is served, but not with this method.',
  MOVED:
    'The documents of the shard are in other files now; the write did nothing and can be sent to those.',
  NO_COMMIT: 'The file has bytes and a valid first block but no valid commit.',
  NO_SPACE: 'The disk or the quota is full.',
  NOT_A_SHARD:
    'The file is not a Divan shard file: its first block is missing, cut short or of another format.',
  NOT_FOUND: 'The file is not there.',
  OUT_OF_RANGE:
    'A document hashes outside the range of the shard, or outside every target of a split.',
  PEER: 'Another node answered with something that is no answer, or failed in a way that it should not.',
  RANGE_NOT_SATISFIABLE: 'The part of an attachment that was asked for is not there.',
  READ_ONLY: 'The shard was opened for reading only.',
  REPLACED: 'The path names another file than the one that was opened or locked.',
  SETTINGS_DIFFER:
    'The sources of a merge differ in security, limits or hash rule, and it was not said whose to take.',
  STOPPED: 'Splitting and merging shards is stopped on this node.',
  TOO_LARGE: 'A request, or something in it, is larger than the configured limit.',
  TRUNCATED:
    'The file is shorter than it was known to be when it was last sealed, opened or flushed.',
  UNAUTHORIZED: 'The caller must say who it is, or the name or password is wrong.',
  UNAVAILABLE:
    'The server is doing too much at once, or is about to stop; the request can be sent again later.',
  UNREACHABLE: 'Another node of the cluster does not answer.',
  UNSUPPORTED_TYPE:
    'The content type or content encoding of a request is not one that its route takes.',
  VERIFY_FAILED: 'A copy does not hold what its source holds.',
  WORKER: 'A worker thread failed or could not be started.',
} as const;

/** One of the stable codes of `ERROR_CODES`. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** What is known of the place of a failure; every member is optional and meant for machines. */
export interface ErrorFacts {
  readonly path?: string;
  /** Position in the file, in bytes from its start. */
  readonly pos?: number;
  readonly id?: string;
  readonly expected?: string | number;
  readonly actual?: string | number;
  /** The operating system's own code, such as `EIO`. */
  readonly errno?: string;
  /** Position inside an input text, in bytes from its start. */
  readonly at?: number;
}

/** The error that Divan throws for bad bytes, bad input and failed I/O. */
export class DivanError extends Error {
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'DivanError';
    this.code = code;
    this.facts = facts;
  }
}

/** True for a `DivanError`, with the given code if one is given. */
export function isDivanError(error: unknown, code?: ErrorCode): error is DivanError {
  return error instanceof DivanError && (code === undefined || error.code === code);
}
