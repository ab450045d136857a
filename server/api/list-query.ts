/** What a list of documents is asked for: in a query, in the body of a POST, or in one of several queries in such a body. */
import { DivanError } from '../../engine/errors.js';
import {
  arrayOf,
  type JsonArray,
  type JsonObject,
  type JsonValue,
  memberOf,
  optionalBoolean,
  optionalInteger,
} from '../http/json-value.js';
import { Query } from '../http/query.js';

export interface ListQuery {
  /** Undefined: from the first. A key that is no string stands before or after all ids, as in CouchDB's order of JSON values. */
  readonly startKey: JsonValue | undefined;
  readonly endKey: JsonValue | undefined;
  readonly inclusiveEnd: boolean;
  readonly descending: boolean;
  /** These ids, in this order. */
  readonly keys: JsonArray | undefined;
  readonly skip: number;
  readonly limit: number;
  readonly includeDocs: boolean;
  readonly conflicts: boolean;
  readonly attachments: boolean;
  readonly encodingInfo: boolean;
  readonly updateSeq: boolean;
}

const COUNT_MAX = Number.MAX_SAFE_INTEGER;

/** Of a request without a query. */
export const NO_QUERY = new Query('', 0);

/** Reads members by type, undefined for one that is not there. Throws `BAD_REQUEST`. */
interface Source {
  boolean(name: string): boolean | undefined;
  count(name: string): number | undefined;
  json(name: string): JsonValue | undefined;
}

/** Of a request; what its body says wins over its query. Throws `BAD_REQUEST`, `TOO_LARGE`. */
export function listQuery(query: Query, body: JsonObject | undefined, keysMax: number): ListQuery {
  const inQuery: Source = {
    boolean: (name) => query.boolean(name),
    count: (name) => query.integer(name, { min: 0, max: COUNT_MAX }),
    json: (name) => query.json(name),
  };
  if (body === undefined) return readList(inQuery, keysMax);
  const inBody = sourceOf(body);
  return readList(
    {
      boolean: (name) => inBody.boolean(name) ?? inQuery.boolean(name),
      count: (name) => inBody.count(name) ?? inQuery.count(name),
      json: (name) => inBody.json(name) ?? inQuery.json(name),
    },
    keysMax,
  );
}

function sourceOf(object: JsonObject): Source {
  return {
    boolean: (name) => optionalBoolean(object, name),
    count: (name) => optionalInteger(object, name, { min: 0, max: COUNT_MAX }),
    json: (name) => memberOf(object, name),
  };
}

function readList(source: Source, keysMax: number): ListQuery {
  const key = source.json('key');
  const keys = source.json('keys');
  if (keys !== undefined && key !== undefined) {
    throw new DivanError('BAD_REQUEST', '`keys` is incompatible with `key`');
  }
  return {
    startKey: key ?? source.json('startkey') ?? source.json('start_key'),
    endKey: key ?? source.json('endkey') ?? source.json('end_key'),
    inclusiveEnd: source.boolean('inclusive_end') ?? true,
    descending: source.boolean('descending') ?? false,
    keys: keys === undefined ? undefined : arrayOf(keys, '`keys`', keysMax),
    skip: source.count('skip') ?? 0,
    limit: source.count('limit') ?? COUNT_MAX,
    includeDocs: source.boolean('include_docs') ?? false,
    conflicts: source.boolean('conflicts') ?? false,
    attachments: source.boolean('attachments') ?? false,
    encodingInfo: source.boolean('att_encoding_info') ?? false,
    updateSeq: source.boolean('update_seq') ?? false,
  };
}
