/**
 * The query of a request target: its parameters, decoded once and read by type.
 *
 * Of parameters of one name the last holds, as in CouchDB. Each reader returns undefined for a parameter that is not
 * there and throws `BAD_REQUEST`, with the name of the parameter, for one that is not of its type.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { type IntegerBounds, type JsonValue, parseJson, stringsOf } from './json-value.js';
import { percentDecode } from './percent.js';

/** How much of a wrong value is repeated in the reason. */
const SHOWN_CHARACTERS = 80;

export class Query {
  /** Undefined in an empty query, which most are. */
  readonly #parameters: ReadonlyMap<string, string> | undefined;

  /**
   * Reads `raw`, what stands behind the `?` of the target. Throws `BAD_REQUEST` if it is not decodable or has more than
   * `parametersMax` parameters.
   */
  constructor(raw: string, parametersMax: number) {
    this.#parameters = raw === '' ? undefined : parseParameters(raw, parametersMax);
  }

  has(name: string): boolean {
    return this.#parameters?.has(name) ?? false;
  }

  /** The names of all parameters, each once. */
  names(): readonly string[] {
    return this.#parameters === undefined ? [] : [...this.#parameters.keys()];
  }

  /** The decoded value itself. A parameter without `=` has the value ''. */
  string(name: string): string | undefined {
    return this.#parameters?.get(name);
  }

  /** `true` or `false`, written just so. */
  boolean(name: string): boolean | undefined {
    const text = this.string(name);
    if (text === undefined) return undefined;
    if (text === 'true') return true;
    if (text === 'false') return false;
    throw new DivanError('BAD_REQUEST', `Invalid boolean parameter: ${shown(text)} for ${name}`);
  }

  /** An integer in decimal digits, with a `-` if it is negative. */
  integer(name: string, bounds: IntegerBounds): number | undefined {
    const text = this.string(name);
    if (text === undefined) return undefined;
    const value = /^-?[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= bounds.min && value <= bounds.max) return value;
    throw new DivanError(
      'BAD_REQUEST',
      `Invalid value for integer: ${shown(text)}; ${name} goes from ${bounds.min} to ${bounds.max}`,
    );
  }

  /** A JSON text, such as a key. */
  json(name: string): JsonValue | undefined {
    const text = this.string(name);
    if (text === undefined) return undefined;
    try {
      return parseJson(Buffer.from(text));
    } catch (error) {
      if (!isDivanError(error, 'INVALID_JSON')) throw error;
      throw new DivanError('BAD_REQUEST', `${name}: ${error.message}`, error.facts, error);
    }
  }

  /** A JSON text that is a string, such as the key of a document. */
  jsonString(name: string): string | undefined {
    const value = this.json(name);
    if (value === undefined || typeof value === 'string') return value;
    throw new DivanError('BAD_REQUEST', `${name} must be a string in JSON, with its quotes`);
  }

  /** A JSON text that is an array of at most `countMax` strings. Throws `TOO_LARGE` for a longer one. */
  strings(name: string, countMax: number): readonly string[] | undefined {
    const value = this.json(name);
    return value === undefined ? undefined : stringsOf(value, name, countMax);
  }
}

function parseParameters(raw: string, parametersMax: number): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  let count = 0;
  for (let start = 0; start < raw.length; ) {
    const ampersand = raw.indexOf('&', start);
    const end = ampersand === -1 ? raw.length : ampersand;
    if (end > start) {
      if (++count > parametersMax) {
        throw new DivanError('BAD_REQUEST', `a query has at most ${parametersMax} parameters`);
      }
      addParameter(parameters, raw, start, end);
    }
    start = end + 1;
  }
  return parameters;
}

function addParameter(
  parameters: Map<string, string>,
  raw: string,
  start: number,
  end: number,
): void {
  const equals = raw.indexOf('=', start);
  const nameEnd = equals === -1 || equals > end ? end : equals;
  const name = percentDecode(raw, start, nameEnd, true, 'the query');
  const value = percentDecode(raw, Math.min(nameEnd + 1, end), end, true, 'the query');
  parameters.set(name, value);
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN_CHARACTERS));
}
