/**
 * What all nodes know of a database name: the value of the shared record `database/<name>`.
 *
 *     {incarnations: {<incarnation>: {by, suffix, q, n, hashRule, security, placement: {<range>: [<identity>, ...]}}},
 *      deleted: {<identity>: <suffix>}}
 *
 * An *incarnation* is one making of the database. What is done with two values of different nodes, and how the record stays small however
 * often a database is made and deleted, is told in `../cluster/incarnations.ts`, which knows of the makers and suffixes alone; here is the rest.
 */
import { DivanError } from '../../engine/errors.js';
import {
  checkTiling,
  FULL_RANGE,
  type HashRule,
  PARTS_MAX,
  parseRange,
} from '../../engine/shard/hash.js';
import {
  joinDatabases,
  suffixAfter as suffixAfterAll,
  withoutIncarnations as withoutLive,
} from '../cluster/incarnations.js';
import type { JsonObject, JsonValue } from '../http/json-value.js';
import { RecordMembers } from './record-members.js';

export interface Incarnation {
  /** Random: 32 hexadecimal digits. */
  readonly incarnation: string;
  /** The identity of the node that made it. */
  readonly maker: string;
  /** Seconds since 1970, or more: greater than that of all that were known before. It stands in file names. */
  readonly suffix: number;
  /** Into how many ranges it was divided. */
  readonly q: number;
  /** How many copies each range is to have. */
  readonly copies: number;
  readonly hashRule: HashRule;
  /** JSON text of its first security object; empty for none. */
  readonly security: string;
  /** The identities of the nodes that hold each range, by its name, when it is made. */
  readonly placement: ReadonlyMap<string, readonly string[]>;
}

export interface DatabaseValue {
  /** Those that are not deleted. */
  readonly incarnations: ReadonlyMap<string, Incarnation>;
  /** Up to which suffix all that a node made are deleted. */
  readonly deleted: ReadonlyMap<string, number>;
}

const KEY_PREFIX = 'database/';

export const DATABASE_KEY_PREFIX = KEY_PREFIX;

/** So many sides of cuts may have made one name at once. */
const INCARNATIONS_MAX = 1000;
const MAKERS_MAX = 10_000;
const SECURITY_LENGTH_MAX = 1024 * 1024;
const COPIES_MAX = 64;
const SUFFIX_MAX = 1e13;

const NOTHING: DatabaseValue = { incarnations: new Map(), deleted: new Map() };

export function databaseKey(name: string): string {
  return KEY_PREFIX + name;
}

/** The name of the database that a record is of; undefined if it is of none. */
export function nameOfDatabaseKey(key: string): string | undefined {
  return key.startsWith(KEY_PREFIX) ? key.slice(KEY_PREFIX.length) : undefined;
}

/** The one that is served: of several, which sides of a cut have made, the same one everywhere. */
export function inForce({ incarnations }: DatabaseValue): Incarnation | undefined {
  let found: Incarnation | undefined;
  for (const other of incarnations.values()) {
    const isGreater =
      found === undefined ||
      other.suffix > found.suffix ||
      (other.suffix === found.suffix && other.incarnation > found.incarnation);
    if (isGreater) found = other;
  }
  return found;
}

/** True if an incarnation was there and is deleted. */
export function isDeleted(
  { deleted }: DatabaseValue,
  { maker, suffix }: Pick<Incarnation, 'maker' | 'suffix'>,
): boolean {
  return suffix <= (deleted.get(maker) ?? -1);
}

/** A suffix that is greater than all that are known. */
export function suffixAfter(value: DatabaseValue): number {
  return suffixAfterAll(databaseJson(value));
}

/** The value with one more incarnation. */
export function withIncarnation(value: DatabaseValue, added: Incarnation): DatabaseValue {
  return { ...value, incarnations: new Map([...value.incarnations, [added.incarnation, added]]) };
}

/** The value after the deletion of some incarnations, of all that it has if none are named. Throws as `withoutLive`. */
export function withoutIncarnations(
  value: DatabaseValue,
  deleted: readonly string[] = [...value.incarnations.keys()],
): DatabaseValue {
  return readDatabaseValue(withoutLive(databaseJson(value), deleted));
}

export function mergeValues(a: DatabaseValue, b: DatabaseValue): DatabaseValue {
  return readDatabaseValue(joinDatabases(databaseJson(a), databaseJson(b)));
}

/** The value as JSON, its members in the order of their names. */
export function databaseJson({ incarnations, deleted }: DatabaseValue): JsonObject {
  return {
    incarnations: sorted(incarnations, incarnationJson),
    deleted: sorted(deleted, (suffix) => suffix),
  };
}

function incarnationJson(one: Incarnation): JsonObject {
  const { maker, suffix, q, copies, hashRule, security, placement } = one;
  const places = sorted(placement, (owners) => [...owners]);
  return { by: maker, hashRule, n: copies, placement: places, q, security, suffix };
}

function sorted<T>(entries: ReadonlyMap<string, T>, json: (value: T) => JsonValue): JsonObject {
  const inOrder = [...entries].sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(inOrder.map(([name, value]) => [name, json(value)]));
}

/** Reads a value, in shape and size; nothing is one that knows nothing. Throws `CORRUPT`. */
export function readDatabaseValue(json: JsonValue | undefined): DatabaseValue {
  if (json === undefined) return NOTHING;
  const value = new RecordMembers(json, WHAT);
  const incarnations = new Map<string, Incarnation>();
  const members = value.members('incarnations', INCARNATIONS_MAX);
  for (const [name, member] of members) incarnations.set(hex(name), readIncarnation(name, member));
  const deleted = new Map<string, number>();
  const suffixes = new RecordMembers(
    Object.fromEntries(value.members('deleted', MAKERS_MAX)),
    WHAT,
  );
  for (const maker of suffixes.names()) deleted.set(hex(maker), suffixIn(suffixes, maker));
  return { incarnations, deleted };
}

const WHAT = 'database record';

function readIncarnation(incarnation: string, json: unknown): Incarnation {
  const value = new RecordMembers(json, WHAT);
  const security = value.text('security');
  if (security.length > SECURITY_LENGTH_MAX) throw malformed('a security object that is too long');
  return {
    incarnation,
    maker: hex(value.text('by')),
    suffix: suffixIn(value, 'suffix'),
    q: bounded(value.whole('q'), PARTS_MAX),
    copies: bounded(value.whole('n'), COPIES_MAX),
    hashRule: value.oneOf('hashRule', ['document', 'partition']),
    security,
    placement: readPlacement(value.members('placement', PARTS_MAX)),
  };
}

function readPlacement(
  members: ReadonlyMap<string, unknown>,
): ReadonlyMap<string, readonly string[]> {
  const placement = new Map<string, readonly string[]>();
  for (const [range, owners] of members) {
    const isList = Array.isArray(owners) && owners.length >= 1 && owners.length <= COPIES_MAX;
    if (!isList) throw malformed('a range without nodes');
    placement.set(range, owners.map(hex));
  }
  try {
    checkTiling(FULL_RANGE, [...placement.keys()].map(parseRange));
  } catch (error) {
    throw malformed('ranges that do not tile the ring', error);
  }
  return placement;
}

function suffixIn(value: RecordMembers, name: string): number {
  return bounded(value.whole(name), SUFFIX_MAX);
}

function bounded(value: number, max: number): number {
  if (value <= max) return value;
  throw malformed(`the number ${value}`);
}

function hex(value: unknown): string {
  if (typeof value === 'string' && /^[0-9a-f]{32}$/.test(value)) return value;
  throw malformed('a name that is not 32 hexadecimal digits');
}

function malformed(what: string, cause?: unknown): DivanError {
  return new DivanError('CORRUPT', `a record of a database has ${what}`, {}, cause);
}
