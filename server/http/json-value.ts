/**
 * JSON texts of requests as values, and readers of their members.
 *
 * A text is held to the rules of `engine/shard/json-text.ts` before it is parsed: UTF-8, depth, no two members of one
 * name, no lone surrogates. So `JSON.parse` has nothing left to choose, and no two readers can take one text for
 * different values. For documents this is the wrong tool, since numbers beyond a double and the order of members that
 * look like integers are lost: documents stay text.
 *
 * Members are read with `memberOf` and what is built on it, never with `object[name]`: a name may be `__proto__` or
 * `constructor`, which every object seems to have.
 */
import { DivanError } from '../../engine/errors.js';
import { JsonScanner } from '../../engine/shard/json-text.js';

/** What a JSON text stands for. A number too large for a double is `Infinity`. */
export type JsonValue = null | boolean | number | string | JsonArray | JsonObject;

export interface JsonArray extends ReadonlyArray<JsonValue> {}

/** Read it with `memberOf` or go through `Object.entries`: both see own members only. */
export interface JsonObject {
  readonly [name: string]: JsonValue;
}

/** Both ends belong to it. */
export interface IntegerBounds {
  readonly min: number;
  readonly max: number;
}

/** Texts up to this size share one scanner; a larger one would leave it with large buffers. */
const SHARED_BYTES_MAX = 64 * 1024;
const NOTHING = new Uint8Array(0);
const shared = new JsonScanner();

/**
 * The value of a JSON text in UTF-8. It blocks the thread for as long as it takes, so the caller has seen to its size.
 * Throws `INVALID_JSON`.
 */
export function parseJson(text: Uint8Array): JsonValue {
  const scanner = text.length <= SHARED_BYTES_MAX ? shared : new JsonScanner();
  try {
    scanner.begin(text, 0, text.length);
    scanner.value(0);
    scanner.expectEnd();
  } finally {
    // The shared scanner would keep alive the buffer that the text is a part of.
    scanner.begin(NOTHING, 0, 0);
  }
  const value: JsonValue = JSON.parse(
    Buffer.from(text.buffer, text.byteOffset, text.length).toString(),
  );
  return value;
}

/** `value` if it is an object; `what` names it in the reason. Throws `BAD_REQUEST`. */
export function objectOf(value: JsonValue, what: string): JsonObject {
  if (isObject(value)) return value;
  throw bad(`${what} must be a JSON object`);
}

/** True for an object, which neither null nor an array is. */
export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The member `name` of the object itself. */
export function memberOf(object: JsonObject, name: string): JsonValue | undefined {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** Throws `BAD_REQUEST` if the member is there and no string. */
export function optionalString(object: JsonObject, name: string): string | undefined {
  const value = memberOf(object, name);
  if (value === undefined || typeof value === 'string') return value;
  throw bad(`\`${name}\` must be a string`);
}

/** Throws `BAD_REQUEST` if the member is missing or no string. */
export function requiredString(object: JsonObject, name: string): string {
  return required(optionalString(object, name), name);
}

/** Throws `BAD_REQUEST` if the member is there and neither true nor false. */
export function optionalBoolean(object: JsonObject, name: string): boolean | undefined {
  const value = memberOf(object, name);
  if (value === undefined || typeof value === 'boolean') return value;
  throw bad(`\`${name}\` must be true or false`);
}

/** Throws `BAD_REQUEST` if the member is there and no integer within the bounds. */
export function optionalInteger(
  object: JsonObject,
  name: string,
  bounds: IntegerBounds,
): number | undefined {
  const value = memberOf(object, name);
  if (value === undefined) return undefined;
  if (isIntegerWithin(value, bounds)) return value;
  throw bad(`\`${name}\` must be an integer from ${bounds.min} to ${bounds.max}`);
}

/** An array of at most `countMax` values of any kind. Throws `BAD_REQUEST`, or `TOO_LARGE` for a longer one. */
export function optionalArray(
  object: JsonObject,
  name: string,
  countMax: number,
): JsonArray | undefined {
  const value = memberOf(object, name);
  return value === undefined ? undefined : arrayOf(value, `\`${name}\``, countMax);
}

/** As `optionalArray`, and throws `BAD_REQUEST` if the member is missing. */
export function requiredArray(object: JsonObject, name: string, countMax: number): JsonArray {
  return required(optionalArray(object, name, countMax), name);
}

/** An array of at most `countMax` strings. Throws `BAD_REQUEST`, or `TOO_LARGE` for a longer one. */
export function optionalStrings(
  object: JsonObject,
  name: string,
  countMax: number,
): readonly string[] | undefined {
  const value = memberOf(object, name);
  return value === undefined ? undefined : stringsOf(value, `\`${name}\``, countMax);
}

/** As `optionalStrings`, and throws `BAD_REQUEST` if the member is missing. */
export function requiredStrings(
  object: JsonObject,
  name: string,
  countMax: number,
): readonly string[] {
  return required(optionalStrings(object, name, countMax), name);
}

/** `value` if it is an array of at most `countMax`. Throws `BAD_REQUEST`, or `TOO_LARGE` for a longer one. */
export function arrayOf(value: JsonValue, what: string, countMax: number): JsonArray {
  if (!isArray(value)) throw bad(`${what} must be an array`);
  if (value.length <= countMax) return value;
  throw new DivanError(
    'TOO_LARGE',
    `${what} has ${value.length} entries, at most ${countMax} may be sent`,
    {
      expected: countMax,
      actual: value.length,
    },
  );
}

/** `value` if it is an array of at most `countMax` strings. Throws `BAD_REQUEST`, or `TOO_LARGE` for a longer one. */
export function stringsOf(value: JsonValue, what: string, countMax: number): readonly string[] {
  return arrayOf(value, what, countMax).map((entry) => {
    if (typeof entry === 'string') return entry;
    throw bad(`${what} must hold strings only`);
  });
}

/** True for an integer that a double holds exactly and that is within the bounds. */
function isIntegerWithin(value: JsonValue, bounds: IntegerBounds): value is number {
  return (
    typeof value === 'number' &&
    Number.isSafeInteger(value) &&
    value >= bounds.min &&
    value <= bounds.max
  );
}

function isArray(value: JsonValue): value is JsonArray {
  return Array.isArray(value);
}

function required<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw bad(`the member \`${name}\` is missing`);
  return value;
}

function bad(reason: string): DivanError {
  return new DivanError('BAD_REQUEST', reason);
}
