/**
 * The hash of a set: a sum mod 2^128 of keyed 128-bit hashes of its members, and their count. It does not depend on their order,
 * and unlike an exclusive or it notices a member that is there twice.
 *
 * A member's hash mixes four lanes of 32 bits with multiplications and rotations in the manner of MurmurHash3
 * (Austin Appleby, public domain), begun from a key. Made for finding mistakes, not for withstanding an attack.
 */
import { readU32 } from '../file/bytes.js';

export const HASH_KEY_BYTES = 16;

const VIEWS = 3;

const M1 = 0x239b961b;
const M2 = 0xab0e9789;
const M3 = 0x38b34ae5;
const M4 = 0xa1e38b93;
/** Lengths of parts are put together as digits to this base. */
const LENGTHS_FACTOR = 0x9e3779b1;

/** What is known of a set. */
export interface SetHash {
  /** Four numbers below 2^32, least significant first. */
  readonly sum: readonly number[];
  readonly count: number;
}

export const EMPTY_SET: SetHash = { sum: [0, 0, 0, 0], count: 0 };

/** Hashes members of a set, each given in parts, and adds them up. */
export class SetHasher {
  readonly #key: readonly [number, number, number, number];
  #a = 0;
  #b = 0;
  #c = 0;
  #d = 0;
  #lengths = 0;
  readonly #tail = new Uint8Array(16);
  readonly #views: DataView[] = [];
  #nextView = 0;
  /** The sum, least significant first; numbers below 2^32. */
  readonly #sum: number[];
  count: number;

  /** `from`: what was added to the set before. */
  constructor(key: Uint8Array, from: SetHash = EMPTY_SET) {
    this.#key = [readU32(key, 0), readU32(key, 4), readU32(key, 8), readU32(key, 12)];
    this.#sum = [...from.sum];
    this.count = from.count;
  }

  /** Begins a member of a kind: members of different kinds never are the same. */
  begin(kind: number): void {
    const [a, b, c, d] = this.#key;
    this.#a = a ^ kind;
    this.#b = b;
    this.#c = c;
    this.#d = d;
    this.#lengths = 0;
  }

  /** Adds `bytes[start, end)` to the member, with its length, so that the borders of parts count. */
  part(bytes: Uint8Array, start: number, end: number): void {
    const view = this.#viewOf(bytes);
    const last = bytes.byteOffset + end;
    let at = bytes.byteOffset + start;
    for (; at + 16 <= last; at += 16) {
      this.#mix(
        view.getInt32(at, true),
        view.getInt32(at + 4, true),
        view.getInt32(at + 8, true),
        view.getInt32(at + 12, true),
      );
    }
    const tail = this.#tail;
    tail.fill(0);
    tail[15] = last - at;
    for (let index = 0; at < last; at++, index++) tail[index] = view.getUint8(at);
    this.#mix(readU32(tail, 0), readU32(tail, 4), readU32(tail, 8), readU32(tail, 12));
    this.#lengths = (Math.imul(this.#lengths, LENGTHS_FACTOR) + end - start) | 0;
  }

  /** A view of the memory that `bytes` stand in. Members alternate between two or three of these, so that a few are kept. */
  #viewOf({ buffer }: Uint8Array): DataView {
    for (const view of this.#views) if (view.buffer === buffer) return view;
    const view = new DataView(buffer);
    this.#views[this.#nextView] = view;
    this.#nextView = (this.#nextView + 1) % VIEWS;
    return view;
  }

  #mix(k1: number, k2: number, k3: number, k4: number): void {
    let a = this.#a ^ Math.imul(rotate(Math.imul(k1, M1), 15), M2);
    a = (Math.imul((rotate(a, 19) + this.#b) | 0, 5) + 0x561ccd1b) | 0;
    let b = this.#b ^ Math.imul(rotate(Math.imul(k2, M2), 16), M3);
    b = (Math.imul((rotate(b, 17) + this.#c) | 0, 5) + 0x0bcaa747) | 0;
    let c = this.#c ^ Math.imul(rotate(Math.imul(k3, M3), 17), M4);
    c = (Math.imul((rotate(c, 15) + this.#d) | 0, 5) + 0x96cd1c35) | 0;
    let d = this.#d ^ Math.imul(rotate(Math.imul(k4, M4), 18), M1);
    d = (Math.imul((rotate(d, 13) + a) | 0, 5) + 0x32ac3b17) | 0;
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
  }

  /** Ends the member and adds it to the sum. */
  end(): void {
    const a = finish(this.#a ^ this.#lengths);
    const b = finish(this.#b + a);
    const c = finish(this.#c + b);
    const d = finish(this.#d + c);
    this.#add(finish(a + d), b, c, d);
    this.count++;
  }

  #add(a: number, b: number, c: number, d: number): void {
    const carryA = this.#addWord(0, a, 0);
    const carryB = this.#addWord(1, b, carryA);
    const carryC = this.#addWord(2, c, carryB);
    this.#addWord(3, d, carryC);
  }

  #addWord(index: number, word: number, carry: number): number {
    const total = (this.#sum[index] ?? 0) + (word >>> 0) + carry;
    this.#sum[index] = total >>> 0;
    return total > 0xffff_ffff ? 1 : 0;
  }

  get hash(): SetHash {
    return { sum: [...this.#sum], count: this.count };
  }
}

/** The sum of a union of disjoint sets, in hexadecimal. */
export function sumText(hashes: readonly SetHash[]): string {
  const total = hashes.reduce((sum, hash) => (sum + wholeSum(hash)) % SUM_MODULUS, 0n);
  return total.toString(16);
}

const SUM_MODULUS = 1n << 128n;

function wholeSum({ sum }: SetHash): bigint {
  return sum.reduceRight((value, word) => (value << 32n) | BigInt(word), 0n);
}

function rotate(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}

function finish(value: number): number {
  let mixed = value ^ (value >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
