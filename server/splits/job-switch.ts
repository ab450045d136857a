/**
 * The switch that stops all jobs, of all nodes: records that they share. A node that comes back hears of the others before it has jobs go on: it
 * may have been away when they were stopped.
 */
import type { Node } from '../cluster/peers.js';
import type { Membership, SharedRecords } from '../cluster/shared-records.js';
import { SPLITS_PREFIX, startSplits, stopReason, stopSplits } from '../cluster/split-switch.js';

/** How long the start of jobs waits for other nodes. */
const HEAR_MS = 10_000;
const TELL_MS = 5000;

export class JobSwitch {
  readonly #records: SharedRecords;
  readonly #membership: Membership;

  constructor(records: SharedRecords, membership: Membership) {
    this.#records = records;
    this.#membership = membership;
  }

  /** Why all jobs are stopped, as far as is known here; undefined while they are not. */
  get reason(): string | undefined {
    return stopReason(this.#records);
  }

  /** Resolves when it is known here what was said while this node was away, or other nodes are waited for no longer. */
  async heard(): Promise<void> {
    await this.#records.caughtUp(HEAR_MS);
  }

  /** Durable here when it resolves. Throws what writing a record throws. */
  async stop(reason: string): Promise<void> {
    await stopSplits(this.#records, this.#membership.self.identity, reason);
  }

  /** As `stop`. */
  async start(): Promise<void> {
    await startSplits(this.#records);
  }

  /** Resolves when all other nodes have what was said last, or are waited for no longer, with the latter. */
  async toMembers(): Promise<readonly Node[]> {
    const keys = this.#records.keys(SPLITS_PREFIX);
    return (await this.#records.toMembers(keys, TELL_MS)).missed;
  }

  /** Calls the listener, which must not throw, when the reason may be another one. */
  onChange(listener: () => void): void {
    this.#records.onChange((key) => {
      if (key.startsWith(SPLITS_PREFIX)) listener();
    });
  }
}
