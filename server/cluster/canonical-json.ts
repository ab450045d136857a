/**
 * Canonical JSON: one text for one value, so that nodes which hold the same agree on its bytes. Members stand in the order of the UTF-16 units
 * of their names, without spaces, and numbers and strings are as `JSON.stringify` writes them.
 */
import { DivanError } from '../../engine/errors.js';
import { isObject, type JsonObject, type JsonValue } from '../http/json-value.js';

/** No record needs more; what is deeper could exhaust the stack. */
const DEPTH_MAX = 32;

/** Throws `BAD_REQUEST` for a number that JSON does not have, and for what is deeper than any record. */
export function canonicalJson(value: JsonValue, depth = 0): string {
  if (depth > DEPTH_MAX) throw new DivanError('BAD_REQUEST', 'a cluster record is nested too deep');
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new DivanError('BAD_REQUEST', 'a cluster record has a number that is too large');
  }
  if (isObject(value)) return canonicalObject(value, depth);
  if (isArray(value)) return `[${value.map((entry) => canonicalJson(entry, depth + 1)).join()}]`;
  return JSON.stringify(value);
}

function canonicalObject(value: JsonObject, depth: number): string {
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  const texts = members.map(
    ([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member, depth + 1)}`,
  );
  return `{${texts.join()}}`;
}

function isArray(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}
