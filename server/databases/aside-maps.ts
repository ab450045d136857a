/**
 * The shard maps of databases that are set aside: records of the node, `aside/<incarnation>`. Several of one name may be there, beside the one
 * that is in force.
 */
import assert from 'node:assert';
import type { NodeRecords } from '../node-records.js';
import { RecordMembers } from './record-members.js';
import { readShardMap, type ShardMap, shardMapRecord } from './shard-map.js';

const PREFIX = 'aside/';

export class AsideMaps {
  readonly #records: NodeRecords;
  /** By incarnation. */
  readonly #maps = new Map<string, ShardMap>();
  /** By incarnation, which one has all its documents. */
  readonly #flowed = new Map<string, string>();

  constructor(records: NodeRecords) {
    this.#records = records;
  }

  /** Finds those that there are, and returns the ones that were being removed. Throws `CORRUPT`. */
  load(): readonly ShardMap[] {
    for (const key of this.#records.keys(PREFIX)) {
      const record = this.#records.get(key);
      const map = readShardMap(record);
      this.#maps.set(map.incarnation, map);
      const into = new RecordMembers(record, 'shard map').optionalText('into');
      if (into !== undefined) this.#flowed.set(map.incarnation, into);
    }
    return [...this.#maps.values()].filter(({ state }) => state === 'deleting');
  }

  has(incarnation: string): boolean {
    return this.#maps.has(incarnation);
  }

  /** REQUIRES: it is there. */
  get(incarnation: string): ShardMap {
    const map = this.#maps.get(incarnation);
    assert(map !== undefined, 'a database that is set aside has a map');
    return map;
  }

  all(): readonly ShardMap[] {
    return [...this.#maps.values()];
  }

  of(name: string): readonly ShardMap[] {
    return this.all().filter((map) => map.name === name);
  }

  /** Durable when it resolves. Throws what writing a record throws. */
  async add(map: ShardMap): Promise<void> {
    await this.#records.set(PREFIX + map.incarnation, shardMapRecord(map));
    this.#maps.set(map.incarnation, map);
  }

  /** Which incarnation has all documents of one that is set aside; undefined if none has them yet. */
  flowedInto(incarnation: string): string | undefined {
    return this.#flowed.get(incarnation);
  }

  /** Says that another incarnation has all its documents. Durable when it resolves. Throws what writing a record throws. */
  async setFlowed(incarnation: string, into: string): Promise<void> {
    const map = this.get(incarnation);
    await this.#records.set(PREFIX + incarnation, { ...shardMapRecord(map), into });
    this.#flowed.set(incarnation, into);
  }

  /** Durable when it resolves. Throws what writing a record throws. */
  async remove(incarnation: string): Promise<void> {
    await this.#records.remove(PREFIX + incarnation);
    this.#maps.delete(incarnation);
    this.#flowed.delete(incarnation);
  }
}
