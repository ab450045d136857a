/**
 * The cluster records that this node has: each is one record of the node, `cluster/<key>`, and is seen, told on or acknowledged only when it is
 * durable. How two of one key become one is in `cluster-record.ts`.
 *
 * Rows (`row/<identity>/<database>/<incarnation>`) have rules of their own:
 *
 * - A node makes rows of its own only. The counter is the epoch; it is durable with the row, so it never falls.
 * - A row goes, on every node, when it is known that its node has left or that its incarnation is deleted, and is not taken again. Neither is
 *   ever undone, so nothing needs to be remembered of it, and its epoch can not begin anew.
 * - When a row *of this node* comes from another one, and is not older than what this node has, then this node was set back to an older state
 *   (a backup was restored): the others know of something that it did and does not remember, such as that it gave a shard away. Its row is
 *   *contested* then, durably: the row that the others know is kept, so that all agree, and this node does not write it until whoever knows
 *   which files are whose says what is right, by `settleRow`, whose epoch is beyond all that were seen.
 */
import { DivanError } from '../../engine/errors.js';
import { type JsonObject, memberOf } from '../http/json-value.js';
import type { NodeRecords } from '../node-records.js';
import { Turns } from '../turns.js';
import {
  type ClusterRecord,
  changedRecord,
  isSame,
  kindOf,
  makeRecord,
  mergeRecords,
  valueIn,
} from './cluster-record.js';
import { isDeleted } from './incarnations.js';
import { compareBytes, databaseOfRow, RecordIndex } from './record-index.js';
import type { Reached, RecordChange, SharedRecords } from './shared-records.js';

export type StoredRecords = Pick<NodeRecords, 'get' | 'keys' | 'set' | 'remove'>;

/** Where changes are told on. */
export interface Spreader {
  /** Must not throw. */
  spread(keys: readonly string[]): void;
  toMembers(keys: readonly string[], timeoutMs?: number): Promise<Reached>;
  caughtUp(timeoutMs?: number): Promise<Reached>;
}

const STORED_PREFIX = 'cluster/';
/** Where nothing is spread. */
const TOLD_NOBODY: Reached = { reached: [], missed: [], isMajority: true };

export class ClusterRecords implements SharedRecords {
  /** The identity of this node. */
  readonly self: string;
  readonly #stored: StoredRecords;
  readonly #index = new RecordIndex();
  /** Keys of rows of this node that others know better. */
  readonly #contested = new Set<string>();
  readonly #listeners = new Set<(key: string) => void>();
  #spreader: Spreader | undefined;
  /** Changes and what others tell are done one after another. */
  readonly #turns = new Turns();

  private constructor(stored: StoredRecords, self: string) {
    this.#stored = stored;
    this.self = self;
  }

  /** Reads what is stored. Throws `CORRUPT` for a record that is malformed, and what writing throws. */
  static async open(stored: StoredRecords, self: string): Promise<ClusterRecords> {
    const records = new ClusterRecords(stored, self);
    for (const storedKey of stored.keys(STORED_PREFIX)) {
      const key = storedKey.slice(STORED_PREFIX.length);
      const { record, isContested } = storedRecord(key, stored.get(storedKey));
      records.#index.set(record);
      if (isContested) records.#contested.add(key);
    }
    // A crash may have come between what makes rows stale and their removal.
    for (const key of [...records.#index.keysOfKind('row')]) {
      const record = records.#index.get(key);
      if (record !== undefined && records.#isStale(record)) await records.#dropIfStale(key);
    }
    return records;
  }

  /** From now on changes are told on. REQUIRES: called once. */
  spreadBy(spreader: Spreader): void {
    this.#spreader = spreader;
  }

  get(key: string): JsonObject | undefined {
    const record = this.#index.get(key);
    return record === undefined ? undefined : valueIn(record);
  }

  keys(prefix: string): string[] {
    const keys = [...this.#index.keysOfKind(kindOf(prefix))];
    return keys.filter((key) => key.startsWith(prefix)).sort(compareBytes);
  }

  /**
   * As `SharedRecords.change`. Throws `BAD_REQUEST` for a value that no record of this kind can have, `TOO_LARGE`, and `CONFLICT` for what can
   * not be changed any more, or a row of this node that others know better.
   */
  change(key: string, change: RecordChange): Promise<void> {
    return this.#turns.run(async () => {
      if (this.#contested.has(key)) {
        throw new DivanError('CONFLICT', 'other nodes know a newer row of this node');
      }
      await this.#change(key, change);
    });
  }

  /** As `change`, of a row that may be contested, and is not afterwards. */
  settleRow(key: string, change: RecordChange): Promise<void> {
    return this.#turns.run(() => this.#change(key, change));
  }

  /** The keys of the rows of this node that it does not write until they are settled. */
  contestedRows(): string[] {
    return [...this.#contested];
  }

  toMembers(keys: readonly string[], timeoutMs?: number): Promise<Reached> {
    return this.#spreader?.toMembers(keys, timeoutMs) ?? Promise.resolve(TOLD_NOBODY);
  }

  caughtUp(timeoutMs?: number): Promise<Reached> {
    return this.#spreader?.caughtUp(timeoutMs) ?? Promise.resolve(TOLD_NOBODY);
  }

  onChange(listener: (key: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * What this node made for itself before it joins a cluster loses against whatever the cluster has: its counters become 0. Rows stay as they
   * are, since nobody else has any of this node. Throws what writing throws.
   */
  yieldToOthers(): Promise<void> {
    return this.#turns.run(async () => {
      for (const kind of ['admin', 'identity', 'splits']) {
        for (const key of [...this.#index.keysOfKind(kind)]) {
          const record = this.#index.get(key);
          if (record !== undefined) await this.#put({ ...record, counter: 0 }, false);
        }
      }
    });
  }

  // For the spread of records alone.

  record(key: string): ClusterRecord | undefined {
    return this.#index.get(key);
  }

  get index(): RecordIndex {
    return this.#index;
  }

  /**
   * Takes what another node has. Resolves when all that was news is durable, with those of which this node has something newer, or a union, for
   * the sender. Throws what writing throws; what could be written before is kept.
   */
  take(records: readonly ClusterRecord[]): Promise<ClusterRecord[]> {
    return this.#turns.run(async () => {
      // What makes rows stale comes before the rows.
      const rows = records.filter(({ key }) => kindOf(key) === 'row');
      const others = records.filter(({ key }) => kindOf(key) !== 'row');
      await this.#takeAll(others);
      await this.#takeAll(rows);
      return records.flatMap((record) => {
        const mine = this.#index.get(record.key);
        return mine === undefined || isSame(mine, record) ? [] : [mine];
      });
    });
  }

  /** The rows that all nodes have for a database, their keys. */
  rowKeysOf(database: string): string[] {
    return [...this.#index.rowsOf(database)].sort(compareBytes);
  }

  async #takeAll(records: readonly ClusterRecord[]): Promise<void> {
    const newest = new Map<string, ClusterRecord>();
    for (const record of records) {
      const other = newest.get(record.key);
      newest.set(record.key, other === undefined ? record : mergeRecords(other, record));
    }
    // Together, so that they share commits of the node's file.
    const results = await Promise.allSettled([...newest.values()].map((one) => this.#take(one)));
    const changed = results.flatMap((one) => (one.status === 'fulfilled' ? [...one.value] : []));
    for (const key of changed) await this.#dropWhatIsStaleBy(key);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  /** Resolves with the key if there is something new. */
  async #take(record: ClusterRecord): Promise<string[]> {
    const { key } = record;
    const mine = this.#index.get(key);
    if (this.#isStale(record)) return [];
    const merged = mine === undefined ? record : mergeRecords(mine, record);
    const isContested = this.#contested.has(key) || this.#contests(record, mine);
    const isNews = mine === undefined || !isSame(merged, mine);
    if (!isNews && isContested === this.#contested.has(key)) return [];
    await this.#put(merged, isContested);
    if (!isSame(merged, record) && isNews) this.#spreader?.spread([key]);
    return [key];
  }

  /** True for a row of this node, from elsewhere, that this node does not remember. */
  #contests(record: ClusterRecord, mine: ClusterRecord | undefined): boolean {
    if (kindOf(record.key) !== 'row' || nodeOfRow(record.key) !== this.self) return false;
    if (mine === undefined) return true;
    return record.counter >= mine.counter && !isSame(record, mine);
  }

  async #change(key: string, change: RecordChange): Promise<void> {
    const old = this.#index.get(key);
    const value = change(old === undefined ? undefined : valueIn(old));
    if (value === undefined) return;
    const record = changedRecord(old, key, value);
    if (kindOf(key) === 'row' && nodeOfRow(key) !== this.self) {
      throw new DivanError('BAD_REQUEST', 'a row is written by its own node only');
    }
    if (this.#isStale(record)) {
      throw new DivanError('CONFLICT', 'a row of a deleted database is not written');
    }
    await this.#put(record, false);
    await this.#dropWhatIsStaleBy(key);
    this.#spreader?.spread([key]);
  }

  /** Durable, then seen. */
  async #put(record: ClusterRecord, isContested: boolean): Promise<void> {
    const { key, counter } = record;
    const contested = isContested ? { isContested } : {};
    await this.#stored.set(STORED_PREFIX + key, { counter, value: valueIn(record), ...contested });
    this.#index.set(record);
    if (isContested) this.#contested.add(key);
    else this.#contested.delete(key);
    for (const listener of this.#listeners) listener(key);
  }

  async #dropWhatIsStaleBy(key: string): Promise<void> {
    const kind = kindOf(key);
    const rest = key.slice(kind.length + 1);
    if (kind === 'database') for (const row of this.rowKeysOf(rest)) await this.#dropIfStale(row);
    if (kind !== 'member' || !this.#hasLeft(rest)) return;
    for (const row of [...this.#index.keysOfKind('row')]) {
      if (nodeOfRow(row) === rest) await this.#dropIfStale(row);
    }
  }

  async #dropIfStale(key: string): Promise<void> {
    const record = this.#index.get(key);
    if (record === undefined || !this.#isStale(record)) return;
    this.#index.delete(key);
    this.#contested.delete(key);
    // What makes it stale is durable: if the removal fails or is lost, the next start does it again.
    await this.#stored.remove(STORED_PREFIX + key).catch(() => undefined);
    for (const listener of this.#listeners) listener(key);
  }

  #isStale(record: ClusterRecord): boolean {
    if (kindOf(record.key) !== 'row') return false;
    if (this.#hasLeft(nodeOfRow(record.key))) return true;
    const database = this.get(`database/${databaseOfRow(record.key)}`);
    if (database === undefined) return false;
    const row = valueIn(record);
    return isDeleted(database, String(memberOf(row, 'by')), Number(memberOf(row, 'suffix')));
  }

  #hasLeft(identity: string): boolean {
    const member = this.get(`member/${identity}`);
    return member !== undefined && memberOf(member, 'state') === 'left';
  }
}

/** The identity of the node whose row it is. */
export function nodeOfRow(key: string): string {
  return key.slice('row/'.length, 'row/'.length + 32);
}

function storedRecord(
  key: string,
  stored: unknown,
): { record: ClusterRecord; isContested: boolean } {
  const members = new Map<string, unknown>(Object.entries(stored ?? {}));
  const counter = members.get('counter');
  const value = members.get('value');
  try {
    if (typeof counter === 'number' && isValue(value)) {
      const isContested = members.get('isContested') === true;
      return { record: makeRecord(key, counter, value), isContested };
    }
  } catch (error) {
    throw new DivanError('CORRUPT', `the stored cluster record ${key} is malformed`, {}, error);
  }
  throw new DivanError('CORRUPT', `the stored cluster record ${key} is malformed`);
}

/** What is stored is JSON. */
function isValue(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
