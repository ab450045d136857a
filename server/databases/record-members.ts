/** Strict reading of what stands in a record of the node. */
import { DivanError } from '../../engine/errors.js';

/** The members of a stored record. Each reader throws `CORRUPT` for a member that is not as it must be. */
export class RecordMembers {
  readonly #members: ReadonlyMap<string, unknown>;
  readonly #what: string;

  /** `what` names the record in the reason. */
  constructor(record: unknown, what: string) {
    const isObject = typeof record === 'object' && record !== null && !Array.isArray(record);
    this.#members = new Map(isObject ? Object.entries(record) : []);
    this.#what = what;
  }

  has(name: string): boolean {
    return this.#members.has(name);
  }

  /** Whatever it is, for a reader of its own. */
  member(name: string): unknown {
    return this.#members.get(name);
  }

  text(name: string): string {
    const value = this.#members.get(name);
    return typeof value === 'string' ? value : this.#fail(name);
  }

  /** Undefined if it is not there. */
  optionalText(name: string): string | undefined {
    return this.has(name) ? this.text(name) : undefined;
  }

  whole(name: string): number {
    const value = this.#members.get(name);
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
      ? value
      : this.#fail(name);
  }

  /** Undefined if it is not there. */
  optionalWhole(name: string): number | undefined {
    return this.has(name) ? this.whole(name) : undefined;
  }

  /** A number that is not negative; undefined if it is not there. */
  optionalNumber(name: string): number | undefined {
    const value = this.#members.get(name);
    if (value === undefined) return undefined;
    return typeof value === 'number' && value >= 0 ? value : this.#fail(name);
  }

  boolean(name: string): boolean {
    const value = this.#members.get(name);
    return typeof value === 'boolean' ? value : this.#fail(name);
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T {
    return values.find((value) => value === this.#members.get(name)) ?? this.#fail(name);
  }

  list(name: string): readonly unknown[] {
    const value = this.#members.get(name);
    return Array.isArray(value) ? value : this.#fail(name);
  }

  /** The names of all members. */
  names(): readonly string[] {
    return [...this.#members.keys()];
  }

  /** The members of an object, of which there may be so many. */
  members(name: string, countMax: number): ReadonlyMap<string, unknown> {
    const value = this.#members.get(name);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    const members = new Map<string, unknown>(isObject ? Object.entries(value) : []);
    return isObject && members.size <= countMax ? members : this.#fail(name);
  }

  #fail(name: string): never {
    throw new DivanError('CORRUPT', `a stored ${this.#what} has a bad member ${name}`);
  }
}
