/**
 * Rows as tests of cluster records read and write them: which ranges of which database incarnation each node holds. What rows may do is told in
 * `server/cluster/cluster-records.ts`.
 */
import { type ClusterRecords, nodeOfRow } from '../../server/cluster/cluster-records.js';
import {
  isObject,
  type JsonObject,
  type JsonValue,
  memberOf,
} from '../../server/http/json-value.js';

export interface RowShard {
  /** As `formatRange` writes it. */
  readonly range: string;
  /** Under the data directory of its node. */
  readonly file: string;
}

export interface NewRow {
  readonly database: string;
  readonly incarnation: string;
  /** Who made the incarnation, and the number in its files: by these it is known whether it was deleted. */
  readonly by: string;
  readonly suffix: number;
  readonly shards: readonly RowShard[];
}

export interface Row extends NewRow {
  /** The identity of the node whose row it is. */
  readonly node: string;
  /** Never falls. */
  readonly epoch: number;
  /** True for a row of this node that it may not act on, since others know a newer one: it was set back to an older state. */
  readonly isContested: boolean;
}

export class Rows {
  readonly #records: ClusterRecords;

  constructor(records: ClusterRecords) {
    this.#records = records;
  }

  /** The rows that all nodes have for a database, of whatever incarnation. */
  of(database: string): Row[] {
    return this.#records.rowKeysOf(database).flatMap((key) => this.#read(key) ?? []);
  }

  /** The row of this node. */
  own(database: string, incarnation: string): Row | undefined {
    return this.#read(keyOf(this.#records.self, database, incarnation));
  }

  /** The rows of a node, such as one that is to leave. */
  ofNode(identity: string): Row[] {
    return this.#records.keys(`row/${identity}/`).flatMap((key) => this.#read(key) ?? []);
  }

  /**
   * Writes the row of this node with the next epoch, durable when it resolves with it. Throws `CONFLICT` if the row is contested, or of an
   * incarnation that is deleted, and what writing throws, with nothing changed.
   */
  async write(row: NewRow): Promise<number> {
    const key = keyOf(this.#records.self, row.database, row.incarnation);
    await this.#records.change(key, () => valueOfRow(row));
    return this.#records.record(key)?.counter ?? 0;
  }

  /** As `write`, of a row that may be contested: REQUIRES: it was found out which of the ranges are still this node's. */
  async settle(row: NewRow): Promise<number> {
    const key = keyOf(this.#records.self, row.database, row.incarnation);
    await this.#records.settleRow(key, () => valueOfRow(row));
    return this.#records.record(key)?.counter ?? 0;
  }

  /** The rows of this node that others know better, as they know them. */
  contested(): Row[] {
    return this.#records.contestedRows().flatMap((key) => this.#read(key) ?? []);
  }

  #read(key: string): Row | undefined {
    const record = this.#records.record(key);
    const value = this.#records.get(key);
    if (record === undefined || value === undefined) return undefined;
    const node = nodeOfRow(key);
    const isContested = this.#records.contestedRows().includes(key);
    return { ...rowOfValue(value), node, epoch: record.counter, isContested };
  }
}

function keyOf(node: string, database: string, incarnation: string): string {
  return `row/${node}/${database}/${incarnation}`;
}

function valueOfRow({ database, incarnation, by, suffix, shards }: NewRow): JsonObject {
  return {
    database,
    incarnation,
    by,
    suffix,
    shards: shards.map(({ range, file }) => ({ range, file })),
  };
}

/** What is stored was checked. */
function rowOfValue(value: JsonObject): NewRow {
  const shards = memberOf(value, 'shards');
  return {
    database: String(memberOf(value, 'database')),
    incarnation: String(memberOf(value, 'incarnation')),
    by: String(memberOf(value, 'by')),
    suffix: Number(memberOf(value, 'suffix')),
    shards: isList(shards) ? shards.flatMap((shard) => shardOf(shard)) : [],
  };
}

function shardOf(shard: JsonValue): RowShard[] {
  if (!isObject(shard)) return [];
  return [{ range: String(memberOf(shard, 'range')), file: String(memberOf(shard, 'file')) }];
}

function isList(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}
