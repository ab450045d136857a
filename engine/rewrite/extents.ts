/**
 * Reading many runs of a file at once: in the order of their places, neighbours in one read, several reads at a time, into one
 * buffer that is used again and again. All of them are checked.
 */
import { checksumError } from '../file/file-reader.js';
import { JOINED_BYTES_MAX, joinChecksums } from '../file/joined-checksum.js';
import { orderByPrefix } from '../file/radix-order.js';
import { CODEC_RAW, checksum, filePos } from '../file/ref.js';
import type { StorageFile } from '../file/storage.js';

/** Unless another distance is given. */
const GAP_BYTES_MAX = 32 * 1024;
/** If what is read that way would take more than this, gaps must be smaller, in the end none. */
const BUFFER_BYTES_MAX = 16 * 1024 * 1024;
const GAP_SHARES = [1, 1 / 4, 1 / 16, 1 / 64] as const;
/** One read takes at most so much, unless a single run is longer. */
const EXTENT_BYTES_MAX = 1024 * 1024;
/** So many reads at a time: more than the threads that do them would only wait. */
const READS_AT_ONCE = 4;
/** There is room for so many runs at first. */
const RUNS_FIRST = 1024;

type ReadableFile = Pick<StorageFile, 'path' | 'read'>;

interface Extent {
  readonly pos: number;
  readonly end: number;
  /** Where it stands in the buffer. */
  readonly at: number;
  /** Its runs: `[from, to)` in the order of their positions. */
  readonly from: number;
  readonly to: number;
}

export class Extents {
  readonly #file: ReadableFile;
  readonly #gapBytesMax: number;
  #positions = new Float64Array(RUNS_FIRST);
  #lengths = new Uint32Array(RUNS_FIRST);
  #checksums = new Uint32Array(RUNS_FIRST);
  /** Where each run stands in the buffer. */
  #places = new Uint32Array(RUNS_FIRST);
  #count = 0;
  /** The runs in the order of their positions, undefined where that is the order in which they were added. */
  #order: Uint32Array | undefined;
  #ascending = true;
  #buffer = new Uint8Array(0);

  /** Runs closer together than `gapBytesMax` are read with what is between them. */
  constructor(file: ReadableFile, gapBytesMax = GAP_BYTES_MAX) {
    this.#file = file;
    this.#gapBytesMax = gapBytesMax;
  }

  /** Holds the runs after `read`, each at its `place`. */
  get buffer(): Uint8Array {
    return this.#buffer;
  }

  /** Forgets the runs and keeps the buffer. */
  clear(): void {
    this.#count = 0;
    this.#ascending = true;
  }

  /** Adds a run to be read, of at least one byte, and returns its number. */
  add(pos: number, length: number, crc: number): number {
    const index = this.#count;
    if (index === this.#positions.length) this.#grow();
    if (index > 0 && pos < (this.#positions[index - 1] ?? 0)) this.#ascending = false;
    this.#positions[index] = pos;
    this.#lengths[index] = length;
    this.#checksums[index] = crc;
    this.#count++;
    return index;
  }

  /** Where a run stands in `buffer`. */
  place(index: number): number {
    return this.#places[index] ?? 0;
  }

  /** Reads and checks all that was added. Throws `CHECKSUM` (also if the file ends before) and `IO`. */
  async read(): Promise<void> {
    this.#order = this.#ascending
      ? undefined
      : orderByPrefix(this.#positions.subarray(0, this.#count), () => 0);
    const extents = this.#planWithin(BUFFER_BYTES_MAX);
    const length = lengthOf(extents);
    if (this.#buffer.length < length) {
      // A plain array rather than a Buffer: views of one are made faster.
      this.#buffer = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
    }
    let next = 0;
    const readSome = async () => {
      for (let extent = extents[next++]; extent !== undefined; extent = extents[next++]) {
        await this.#readExtent(extent);
        this.#check(extent);
      }
    };
    await Promise.all(Array.from({ length: READS_AT_ONCE }, readSome));
  }

  async #readExtent({ pos, end, at, to }: Extent): Promise<void> {
    const into = this.#buffer.subarray(at, at + end - pos);
    let filled = 0;
    while (filled < into.length) {
      const count = await this.#file.read(into.subarray(filled), pos + filled);
      if (count === 0) throw this.#error(to - 1, 'ends after the file');
      filled += count;
    }
  }

  /** Checks the runs of an extent, neighbours together. */
  #check({ from, to }: Extent): void {
    let start = 0;
    let end = -1;
    let crc = 0;
    for (let turn = from; turn < to; turn++) {
      const index = this.#runAt(turn);
      const place = this.#places[index] ?? 0;
      const length = this.#lengths[index] ?? 0;
      const own = this.#checksums[index] ?? 0;
      if (place === end && length <= JOINED_BYTES_MAX) crc = joinChecksums(crc, own, length);
      else {
        if (end >= 0 && this.#checksumOf(start, end) !== crc) throw this.#firstWrong(from, turn);
        start = place;
        crc = own;
      }
      end = place + length;
    }
    if (this.#checksumOf(start, end) !== crc) throw this.#firstWrong(from, to);
  }

  #checksumOf(start: number, end: number): number {
    return checksum(this.#buffer.subarray(start, end));
  }

  /** The error of the first of some runs that does not have its checksum. */
  #firstWrong(from: number, to: number): Error {
    for (let turn = from; turn < to; turn++) {
      const index = this.#runAt(turn);
      const place = this.#places[index] ?? 0;
      const length = this.#lengths[index] ?? 0;
      if (this.#checksumOf(place, place + length) === this.#checksums[index]) continue;
      return this.#error(turn, 'does not have its checksum');
    }
    return this.#error(to - 1, 'or one before it does not have its checksum');
  }

  #error(turn: number, what: string): Error {
    const index = this.#runAt(turn);
    const pos = filePos(this.#positions[index] ?? 0);
    const length = this.#lengths[index] ?? 0;
    const ref = { pos, length, crc: this.#checksums[index] ?? 0, codec: CODEC_RAW };
    return checksumError(this.#file.path, ref, what);
  }

  /** The number of a run in the order of positions. */
  #runAt(turn: number): number {
    return this.#order?.[turn] ?? turn;
  }

  /** What to read so that it takes at most so much memory, if it can. */
  #planWithin(bytesMax: number): Extent[] {
    for (const share of GAP_SHARES) {
      const extents = this.#plan(this.#gapBytesMax * share);
      if (lengthOf(extents) <= bytesMax) return extents;
    }
    return this.#plan(0);
  }

  #plan(gapBytesMax: number): Extent[] {
    const extents: Extent[] = [];
    let from = 0;
    let pos = 0;
    let end = -1;
    let at = 0;
    for (let turn = 0; turn < this.#count; turn++) {
      const index = this.#runAt(turn);
      const start = this.#positions[index] ?? 0;
      const runEnd = start + (this.#lengths[index] ?? 0);
      if (end < 0 || start > end + gapBytesMax || runEnd - pos > EXTENT_BYTES_MAX) {
        if (end >= 0) {
          extents.push({ pos, end, at, from, to: turn });
          at += end - pos;
        }
        from = turn;
        pos = start;
        end = runEnd;
      } else if (runEnd > end) end = runEnd;
      this.#places[index] = at + start - pos;
    }
    if (end >= 0) extents.push({ pos, end, at, from, to: this.#count });
    return extents;
  }

  #grow(): void {
    const size = this.#count * 2;
    this.#positions = grown(this.#positions, new Float64Array(size));
    this.#lengths = grown(this.#lengths, new Uint32Array(size));
    this.#checksums = grown(this.#checksums, new Uint32Array(size));
    this.#places = new Uint32Array(size);
  }
}

/** Of the buffer that extents take. */
function lengthOf(extents: readonly Extent[]): number {
  const last = extents[extents.length - 1];
  return last === undefined ? 0 : last.at + (last.end - last.pos);
}

function grown<T extends Float64Array | Uint32Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
