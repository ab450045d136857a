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
const BLOCK_BYTES = 16;

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
  readonly #viewed: { readonly bytes: Uint8Array; readonly view: DataView }[] = [];
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

  /**
   * Adds `bytes[start, end)` to the member, with its length, so that the borders of parts count. The last block is what is left, and
   * may be nothing; it is filled up with zeros and its length. The lanes are variables while they are mixed, which a processor keeps
   * in registers.
   */
  part(bytes: Uint8Array, start: number, end: number): void {
    const view = this.#viewOf(bytes);
    let a = this.#a;
    let b = this.#b;
    let c = this.#c;
    let d = this.#d;
    let whole = true;
    for (let at = start; whole; at += BLOCK_BYTES) {
      whole = at + BLOCK_BYTES <= end;
      a ^= Math.imul(rotate(Math.imul(wordAt(view, at, end), M1), 15), M2);
      a = (Math.imul((rotate(a, 19) + b) | 0, 5) + 0x561ccd1b) | 0;
      b ^= Math.imul(rotate(Math.imul(wordAt(view, at + 4, end), M2), 16), M3);
      b = (Math.imul((rotate(b, 17) + c) | 0, 5) + 0x0bcaa747) | 0;
      c ^= Math.imul(rotate(Math.imul(wordAt(view, at + 8, end), M3), 17), M4);
      c = (Math.imul((rotate(c, 15) + d) | 0, 5) + 0x96cd1c35) | 0;
      const last = wordAt(view, at + 12, end) | (whole ? 0 : (end - at) << 24);
      d ^= Math.imul(rotate(Math.imul(last, M4), 18), M1);
      d = (Math.imul((rotate(d, 13) + a) | 0, 5) + 0x32ac3b17) | 0;
    }
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
    this.#lengths = (Math.imul(this.#lengths, LENGTHS_FACTOR) + end - start) | 0;
  }

  /** Parts mostly come from the same few arrays, one after another, so that their views are kept. */
  #viewOf(bytes: Uint8Array): DataView {
    for (const viewed of this.#viewed) if (viewed.bytes === bytes) return viewed.view;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#viewed[this.#nextView] = { bytes, view };
    this.#nextView = (this.#nextView + 1) % VIEWS;
    return view;
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

/** The word at `at` of what ends at `end`: zeros stand behind it. */
function wordAt(view: DataView, at: number, end: number): number {
  if (at + 4 <= end) return view.getInt32(at, true);
  let word = 0;
  for (let index = end - 1; index >= at; index--) word = (word << 8) | view.getUint8(index);
  return word;
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
