/**
 * A growing buffer that integers and byte strings are appended to. Its owner uses it again and again, so that encoding a
 * document allocates nothing.
 */
import { writeU32 } from './bytes.js';
import { REF_BYTES, type Ref, writeRef } from './ref.js';
import { varintBytes, writeVarint } from './varint.js';

/** Seqs as they stand in keys and values: seven bytes, most significant first, so that they sort as bytes. */
export const SEQ_BYTES = 7;

const INITIAL_BYTES = 1024;

/** Writes a seq, 0 to 2^53 - 1, most significant byte first. */
export function writeSeq(bytes: Uint8Array, at: number, seq: number): void {
  const high = Math.floor(seq / 0x1_0000_0000);
  bytes[at] = high >>> 16;
  bytes[at + 1] = high >>> 8;
  bytes[at + 2] = high;
  bytes[at + 3] = seq >>> 24;
  bytes[at + 4] = seq >>> 16;
  bytes[at + 5] = seq >>> 8;
  bytes[at + 6] = seq;
}

export class ByteWriter {
  /** Where what was written stands; replaced when it grows. */
  bytes: Uint8Array = new Uint8Array(INITIAL_BYTES);
  /** How many bytes were written. */
  length = 0;

  /** Forgets what was written and keeps the room. */
  clear(): void {
    this.length = 0;
  }

  /** Makes room for `count` more bytes and returns where they start; `length` is advanced past them. */
  skip(count: number): number {
    const at = this.length;
    const length = at + count;
    if (length > this.bytes.length) this.#grow(length);
    this.length = length;
    return at;
  }

  u8(value: number): void {
    const at = this.skip(1);
    this.bytes[at] = value;
  }

  u32(value: number): void {
    const at = this.skip(4);
    writeU32(this.bytes, at, value);
  }

  seq(value: number): void {
    const at = this.skip(SEQ_BYTES);
    writeSeq(this.bytes, at, value);
  }

  varint(value: number): void {
    const at = this.skip(varintBytes(value));
    writeVarint(this.bytes, at, value);
  }

  ref(ref: Ref): void {
    const at = this.skip(REF_BYTES);
    writeRef(this.bytes, at, ref);
  }

  append(source: Uint8Array): void {
    const at = this.skip(source.length);
    this.bytes.set(source, at);
  }

  /** A varint length, then the bytes. */
  prefixed(source: Uint8Array): void {
    this.varint(source.length);
    this.append(source);
  }

  /** What was written, until the next call that writes or clears. */
  view(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  /** What was written, as bytes of the caller's own. */
  copy(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }

  #grow(length: number): void {
    const larger = new Uint8Array(Math.max(length, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
}
