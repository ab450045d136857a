/**
 * By which two nodes find what they hold differently without telling each other all of it: a hash for each record, and for each of 256 buckets
 * of keys the exclusive or of the hashes in it. They are kept while records change, so that a comparison costs nothing where nothing differs.
 *
 * The hashes are no seal: members are trusted, and a difference that is missed by chance is one in 2^128.
 */
import { createHash } from 'node:crypto';
import type { ClusterRecord } from './cluster-record.js';

export const BUCKETS = 256;
const HASH_BYTES = 16;

/** In which bucket a key is: FNV-1a, the same on every node. */
export function bucketOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) {
    hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  }
  return (hash ^ (hash >>> 8) ^ (hash >>> 16) ^ (hash >>> 24)) & (BUCKETS - 1);
}

export function hashOf({ key, counter, text }: ClusterRecord): Buffer {
  const hash = createHash('sha256').update(`${JSON.stringify(key)} ${counter} ${text}`);
  return hash.digest().subarray(0, HASH_BYTES);
}

export class RecordDigests {
  readonly #buckets = Buffer.alloc(BUCKETS * HASH_BYTES);

  /** Adds the hash of a record to its bucket, or takes it away again. */
  toggle(bucket: number, hash: Uint8Array): void {
    const from = bucket * HASH_BYTES;
    for (let at = 0; at < HASH_BYTES; at++) {
      const [mine = 0, other = 0] = [this.#buckets[from + at], hash[at]];
      this.#buckets[from + at] = mine ^ other;
    }
  }

  /** Of everything. */
  get total(): string {
    return createHash('sha256').update(this.#buckets).digest('hex');
  }

  /** Of each bucket, one behind the other. */
  get buckets(): string {
    return this.#buckets.toString('hex');
  }

  /** The buckets that are not the same in `other`; undefined if those are no buckets. */
  differing(other: string): number[] | undefined {
    const bytes = Buffer.from(other, 'hex');
    if (bytes.length !== this.#buckets.length) return undefined;
    return Array.from({ length: BUCKETS }, (_, bucket) => bucket).filter((bucket) => {
      const [from, to] = [bucket * HASH_BYTES, (bucket + 1) * HASH_BYTES];
      return bytes.compare(this.#buckets, from, to, from, to) !== 0;
    });
  }
}
