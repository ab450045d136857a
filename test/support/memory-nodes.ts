/** Tree nodes in memory, for tests of the B-tree alone. Can be told to fail its n-th call. */
import { openNode, type TreeNode } from '../../engine/btree/node.js';
import type { NodeSink, NodeSource } from '../../engine/btree/tree.js';
import { DivanError } from '../../engine/errors.js';
import { checksum, filePos, type Ref } from '../../engine/file/ref.js';

export class MemoryNodes implements NodeSource, NodeSink {
  readonly nodes = new Map<number, Uint8Array>();
  loads = 0;
  drains = 0;
  /** The call of `load` that fails, counted from 0. */
  failLoad = -1;
  #end = 0;

  get full(): boolean {
    return false;
  }

  append(node: Uint8Array): Ref {
    const pos = filePos(this.#end);
    this.nodes.set(pos, Uint8Array.prototype.slice.call(node));
    this.#end += node.length;
    return { pos, length: node.length, crc: checksum(node), codec: 0 };
  }

  async drain(): Promise<void> {
    this.drains++;
  }

  cached(): TreeNode | undefined {
    return undefined;
  }

  async load(ref: Ref, level: number): Promise<TreeNode> {
    if (this.loads++ === this.failLoad) throw new DivanError('IO', 'planted');
    const bytes = this.nodes.get(ref.pos);
    if (bytes === undefined || bytes.length !== ref.length || checksum(bytes) !== ref.crc) {
      throw new DivanError('CHECKSUM', `no such node at ${ref.pos}`);
    }
    return openNode(bytes, level);
  }
}
