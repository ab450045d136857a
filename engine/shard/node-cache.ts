/**
 * Tree nodes in memory, bounded by bytes. Which to drop is decided by the clock algorithm: a node that was used since the hand
 * last came by is passed over once.
 */
import { openNode, type TreeNode } from '../btree/node.js';
import type { NodeSource } from '../btree/tree.js';
import type { Ref } from '../file/ref.js';

export const CACHE_BYTES_DEFAULT = 64 * 1024 * 1024;
/** What an entry costs besides the bytes of its node. */
const ENTRY_OVERHEAD_BYTES = 200;

interface Cached {
  readonly node: TreeNode;
  used: boolean;
}

export class NodeCache implements NodeSource {
  readonly #read: (ref: Ref) => Promise<Uint8Array>;
  readonly #bytesMax: number;
  readonly #nodes = new Map<number, Cached>();
  #bytes = 0;

  /** `read` gives the checked run of a ref. */
  constructor(read: (ref: Ref) => Promise<Uint8Array>, bytesMax: number) {
    this.#read = read;
    this.#bytesMax = bytesMax;
  }

  cached(ref: Ref, level: number): TreeNode | undefined {
    const entry = this.#nodes.get(ref.pos);
    if (entry === undefined || entry.node.level !== level) return undefined;
    entry.used = true;
    return entry.node;
  }

  async load(ref: Ref, level: number): Promise<TreeNode> {
    const node = openNode(await this.#read(ref), level);
    this.#put(ref, node);
    return node;
  }

  /** Keeps a node that was just written; takes a copy of its bytes. */
  add(ref: Ref, bytes: Uint8Array): void {
    const level = bytes[1] ?? 0;
    this.#put(ref, openNode(Uint8Array.prototype.slice.call(bytes), level));
  }

  #put(ref: Ref, node: TreeNode): void {
    if (this.#nodes.has(ref.pos)) return;
    this.#nodes.set(ref.pos, { node, used: false });
    this.#bytes += ref.length + ENTRY_OVERHEAD_BYTES;
    for (const [pos, entry] of this.#nodes) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#nodes.delete(pos);
      if (entry.used) {
        entry.used = false;
        this.#nodes.set(pos, entry);
      } else this.#bytes -= entry.node.bytes.length + ENTRY_OVERHEAD_BYTES;
    }
  }
}
