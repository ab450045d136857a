/**
 * What a cluster record is, which of two is the newer, and what each kind may hold: one table, `KINDS`.
 *
 * `mergeRecords` is commutative, associative and idempotent, so that nodes which have seen the same changes hold the same, in whatever order
 * and however often they saw them. Most kinds take the greater of two; the order is total:
 *
 * 1. A value that *prevails always* is greater than every one that does not: a node that left stays away, what is finished stays so, even
 *    against a side of a cut that changed the record more often meanwhile.
 * 2. The greater counter. A change makes the counter of what the node has one more. One whose value *outweighs* makes it more by so much that
 *    no number of changes that are made elsewhere without knowing of it catches up (`WEIGHT`): an administrator who was deleted on one side
 *    is gone, though the other side changed the password three times. Who is made anew after that was made knowing of it, and stays.
 * 3. With the same counter, a value that prevails at a *tie*.
 * 4. The canonical JSON of the value. No clock has a say, and nobody's name has either: records that are equal in all this are the same.
 *
 * `database/` is a union instead (`incarnations.ts`).
 *
 * A node that was set back to an old backup makes changes whose counters others have seen already: these lose against what is newer, and win
 * otherwise, but the nodes agree in any case. Where that is not enough, for rows, `cluster-records.ts` says what is done.
 */
import { DivanError } from '../../engine/errors.js';
import { isObject, type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import { canonicalJson } from './canonical-json.js';
import { checkDatabaseValue, isIdentity, isSuffix, joinDatabases } from './incarnations.js';
import { isNodeName, isNodeUrl } from './node-shape.js';

export interface ClusterRecord {
  readonly key: string;
  /** Rises with each change. Of a row it is the epoch. */
  readonly counter: number;
  /** The canonical JSON of the value. */
  readonly text: string;
}

interface Kind {
  /** True if the key goes on so behind its kind, and the value can be one of it. */
  readonly isSound: (rest: string, value: JsonObject) => boolean;
  /** True for a value that comes first, and `when` it does. */
  readonly prevails?: (value: JsonObject) => boolean;
  readonly when?: 'always' | 'outweighing' | 'tie';
  readonly join?: (a: JsonObject, b: JsonObject) => JsonObject;
}

const KEY_LENGTH_MAX = 1024;
/** Of a value, in UTF-16 units. A union of two may be larger, and is taken up to what a call can carry. */
const CHANGE_LENGTH_MAX = 256 * 1024;
export const VALUE_LENGTH_MAX = 512 * 1024;
/** A counter that is more than what changes can lead to could not rise any more. */
const COUNTER_MAX = 2 ** 52;
/** No record is changed so often by those who do not know of a change that outweighs theirs. */
const WEIGHT = 2 ** 20;

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  [
    'member',
    {
      isSound: (rest, value) =>
        isIdentity(rest) &&
        isNodeName(memberOf(value, 'name')) &&
        isNodeUrl(memberOf(value, 'url')) &&
        ['member', 'left'].includes(String(memberOf(value, 'state'))),
      prevails: (value) => memberOf(value, 'state') === 'left',
      when: 'always',
    },
  ],
  [
    'admin',
    {
      isSound: (rest, value) =>
        rest !== '' &&
        (memberOf(value, 'deleted') === true || memberOf(value, 'password') !== undefined),
      prevails: (value) => memberOf(value, 'deleted') === true,
      when: 'outweighing',
    },
  ],
  [
    'identity',
    { isSound: (rest, value) => rest === '' && isText(value, 'uuid') && isText(value, 'secret') },
  ],
  [
    'setup',
    {
      isSound: (rest, value) => rest === '' && memberOf(value, 'finished') !== undefined,
      prevails: (value) => memberOf(value, 'finished') === true,
      when: 'always',
    },
  ],
  [
    'splits',
    {
      isSound: (rest, value) =>
        isIdentity(rest) &&
        // The first versions gave stops no numbers.
        Number.isSafeInteger(memberOf(value, 'number') ?? 0) &&
        (typeof memberOf(value, 'stopped') === 'string' || memberOf(value, 'started') === true),
      prevails: (value) => memberOf(value, 'stopped') !== undefined,
      when: 'tie',
    },
  ],
  ['database', { isSound: isDatabase, join: joinDatabases }],
  ['row', { isSound: isRow }],
]);

/** What stands before the first `/` of a key. */
export function kindOf(key: string): string {
  const end = key.indexOf('/');
  return end < 0 ? key : key.slice(0, end);
}

/** False for what a newer version of Divan may know. */
export function isKnownKind(key: string): boolean {
  return KINDS.has(kindOf(key));
}

/** Throws `BAD_REQUEST` for what is no record of a kind that is known, `TOO_LARGE`. */
export function makeRecord(key: string, counter: number, value: JsonObject): ClusterRecord {
  const kind = KINDS.get(kindOf(key));
  const isSound =
    kind !== undefined &&
    key.length <= KEY_LENGTH_MAX &&
    Number.isSafeInteger(counter) &&
    counter >= 0 &&
    counter <= COUNTER_MAX &&
    kind.isSound(key.slice(kindOf(key).length + 1), value);
  const shown = key.slice(0, 80);
  if (!isSound) throw new DivanError('BAD_REQUEST', `the cluster record ${shown} is malformed`);
  const text = canonicalJson(value);
  if (text.length <= VALUE_LENGTH_MAX) return { key, counter, text };
  const facts = { actual: text.length, expected: VALUE_LENGTH_MAX };
  throw new DivanError('TOO_LARGE', `the cluster record ${shown} is too large`, facts);
}

/**
 * The record after a change of what there is. Throws as `makeRecord`, and `CONFLICT` for a change that can not prevail: what has left, or is
 * finished, stays so.
 */
export function changedRecord(
  old: ClusterRecord | undefined,
  key: string,
  value: JsonObject,
): ClusterRecord {
  const kind = KINDS.get(kindOf(key));
  const counter = old?.counter ?? 0;
  const outweighs = kind?.when === 'outweighing' && kind.prevails?.(value) === true;
  const made = makeRecord(key, outweighs ? weightier(counter) : counter + 1, value);
  if (made.text.length > CHANGE_LENGTH_MAX) {
    const facts = { actual: made.text.length, expected: CHANGE_LENGTH_MAX };
    throw new DivanError('TOO_LARGE', `the cluster record ${key} would be too large`, facts);
  }
  const merged = old === undefined ? made : mergeRecords(old, made);
  if (merged !== old) return merged;
  throw new DivanError('CONFLICT', `the cluster record ${key} is not changed any more`);
}

/** The newer of two records of one key, or the union; the very one that it is, if it is one of them. */
export function mergeRecords(a: ClusterRecord, b: ClusterRecord): ClusterRecord {
  const kind = KINDS.get(kindOf(a.key));
  if (kind?.join === undefined) return isGreater(a, b, kind) ? a : b;
  const counter = Math.max(a.counter, b.counter);
  const text = canonicalJson(kind.join(valueIn(a), valueIn(b)));
  return [a, b].find((one) => isSame(one, { counter, text })) ?? { key: a.key, counter, text };
}

/** True if they do not differ. */
export function isSame(
  a: Pick<ClusterRecord, 'counter' | 'text'>,
  b: Pick<ClusterRecord, 'counter' | 'text'> | undefined,
): boolean {
  return a.counter === b?.counter && a.text === b.text;
}

/** The value; each call gives one of its own. */
export function valueIn(record: ClusterRecord): JsonObject {
  const value: JsonObject = JSON.parse(record.text);
  return value;
}

/** True if `a` is the greater one, or the same. */
function isGreater(a: ClusterRecord, b: ClusterRecord, kind: Kind | undefined): boolean {
  const first = rankOf(a, kind) - rankOf(b, kind);
  if (first !== 0 && kind?.when === 'always') return first > 0;
  if (a.counter !== b.counter) return a.counter > b.counter;
  return first !== 0 ? first > 0 : a.text >= b.text;
}

function rankOf(record: ClusterRecord, kind: Kind | undefined): number {
  return kind?.prevails?.(valueIn(record)) === true ? 1 : 0;
}

function weightier(counter: number): number {
  return (Math.floor(counter / WEIGHT) + 1) * WEIGHT;
}

function isText(value: JsonObject, name: string): boolean {
  const member = memberOf(value, name);
  return typeof member === 'string' && member !== '';
}

function isDatabase(rest: string, value: JsonObject): boolean {
  checkDatabaseValue(value);
  return rest !== '';
}

/** `<identity>/<database>/<incarnation>`: names of databases may have a `/`. */
function isRow(rest: string, value: JsonObject): boolean {
  const shards = memberOf(value, 'shards');
  return (
    isIdentity(rest.slice(0, 32)) &&
    isText(value, 'database') &&
    isText(value, 'incarnation') &&
    rest.slice(32) === `/${memberOf(value, 'database')}/${memberOf(value, 'incarnation')}` &&
    isIdentity(memberOf(value, 'by')) &&
    isSuffix(memberOf(value, 'suffix')) &&
    isList(shards) &&
    shards.every((shard) => isObject(shard) && isText(shard, 'range') && isText(shard, 'file'))
  );
}

function isList(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}
