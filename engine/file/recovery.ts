/**
 * Finding the newest commit of a file and the commits to replay: FORMAT.md section 7, steps 1 to 4. Changes nothing.
 */
import { DivanError } from '../errors.js';
import { type CommitRecord, decodeRecord, RECORD_BYTES, recordEnd } from './commit-record.js';
import { checksumOfRange, readUpTo, SteadyReader } from './file-reader.js';
import {
  DATA_START,
  decodeFirstBlock,
  decodeWitness,
  type FirstBlock,
  recordMark,
  type Witness,
} from './first-block.js';
import { checksum } from './ref.js';
import type { StorageFile } from './storage.js';

const SEARCH_BYTES = 1024 * 1024;

export interface Recovered {
  /** The bytes before the first commit, as they were read before the newest one was searched for. */
  readonly head: Uint8Array;
  readonly block: FirstBlock;
  readonly witness: Witness;
  readonly newest: CommitRecord;
  /** The change lists of the commits to replay, oldest first. */
  readonly replay: ReplayList;
}

/** Refs of change lists, packed: there can be a million. */
export class ReplayList {
  #values = new Float64Array(48);
  #count = 0;

  get length(): number {
    return this.#count;
  }

  add(pos: number, length: number, crc: number): void {
    const at = this.#count * 3;
    if (at === this.#values.length) {
      const grown = new Float64Array(at * 2);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values[at] = pos;
    this.#values[at + 1] = length;
    this.#values[at + 2] = crc;
    this.#count++;
  }

  at(index: number): { readonly pos: number; readonly length: number; readonly crc: number } {
    const [pos = 0, length = 0, crc = 0] = this.#values.subarray(index * 3, index * 3 + 3);
    return { pos, length, crc };
  }
}

/**
 * Reads what a file holds as of its newest valid commit.
 * Throws `NOT_A_SHARD`, `FORMAT_VERSION`, `CORRUPT`, `NO_COMMIT`, `TRUNCATED` or `IO`.
 */
export async function recover(file: StorageFile, forWriting: boolean): Promise<Recovered> {
  const head = await readUpTo(file, 0, DATA_START);
  const block = decodeFirstBlock(head, file.path, forWriting);
  const witness = decodeWitness(head, block);
  const search = new Search(file, block, witness);
  const newest = await search.newest(await file.size());
  if (newest === undefined) {
    throw new DivanError('NO_COMMIT', `${file.path} holds no valid commit`, { path: file.path });
  }
  if (recordEnd(newest) < witness.length) throw truncated(file.path, newest, witness);
  return { head, block, witness, newest, replay: await recordsToReplay(file, block, newest) };
}

function truncated(path: string, newest: CommitRecord, witness: Witness): DivanError {
  const end = recordEnd(newest);
  return new DivanError(
    'TRUNCATED',
    `${path} was at least ${witness.length} bytes long, but its newest valid commit ends at ${end}`,
    { path, pos: end, expected: witness.length, actual: end },
  );
}

/** Step 2: finds the newest commit that is whole and not stale. */
class Search {
  readonly #file: StorageFile;
  readonly #mark: Buffer;
  readonly #witness: Witness;

  constructor(file: StorageFile, block: FirstBlock, witness: Witness) {
    this.#file = file;
    this.#mark = recordMark(block);
    this.#witness = witness;
  }

  /** Throws `CORRUPT` if a commit that a torn one vouches for is not whole. */
  async newest(size: number): Promise<CommitRecord | undefined> {
    let vouchedEnd = 0;
    let end = size;
    for (;;) {
      const candidate = await this.#candidate(end);
      if (candidate === undefined) return undefined;
      if (!(await this.#isStale(candidate))) {
        if (await this.#isWhole(candidate)) {
          if (recordEnd(candidate) >= vouchedEnd) return candidate;
          throw damaged(this.#file.path, vouchedEnd - RECORD_BYTES, 'a commit before a torn one');
        }
        // Its record was written after the sync of the commit before it (I2), which so must be there.
        if (candidate.previousPos > 0) {
          vouchedEnd = Math.max(vouchedEnd, candidate.previousPos + RECORD_BYTES);
        }
      }
      // The rejected record may be a forgery of rotten bytes, so no more than it is passed over.
      end = candidate.pos + RECORD_BYTES - 1;
    }
  }

  /** The last valid record that ends at or before `end`. */
  async #candidate(end: number): Promise<CommitRecord | undefined> {
    let upper = end;
    while (upper - RECORD_BYTES >= DATA_START) {
      const lower = Math.max(DATA_START, upper - SEARCH_BYTES);
      const bytes = await readUpTo(this.#file, lower, upper - lower);
      const record = this.#lastRecordIn(bytes, lower);
      if (record !== undefined || lower === DATA_START) return record;
      // The next window overlaps this one, so that no record is cut in two by their border.
      upper = lower + RECORD_BYTES - 1;
    }
    return undefined;
  }

  #lastRecordIn(bytes: Buffer, pos: number): CommitRecord | undefined {
    for (let last = bytes.length - RECORD_BYTES; last >= 0; last--) {
      last = bytes.lastIndexOf(this.#mark, last);
      if (last < 0) return undefined;
      const record = decodeRecord(bytes, last, this.#mark, pos + last);
      if (record !== undefined) return record;
    }
    return undefined;
  }

  async #isWhole(record: CommitRecord): Promise<boolean> {
    return (await checksumOfRange(this.#file, record.start, record.pos)) === record.contentCrc;
  }

  /**
   * True for a leftover of a torn tail that an earlier recovery cut off: that recovery then wrote a witness of a higher
   * generation, and an open record exactly where the record before ends (I7).
   */
  async #isStale(record: CommitRecord): Promise<boolean> {
    const { length, generation } = this.#witness;
    if (record.pos >= length && record.generation < generation) return true;
    if (record.previousPos === 0) return false;
    const pos = record.previousPos + RECORD_BYTES;
    const rival = decodeRecord(await readUpTo(this.#file, pos, RECORD_BYTES), 0, this.#mark, pos);
    return (
      rival !== undefined &&
      rival.kind === 'open' &&
      rival.generation > record.generation &&
      rival.previousPos === record.previousPos &&
      rival.previousCrc === record.previousCrc
    );
  }
}

/** Step 3: the records from the newest one's `replay_from` on, checked against those that name them. */
async function recordsToReplay(
  file: StorageFile,
  block: FirstBlock,
  newest: CommitRecord,
): Promise<ReplayList> {
  const mark = recordMark(block);
  const reader = new SteadyReader(file);
  const newestFirst = new ReplayList();
  let record = newest;
  while (record.pos >= newest.replayFrom) {
    const { changesLength, changesCrc } = record;
    if (changesLength > 0) newestFirst.add(record.pos - changesLength, changesLength, changesCrc);
    if (record.previousPos === 0 || record.previousPos < newest.replayFrom) break;
    const pos = record.previousPos;
    const previous = decodeRecord(await reader.read(pos, RECORD_BYTES), 0, mark, pos);
    if (previous === undefined || previous.crc !== record.previousCrc) {
      throw damaged(file.path, pos, 'a commit record');
    }
    record = previous;
  }
  const oldestFirst = new ReplayList();
  for (let index = newestFirst.length - 1; index >= 0; index--) {
    const { pos, length, crc } = newestFirst.at(index);
    oldestFirst.add(pos, length, crc);
  }
  return oldestFirst;
}

/** Step 4: the change lists to replay, oldest first, each read while the one before it is used. Throws `CORRUPT`. */
export async function* changeListsToReplay(
  file: StorageFile,
  { replay }: Recovered,
): AsyncGenerator<Uint8Array> {
  const reader = new SteadyReader(file);
  const read = (index: number): Promise<Uint8Array> => {
    const { pos, length } = replay.at(index);
    return reader.read(pos, length);
  };
  let next = replay.length > 0 ? read(0) : undefined;
  for (let index = 0; next !== undefined; index++) {
    const { pos, length, crc } = replay.at(index);
    const changes = await next;
    if (changes.length < length || checksum(changes) !== crc) {
      throw damaged(file.path, pos, 'a change list');
    }
    next = index + 1 < replay.length ? read(index + 1) : undefined;
    // Whoever stops early does not wait for the read that failed; whoever goes on hears of it.
    next?.catch(() => undefined);
    yield changes;
  }
}

function damaged(path: string, pos: number, what: string): DivanError {
  return new DivanError('CORRUPT', `${path}: ${what} at ${pos} is damaged`, { path, pos });
}
