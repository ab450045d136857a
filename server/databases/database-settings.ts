/**
 * What a database says of itself on each of its shards: its security object and limits.
 *
 * The first shard is the one that is read, and it is written last: what it says is in force, so nobody ever sees a part of a change or
 * a mixture of two. A change that fails before that is not in force, whatever other shards hold of it. While a change is under way a
 * record of the node says so; the next start that finds the record, and the next change, give all shards the whole of what is in force.
 */
import { DivanError } from '../../engine/errors.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { Metadata } from '../../engine/shard/state.js';
import type { NodeRecords } from '../node-records.js';
import { Turns } from '../turns.js';
import type { ShardSlot } from './shard-slot.js';

export type DatabaseSettings = Pick<Metadata, 'security' | 'revsLimit' | 'purgeInfosLimit'>;

export const UNSETTLED_PREFIX = 'unsettled/';

export class SettingsWriter {
  readonly #records: NodeRecords;
  readonly #key: string;
  /** Of all shards as they are now, the one that is read first. */
  readonly #slots: () => readonly ShardSlot[];
  /** Resolves when no change is under way: they are made one after another. */
  readonly #turns = new Turns();
  #isHeld = false;

  constructor(records: NodeRecords, databaseName: string, slots: () => readonly ShardSlot[]) {
    this.#records = records;
    this.#key = UNSETTLED_PREFIX + databaseName;
    this.#slots = slots;
  }

  /** What is in force. */
  current(): Promise<DatabaseSettings> {
    const [first] = this.#slots();
    if (first === undefined) throw new DivanError('OUT_OF_RANGE', 'the shard map is empty');
    return first.read(async (reader) => reader.snapshot().metadata);
  }

  /** Changes some of it: in force on all shards and durable when it resolves, not in force when it rejects with what a write throws. */
  change(edit: Partial<DatabaseSettings>): Promise<void> {
    return this.#turns.run(async () => {
      await this.#records.set(this.#key, {});
      const { security, revsLimit, purgeInfosLimit } = { ...(await this.current()), ...edit };
      await this.#write({ security, revsLimit, purgeInfosLimit });
    });
  }

  /** Gives all shards what is in force, if an earlier change did not come to its end. */
  settle(): Promise<void> {
    return this.#turns.run(() => this.#settle());
  }

  /** Calls `work` when all shards have the same settings, which stay so until its promise settles: changes wait. Throws what a write throws. */
  whileSettled<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.run(async () => {
      await this.#settle();
      return this.#held(work);
    });
  }

  /** As `whileSettled`, but shards that take no writes may keep the settings of a change that failed from being taken back. */
  whileHeld<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.run(() => this.#held(work));
  }

  /** True within `whileSettled` and `whileHeld`. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  async #held<T>(work: () => Promise<T>): Promise<T> {
    this.#isHeld = true;
    try {
      return await work();
    } finally {
      this.#isHeld = false;
    }
  }

  async #settle(): Promise<void> {
    if (this.#records.get(this.#key) === undefined) return;
    const { security, revsLimit, purgeInfosLimit } = await this.current();
    await this.#write({ security, revsLimit, purgeInfosLimit });
  }

  async #write(settings: DatabaseSettings): Promise<void> {
    for (const slot of [...this.#slots()].reverse()) {
      await slot.write(async (shard) => {
        if (!holds(shard, settings)) await shard.setMetadata(settings);
      });
    }
    await this.#records.remove(this.#key);
  }
}

function holds(shard: Shard, settings: DatabaseSettings): boolean {
  const { security, revsLimit, purgeInfosLimit } = shard.snapshot().metadata;
  return (
    revsLimit === settings.revsLimit &&
    purgeInfosLimit === settings.purgeInfosLimit &&
    Buffer.compare(security, settings.security) === 0
  );
}
