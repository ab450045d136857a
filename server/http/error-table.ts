/** From codes to what clients get: the one table of statuses and CouchDB's error names. */
import { type DivanError, ERROR_CODES, type ErrorCode } from '../../engine/errors.js';

export interface ErrorReply {
  readonly status: number;
  /** CouchDB's name. */
  readonly error: string;
  readonly reason: string;
}

interface Entry {
  readonly status: number;
  readonly error: string;
  /** The message may name files of the server: the client gets the code's sentence instead. */
  readonly isInternal?: true;
}

const internal: Entry = { status: 500, error: 'internal_server_error', isInternal: true };

const TABLE: Readonly<Record<ErrorCode, Entry>> = {
  ABORTED: { status: 503, error: 'service_unavailable', isInternal: true },
  ATTACHMENT_MISSING: { status: 412, error: 'missing_stub' },
  BAD_REQUEST: { status: 400, error: 'bad_request' },
  BUSY: { status: 409, error: 'shard_busy' },
  CHECKPOINT: internal,
  CHECKSUM: internal,
  CLOSED: { status: 503, error: 'service_unavailable', isInternal: true },
  CONFLICT: { status: 409, error: 'conflict' },
  CORRUPT: internal,
  EXISTS: { status: 412, error: 'file_exists' },
  FAILED: internal,
  FORBIDDEN: { status: 403, error: 'forbidden' },
  FORMAT_VERSION: internal,
  INVALID_DOCUMENT: { status: 400, error: 'bad_request' },
  INVALID_JSON: { status: 400, error: 'bad_request' },
  INVALID_NAME: { status: 400, error: 'illegal_database_name' },
  INVALID_PLAN: internal,
  INVALID_RANGE: { status: 400, error: 'bad_request' },
  INVALID_SETTING: { status: 400, error: 'bad_request' },
  IO: internal,
  LIMIT: { status: 413, error: 'too_large' },
  LOCKED: { status: 503, error: 'service_unavailable', isInternal: true },
  MAX_JOBS: { status: 429, error: 'max_jobs_exceeded' },
  METHOD_NOT_ALLOWED: { status: 405, error: 'method_not_allowed' },
  NOT_A_SHARD: internal,
  NOT_FOUND: { status: 404, error: 'not_found' },
  MOVED: { status: 503, error: 'service_unavailable', isInternal: true },
  NO_COMMIT: internal,
  NO_SPACE: { status: 507, error: 'insufficient_storage' },
  OUT_OF_RANGE: internal,
  PEER: { status: 502, error: 'bad_gateway' },
  RANGE_NOT_SATISFIABLE: { status: 416, error: 'requested_range_not_satisfiable' },
  READ_ONLY: internal,
  REPLACED: internal,
  SETTINGS_DIFFER: internal,
  STOPPED: { status: 409, error: 'stopped' },
  TOO_LARGE: { status: 413, error: 'too_large' },
  TRUNCATED: internal,
  UNAUTHORIZED: { status: 401, error: 'unauthorized' },
  UNAVAILABLE: { status: 503, error: 'service_unavailable' },
  UNREACHABLE: { status: 503, error: 'service_unavailable' },
  UNSUPPORTED_TYPE: { status: 415, error: 'bad_content_type' },
  VERIFY_FAILED: internal,
  WORKER: internal,
};

/** An error that tells of a file is none of the client's making, whatever its code would say of a request. */
function entryOf({ code, facts }: DivanError): Entry {
  const entry = TABLE[code];
  if (facts.path === undefined || entry.isInternal === true) return entry;
  return entry.status >= 500 ? { ...entry, isInternal: true } : internal;
}

/** What a client is told of an error. */
export function errorReply(error: DivanError): ErrorReply {
  const { status, error: name, isInternal } = entryOf(error);
  const reason = isInternal === true ? ERROR_CODES[error.code] : error.message;
  return { status, error: name, reason };
}

/** True for an error whose cause an operator should look into; that clients go away or are too many is none. */
export function isInternalError(error: DivanError): boolean {
  const { status } = entryOf(error);
  return status >= 500 && status !== 503;
}
