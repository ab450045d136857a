/**
 * Reads the bodies of a window of rows: in the order of their places in the file, neighbours in one read, and checks each
 * against its ref.
 */
import { checksumError, readUpTo } from '../file/file-reader.js';
import { checksum, type Ref } from '../file/ref.js';
import type { StorageFile } from '../file/storage.js';

/** Bodies closer together than this are read with what is between them. */
const GAP_BYTES_MAX = 32 * 1024;
/** One read takes at most so much. */
const EXTENT_BYTES_MAX = 4 * 1024 * 1024;

interface Extent {
  readonly start: number;
  readonly end: number;
  bytes: Uint8Array;
}

export class BodyWindow {
  readonly #file: StorageFile;
  #positions = new Float64Array(4096);
  #lengths = new Float64Array(4096);
  #count = 0;
  #bytes = 0;
  #ascending = true;
  #extents: Extent[] = [];

  constructor(file: StorageFile) {
    this.#file = file;
  }

  /** How many bytes of bodies the window has. */
  get bytes(): number {
    return this.#bytes;
  }

  clear(): void {
    this.#count = 0;
    this.#bytes = 0;
    this.#ascending = true;
    this.#extents = [];
  }

  /** Adds a body to be read. */
  add(pos: number, length: number): void {
    if (this.#count === this.#positions.length) this.#grow();
    if (this.#count > 0 && pos < (this.#positions[this.#count - 1] ?? 0)) this.#ascending = false;
    this.#positions[this.#count] = pos;
    this.#lengths[this.#count++] = length;
    this.#bytes += length;
  }

  /** Reads all that was added. */
  async read(): Promise<void> {
    this.#extents = this.#plan();
    for (const extent of this.#extents) {
      extent.bytes = await readUpTo(this.#file, extent.start, extent.end - extent.start);
    }
  }

  /** The body of a ref that was added, checked: a view. Fastest when called in the order of adding. Throws `CHECKSUM`. */
  body(ref: Ref): Uint8Array {
    const extent = this.#extentOf(ref.pos);
    const from = ref.pos - extent.start;
    const body = extent.bytes.subarray(from, from + ref.length);
    if (body.length !== ref.length || checksum(body) !== ref.crc) {
      throw checksumError(this.#file.path, ref, 'does not have its checksum');
    }
    return body;
  }

  #plan(): Extent[] {
    const extents: Extent[] = [];
    let start = 0;
    let end = -1;
    const cut = () => {
      if (end >= 0) extents.push({ start, end, bytes: NOTHING });
    };
    for (const index of this.#order()) {
      const pos = this.#positions[index] ?? 0;
      const bodyEnd = pos + (this.#lengths[index] ?? 0);
      if (end < 0 || pos > end + GAP_BYTES_MAX || bodyEnd - start > EXTENT_BYTES_MAX) {
        cut();
        start = pos;
        end = bodyEnd;
      } else end = Math.max(end, bodyEnd);
    }
    cut();
    return extents;
  }

  /** The bodies in the order of their places: as they were added, most of the time. */
  *#order(): Generator<number> {
    if (this.#ascending) {
      for (let index = 0; index < this.#count; index++) yield index;
      return;
    }
    const indexes = Uint32Array.from({ length: this.#count }, (_, index) => index);
    yield* indexes.sort((a, b) => (this.#positions[a] ?? 0) - (this.#positions[b] ?? 0));
  }

  #extentOf(pos: number): Extent {
    let low = 0;
    let high = this.#extents.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#extents[middle]?.start ?? 0) <= pos) low = middle;
      else high = middle - 1;
    }
    return this.#extents[low] ?? { start: 0, end: 0, bytes: NOTHING };
  }

  #grow(): void {
    const positions = new Float64Array(this.#positions.length * 2);
    const lengths = new Float64Array(this.#lengths.length * 2);
    positions.set(this.#positions);
    lengths.set(this.#lengths);
    this.#positions = positions;
    this.#lengths = lengths;
  }
}

const NOTHING = new Uint8Array(0);
