/**
 * A slot stands for one shard file. Whoever uses it holds it meanwhile; a slot that is held is not closed. A shard whose file failed (I6 of
 * FORMAT.md) still reads; the next write opens it anew, so it comes back by itself once the disk has recovered.
 *
 * Lifecycle: in use -> (suspended) -> retired, when the documents are in other files: who holds it reads on, and it takes no more writes ->
 * gone, when nobody holds it any more and the file is closed. Or in use -> dropped, when the database is deleted or the pool is closed.
 */
import assert from 'node:assert';
import { setMaxListeners } from 'node:events';
import { dirname } from 'node:path';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { ReadOnlyShard } from '../../engine/shard/read-only-shard.js';
import { Shard } from '../../engine/shard/shard.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { ShardPool } from './shard-pool.js';

/** A failed shard is not opened anew more often than this. */
const REOPEN_AFTER_MS = 1000;
/** Nor while its disk has less room than this. */
const REOPEN_FREE_BYTES = 1024 * 1024;
/** Before, nobody is let in for so long, that all may leave. Not for longer: one who is in may wait for one who is not. */
const DOOR_MS_MAX = 500;

/** What can be read of a shard. */
export interface ShardReader {
  snapshot(): Snapshot;
}

export class ShardSlot {
  readonly path: string;
  /** When it was used last, by `host.now`. */
  usedAt = 0;
  /** How many compactions are under way or wait for their turn. */
  compactions = 0;
  readonly #pool: ShardPool;
  #shard: Shard | undefined;
  /** Stands in for a failed shard that could not be opened for writing. */
  #readOnly: ReadOnlyShard | undefined;
  #changing: Promise<void> | undefined;
  #reopening: Promise<void> | undefined;
  /** Resolves when users are let in again. */
  #door: Promise<void> | undefined;
  #uses = 0;
  #idle: (() => void)[] = [];
  #dropped = false;
  #retired = false;
  /** Retired and closed. */
  #closed = false;
  /** Why it takes no writes until it is retired or resumed. */
  #suspension: DivanError | undefined;
  /** Until then, by `host.now`, writes wait for that to end. */
  #suspendedUntil = 0;
  #suspendedWrites = new Set<() => void>();
  #rewriting: Promise<void> | undefined;
  #triedAt = Number.NEGATIVE_INFINITY;
  #lastError: unknown;
  /** Aborted when the shard must be closed. */
  #ending = newEnding();
  readonly #listeners = new Set<() => void>();
  #stopListening: (() => void) | undefined;

  constructor(pool: ShardPool, path: string) {
    this.#pool = pool;
    this.path = path;
  }

  /** True once the database is deleted or the pool is closed. */
  get isDropped(): boolean {
    return this.#dropped;
  }

  /** True once its documents are in other files. */
  get isRetired(): boolean {
    return this.#retired;
  }

  /** Holds it until the returned function is called: what can be read stays so. Throws `NOT_FOUND` once dropped. */
  keep(): () => void {
    this.#hold();
    return () => this.#release();
  }

  /** How long the file is, in bytes. Opens nothing. */
  async fileBytes(): Promise<number> {
    if (this.#shard !== undefined) return this.#shard.file.end;
    try {
      return await this.#fileSize();
    } catch (error) {
      throw this.#dropped ? gone() : error;
    }
  }

  async #fileSize(): Promise<number> {
    const file = await this.#pool.world.storage.open(this.path, 'read');
    try {
      return await file.size();
    } finally {
      await file.close();
    }
  }

  /** Calls `work` with the shard for reading and holds it open meanwhile. Throws `NOT_FOUND` once dropped, and what opening throws. */
  async read<T>(work: (reader: ShardReader) => Promise<T>): Promise<T> {
    if (this.#door !== undefined) await this.#door;
    this.#hold();
    try {
      const reader = this.#shard ?? this.#readOnlyReader() ?? (await this.#opened());
      return await work(reader);
    } finally {
      this.#release();
    }
  }

  /** As `read`, for work that gives its results one by one; the shard is held open until the last was taken, or no more is wanted. */
  async *readEach<T>(work: (reader: ShardReader) => AsyncIterable<T>): AsyncGenerator<T, void> {
    if (this.#door !== undefined) await this.#door;
    this.#hold();
    try {
      yield* work(this.#shard ?? this.#readOnlyReader() ?? (await this.#opened()));
    } finally {
      this.#release();
    }
  }

  /**
   * As `read`, for writing: a shard that failed is opened anew first. Work that takes long has to end soon when `ending` is aborted:
   * then the shard is to be closed. If the slot is retired, `again` is called instead, or when `work` rejects with `MOVED` because of
   * that; what can be read stays so meanwhile.
   */
  async write<T>(
    work: (shard: Shard, ending: AbortSignal) => Promise<T>,
    again: () => Promise<T> = () => Promise.reject(this.#moved()),
  ): Promise<T> {
    if (this.#suspension !== undefined && !this.#retired) await this.#unsuspended();
    if (this.#shard === undefined || this.#shard.file.failed) await this.#reopen();
    if (this.#retired) return again();
    this.#hold();
    try {
      const shard = this.#shard ?? (await this.#openedShard());
      // One that was opened just now knows nothing of that.
      if (this.#retired) throw this.#moved();
      return await work(shard, this.#ending.signal);
    } catch (error) {
      if (!this.#retired || !isDivanError(error, 'MOVED')) throw error;
      return await again();
    } finally {
      this.#release();
    }
  }

  /** Holds a shard open until the returned function is called; undefined if it is not the one that is open, or is about to be closed. */
  hold(shard: Shard): (() => void) | undefined {
    if (this.#shard !== shard || this.#changing !== undefined) return undefined;
    if (this.#dropped || this.#retired) return undefined;
    return this.keep();
  }

  /**
   * Has a rewrite of the file exclude all others until the returned function is called; undefined while another one goes on, and when the
   * slot is retired.
   */
  beginRewrite(): (() => void) | undefined {
    if (this.#rewriting !== undefined || this.#retired) return undefined;
    let end = () => {};
    this.#rewriting = new Promise((resolve) => {
      end = resolve;
    });
    return () => {
      this.#rewriting = undefined;
      end();
    };
  }

  /** Resolves when no rewrite goes on; another one may begin before whoever waits for this has its turn. */
  async rewritten(): Promise<void> {
    await this.#rewriting;
  }

  /**
   * Refuses all writes, those that wait too, until it is retired or resumed, with `refusal` if it is given: it is not known whether the
   * documents are in other files when the server starts again, or on another node. Those that come in the next `waitMs` wait for so long at most.
   */
  suspend(cause: unknown, refusal?: DivanError, waitMs = 0): void {
    this.#suspendedUntil = this.#pool.world.host.now() + waitMs;
    this.#suspension =
      refusal ??
      new DivanError(
        'FAILED',
        'no writes until the server is started again: it is not known whether the shard was moved',
        { path: this.path },
        cause,
      );
    this.#shard?.file.fail(this.#suspension);
  }

  /** Why no writes are taken; undefined if they are. */
  get suspension(): DivanError | undefined {
    return this.#suspension;
  }

  /** Takes writes again. */
  resume(): void {
    this.#suspension = undefined;
    this.#wakeSuspended();
  }

  /** Waits for as long as writes may while the slot is suspended. Throws why it is, if it still is then. */
  async #unsuspended(): Promise<void> {
    const { host } = this.#pool.world;
    const leftMs = this.#suspendedUntil - host.now();
    if (leftMs > 0) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          cancelTimer();
          this.#suspendedWrites.delete(wake);
          resolve();
        };
        const cancelTimer = host.setTimer(wake, leftMs);
        this.#suspendedWrites.add(wake);
      });
    }
    if (this.#suspension !== undefined && !this.#retired) throw this.#suspension;
  }

  #wakeSuspended(): void {
    for (const wake of [...this.#suspendedWrites]) wake();
  }

  /** Of `ShardPool`: takes no more writes, and closes when nobody uses it any more. */
  async retire(): Promise<void> {
    this.#retired = true;
    this.#wakeSuspended();
    while (this.#uses > 0) await this.#unused();
    this.#closed = true;
    await this.#change(() => this.#close());
  }

  /** Calls `listener`, which must not throw, when changes have become durable, and when the slot is dropped. Returns what ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Of `ShardPool`: takes a shard that was just made. */
  adopt(shard: Shard): void {
    assert(this.#shard === undefined && !this.#dropped, 'a new file has a new slot');
    this.#take(shard);
  }

  /** Of `ShardPool`: closes it if nobody uses it; false if somebody does. */
  closeIfIdle(): boolean {
    if (this.#uses > 0 || this.#changing !== undefined) return false;
    this.#change(() => this.#closeQuietly());
    return true;
  }

  /** Of `ShardPool`. */
  async drop(): Promise<void> {
    this.#dropped = true;
    this.#wakeSuspended();
    this.#ending.abort(gone());
    this.#tell();
    await this.#unused();
    await this.#change(() => this.#close());
  }

  #readOnlyReader(): ShardReader | undefined {
    const readOnly = this.#readOnly;
    return readOnly === undefined ? undefined : { snapshot: () => readOnly.snapshot };
  }

  async #opened(): Promise<ShardReader> {
    if (this.#changing === undefined) await this.#change(() => this.#openForWriting());
    else await this.#changing;
    return this.#shard ?? this.#readOnlyReader() ?? this.#opened();
  }

  async #openedShard(): Promise<Shard> {
    await this.#opened();
    if (this.#shard !== undefined) return this.#shard;
    throw this.#lastError;
  }

  /** Opens a failed shard anew, once its users are done, unless that was tried a moment ago. */
  async #reopen(): Promise<void> {
    if (this.#changing !== undefined) await this.#changing.catch(() => undefined);
    if (!this.#isFailed) return;
    const now = this.#pool.world.host.now();
    if (now - this.#triedAt < REOPEN_AFTER_MS) throw this.#failure();
    this.#triedAt = now;
    this.#reopening ??= this.#openAnew().finally(() => {
      this.#reopening = undefined;
    });
    await this.#reopening;
    if (this.#shard === undefined) throw this.#failure();
  }

  get #isFailed(): boolean {
    return this.#shard?.file.failed === true || this.#readOnly !== undefined;
  }

  async #openAnew(): Promise<void> {
    const { storage } = this.#pool.world;
    if ((await storage.freeBytes(dirname(this.path))) < REOPEN_FREE_BYTES) {
      this.#lastError = new DivanError('NO_SPACE', 'the disk is full', { path: this.path });
      throw this.#lastError;
    }
    this.#ending.abort(new DivanError('UNAVAILABLE', 'an earlier write failed; try again'));
    this.#ending = newEnding();
    const openDoor = this.#closeDoor();
    try {
      // Looked at again right before the change: whoever came since the last one left has a shard that must not be closed.
      while (this.#uses > 0 || this.#changing !== undefined) await this.#atRest();
      if (this.#dropped) throw gone();
      await this.#change(async () => {
        await this.#closeQuietly();
        await this.#openForWriting();
      });
    } finally {
      openDoor();
    }
  }

  /** Has those who come wait, or under steady use there would always be somebody. Returns what lets them in, as does time. */
  #closeDoor(): () => void {
    let letIn = (): void => undefined;
    const door = new Promise<void>((resolve) => {
      letIn = resolve;
    });
    this.#door = door;
    const open = () => {
      cancelTimer();
      if (this.#door === door) this.#door = undefined;
      letIn();
    };
    const cancelTimer = this.#pool.world.host.setTimer(open, DOOR_MS_MAX);
    return open;
  }

  #failure(): unknown {
    return (
      this.#lastError ?? new DivanError('FAILED', 'an earlier write failed', { path: this.path })
    );
  }

  #moved(): DivanError {
    return new DivanError('MOVED', `${this.path} was moved`, { path: this.path });
  }

  async #openForWriting(): Promise<void> {
    const { world, options } = this.#pool;
    try {
      this.#take(await Shard.open(world, this.path, options));
    } catch (error) {
      // Its file is being removed under it.
      if (this.#dropped) throw gone();
      this.#lastError = error;
      if (!isDivanError(error, 'NO_SPACE') && !isDivanError(error, 'IO')) throw error;
      this.#readOnly = await ReadOnlyShard.open(world, this.path, options);
      this.#pool.opened(this);
    }
  }

  #take(shard: Shard): void {
    this.#shard = shard;
    this.#lastError = undefined;
    this.usedAt = this.#pool.world.host.now();
    this.#stopListening = shard.onChange(() => this.#tell());
    this.#pool.options.onOpened?.(this, shard);
    this.#pool.opened(this);
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  async #close(): Promise<void> {
    const shard = this.#shard;
    const readOnly = this.#readOnly;
    this.#shard = undefined;
    this.#readOnly = undefined;
    this.#stopListening?.();
    this.#pool.closed(this);
    await shard?.close();
    await readOnly?.close();
  }

  /** A failure to close is one of the file, which the next opening reports. */
  #closeQuietly(): Promise<void> {
    return this.#close().catch(() => undefined);
  }

  /**
   * Opening and closing happen one after another. If nothing goes on `work` begins at once, so that nobody is given the shard between the
   * decision to close it and its closing.
   */
  #change(work: () => Promise<void>): Promise<void> {
    const before = this.#changing;
    const changing = before === undefined ? work() : before.catch(() => undefined).then(work);
    const settled = changing.finally(() => {
      if (this.#changing === settled) this.#changing = undefined;
    });
    this.#changing = settled;
    return settled;
  }

  #hold(): void {
    if (this.#closed) throw this.#moved();
    if (this.#dropped) throw gone();
    this.#uses++;
  }

  #release(): void {
    this.usedAt = this.#pool.world.host.now();
    if (--this.#uses > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
    this.#pool.released();
  }

  /** Resolves when nobody uses it. */
  async #unused(): Promise<void> {
    while (this.#uses > 0) await this.#left();
  }

  /** Resolves when the last user leaves. REQUIRES: there is one. */
  #left(): Promise<void> {
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Resolves when its users have left, or else when what goes on is done; the other may have begun by then. */
  async #atRest(): Promise<void> {
    if (this.#uses > 0) await this.#left();
    else await this.#changing?.catch(() => undefined);
  }
}

function gone(): DivanError {
  return new DivanError('NOT_FOUND', 'Database does not exist.');
}

/** Any number of uploads listen to one signal. */
function newEnding(): AbortController {
  const ending = new AbortController();
  setMaxListeners(0, ending.signal);
  return ending;
}
