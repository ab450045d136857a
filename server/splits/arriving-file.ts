/** The file of a shard that is on its way to this node: bytes of it come in any order, are compared, and looked through. */
import { createHash } from 'node:crypto';
import { dirname } from 'node:path';
import { DivanError, type ErrorCode, isDivanError } from '../../engine/errors.js';
import type { StorageFile } from '../../engine/file/storage.js';
import { checkFile } from '../../engine/rewrite/check-file.js';
import { PIECE_BYTES, piecesOf, type Stretch } from '../../engine/rewrite/file-copy.js';
import { makeDirectory } from '../durable-names.js';
import type { ServerWorld } from '../world.js';

/** Hashes of so many pieces at once. */
export const HASHES_MAX = 64;
const CHECK_WAIT_MS = 500;
/** Failures of a check that say nothing of the shard. */
const OF_OTHERS: ReadonlySet<ErrorCode> = new Set(['ABORTED', 'IO', 'WORKER']);

export class ArrivingFile {
  readonly #world: ServerWorld;
  readonly #file: StorageFile;
  readonly #workers: number | undefined;
  readonly #closing = new AbortController();
  #checking: Promise<string | undefined> | undefined;

  private constructor(world: ServerWorld, file: StorageFile, workers: number | undefined) {
    this.#world = world;
    this.#file = file;
    this.#workers = workers;
  }

  /**
   * Opens what there is, or makes it; its name is durable when it resolves. `workers`: threads that look through it, 0 for the calling one. Throws
   * what the disk throws.
   */
  static async open(
    world: ServerWorld,
    path: string,
    workers: number | undefined,
  ): Promise<ArrivingFile> {
    const { storage } = world;
    await makeDirectory(storage, dirname(path));
    const isThere = (await storage.identity(path)) !== undefined;
    const file = await storage.open(path, isThere ? 'write' : 'create');
    await storage.syncDirectory(dirname(path));
    return new ArrivingFile(world, file, workers);
  }

  size(): Promise<number> {
    return this.#file.size();
  }

  /** Writes what stands at a stretch. Throws `BAD_REQUEST` if it is not as long, and what the disk throws. */
  async write({ from, to }: Stretch, body: AsyncIterable<Uint8Array>): Promise<void> {
    let pos = from;
    for await (const bytes of body) {
      // What is not asked for must not fill the disk.
      if (bytes.length > to - pos) throw new DivanError('BAD_REQUEST', 'too many bytes of a shard');
      for (let done = 0; done < bytes.length; ) {
        done += await this.#file.write(bytes.subarray(done), pos + done);
      }
      pos += bytes.length;
    }
    if (pos !== to) throw new DivanError('BAD_REQUEST', 'the bytes of a shard were cut off');
  }

  sync(): Promise<void> {
    return this.#file.sync();
  }

  /** Of the pieces of a stretch. Throws `BAD_REQUEST` if they are too many. */
  async hashes(stretch: Stretch): Promise<string[]> {
    if (stretch.to - stretch.from > HASHES_MAX * PIECE_BYTES) {
      throw new DivanError('BAD_REQUEST', 'so many bytes are not compared at once');
    }
    const hashes: string[] = [];
    for (const { from, to } of piecesOf(stretch)) {
      hashes.push(hashOfPiece(await readPiece(this.#file, from, to - from)));
      await this.#world.host.yieldTurn();
    }
    return hashes;
  }

  /**
   * Looks through the whole shard, in the background: undefined if that is not done yet, else what is wrong, in a text that is empty if nothing is.
   * To be asked again. Throws what is none of the shard's: `IO`, `WORKER`, `ABORTED`.
   */
  async check(): Promise<string | undefined> {
    this.#checking ??= this.#checked();
    // It may fail while nobody asks.
    this.#checking.catch(() => undefined);
    let cancel = () => {};
    const soon = new Promise<undefined>((resolve) => {
      cancel = this.#world.host.setTimer(() => resolve(undefined), CHECK_WAIT_MS);
    });
    let isOver = true;
    try {
      const problem = await Promise.race([this.#checking, soon]);
      isOver = problem !== undefined;
      return problem;
    } finally {
      cancel();
      if (isOver) this.#checking = undefined;
    }
  }

  async #checked(): Promise<string> {
    try {
      const options = { workers: this.#workers, signal: this.#closing.signal };
      const first = await checkFile(this.#world, this.#file.path, options);
      return first === undefined ? '' : described(first.text, first.pos);
    } catch (error) {
      if (!isDivanError(error) || OF_OTHERS.has(error.code)) throw error;
      return described(error.message, error.facts.pos);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#checking?.catch(() => undefined);
    await this.#file.close();
  }
}

function described(text: string, pos: number | undefined): string {
  return pos === undefined ? text : `${text}, offset ${pos}`;
}

/** Reads up to so many bytes, fewer at the end of the file. */
export async function readPiece(
  file: StorageFile,
  pos: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = Buffer.alloc(length);
  let done = 0;
  for (let count = -1; done < length && count !== 0; ) {
    count = await file.read(bytes.subarray(done), pos + done);
    done += count;
  }
  return bytes.subarray(0, done);
}

export function hashOfPiece(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64');
}
