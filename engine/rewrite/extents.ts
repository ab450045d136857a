/**
 * Reading many runs of a file at once: in the order of their places, neighbours in one read, several reads at a time, into one
 * buffer that is used again and again.
 */
import { DivanError } from '../errors.js';
import { orderByPrefix } from '../file/radix-order.js';
import type { StorageFile } from '../file/storage.js';

/** Runs closer together than this are read with what is between them. */
const GAP_BYTES_MAX = 32 * 1024;
/** One read takes at most so much, unless a single run is longer. */
const EXTENT_BYTES_MAX = 1024 * 1024;
/** So many reads at a time: more than the threads that do them would only wait. */
const READS_AT_ONCE = 4;

interface Extent {
  readonly pos: number;
  readonly end: number;
  /** Where it stands in the buffer. */
  readonly at: number;
}

export class Extents {
  readonly #file: StorageFile;
  #positions = new Float64Array(1024);
  #lengths = new Uint32Array(1024);
  /** Where each run stands in the buffer. */
  #places = new Uint32Array(1024);
  #count = 0;
  #ascending = true;
  #buffer: Buffer = Buffer.alloc(0);
  /** Bytes of the runs that were added. */
  bytes = 0;

  constructor(file: StorageFile) {
    this.#file = file;
  }

  /** Holds the runs after `read`, each at its `place`. */
  get buffer(): Uint8Array {
    return this.#buffer;
  }

  /** Forgets the runs and keeps the buffer. */
  clear(): void {
    this.#count = 0;
    this.#ascending = true;
    this.bytes = 0;
  }

  /** Forgets the buffer too, which somebody else goes on using. */
  release(): void {
    this.#buffer = Buffer.alloc(0);
    this.clear();
  }

  /** Adds a run to be read and returns its number. */
  add(pos: number, length: number): number {
    const index = this.#count;
    if (index === this.#positions.length) this.#grow();
    if (index > 0 && pos < (this.#positions[index - 1] ?? 0)) this.#ascending = false;
    this.#positions[index] = pos;
    this.#lengths[index] = length;
    this.#count++;
    this.bytes += length;
    return index;
  }

  /** Where a run stands in `buffer`. */
  place(index: number): number {
    return this.#places[index] ?? 0;
  }

  /** Reads all that was added. Throws `CORRUPT` if the file ends before, and `IO`. */
  async read(): Promise<void> {
    const extents = this.#plan();
    const last = extents[extents.length - 1];
    const length = last === undefined ? 0 : last.at + (last.end - last.pos);
    if (this.#buffer.length < length) this.#buffer = Buffer.allocUnsafeSlow(length);
    let next = 0;
    const readSome = async () => {
      for (let extent = extents[next++]; extent !== undefined; extent = extents[next++]) {
        await this.#readExtent(extent);
      }
    };
    await Promise.all(Array.from({ length: READS_AT_ONCE }, readSome));
  }

  async #readExtent({ pos, end, at }: Extent): Promise<void> {
    const into = this.#buffer.subarray(at, at + end - pos);
    let filled = 0;
    while (filled < into.length) {
      const count = await this.#file.read(into.subarray(filled), pos + filled);
      if (count === 0) {
        const { path } = this.#file;
        throw new DivanError('CORRUPT', `${path} ends before ${end}, where a run was to end`, {
          path,
          pos,
        });
      }
      filled += count;
    }
  }

  #plan(): Extent[] {
    const extents: Extent[] = [];
    let pos = 0;
    let end = -1;
    let at = 0;
    const order = this.#ascending
      ? undefined
      : orderByPrefix(this.#positions.subarray(0, this.#count), () => 0);
    for (let turn = 0; turn < this.#count; turn++) {
      const index = order?.[turn] ?? turn;
      const start = this.#positions[index] ?? 0;
      const runEnd = start + (this.#lengths[index] ?? 0);
      if (end < 0 || start > end + GAP_BYTES_MAX || runEnd - pos > EXTENT_BYTES_MAX) {
        if (end >= 0) {
          extents.push({ pos, end, at });
          at += end - pos;
        }
        pos = start;
        end = runEnd;
      } else if (runEnd > end) end = runEnd;
      this.#places[index] = at + start - pos;
    }
    if (end >= 0) extents.push({ pos, end, at });
    return extents;
  }

  #grow(): void {
    const positions = new Float64Array(this.#count * 2);
    const lengths = new Uint32Array(this.#count * 2);
    positions.set(this.#positions);
    lengths.set(this.#lengths);
    this.#positions = positions;
    this.#lengths = lengths;
    this.#places = new Uint32Array(this.#count * 2);
  }
}
