/**
 * Reading whole ranges from a storage file: `read` of the seam may return fewer bytes than asked for.
 */
import { DivanError } from '../errors.js';
import { checksum, type Ref } from './ref.js';
import type { StorageFile } from './storage.js';

/** Reads up to `length` bytes from `pos`, fewer only where the file ends. The result belongs to the caller. */
export async function readUpTo(file: StorageFile, pos: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  while (filled < length) {
    const count = await file.read(bytes.subarray(filled), pos + filled);
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

/** Reads the run of a ref and checks it. Throws `CHECKSUM` (also for a run that ends after the file) or `IO`. */
export async function readRun(file: StorageFile, ref: Ref, fileEnd: number): Promise<Buffer> {
  if (ref.pos + ref.length > fileEnd) throw checksumError(file.path, ref, 'ends after the file');
  const bytes = await readUpTo(file, ref.pos, ref.length);
  if (bytes.length < ref.length || ref.codec !== 0 || checksum(bytes) !== ref.crc) {
    throw checksumError(file.path, ref, 'does not have its checksum');
  }
  return bytes;
}

export function checksumError(path: string, ref: Ref, what: string): DivanError {
  return new DivanError(
    'CHECKSUM',
    `${path}: the run of ${ref.length} bytes at ${ref.pos} ${what}`,
    { path, pos: ref.pos },
  );
}

/** CRC-32 of `[start, end)`, read in pieces; undefined where the file ends before. */
export async function checksumOfRange(
  file: StorageFile,
  start: number,
  end: number,
): Promise<number | undefined> {
  let crc = 0;
  for (let pos = start; pos < end; pos += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, end - pos);
    const bytes = await readUpTo(file, pos, length);
    if (bytes.length < length) return undefined;
    crc = checksum(bytes, crc);
  }
  return crc;
}

const PIECE_BYTES = 1024 * 1024;

/** Small, since between the records of two large commits there is much that nobody asks for. */
const BLOCK_BYTES = 64 * 1024;

/**
 * Small reads that go steadily up or down a file, served from two aligned blocks in memory: recovery walks the records
 * backwards and replays them forwards, and a read of the disk for each would take a second for every 30,000.
 */
export class SteadyReader {
  readonly #file: StorageFile;
  readonly #blocks: { pos: number; bytes: Buffer }[] = [];

  constructor(file: StorageFile) {
    this.#file = file;
  }

  /** The bytes `[pos, pos + length)`, or fewer where the file ends. Valid until the next call. */
  async read(pos: number, length: number): Promise<Uint8Array> {
    const first = pos - (pos % BLOCK_BYTES);
    const block = this.#inMemory(first) ?? (await this.#load(first));
    const from = pos - first;
    if (from + length <= BLOCK_BYTES) return block.subarray(from, from + length);
    if (length > BLOCK_BYTES) return readUpTo(this.#file, pos, length);
    const head = block.subarray(from);
    const next = this.#inMemory(first + BLOCK_BYTES) ?? (await this.#load(first + BLOCK_BYTES));
    return Buffer.concat([head, next.subarray(0, length - head.length)]);
  }

  #inMemory(pos: number): Buffer | undefined {
    for (const block of this.#blocks) if (block.pos === pos) return block.bytes;
    return undefined;
  }

  async #load(pos: number): Promise<Buffer> {
    const bytes = await readUpTo(this.#file, pos, BLOCK_BYTES);
    if (this.#blocks.length === 2) this.#blocks.shift();
    this.#blocks.push({ pos, bytes });
    return bytes;
  }
}
