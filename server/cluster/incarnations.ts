/**
 * The value of a record `database/<name>`: `{incarnations: {<incarnation>: description}, deleted: {<node identity>: suffix}}`.
 *
 * Two such values are joined member by member, whatever their counters. An incarnation is known by who made it (`by`) and by its `suffix`,
 * and is deleted when the `deleted` of its maker is at least its suffix. That is one number for each node that ever made a database of this
 * name, however often it is made and deleted; and it deletes nothing that was not meant, since a node makes a database only when all that
 * it knows under the name are deleted, so that what it made before is deleted already, and since suffixes grow. Only a node that was set
 * back to an older state can have two live ones; `withoutIncarnations` refuses to delete the later one without the earlier.
 *
 * A description does not change, but for its `version`: of two of one incarnation, that with the greater version counts, then that with the
 * greater canonical JSON. (The counter of the record can not say it: it becomes the greater of two, whoever's description it was.)
 */
import { DivanError } from '../../engine/errors.js';
import { isObject, type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import { canonicalJson } from './canonical-json.js';

/** What is known of an incarnation; the other members (q, n, hashRule, security, placement) belong to those who make it. */
export interface Incarnation {
  readonly incarnation: string;
  /** The identity of the node that made it. */
  readonly by: string;
  /** The number in the names of its files. */
  readonly suffix: number;
  readonly description: JsonObject;
}

/** The live ones, that which is in force first: the one with the greatest `[suffix, incarnation]`. */
export function liveIncarnations(value: JsonObject | undefined): Incarnation[] {
  const live: Incarnation[] = [];
  for (const [incarnation, description] of entriesOf(value, 'incarnations')) {
    if (isObject(description)) live.push(incarnationOf(incarnation, description));
  }
  return live.sort((a, b) => b.suffix - a.suffix || (a.incarnation < b.incarnation ? 1 : -1));
}

/** True if an incarnation with this maker and suffix was deleted: not just unknown. Only then may its files go. */
export function isDeleted(value: JsonObject | undefined, by: string, suffix: number): boolean {
  return suffix <= (deletedOf(value).get(by) ?? -1);
}

/** A suffix that is greater than all that this name ever had, as far as is known here. */
export function suffixAfter(value: JsonObject | undefined): number {
  const known = [
    ...liveIncarnations(value).map(({ suffix }) => suffix),
    ...deletedOf(value).values(),
  ];
  return known.reduce((max, suffix) => Math.max(max, suffix + 1), 0);
}

/**
 * The value in which these incarnations are deleted; those that are not live are passed over. Throws `CONFLICT` where that would delete
 * another live one, as it can be on a node that was set back to an older state.
 */
export function withoutIncarnations(
  value: JsonObject,
  incarnations: readonly string[],
): JsonObject {
  const live = liveIncarnations(value);
  const deleted = deletedOf(value);
  for (const { incarnation, by, suffix } of live) {
    if (incarnations.includes(incarnation)) {
      deleted.set(by, Math.max(suffix, deleted.get(by) ?? 0));
    }
  }
  for (const { incarnation, by, suffix } of live) {
    if (incarnations.includes(incarnation) || suffix > (deleted.get(by) ?? -1)) continue;
    throw new DivanError('CONFLICT', `the incarnation ${incarnation} would be deleted as well`);
  }
  return joinDatabases(value, { incarnations: {}, deleted: Object.fromEntries(deleted) });
}

/** The union of two values. */
export function joinDatabases(a: JsonObject, b: JsonObject): JsonObject {
  const deleted = deletedOf(a);
  for (const [by, suffix] of deletedOf(b)) {
    deleted.set(by, Math.max(suffix, deleted.get(by) ?? 0));
  }
  const live = new Map<string, JsonObject>();
  for (const { incarnation, by, suffix, description } of [
    ...liveIncarnations(a),
    ...liveIncarnations(b),
  ]) {
    const other = live.get(incarnation);
    if (suffix <= (deleted.get(by) ?? -1)) continue;
    live.set(incarnation, other === undefined ? description : newer(other, description));
  }
  return { incarnations: Object.fromEntries(live), deleted: Object.fromEntries(deleted) };
}

/** Throws `BAD_REQUEST` if it is no value of a database record. */
export function checkDatabaseValue(value: JsonObject): void {
  const isWhole =
    Object.keys(value).length === 2 &&
    isObject(memberOf(value, 'incarnations')) &&
    isObject(memberOf(value, 'deleted')) &&
    entriesOf(value, 'incarnations').every(([, description]) => isDescription(description)) &&
    entriesOf(value, 'deleted').every(([by, suffix]) => isIdentity(by) && isSuffix(suffix));
  if (!isWhole) throw new DivanError('BAD_REQUEST', 'the record of a database is malformed');
}

/** True for 32 hexadecimal digits. */
export function isIdentity(value: JsonValue | undefined): value is string {
  return typeof value === 'string' && /^[0-9a-f]{32}$/.test(value);
}

/** True for a number that can stand in the names of files. */
export function isSuffix(value: JsonValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isDescription(value: JsonValue): boolean {
  if (!isObject(value)) return false;
  const version = memberOf(value, 'version');
  return (
    isIdentity(memberOf(value, 'by')) &&
    isSuffix(memberOf(value, 'suffix')) &&
    (version === undefined || isSuffix(version))
  );
}

function newer(a: JsonObject, b: JsonObject): JsonObject {
  for (const name of ['suffix', 'version']) {
    const difference = numberOf(a, name) - numberOf(b, name);
    if (difference !== 0) return difference > 0 ? a : b;
  }
  return canonicalJson(a) >= canonicalJson(b) ? a : b;
}

function numberOf(description: JsonObject, name: string): number {
  const number = memberOf(description, name);
  return typeof number === 'number' ? number : 0;
}

function incarnationOf(incarnation: string, description: JsonObject): Incarnation {
  const by = memberOf(description, 'by');
  const suffix = memberOf(description, 'suffix');
  if (!isIdentity(by) || !isSuffix(suffix)) {
    throw new DivanError('BAD_REQUEST', `the incarnation ${incarnation} is malformed`);
  }
  return { incarnation, by, suffix, description };
}

function deletedOf(value: JsonObject | undefined): Map<string, number> {
  const deleted = new Map<string, number>();
  for (const [by, suffix] of entriesOf(value, 'deleted')) {
    if (isSuffix(suffix)) deleted.set(by, suffix);
  }
  return deleted;
}

function entriesOf(value: JsonObject | undefined, name: string): [string, JsonValue][] {
  const member = value === undefined ? undefined : memberOf(value, name);
  return isObject(member) ? Object.entries(member) : [];
}
