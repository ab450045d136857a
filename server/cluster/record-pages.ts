/**
 * What nodes tell each other of records, as heads of calls. A member is trusted, but its bytes are not: shape and size are checked before
 * anything of it is used.
 *
 * - `records/push` `{records: [[key, counter, value], ...], want: [key, ...]}`: answered when the records are durable, with `{records, answered}`:
 *   of the wanted ones the first `answered`, as many as a call can carry; if none is wanted, those that the receiver has newer than they were sent.
 * - `records/digest` `{digest}`: `{}` if the receiver's is the same, else `{buckets}`, the hashes of all buckets.
 * - `records/bucket` `{bucket, after}`: `{entries: [[key, hash], ...], more}`: what is in a bucket, in the order of the keys.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import {
  arrayOf,
  isObject,
  type JsonArray,
  type JsonObject,
  type JsonValue,
  memberOf,
  requiredArray,
  requiredString,
  requiredStrings,
} from '../http/json-value.js';
import { type ClusterRecord, isKnownKind, makeRecord, valueIn } from './cluster-record.js';
import { BUCKETS } from './record-digests.js';

export const PAGE_RECORDS_MAX = 500;
/** Of the texts of the records of a page, in UTF-16 units; a head has room for more, and for one record of any size. */
const PAGE_LENGTH_MAX = 256 * 1024;

export interface Push {
  readonly records: readonly ClusterRecord[];
  readonly want: readonly string[];
}

export interface PushAnswer {
  readonly records: readonly ClusterRecord[];
  readonly answered: number;
}

export interface BucketPage {
  readonly entries: readonly (readonly [key: string, hash: string])[];
  readonly more: boolean;
}

/** As many of the records, from the first, as go into one page: one at least. */
export function fillPage(
  keys: Iterable<string>,
  find: (key: string) => ClusterRecord | undefined,
): { readonly records: ClusterRecord[]; readonly keys: string[] } {
  const page: { records: ClusterRecord[]; keys: string[] } = { records: [], keys: [] };
  let length = 0;
  for (const key of keys) {
    const record = find(key);
    length += record === undefined ? 0 : key.length + record.text.length;
    const isFull = page.records.length >= PAGE_RECORDS_MAX || length > PAGE_LENGTH_MAX;
    if (isFull && page.records.length > 0 && record !== undefined) break;
    if (record !== undefined) page.records.push(record);
    page.keys.push(key);
  }
  return page;
}

export function pushHead({ records, want }: Push): JsonObject {
  return { records: records.map(wireOf), want };
}

/** Throws `BAD_REQUEST`, `TOO_LARGE`. */
export function readPush(head: JsonObject): Push {
  return {
    records: recordsOf(requiredArray(head, 'records', PAGE_RECORDS_MAX)),
    want: requiredStrings(head, 'want', PAGE_RECORDS_MAX),
  };
}

export function pushAnswerHead({ records, answered }: PushAnswer): JsonObject {
  return { records: records.map(wireOf), answered };
}

/** Throws `PEER`. */
export function readPushAnswer(head: JsonObject): PushAnswer {
  return answerOf(() => {
    const answered = memberOf(head, 'answered');
    if (!isWholeBelow(answered, PAGE_RECORDS_MAX + 1)) throw malformed('answered');
    return { records: recordsOf(requiredArray(head, 'records', PAGE_RECORDS_MAX)), answered };
  });
}

/** The hashes of the buckets of the other node; undefined if it has the same. Throws `PEER`. */
export function readDigestAnswer(head: JsonObject): string | undefined {
  return answerOf(() =>
    memberOf(head, 'buckets') === undefined ? undefined : requiredString(head, 'buckets'),
  );
}

/** Throws `BAD_REQUEST`. */
export function readBucketRequest(head: JsonObject): { bucket: number; after: string } {
  const bucket = memberOf(head, 'bucket');
  if (!isWholeBelow(bucket, BUCKETS)) throw malformed('bucket');
  return { bucket, after: requiredString(head, 'after') };
}

export function bucketPageHead({ entries, more }: BucketPage): JsonObject {
  return { entries, more };
}

/** Throws `PEER`, for keys that do not rise too. */
export function readBucketPage(head: JsonObject, after: string): BucketPage {
  return answerOf(() => {
    let last = after;
    const entries = requiredArray(head, 'entries', PAGE_RECORDS_MAX).map((entry) => {
      const [key, hash] = arrayOf(entry, 'an entry', 2);
      if (typeof key !== 'string' || typeof hash !== 'string' || key <= last) {
        throw malformed('entries');
      }
      last = key;
      return [key, hash] as const;
    });
    const more = memberOf(head, 'more') === true;
    if (more && entries.length === 0) throw malformed('more');
    return { entries, more };
  });
}

/** What a kind of record is that this version does not know is left to those who know it. */
function recordsOf(records: JsonArray): ClusterRecord[] {
  return records.flatMap((record) => {
    const [key, counter, value] = arrayOf(record, 'a record', 3);
    if (typeof key !== 'string' || typeof counter !== 'number') throw malformed('records');
    if (!isKnownKind(key)) return [];
    if (!isObject(value)) throw malformed('records');
    return [makeRecord(key, counter, value)];
  });
}

function wireOf(record: ClusterRecord): JsonArray {
  return [record.key, record.counter, valueIn(record)];
}

function isWholeBelow(value: JsonValue | undefined, end: number): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value < end;
}

function malformed(name: string): DivanError {
  return new DivanError('BAD_REQUEST', `\`${name}\` of a call of another node is malformed`);
}

/** What is wrong with an answer is the fault of the node that gave it. */
function answerOf<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!isDivanError(error)) throw error;
    throw new DivanError('PEER', `another node gave a bad answer: ${error.message}`, {}, error);
  }
}
