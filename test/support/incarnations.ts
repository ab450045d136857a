/** What tests of cluster records make of databases, of which they need no more than makers and suffixes. */
import { joinDatabases, suffixAfter } from '../../server/cluster/incarnations.js';
import type { JsonObject } from '../../server/http/json-value.js';

/** The suffix of a new incarnation. */
export function nextSuffix(value: JsonObject | undefined, secondsSince1970: number): number {
  return Math.max(suffixAfter(value), secondsSince1970);
}

/** The value with an incarnation more, or with another description of one. `description` has `by` and `suffix`. */
export function withIncarnation(
  value: JsonObject | undefined,
  incarnation: string,
  description: JsonObject,
): JsonObject {
  const added = {
    incarnations: Object.fromEntries([[incarnation, description]]),
    deleted: {},
  };
  return value === undefined ? added : joinDatabases(value, added);
}
