/**
 * Reads what `ByteWriter` writes, one value after another. Bytes that end too early are `CORRUPT`, never an overrun.
 */
import { DivanError } from '../errors.js';
import { SEQ_BYTES } from './byte-writer.js';
import { byteAt, readU32 } from './bytes.js';
import { REF_BYTES, type Ref, readRef } from './ref.js';
import { VarintReader } from './varint.js';

/** Reads a seq. Throws `CORRUPT` for 2^53 or more. */
export function readSeq(bytes: Uint8Array, at: number): number {
  const high = byteAt(bytes, at) * 0x1_0000 + byteAt(bytes, at + 1) * 0x100 + byteAt(bytes, at + 2);
  const seq =
    (high * 0x100 + byteAt(bytes, at + 3)) * 0x100_0000 +
    ((byteAt(bytes, at + 4) << 16) | (byteAt(bytes, at + 5) << 8) | byteAt(bytes, at + 6));
  if (!Number.isSafeInteger(seq)) throw new DivanError('CORRUPT', 'a seq is 2^53 or more');
  return seq;
}

const NOTHING = new Uint8Array(0);
const varints = new VarintReader();

export class ByteReader {
  #bytes: Uint8Array = NOTHING;
  /** Position of the next byte. */
  at = 0;

  reset(bytes: Uint8Array, at = 0): this {
    this.#bytes = bytes;
    this.at = at;
    return this;
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get ended(): boolean {
    return this.at >= this.#bytes.length;
  }

  /** Moves past `count` bytes and returns where they start. */
  skip(count: number): number {
    const at = this.at;
    if (count > this.#bytes.length - at) {
      throw new DivanError('CORRUPT', 'a value runs past the end of its bytes');
    }
    this.at = at + count;
    return at;
  }

  u8(): number {
    return byteAt(this.#bytes, this.skip(1));
  }

  u32(): number {
    return readU32(this.#bytes, this.skip(4));
  }

  seq(): number {
    return readSeq(this.#bytes, this.skip(SEQ_BYTES));
  }

  varint(): number {
    varints.reset(this.#bytes, this.at);
    const value = varints.next();
    this.at = varints.at;
    return value;
  }

  ref(): Ref {
    return readRef(this.#bytes, this.skip(REF_BYTES));
  }

  /** A view of the next `count` bytes. */
  take(count: number): Uint8Array {
    const at = this.skip(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** A view of bytes that stand behind their varint length. */
  prefixed(): Uint8Array {
    return this.take(this.varint());
  }
}
