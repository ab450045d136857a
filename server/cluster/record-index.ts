/** The cluster records of a node in memory: by key, by kind, by bucket, rows by the name of their database, and the digests of all. */
import { type ClusterRecord, kindOf } from './cluster-record.js';
import { BUCKETS, bucketOf, hashOf, RecordDigests } from './record-digests.js';

interface Entry {
  readonly record: ClusterRecord;
  readonly hash: Buffer;
}

export class RecordIndex {
  readonly digests = new RecordDigests();
  readonly #buckets: readonly Map<string, Entry>[] = Array.from(
    { length: BUCKETS },
    () => new Map(),
  );
  readonly #kinds = new Map<string, Set<string>>();
  readonly #rows = new Map<string, Set<string>>();

  get(key: string): ClusterRecord | undefined {
    return this.#buckets[bucketOf(key)]?.get(key)?.record;
  }

  /** The hash of a record in hexadecimal digits, as it is compared. */
  hash(key: string): string | undefined {
    return this.#buckets[bucketOf(key)]?.get(key)?.hash.toString('hex');
  }

  /** In no particular order. */
  keysOfKind(kind: string): Iterable<string> {
    return this.#kinds.get(kind) ?? [];
  }

  /** The keys of a bucket in their order, from behind `after`. */
  keysOfBucket(bucket: number, after: string): string[] {
    const keys = [...(this.#buckets[bucket]?.keys() ?? [])];
    return keys.filter((key) => key > after).sort();
  }

  /** The keys of the rows that all nodes have for a database. */
  rowsOf(database: string): Iterable<string> {
    return this.#rows.get(database) ?? [];
  }

  set(record: ClusterRecord): void {
    const { key } = record;
    this.delete(key);
    const bucket = bucketOf(key);
    const entry = { record, hash: hashOf(record) };
    this.#buckets[bucket]?.set(key, entry);
    this.digests.toggle(bucket, entry.hash);
    for (const [map, name] of this.#placesOf(record)) {
      const keys = map.get(name);
      if (keys === undefined) map.set(name, new Set([key]));
      else keys.add(key);
    }
  }

  delete(key: string): void {
    const bucket = bucketOf(key);
    const entry = this.#buckets[bucket]?.get(key);
    if (entry === undefined) return;
    this.#buckets[bucket]?.delete(key);
    this.digests.toggle(bucket, entry.hash);
    for (const [map, name] of this.#placesOf(entry.record)) {
      const keys = map.get(name);
      keys?.delete(key);
      if (keys?.size === 0) map.delete(name);
    }
  }

  #placesOf(record: ClusterRecord): (readonly [Map<string, Set<string>>, string])[] {
    const kind = kindOf(record.key);
    const places = [[this.#kinds, kind] as const];
    return kind === 'row' ? [...places, [this.#rows, databaseOfRow(record.key)]] : places;
  }
}

/** The name of the database in the key of a row, in which there may be a `/`. */
export function databaseOfRow(key: string): string {
  return key.slice('row/'.length + 32 + 1, key.lastIndexOf('/'));
}

/** Compares two texts by the bytes of their UTF-8: code points above the surrogates come before none of those below. */
export function compareBytes(a: string, b: string): number {
  for (let at = 0; at < a.length && at < b.length; at++) {
    const [left, right] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (left !== right) return byteRank(left) - byteRank(right);
  }
  return a.length - b.length;
}

/** A surrogate stands for more than any other unit. */
function byteRank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
