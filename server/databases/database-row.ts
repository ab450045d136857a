/**
 * Rows: what each node tells the others of its part of a database, as shared records `row/<identity>/<database>/<incarnation>` that it alone
 * writes. The truth is the shard map, which is durable before its row is told.
 */
import { parseRange } from '../../engine/shard/hash.js';
import type { SharedRecords } from '../cluster/shared-records.js';
import type { JsonObject, JsonValue } from '../http/json-value.js';
import type { PlacedShard } from './placement.js';
import { RecordMembers } from './record-members.js';
import { checkApart, type ShardMap, shardMapRecord } from './shard-map.js';

export interface Row {
  readonly node: string;
  readonly database: string;
  readonly incarnation: string;
  readonly epoch: number;
  readonly deleted: boolean;
  readonly shards: readonly PlacedShard[];
}

const KEY = /^row\/([0-9a-f]{32})\/(.+)\/([0-9a-f]{32})$/;

export function rowKey(node: string, database: string, incarnation: string): string {
  return `${rowPrefix(node)}${database}/${incarnation}`;
}

export function rowPrefix(node: string): string {
  return `row/${node}/`;
}

/** Which part of which database a record is a row of; undefined if it is none. */
export function partsOfRowKey(
  key: string,
): { readonly name: string; readonly incarnation: string } | undefined {
  const [, , name, incarnation] = KEY.exec(key) ?? [];
  return name === undefined || incarnation === undefined ? undefined : { name, incarnation };
}

/** Throws `CORRUPT`, `INVALID_RANGE`. */
export function readRow(json: JsonValue): Row {
  const value = new RecordMembers(json, 'row');
  const shards = value.list('shards').map((place) => {
    const members = new RecordMembers(place, 'row');
    return { range: parseRange(members.text('range')), file: members.text('file') };
  });
  checkApart(shards);
  return {
    node: value.text('node'),
    database: value.text('database'),
    incarnation: value.text('incarnation'),
    epoch: value.whole('epoch'),
    deleted: value.has('deleted'),
    shards,
  };
}

/** Writes the rows of one node. */
export class RowTeller {
  readonly #records: SharedRecords;
  readonly #node: string;

  constructor(records: SharedRecords, node: string) {
    this.#records = records;
    this.#node = node;
  }

  /**
   * An epoch that is greater than all that others know of, if what they know is not this map and does not come before it; undefined if they
   * can be told of it as it is. So it is on a node that was restored from an old copy.
   */
  epochBeyond(map: ShardMap): number | undefined {
    const told = this.#records.get(this.#keyOf(map));
    if (told === undefined) return undefined;
    const { epoch } = readRow(told);
    if (epoch < map.epoch || isSame(told, this.#rowOf(map))) return undefined;
    return epoch + 1;
  }

  /** Tells of a map; durable here when it resolves. REQUIRES: it is durable, and `epochBeyond` is undefined. Throws what writing throws. */
  async tell(map: ShardMap): Promise<void> {
    const row = this.#rowOf(map);
    await this.#records.change(this.#keyOf(map), (told) => {
      return told !== undefined && isSame(told, row) ? undefined : row;
    });
  }

  /** Tells that the files of a part are gone. Throws what writing throws. */
  async tellGone({ name, incarnation }: Pick<ShardMap, 'name' | 'incarnation'>): Promise<void> {
    await this.#records.change(rowKey(this.#node, name, incarnation), (told) => {
      if (told === undefined) return undefined;
      const { deleted, epoch } = readRow(told);
      return deleted ? undefined : { ...told, epoch: epoch + 1, shards: [], deleted: true };
    });
  }

  #keyOf({ name, incarnation }: ShardMap): string {
    return rowKey(this.#node, name, incarnation);
  }

  #rowOf(map: ShardMap): JsonObject {
    const { name, incarnation, epoch } = map;
    const { shards } = shardMapRecord(map);
    return { node: this.#node, database: name, incarnation, epoch, shards };
  }
}

/** Whether two rows say the same. The store may give members in another order. */
function isSame(a: JsonObject, b: JsonObject): boolean {
  const [one, other] = [readRow(a), readRow(b)];
  return JSON.stringify(one) === JSON.stringify(other);
}
