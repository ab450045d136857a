/**
 * Copying a shard file to elsewhere, byte by byte, while it goes on being written. A file up to the end of a durable commit is a whole file
 * (FORMAT.md section 1), with the witnesses as they were before, and is the same file to all who have seqs of it.
 *
 * Places before that end may not be written yet: tree nodes of a running flush, pieces of attachments. No commit before names them, and a
 * write tells when it has returned; so what is written later is copied again.
 */
import { RECORD_BYTES } from '../file/commit-record.js';
import { DATA_START } from '../file/first-block.js';
import type { Shard } from '../shard/shard.js';

/** Bytes are read, sent and compared in pieces of this length. */
export const PIECE_BYTES = 1024 * 1024;
/** More places that were written late are taken together. */
const LATE_MAX = 1024;

/** A commit as whose end the copy is whole. */
export interface CopiedCommit {
  /** Of the whole file. */
  readonly length: number;
  /** Of the commit record. */
  readonly crc: number;
}

export interface Stretch {
  readonly from: number;
  readonly to: number;
}

export type SendPiece = (pos: number, bytes: Uint8Array) => Promise<void>;

export class FileCopy {
  readonly #shard: Shard;
  /** Up to where the copy has what was written by then. */
  #copied: number;
  /** What was written before that since. */
  #late: Stretch[] = [];

  /**
   * REQUIRES: `close` is called, the file is not exchanged before, and nobody else copies it. The copy has something up to `copied`, which is
   * compared by the caller.
   */
  constructor(shard: Shard, copied: number) {
    this.#shard = shard;
    this.#copied = Math.max(DATA_START, Math.min(copied, this.end));
    shard.file.onWritten = (pos, length) => this.#written(pos, pos + length);
  }

  /** The end of the newest durable commit. */
  get end(): number {
    return this.#shard.file.newest.pos + RECORD_BYTES;
  }

  get copied(): number {
    return this.#copied;
  }

  /** How many bytes the copy lacks. */
  get behind(): number {
    const late = this.#late.reduce((sum, { from, to }) => sum + to - from, 0);
    return Math.max(0, this.end - this.#copied) + late;
  }

  close(): void {
    this.#shard.file.onWritten = undefined;
  }

  /**
   * Sends all that the copy lacks of the newest commit, and returns that. Throws what reading and sending throw; then the copy is not to be
   * gone on with.
   */
  async round(send: SendPiece): Promise<CopiedCommit> {
    // The witnesses first: they must not name more than is copied.
    const head = await this.read({ from: 0, to: DATA_START });
    const { pos, crc } = this.#shard.file.newest;
    const length = pos + RECORD_BYTES;
    const late = this.#late;
    this.#late = [];
    const from = this.#copied;
    // What is written there from now on is late.
    this.#copied = Math.max(from, length);
    for (const stretch of [...late, { from, to: length }]) {
      for (const piece of piecesOf(stretch)) await send(piece.from, await this.read(piece));
    }
    await send(0, head);
    return { length, crc };
  }

  /** Reads what stands in the file. Throws `IO`. */
  async read({ from, to }: Stretch): Promise<Uint8Array> {
    const bytes = Buffer.alloc(to - from);
    for (let done = 0; done < bytes.length; ) {
      const count = await this.#shard.file.readInto(bytes.subarray(done), from + done);
      // What is beyond the end of the file was set aside and is not written yet.
      if (count === 0) break;
      done += count;
    }
    return bytes;
  }

  #written(from: number, to: number): void {
    if (from < DATA_START || from >= this.#copied) return;
    const last = this.#late.at(-1);
    const clipped = Math.min(to, this.#copied);
    if (last !== undefined && (last.to === from || this.#late.length >= LATE_MAX)) {
      this.#late[this.#late.length - 1] = {
        from: Math.min(last.from, from),
        to: Math.max(last.to, clipped),
      };
    } else this.#late.push({ from, to: clipped });
  }
}

/** In their order, each at most `PIECE_BYTES` long. */
export function* piecesOf({ from, to }: Stretch): Generator<Stretch, void> {
  for (let at = from; at < to; at += PIECE_BYTES)
    yield { from: at, to: Math.min(at + PIECE_BYTES, to) };
}
