/** What is read of one shard file, through memory: tree nodes, and the bodies of small documents. */
import { openNode, type TreeNode } from '../btree/node.js';
import type { NodeSource } from '../btree/tree.js';
import type { Ref } from '../file/ref.js';
import type { CachedRun, CacheSpace } from './cache-space.js';

export const CACHE_BYTES_DEFAULT = 64 * 1024 * 1024;
/** Larger bodies take long to send, next to which reading them is little. */
const CACHED_BODY_BYTES_MAX = 16 * 1024;

export class FileCache implements NodeSource {
  readonly #space: CacheSpace;
  readonly #read: (ref: Ref) => Promise<Uint8Array>;
  readonly #nodes = new Map<number, CachedRun<TreeNode>>();
  readonly #bodies = new Map<number, CachedRun<Uint8Array>>();

  /** `read` gives the checked run of a ref. */
  constructor(space: CacheSpace, read: (ref: Ref) => Promise<Uint8Array>) {
    this.#space = space;
    this.#read = read;
  }

  /** The bytes of a ref, past the cache. All that reads rejects with `CHECKSUM`, `CORRUPT`, `IO` or `CLOSED`. */
  read(ref: Ref): Promise<Uint8Array> {
    return this.#read(ref);
  }

  cached(ref: Ref, level: number): TreeNode | undefined {
    const run = this.#nodes.get(ref.pos);
    if (run === undefined || run.value.level !== level) return undefined;
    run.used = true;
    return run.value;
  }

  async load(ref: Ref, level: number): Promise<TreeNode> {
    const node = openNode(await this.#read(ref), level);
    this.#keep(this.#nodes, ref, node);
    return node;
  }

  /** Keeps a node that was just written; takes a copy of its bytes. */
  add(ref: Ref, bytes: Uint8Array): void {
    const level = bytes[1] ?? 0;
    this.#keep(this.#nodes, ref, openNode(Uint8Array.prototype.slice.call(bytes), level));
  }

  /** The body of a document. Shared: must not be changed. */
  body(ref: Ref): Uint8Array | Promise<Uint8Array> {
    if (ref.length > CACHED_BODY_BYTES_MAX) return this.#read(ref);
    const run = this.#bodies.get(ref.pos);
    if (run === undefined) return this.#loadBody(ref);
    run.used = true;
    return run.value;
  }

  /** Gives its memory back. What is still read afterwards is cached as before. */
  clear(): void {
    for (const runs of [this.#nodes, this.#bodies]) {
      for (const run of runs.values()) this.#space.remove(run);
      runs.clear();
    }
  }

  async #loadBody(ref: Ref): Promise<Uint8Array> {
    const body = await this.#read(ref);
    this.#keep(this.#bodies, ref, body);
    return body;
  }

  #keep<Value>(home: Map<number, CachedRun<Value>>, ref: Ref, value: Value): void {
    if (home.has(ref.pos)) return;
    const run = { value, pos: ref.pos, bytes: ref.length, home, used: false };
    home.set(ref.pos, run);
    this.#space.add(run);
  }
}
