/**
 * MessagePack for structured values (FORMAT.md section 2): states, revision trees, attachment lists, purge infos.
 *
 * Whatever is unpacked comes from bytes whose checksum held, but its shape is checked all the same: `Unpacked` reads an
 * array element by element and throws `CORRUPT` for anything unexpected. Extra elements at the end are ignored, as
 * FORMAT.md section 13 demands.
 */
import { Packr } from 'msgpackr';
import { DivanError } from '../errors.js';

const packr = new Packr({ useToJSON: false, moreTypes: false, variableMapSize: true });

/** What is packed: nothing whose encoding depends on more than its value. */
export type Packable = null | boolean | number | string | Uint8Array | readonly Packable[];

/** Encodes a value. The result is the caller's own (msgpackr itself returns a view of a shared pool). */
export function pack(value: Packable): Uint8Array {
  return Uint8Array.prototype.slice.call(packr.pack(value));
}

/** Decodes an array. Throws `CORRUPT` if the bytes are no MessagePack or no array. Binaries alias `bytes`. */
export function unpack(bytes: Uint8Array): Unpacked {
  let value: unknown;
  try {
    value = packr.unpack(bytes);
  } catch (error) {
    throw new DivanError('CORRUPT', 'a packed value can not be decoded', {}, error);
  }
  return new Unpacked(value);
}

/** A decoded array, read one element after another. */
export class Unpacked {
  readonly #elements: readonly unknown[];
  #next = 0;

  constructor(value: unknown) {
    if (!Array.isArray(value)) throw wrong('an array', value);
    this.#elements = value;
  }

  get remaining(): number {
    return this.#elements.length - this.#next;
  }

  /** A whole number from 0 to 2^53 - 1. */
  int(): number {
    const value = this.#take();
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw wrong('a whole number', value);
  }

  text(): string {
    const value = this.#take();
    if (typeof value === 'string') return value;
    throw wrong('a text', value);
  }

  textOrNull(): string | undefined {
    const value = this.#take();
    if (value === null || typeof value === 'string') return value ?? undefined;
    throw wrong('a text or nil', value);
  }

  /** Bytes, copied; of exactly `length` if one is given. */
  binary(length?: number): Uint8Array {
    const value = this.#take();
    if (value instanceof Uint8Array && (length === undefined || value.length === length)) {
      return Uint8Array.prototype.slice.call(value);
    }
    throw wrong(length === undefined ? 'bytes' : `${length} bytes`, value);
  }

  array(): Unpacked {
    return new Unpacked(this.#take());
  }

  arrayOrNull(): Unpacked | undefined {
    const value = this.#take();
    return value === null ? undefined : new Unpacked(value);
  }

  /** Reads every remaining element with `read`. */
  each<T>(read: (from: Unpacked) => T): T[] {
    const values: T[] = [];
    while (this.remaining > 0) values.push(read(this));
    return values;
  }

  #take(): unknown {
    return this.#elements[this.#next++];
  }
}

function wrong(expected: string, actual: unknown): DivanError {
  return new DivanError('CORRUPT', `a packed value is not ${expected} but ${typeof actual}`);
}
