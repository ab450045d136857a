/**
 * Where a flush and a rewrite put their tree nodes: framed runs, gathered into extents of the append file, so that commits
 * can go on between two extents and a node's place is known before it is written.
 */
import type { NodeSink } from '../btree/tree.js';
import { type AppendFile, RUN_FRAME_BYTES } from '../file/append-file.js';
import type { Host } from '../file/host.js';
import { checksum, type FilePos, filePos, type Ref } from '../file/ref.js';

const EXTENT_BYTES = 256 * 1024;
/** So much is synced at a time, so that the sync of the flush's own commit, which commits wait for, is short. */
const SYNC_BYTES = 16 * 1024 * 1024;

interface Extent {
  readonly pos: FilePos;
  readonly bytes: Buffer;
  used: number;
}

export class FileNodeSink implements NodeSink {
  readonly #file: AppendFile;
  readonly #host: Host;
  #extent: Extent | undefined;
  readonly #filled: Extent[] = [];
  #unsynced = 0;
  /** Bytes of nodes and frames so far. */
  bytesWritten = 0;

  constructor(file: AppendFile, host: Host) {
    this.#file = file;
    this.#host = host;
  }

  get full(): boolean {
    return this.#filled.length > 0;
  }

  append(node: Uint8Array): Ref {
    const length = RUN_FRAME_BYTES + node.length;
    const extent = this.#room(length);
    const crc = checksum(node);
    this.#file.frame(extent.bytes, extent.used, node.length, crc);
    extent.bytes.set(node, extent.used + RUN_FRAME_BYTES);
    const pos = filePos(extent.pos + extent.used + RUN_FRAME_BYTES);
    extent.used += length;
    this.bytesWritten += length;
    return { pos, length: node.length, crc, codec: 0 };
  }

  async drain(): Promise<void> {
    for (let extent = this.#filled.shift(); extent !== undefined; extent = this.#filled.shift()) {
      await this.#write(extent);
    }
    if (this.#unsynced >= SYNC_BYTES) {
      this.#unsynced = 0;
      await this.#file.sync();
    }
    await this.#host.yieldTurn();
  }

  /** Writes everything, and gives the unused rest of the last extent back to the file. The caller syncs. */
  async finish(): Promise<void> {
    const last = this.#extent;
    this.#extent = undefined;
    if (last !== undefined) {
      this.#file.giveBack(filePos(last.pos + last.used), filePos(last.pos + last.bytes.length));
      this.#filled.push(last);
    }
    await this.drain();
  }

  #room(length: number): Extent {
    const current = this.#extent;
    if (current !== undefined && current.used + length <= current.bytes.length) return current;
    if (current !== undefined) this.#retire(current);
    const size = Math.max(EXTENT_BYTES, length);
    const extent = { pos: this.#file.reserve(size), bytes: Buffer.allocUnsafeSlow(size), used: 0 };
    this.#extent = extent;
    return extent;
  }

  #retire(extent: Extent): void {
    this.#file.giveBack(
      filePos(extent.pos + extent.used),
      filePos(extent.pos + extent.bytes.length),
    );
    this.#filled.push(extent);
  }

  async #write(extent: Extent): Promise<void> {
    await this.#file.write(extent.bytes.subarray(0, extent.used), extent.pos);
    this.#unsynced += extent.used;
  }
}
