/**
 * The append-only file: the one place that decides where bytes go and in which order they are made durable.
 * Implements the writing side of FORMAT.md sections 6 and 7 and guards I1 to I8.
 *
 * States: open -> failed (after a write or sync failed; only reads and close are left, I6) -> closed.
 * One writer at a time holds the lock. Reading is safe at any time; `reserve`, `write`, `commit` may overlap: commits queue in the order of calls.
 */
import assert from 'node:assert';
import { dirname } from 'node:path';
import { DivanError } from '../errors.js';
import { writeU32 } from './bytes.js';
import {
  type CommitRecord,
  decodeRecord,
  encodeRecord,
  RECORD_BYTES,
  type RecordKind,
  recordEnd,
} from './commit-record.js';
import { readRun, readUpTo } from './file-reader.js';
import {
  DATA_START,
  decodeFirstBlock,
  encodeFirstBlock,
  encodeWitness,
  type FirstBlock,
  recordMark,
  runMark,
  type Witness,
} from './first-block.js';
import { lock } from './lock.js';
import { publishFile } from './publish.js';
import { type Recovered, recover } from './recovery.js';
import { checksum, FILE_LENGTH_MAX, type FilePos, filePos, type Ref } from './ref.js';
import type { Storage, StorageFile } from './storage.js';

/** The salvage frame before tree nodes and states: run mark, length, CRC-32. */
export const RUN_FRAME_BYTES = 12;

const NO_STATE: Ref = { pos: filePos(0), length: 0, crc: 0, codec: 0 };
const NO_WITNESS: Witness = { count: -1, length: filePos(0), generation: 0 };

/** The state that a flush ends with. */
export interface FlushedState {
  readonly ref: Ref;
  readonly replayFrom: FilePos;
}

/** A commit that is laid out and has its place. */
export interface CommitInput {
  /** Bodies, then the change list, then `RECORD_BYTES` bytes of room for the record. */
  readonly bytes: Uint8Array;
  /** From `reserve(bytes.length)`. */
  readonly start: FilePos;
  readonly changesLength: number;
  /** True if it refers to bytes that were written outside it since the last commit: they are synced first (I4). */
  readonly foreign: boolean;
  /** Present exactly in the commit of a flush. */
  readonly state?: FlushedState;
}

/** What a file that nobody can use any more says when it is closed concerns nobody. */
const retired = new FinalizationRegistry((file: StorageFile) => file.close().catch(() => {}));

export class AppendFile {
  readonly block: FirstBlock;
  readonly #storage: Storage;
  readonly #file: StorageFile;
  readonly #mark: Buffer;
  readonly #runMark: Buffer;
  /** The newest durable commit; undefined in a file that is being born. */
  #newest: CommitRecord | undefined;
  #witness: Witness;
  #end: FilePos;
  #generation: number;
  #failure: unknown;
  #closed = false;
  #path: string;
  /** Told of every write that has returned. Must not throw. */
  onWritten: ((pos: number, length: number) => void) | undefined;
  /** Writes that have not returned yet. */
  readonly #outstanding = new Set<Promise<void>>();
  /** Settles when the commit that was asked for last is done; never rejects. */
  #commits: Promise<void> = Promise.resolve();

  private constructor(storage: Storage, file: StorageFile, block: FirstBlock, witness: Witness) {
    this.#storage = storage;
    this.#file = file;
    this.block = block;
    this.#path = file.path;
    this.#mark = recordMark(block);
    this.#runMark = runMark(block);
    this.#witness = witness;
    this.#end = DATA_START;
    this.#generation = 1;
  }

  /**
   * Begins a new file under a temporary name, without any commit yet. Its first commit must carry a state; then
   * `publish` gives it its name. With `locked` it is locked from its birth; `like` is as for `Storage.open`.
   */
  static async begin(
    storage: Storage,
    path: string,
    block: FirstBlock,
    locked: boolean,
    like?: string,
  ): Promise<AppendFile> {
    const file = await storage.open(path, 'create', like);
    const appendFile = new AppendFile(storage, file, block, NO_WITNESS);
    try {
      if (locked) await lock(storage, file, path);
      await appendFile.write(encodeFirstBlock(block), filePos(0));
    } catch (error) {
      await file.close();
      throw error;
    }
    return appendFile;
  }

  /**
   * Goes on with a file that `begin` began and that may be cut off behind `length`, where whatever follows was not vouched for.
   * Throws `CORRUPT` or `NOT_A_SHARD` if it is not that file or is shorter, and `NOT_FOUND`.
   */
  static async resume(
    storage: Storage,
    path: string,
    block: FirstBlock,
    length: FilePos,
  ): Promise<AppendFile> {
    const file = await storage.open(path, 'write');
    try {
      const found = decodeFirstBlock(await readUpTo(file, 0, DATA_START), path, true);
      const same =
        Buffer.compare(found.fileId, block.fileId) === 0 &&
        Buffer.compare(found.salt, block.salt) === 0;
      if (!same || (await file.size()) < length) {
        throw new DivanError('CORRUPT', `${path} is not the file that was begun`, { path });
      }
      await file.truncate(length);
    } catch (error) {
      await file.close();
      throw error;
    }
    const resumed = new AppendFile(storage, file, block, NO_WITNESS);
    resumed.#end = length;
    // The witnesses of a first commit that was cut off go, too.
    await resumed.write(encodeFirstBlock(block), filePos(0));
    return resumed;
  }

  /**
   * Opens a file for writing: takes the lock, recovers (FORMAT.md section 7, steps 1 to 7) and begins a generation.
   * `load` reads what the caller needs of the recovered file before anything in it is changed.
   * Throws what `recover` and `load` throw, and `NOT_FOUND`, `LOCKED`, `REPLACED`.
   */
  static async openForWriting<T>(
    storage: Storage,
    path: string,
    load: (file: StorageFile, recovered: Recovered) => Promise<T>,
  ): Promise<{ file: AppendFile; loaded: T }> {
    const file = await storage.open(path, 'write');
    try {
      await lock(storage, file, path);
      const recovered = await recover(file, true);
      const loaded = await load(file, recovered);
      // A crash may have come between the birth of the file and the sync of its name.
      await storage.syncDirectory(dirname(path));
      const opened = new AppendFile(storage, file, recovered.block, recovered.witness);
      await opened.#beginGeneration(recovered.newest);
      return { file: opened, loaded };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get path(): string {
    return this.#path;
  }

  /** Where the next reserved byte will stand. */
  get end(): FilePos {
    return this.#end;
  }

  /** The newest durable commit. REQUIRES: the file has one. */
  get newest(): CommitRecord {
    assert(this.#newest !== undefined, 'the file has no commit yet');
    return this.#newest;
  }

  /** True once a write or sync has failed: the file must be opened again. */
  get failed(): boolean {
    return this.#failure !== undefined;
  }

  /** Throws `CLOSED` or `FAILED`. */
  assertWritable(): void {
    if (this.#closed) throw new DivanError('CLOSED', `${this.path} is closed`, { path: this.path });
    if (this.#failure === undefined) return;
    throw new DivanError(
      'FAILED',
      `${this.path} must be opened again: an earlier write failed`,
      { path: this.path },
      this.#failure,
    );
  }

  /** Sets `length` bytes at the end of the file aside for the caller, who alone may write them. Throws `LIMIT`. */
  reserve(length: number): FilePos {
    this.assertWritable();
    const pos = this.#end;
    if (pos + length > FILE_LENGTH_MAX) {
      throw new DivanError('LIMIT', `${this.path} would grow beyond 2^48 bytes`, {
        path: this.path,
      });
    }
    this.#end = filePos(pos + length);
    return pos;
  }

  /** Gives back the unused rest of what was reserved last; does nothing if something was reserved after it. */
  giveBack(pos: FilePos, end: FilePos): void {
    if (this.#end === end) this.#end = pos;
  }

  /** Writes all of `bytes` into a reserved place. After an error the file is failed. */
  async write(bytes: Uint8Array, pos: FilePos): Promise<void> {
    this.assertWritable();
    const done = this.#writeAll(bytes, pos);
    const returned = done.catch(() => undefined);
    this.#outstanding.add(returned);
    try {
      await done;
    } finally {
      this.#outstanding.delete(returned);
    }
  }

  async #writeAll(bytes: Uint8Array, pos: FilePos): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; ) {
        done += await this.#file.write(bytes.subarray(done), pos + done);
      }
      this.onWritten?.(pos, bytes.length);
    } catch (error) {
      throw this.fail(error);
    }
  }

  /** Makes everything whose `write` has resolved durable. After an error the file is failed. */
  async sync(): Promise<void> {
    this.assertWritable();
    await this.#orFail(this.#file.sync());
  }

  /** Reads and checks the run of a ref. The result belongs to the caller. Throws `CHECKSUM`, `IO`, `CLOSED`. */
  read(ref: Ref): Promise<Buffer> {
    if (this.#closed) throw new DivanError('CLOSED', `${this.path} is closed`, { path: this.path });
    return readRun(this.#file, ref, this.#end);
  }

  /** Reads bytes that the caller checks, fewer where the file ends or the system gives fewer at a time. Throws `IO`, `CLOSED`. */
  readInto(into: Uint8Array, pos: number): Promise<number> {
    return this.#file.read(into, pos);
  }

  /** Puts the salvage frame for a run of `length` bytes before it: `bytes[at, at + RUN_FRAME_BYTES)`. */
  frame(bytes: Uint8Array, at: number, length: number, crc: number): void {
    bytes.set(this.#runMark, at);
    writeU32(bytes, at + 4, length);
    writeU32(bytes, at + 8, crc);
  }

  /** Appends a run and returns its ref; it is durable after the next commit with `foreign`. */
  async appendRun(run: Uint8Array): Promise<Ref> {
    const pos = this.reserve(run.length);
    await this.write(run, pos);
    return { pos, length: run.length, crc: checksum(run), codec: 0 };
  }

  /** Appends a framed run of its own and returns its ref; it is durable after the next commit with `foreign`. */
  async appendFramed(run: Uint8Array): Promise<Ref> {
    const crc = checksum(run);
    const bytes = Buffer.allocUnsafe(RUN_FRAME_BYTES + run.length);
    this.frame(bytes, 0, run.length, crc);
    bytes.set(run, RUN_FRAME_BYTES);
    const pos = this.reserve(bytes.length);
    await this.write(bytes, pos);
    return { pos: filePos(pos + RUN_FRAME_BYTES), length: run.length, crc, codec: 0 };
  }

  /** Makes one commit durable; when it resolves, the commit may be acknowledged (I5). */
  commit(input: CommitInput): Promise<void> {
    const kind = input.state === undefined ? 'changes' : 'flush';
    return this.#inTurn(() => this.#writeCommit(kind, input));
  }

  /** Vouches for all commits so far with a seal, unless the newest record is one already. */
  seal(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.newest.kind === 'seal') return;
      await this.#writeMarker('seal');
    });
  }

  /** Gives a newly begun file its name. REQUIRES: it has its first commit. Throws `EXISTS`. */
  async publish(path: string): Promise<void> {
    assert(this.#newest !== undefined, 'a file is published after its first commit');
    await publishFile(this.#storage, this.#path, path);
    this.#path = path;
    this.#file.renamed(path);
  }

  /** Takes the place of the file that `path` names, in one step that `syncName` makes durable. Throws `IO`, with nothing changed. */
  async takeName(path: string): Promise<void> {
    await this.#storage.rename(this.#path, path);
    this.#path = path;
    this.#file.renamed(path);
  }

  /** Makes the name durable. After an error the file is failed: which file the name is of after a crash is not known. */
  async syncName(): Promise<void> {
    await this.#orFail(this.#storage.syncDirectory(dirname(this.#path)));
  }

  /**
   * For a file whose place another one has taken: closes it, and so frees its room, once nobody can read it: when this object is garbage.
   */
  retire(): void {
    retired.register(this, this.#file);
  }

  /**
   * Closes the file, which frees the lock, once commits under way and every write have returned: a write that came later
   * could land on what another handle has put in its place. Safe to call again.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#commits;
    this.#closed = true;
    await Promise.all(this.#outstanding);
    await this.#file.close();
  }

  #inTurn(run: () => Promise<void>): Promise<void> {
    const done = this.#commits.then(run);
    this.#commits = done.catch(() => undefined);
    return done;
  }

  async #writeCommit(kind: RecordKind, input: CommitInput): Promise<void> {
    this.assertWritable();
    if (input.foreign) await this.sync();
    const pos = filePos(input.start + input.bytes.length - RECORD_BYTES);
    const content = input.bytes.subarray(0, input.bytes.length - RECORD_BYTES);
    const previous = this.#newest;
    const record = encodeRecord(input.bytes, content.length, this.#mark, {
      kind,
      generation: this.#generation,
      pos,
      start: input.start,
      ...this.#previousFields(),
      durable: input.foreign || previous === undefined ? input.start : recordEnd(previous),
      replayFrom: input.state?.replayFrom ?? previous?.replayFrom ?? DATA_START,
      changesLength: input.changesLength,
      changesCrc: checksum(content.subarray(content.length - input.changesLength)),
      contentCrc: checksum(content),
      state: input.state?.ref ?? previous?.state ?? NO_STATE,
    });
    if (kind === 'flush' && previous !== undefined) await this.#writeWitness(previous);
    await this.write(input.bytes, input.start);
    await this.sync();
    this.#newest = record;
  }

  #previousFields(): { previousPos: FilePos; previousCrc: number } {
    return { previousPos: this.#newest?.pos ?? filePos(0), previousCrc: this.#newest?.crc ?? 0 };
  }

  /** Writes a commit without content. REQUIRES: the newest commit is durable. */
  async #writeMarker(kind: 'seal' | 'open'): Promise<void> {
    const pos = this.reserve(RECORD_BYTES);
    const bytes = new Uint8Array(RECORD_BYTES);
    const { replayFrom, state } = this.newest;
    const record = encodeRecord(bytes, 0, this.#mark, {
      kind,
      generation: this.#generation,
      pos,
      start: pos,
      ...this.#previousFields(),
      durable: recordEnd(this.newest),
      replayFrom,
      changesLength: 0,
      changesCrc: 0,
      contentCrc: 0,
      state,
    });
    await this.#writeWitness(this.newest);
    await this.write(bytes, pos);
    await this.sync();
    this.#newest = record;
  }

  /** Names the end of `commit` in the older slot. REQUIRES: it is durable (I8). Synced with what is written next. */
  async #writeWitness(commit: CommitRecord): Promise<void> {
    const count = (this.#witness.count + 1) % 0x1_0000_0000;
    this.#witness = { count, length: recordEnd(commit), generation: this.#generation };
    const { pos, bytes } = encodeWitness(this.block, this.#witness);
    await this.write(bytes, pos);
  }

  /** Steps 5 to 7: what was found is made durable before anything is served or written after it. */
  async #beginGeneration(newest: CommitRecord): Promise<void> {
    const end = recordEnd(newest);
    const tail = await readUpTo(this.#file, newest.start, end - newest.start);
    // What is written must be what was verified: the first reading may have come from pages that are gone since.
    const record = decodeRecord(tail, newest.pos - newest.start, this.#mark, newest.pos);
    if (
      record?.crc !== newest.crc ||
      checksum(tail.subarray(0, -RECORD_BYTES)) !== newest.contentCrc
    ) {
      const { path } = this;
      throw new DivanError('CORRUPT', `${path}: the newest commit changed while it was read`, {
        path,
        pos: newest.pos,
      });
    }
    await this.write(tail, newest.start);
    await this.sync();
    await this.#orFail(this.#file.truncate(end));
    await this.sync();
    this.#newest = newest;
    this.#end = end;
    this.#generation = newest.generation + 1;
    await this.#writeMarker('open');
  }

  /** Fails the file if what was begun fails. */
  #orFail(begun: Promise<void>): Promise<void> {
    return begun.catch((error: unknown) => Promise.reject(this.fail(error)));
  }

  /** Fails the file. Returns the error. */
  fail(error: unknown): unknown {
    this.#failure ??= error;
    return error;
  }
}
