/**
 * What a node tells one other node of its records, and asks of it: one call at a time.
 *
 * What changes here waits as a set of keys, so that however much changes, one push is waiting, and it sends each record as it is then. When a
 * call fails the set is forgotten: the two are to compare, which finds everything. Comparisons go on for ever at some seconds' distance; after
 * a failure they are tried again sooner, and then ever later.
 */
import { isDivanError } from '../../engine/errors.js';
import type { ServerHost } from '../world.js';
import type { ClusterRecords } from './cluster-records.js';
import type { Members } from './members.js';
import type { Node, PeerCalls } from './peers.js';
import {
  fillPage,
  PAGE_RECORDS_MAX,
  type Push,
  pushHead,
  readBucketPage,
  readDigestAnswer,
  readPushAnswer,
} from './record-pages.js';

export interface LinkParts {
  readonly host: ServerHost;
  readonly records: ClusterRecords;
  readonly members: Members;
  readonly calls: PeerCalls;
  /** Told of a peer with which comparing or pushing failed; must not throw. */
  readonly onError: (peer: Node, error: unknown) => void;
}

export const COMPARE_MS = 5000;
const RETRY_MS_MIN = 1000;
const RETRY_MS_MAX = 15_000;
/** When more keys wait than this, comparing is cheaper than sending each of them, and needs no memory. */
const WAITING_MAX = 20_000;

/** Who wants to know that the peer has some records. */
interface Waiter {
  readonly keys: Set<string>;
  readonly settle: (hasThem: boolean) => void;
}

export class PeerLink {
  peer: Node;
  readonly #parts: LinkParts;
  #waiting = new Set<string>();
  #waiters: Waiter[] = [];
  #mustCompare = true;
  #failures = 0;
  #isWorking = false;
  #isClosed = false;
  #stopTimer: (() => void) | undefined;
  #comparedWaiters: ((isDone: boolean) => void)[] = [];
  #wasCompared = false;

  constructor(peer: Node, parts: LinkParts) {
    this.peer = peer;
    this.#parts = parts;
  }

  /** These have changed. */
  push(keys: Iterable<string>): void {
    if (this.#isClosed) return;
    for (const key of keys) this.#waiting.add(key);
    if (this.#waiting.size > WAITING_MAX) {
      this.#waiting.clear();
      this.#mustCompare = true;
      for (const { keys: wanted } of this.#waiters)
        for (const key of wanted) this.#waiting.add(key);
    }
    this.#work();
  }

  /** Sends these. Resolves with whether the peer said that it has them; false as soon as a call failed. */
  deliver(keys: Iterable<string>): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.#isClosed) return resolve(false);
      this.#waiters.push({ keys: new Set(keys), settle: resolve });
      this.push(keys);
    });
  }

  /** Resolves with true once the two have been compared since this node started; with false as soon as that failed. */
  compared(): Promise<boolean> {
    if (this.#wasCompared) return Promise.resolve(true);
    return new Promise((resolve) => {
      if (this.#isClosed) return resolve(false);
      this.#comparedWaiters.push(resolve);
      this.#work();
    });
  }

  /** The peer has called: if it was away, it is there again. */
  heard(): void {
    this.#parts.members.noteReached(this.peer.identity, true);
    if (this.#failures === 0 || this.#isWorking) return;
    this.#failures = 0;
    this.#work();
  }

  /** Compares now. */
  compareNow(): void {
    this.#mustCompare = true;
    this.#work();
  }

  close(): void {
    this.#isClosed = true;
    this.#stopTimer?.();
    this.#settleWaiters(false);
  }

  #work(): void {
    if (this.#isWorking || this.#isClosed) return;
    this.#stopTimer?.();
    this.#isWorking = true;
    this.#workThrough().then(
      () => this.#worked(),
      (error) => this.#failed(error),
    );
  }

  async #workThrough(): Promise<void> {
    // What is pushed in one turn goes together.
    await Promise.resolve();
    while (!this.#isClosed && (this.#waiting.size > 0 || this.#mustCompare)) {
      await this.#pushWaiting();
      if (!this.#mustCompare || this.#isClosed) continue;
      this.#mustCompare = false;
      await this.#compare();
      this.#wasCompared = true;
      for (const resolve of this.#comparedWaiters.splice(0)) resolve(true);
    }
  }

  #worked(): void {
    this.#isWorking = false;
    if (this.#isClosed) return;
    this.#failures = 0;
    this.#parts.members.noteReached(this.peer.identity, true);
    this.#compareIn(COMPARE_MS);
    // Something may have come between the last look and this.
    if (this.#waiting.size > 0 || this.#mustCompare) this.#work();
  }

  #failed(error: unknown): void {
    this.#isWorking = false;
    if (this.#isClosed) return;
    this.#failures++;
    this.#mustCompare = true;
    this.#waiting.clear();
    this.#settleWaiters(false);
    // Who answers with an error is there; who answers with what is no answer might as well not be.
    const isThere = isDivanError(error) && !['UNREACHABLE', 'PEER'].includes(error.code);
    this.#parts.members.noteReached(this.peer.identity, isThere);
    this.#parts.onError(this.peer, error);
    this.#compareIn(Math.min(RETRY_MS_MIN * 2 ** (this.#failures - 1), RETRY_MS_MAX));
  }

  /** At random within a half, so that nodes which started together do not stay so. */
  #compareIn(ms: number): void {
    const { host } = this.#parts;
    const byte = host.randomBytes(1)[0] ?? 0;
    this.#stopTimer?.();
    this.#stopTimer = host.setTimer(() => this.compareNow(), ms * (0.5 + byte / 256));
  }

  async #pushWaiting(): Promise<void> {
    while (this.#waiting.size > 0 && !this.#isClosed) {
      const { records } = this.#parts;
      const { keys, records: page } = fillPage(this.#waiting, (key) => records.record(key));
      for (const key of keys) this.#waiting.delete(key);
      // Those who come while the call is under way want what is newer than it.
      const waiters = [...this.#waiters];
      if (page.length > 0) await this.#exchange({ records: page, want: [] });
      for (const waiter of waiters) {
        for (const key of keys) waiter.keys.delete(key);
        if (waiter.keys.size > 0) continue;
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        waiter.settle(true);
      }
    }
  }

  async #compare(): Promise<void> {
    const { calls, records } = this.#parts;
    const { total } = records.index.digests;
    const ask = () => calls.call(this.peer, 'records/digest', { digest: total });
    const reply = await ask().catch(async (error) => {
      if (!isDivanError(error, 'FORBIDDEN')) throw error;
      await this.#introduce();
      return ask();
    });
    const buckets = readDigestAnswer(reply);
    if (buckets === undefined) return;
    const differing = records.index.digests.differing(buckets);
    for (const bucket of differing ?? []) await this.#compareBucket(bucket);
  }

  /**
   * A peer that was away, or set back, since before this node was added does not know it, and those that it knows may all be gone. It takes who
   * the members are from whoever has the cookie and did not leave.
   */
  async #introduce(): Promise<void> {
    const { records } = this.#parts;
    const page = fillPage(records.keys('member/'), (key) => records.record(key));
    await this.#exchange({ records: page.records, want: [] });
  }

  /** Each page is a stretch of keys, of which both sides are told what the other has. */
  async #compareBucket(bucket: number): Promise<void> {
    const { calls, records } = this.#parts;
    for (let after = '', more = true; more && !this.#isClosed; ) {
      const head = await calls.call(this.peer, 'records/bucket', { bucket, after });
      const page = readBucketPage(head, after);
      const last = page.more ? page.entries.at(-1)?.[0] : undefined;
      const theirs = new Map(page.entries);
      const mine = records.index.keysOfBucket(bucket, after);
      const within = last === undefined ? mine : mine.filter((key) => key <= last);
      await this.#exchangeAll(
        within.filter((key) => records.index.hash(key) !== theirs.get(key)),
        [...theirs.keys()].filter((key) => records.index.hash(key) !== theirs.get(key)),
      );
      // What changes meanwhile does not wait for the end of a long comparison.
      await this.#pushWaiting();
      more = page.more;
      after = last ?? after;
    }
  }

  async #exchangeAll(send: readonly string[], want: readonly string[]): Promise<void> {
    const { records } = this.#parts;
    let [unsent, unasked] = [send, want];
    while ((unsent.length > 0 || unasked.length > 0) && !this.#isClosed) {
      const page = fillPage(unsent, (key) => records.record(key));
      const asked = unasked.slice(0, PAGE_RECORDS_MAX);
      const answered = await this.#exchange({ records: page.records, want: asked });
      unsent = unsent.slice(page.keys.length);
      unasked = unasked.slice(answered);
      // Such a peer would be asked for ever.
      if (answered === 0 && page.keys.length === 0) return;
    }
  }

  async #exchange(push: Push): Promise<number> {
    const { calls, records } = this.#parts;
    const reply = await calls.call(this.peer, 'records/push', pushHead(push));
    const answer = readPushAnswer(reply);
    await records.take(answer.records);
    return answer.answered;
  }

  #settleWaiters(hasThem: boolean): void {
    for (const { settle } of this.#waiters.splice(0)) settle(hasThem);
    for (const resolve of this.#comparedWaiters.splice(0)) resolve(hasThem);
  }
}
