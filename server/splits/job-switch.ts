/**
 * The switch that stops all jobs: a record of the node, or, where there are other nodes, records that all of them share. There a node that
 * comes back hears of the others before it has jobs go on: it may have been away when they were stopped.
 */
import { isDivanError } from '../../engine/errors.js';
import type { CallHandlers, Node, PeerCalls } from '../cluster/peers.js';
import type { Membership, SharedRecords } from '../cluster/shared-records.js';
import { startSplits, stopReason, stopSplits } from '../cluster/split-switch.js';
import { optionalString } from '../http/json-value.js';
import type { ServerHost } from '../world.js';
import type { JobStore } from './job-store.js';

export interface JobSwitch {
  /** Why all jobs are stopped, as far as is known here; undefined while they are not. */
  readonly reason: string | undefined;
  /**
   * Called once, before any job is run: resolves when what is to be known of other nodes is known, or they are waited for no longer.
   * Undefined if there is nothing to wait for. Never rejects.
   */
  open(closing: AbortSignal): Promise<void> | undefined;
  /** Durable here when it resolves. Throws what writing a record throws. */
  stop(reason: string): Promise<void>;
  /** As `stop`. */
  start(): Promise<void>;
  /** Resolves when all other nodes have what was said last, or are waited for no longer, with the latter. */
  toMembers(): Promise<readonly Node[]>;
  /** Calls the listener, which must not throw, when the reason may be another one. */
  onChange(listener: () => void): void;
}

/** Of a node alone. */
export class NodeSwitch implements JobSwitch {
  readonly #store: JobStore;

  /** Throws `CORRUPT`. */
  constructor(store: JobStore) {
    this.#store = store;
    store.stopReason();
  }

  get reason(): string | undefined {
    return this.#store.stopReason();
  }

  open(): undefined {
    return undefined;
  }

  stop(reason: string): Promise<void> {
    return this.#store.setStopReason(reason);
  }

  start(): Promise<void> {
    return this.#store.setStopReason(undefined);
  }

  async toMembers(): Promise<readonly Node[]> {
    return [];
  }

  onChange(): void {}
}

export interface SharedSwitchParts {
  readonly host: Pick<ServerHost, 'setTimer'>;
  readonly records: SharedRecords;
  readonly membership: Membership;
  readonly calls: PeerCalls;
  readonly handlers: CallHandlers;
}

const ASK = 'jobs/switch';
/** How long the start of jobs waits for other nodes. */
const ASK_MS = 3000;
/** Another node knows of a stop of which there is no record here yet: it is asked again after so long. */
const AGAIN_MS = 1000;
const TELL_MS = 5000;

/** Of all nodes. */
export class SharedSwitch implements JobSwitch {
  readonly #parts: SharedSwitchParts;
  /** Of this node, from a time when it was alone. */
  readonly #store: JobStore;
  readonly #listeners = new Set<() => void>();
  /** What another node said at the start, until this node has the record. */
  #told: string | undefined;
  /** True once the records have what this node was told when it was alone. */
  #isShared = false;

  /** Throws `CORRUPT`. */
  constructor(parts: SharedSwitchParts, store: JobStore) {
    const { records, handlers } = parts;
    this.#parts = parts;
    this.#store = store;
    store.stopReason();
    // Only what there is a record of is told on: hearsay would never end.
    handlers.on(ASK, async () => ({ stopped: stopReason(records) ?? null }));
    records.onChange((key) => {
      if (!key.startsWith('splits/')) return;
      if (stopReason(records) !== undefined) this.#told = undefined;
      this.#tellListeners();
    });
  }

  get reason(): string | undefined {
    const kept = this.#isShared ? undefined : this.#store.stopReason();
    return stopReason(this.#parts.records) ?? this.#told ?? kept;
  }

  open(closing: AbortSignal): Promise<void> | undefined {
    const kept = this.#store.stopReason();
    if (kept === undefined && this.#parts.membership.others().length === 0) return undefined;
    return this.#open(kept, closing);
  }

  async #open(kept: string | undefined, closing: AbortSignal): Promise<void> {
    // If that fails the record of this node goes on to say so, and the next start tries it again.
    if (kept !== undefined) await this.#share(kept).catch(() => undefined);
    await this.#ask(closing);
  }

  /** What this node was told when it was alone is told to all, once: a start that comes after that ends it, whatever a crash leaves. */
  async #share(reason: string): Promise<void> {
    const { records, membership } = this.#parts;
    const { identity } = membership.self;
    if (records.get(`splits/${identity}`) === undefined)
      await stopSplits(records, identity, reason);
    this.#isShared = true;
    await this.#store.setStopReason(undefined);
  }

  async #ask(closing: AbortSignal): Promise<void> {
    const { records, membership, calls, host } = this.#parts;
    const options = { timeoutMs: ASK_MS, signal: closing };
    let isAnswered = false;
    const reasons = await Promise.all(
      membership.others().map(async (node) => {
        try {
          const answer = await calls.call(node, ASK, {}, options);
          isAnswered = true;
          return answer['stopped'] === null ? undefined : optionalString(answer, 'stopped');
        } catch (error) {
          if (!isDivanError(error)) throw error;
          return undefined;
        }
      }),
    );
    if (closing.aborted || stopReason(records) !== undefined) return;
    if (isAnswered) this.#told = reasons.find((reason) => reason !== undefined);
    if (this.#told === undefined) return;
    const cancel = host.setTimer(() => {
      closing.removeEventListener('abort', cancel);
      void this.#askAgain(closing);
    }, AGAIN_MS);
    closing.addEventListener('abort', cancel);
  }

  async #askAgain(closing: AbortSignal): Promise<void> {
    if (this.#told === undefined) return;
    await this.#ask(closing);
    if (this.#told === undefined && !closing.aborted) this.#tellListeners();
  }

  async stop(reason: string): Promise<void> {
    const { records, membership } = this.#parts;
    await stopSplits(records, membership.self.identity, reason);
  }

  async start(): Promise<void> {
    await startSplits(this.#parts.records);
    this.#isShared = true;
    await this.#store.setStopReason(undefined);
    if (this.#told === undefined) return;
    this.#told = undefined;
    this.#tellListeners();
  }

  async toMembers(): Promise<readonly Node[]> {
    const { records } = this.#parts;
    const { missed } = await records.toMembers(records.keys('splits/'), TELL_MS);
    return missed;
  }

  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  #tellListeners(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
