/**
 * Unsigned LEB128 integers up to 2^53 - 1 (FORMAT.md, "Conventions"): seven bits a byte, least significant first,
 * the high bit set in every byte but the last.
 */
import { DivanError } from '../errors.js';

const LIMIT_SHIFTED = 2 ** 53;

/** How many bytes `value` takes: 1 to 8. */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
}

/** Writes `value` at `at` and returns the position after it. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  let rest = value;
  let pos = at;
  while (rest > 0x7fff_ffff) {
    bytes[pos++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    bytes[pos++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[pos++] = rest;
  return pos;
}

const NOTHING = new Uint8Array(0);

/** Reads varints one after another without making an object for each. */
export class VarintReader {
  bytes: Uint8Array = NOTHING;
  /** Position of the next byte. */
  at = 0;

  reset(bytes: Uint8Array, at: number): this {
    this.bytes = bytes;
    this.at = at;
    return this;
  }

  /** Throws `CORRUPT` when the bytes end inside the number or it is 2^53 or more. */
  next(): number {
    const first = this.bytes[this.at];
    if (first !== undefined && first < 0x80) {
      this.at++;
      return first;
    }
    return this.#long();
  }

  #long(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.bytes[this.at++];
      if (byte === undefined)
        throw new DivanError('CORRUPT', 'a number runs past the end of its bytes');
      value += (byte & 0x7f) * scale;
      if (value >= LIMIT_SHIFTED) throw new DivanError('CORRUPT', 'a number is 2^53 or more');
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
  }
}
