/**
 * Group commit: writes that arrive while a commit is being made durable share the next one.
 *
 * One request after another goes through: waiting -> prepared (what it needs of the trees has been read) -> applied (laid out
 * in a commit, visible to later requests) -> durable (visible to readers, acknowledged). A commit that fails takes all that
 * wait with it: the file is failed (I6), and so is the queue.
 */

import { DivanError } from '../errors.js';
import type { AppendFile, CommitInput } from '../file/append-file.js';

/** A commit gathers requests until they cost this much. */
const GROUP_COST_MAX = 256 * 1024;
/** A group this large is prepared while the commit before it is still being synced; a smaller one waits and grows. */
const EAGER_COST = 128 * 1024;
/** Callers wait while this much waits, so that the queue is bounded. */
const WAITING_COST_MAX = 16 * 1024 * 1024;

/** A write that waits for its commit. */
export interface WriteRequest {
  /** What it takes of a commit: about its bytes. */
  readonly cost: number;
  /** True if it must have a commit of its own. */
  readonly exclusive?: boolean;
  /** Reads what `apply` needs. An error refuses this request alone. */
  prepare(): Promise<void>;
  /** Adds its changes to the commit. An error of `DivanError` refuses this request alone, and must leave no change. */
  apply(): void;
}

/** What the queue drives: the writer of a shard. */
export interface CommitTarget {
  readonly file: AppendFile;
  /** Called before a group is prepared; may wait, as for a flush. */
  beforeGroup(): Promise<void>;
  /** Starts laying out a commit. */
  beginCommit(): void;
  /** Ends it; undefined when nothing was changed. `published` is called when it is durable. */
  finishCommit(): { readonly commit: CommitInput; readonly published: () => void } | undefined;
}

interface Waiting {
  readonly request: WriteRequest;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class CommitQueue {
  readonly #target: CommitTarget;
  readonly #waiting: Waiting[] = [];
  #waitingCost = 0;
  #running: Promise<void> | undefined;
  /** Settles with the commit that is being made durable; never rejects. */
  #inFlight: Promise<void> = Promise.resolve();
  #roomWaiters: (() => void)[] = [];
  /** Settles when the group that was begun last is laid out; never rejects. */
  #group: Promise<void> = Promise.resolve();
  /** Settles when those who want the shard for themselves are done; never rejects. */
  #exclusive: Promise<void> | undefined;
  #refusal: DivanError | undefined;

  constructor(target: CommitTarget) {
    this.#target = target;
  }

  /** Resolves when the request is durable. Rejects with its own refusal, or with `IO`, `NO_SPACE`, `FAILED`, `CLOSED`. */
  async submit(request: WriteRequest): Promise<void> {
    while (this.#waitingCost >= WAITING_COST_MAX) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
    }
    if (this.#refusal !== undefined) throw this.#refusal;
    this.#target.file.assertWritable();
    const done = new Promise<void>((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject });
    });
    this.#waitingCost += request.cost;
    this.#running ??= this.#run();
    await done;
  }

  /** Resolves when nothing waits any more. Under steady writes that is never: for those who let no more in. */
  async idle(): Promise<void> {
    await this.#running;
    await this.#inFlight;
    while (this.#exclusive !== undefined) await this.#exclusive;
  }

  /** Runs `work` while no commit is under way; writes wait meanwhile. Resolves with what `work` gives. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    const earlier = this.#exclusive;
    const result = (async () => {
      await earlier;
      await this.#group;
      await this.#inFlight;
      return work();
    })();
    const done = result.then(
      () => undefined,
      () => undefined,
    );
    this.#exclusive = done;
    try {
      return await result;
    } finally {
      if (this.#exclusive === done) this.#exclusive = undefined;
    }
  }

  /** Refuses with `error`, for good, what waits and what comes. REQUIRES: it is called by `work` of `exclusively`. */
  refuse(error: DivanError): void {
    this.#refusal = error;
    this.#rejectWaiting(error);
  }

  async #run(): Promise<void> {
    // A turn for those who submit in this one, so that they share the commit.
    await Promise.resolve();
    try {
      while (this.#waiting.length > 0) {
        if (this.#waitingCost < EAGER_COST) await this.#inFlight;
        while (this.#exclusive !== undefined) await this.#exclusive;
        if (this.#refusal !== undefined) break;
        const group = this.#nextGroup();
        this.#group = group.catch(() => undefined);
        await group;
      }
    } catch (error) {
      this.#rejectWaiting(error);
    }
    this.#running = undefined;
  }

  #rejectWaiting(error: unknown): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#waitingCost = 0;
    this.#wakeWaiters();
  }

  async #nextGroup(): Promise<void> {
    await this.#target.beforeGroup();
    await this.#commitGroup(this.#takeGroup());
  }

  #takeGroup(): Waiting[] {
    let cost = 0;
    let count = 0;
    for (const { request } of this.#waiting) {
      const alone = request.exclusive === true;
      if (count > 0 && (alone || cost + request.cost > GROUP_COST_MAX)) break;
      cost += request.cost;
      count++;
      if (alone) break;
    }
    this.#waitingCost -= cost;
    this.#wakeWaiters();
    return this.#waiting.splice(0, count);
  }

  /** Those who wait for room look again whether there is some, or hear that the file has failed. */
  #wakeWaiters(): void {
    const waiters = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const wake of waiters) wake();
  }

  async #commitGroup(group: Waiting[]): Promise<void> {
    try {
      await this.#prepareAndCommit(group);
    } catch (error) {
      for (const { reject } of group) reject(error);
      throw error;
    }
  }

  async #prepareAndCommit(group: Waiting[]): Promise<void> {
    const prepared: Waiting[] = [];
    for (const waiting of group) {
      try {
        await waiting.request.prepare();
        prepared.push(waiting);
      } catch (error) {
        waiting.reject(error);
      }
    }
    const applied = this.#apply(prepared);
    const finished = this.#target.finishCommit();
    const before = this.#inFlight;
    this.#inFlight =
      finished === undefined
        ? before.then(() => settle(applied))
        : this.#makeDurable(finished, applied);
    await before;
  }

  #apply(prepared: readonly Waiting[]): Waiting[] {
    this.#target.beginCommit();
    const applied: Waiting[] = [];
    for (const waiting of prepared) {
      try {
        waiting.request.apply();
        applied.push(waiting);
      } catch (error) {
        if (!(error instanceof DivanError)) throw error;
        waiting.reject(error);
      }
    }
    return applied;
  }

  async #makeDurable(
    finished: { readonly commit: CommitInput; readonly published: () => void },
    applied: readonly Waiting[],
  ): Promise<void> {
    try {
      await this.#target.file.commit(finished.commit);
    } catch (error) {
      for (const { reject } of applied) reject(error);
      return;
    }
    finished.published();
    settle(applied);
  }
}

function settle(applied: readonly Waiting[]): void {
  for (const { resolve } of applied) resolve();
}
