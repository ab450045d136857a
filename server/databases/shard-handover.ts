/**
 * A shard goes from this node's part of a database, or comes into it: one durable change of the map each, with the next epoch. Who has the
 * shard when is decided by those who call this (`server/splits/README.md`).
 */
import { DivanError } from '../../engine/errors.js';
import type { ShardRange } from '../../engine/shard/hash.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { Catalog } from './catalog.js';
import { missing } from './catalog-errors.js';
import type { CatalogInside } from './catalog-inside.js';
import type { Database } from './database.js';
import {
  givenShardMap,
  type NewPart,
  newShardMap,
  type ShardMap,
  type ShardPlace,
  takenShardMap,
} from './shard-map.js';

export class ShardHandover {
  readonly #catalog: Catalog;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  /** Whether this node serves an incarnation of a database. */
  isServed(name: string, incarnation: string): boolean {
    return this.#catalog.find(name)?.map.incarnation === incarnation;
  }

  /** Whether the map of an incarnation has a file, also while that is set aside: its files are as good as those of any other then. */
  has(name: string, incarnation: string, file: string): boolean {
    return this.#shardsOf(name, incarnation).some((place) => place.file === file);
  }

  /** Whether this node has a part of a range of an incarnation. As `has`. */
  overlaps(name: string, incarnation: string, { start, end }: ShardRange): boolean {
    const shards = this.#shardsOf(name, incarnation);
    return shards.some(({ range }) => range.start <= end && range.end >= start);
  }

  #shardsOf(name: string, incarnation: string): readonly ShardPlace[] {
    const map = this.#catalog.find(name)?.map;
    if (map?.incarnation === incarnation) return map.shards;
    const { aside } = this.#catalog;
    return aside.has(incarnation) ? aside.get(incarnation).shards : [];
  }

  /**
   * Takes a shard out of the map: it takes no writes here from then on, and who reads it reads on. Nothing happens if it is not there. Throws
   * `NOT_FOUND` for a database that is not there any more, with nothing changed. When it throws anything else it is not known whether the disk has
   * the new map: this is to be called again.
   *
   * REQUIRES: the shard takes no writes, and the other node has it durably.
   */
  async give(database: Database, file: string): Promise<void> {
    const { name, ended } = database;
    const give = async (inside: CatalogInside) => {
      if (this.#catalog.find(name) !== database) throw missing();
      if (!database.map.shards.some((place) => place.file === file)) return;
      const map = givenShardMap(database.map, file);
      await inside.store(map);
      database.take(map);
      inside.announce(database, 'moved');
    };
    await this.#catalog.exclusively(name, give, ended);
  }

  /**
   * Takes a shard into the map of a database, of which there may be no part here yet. Nothing happens if it is in it. Throws `CONFLICT` if
   * this node has another making of the database, `INVALID_RANGE` if the range is not free, with nothing changed; and what writing a record
   * throws: then it is not known whether the disk has the new map until `restore` resolves, or the server starts again.
   */
  async take(name: string, part: NewPart, place: ShardPlace, shard: Shard): Promise<void> {
    await this.#catalog.exclusively(name, async (inside) => {
      const database = this.#catalog.find(name);
      const { incarnation } = part;
      if (database !== undefined && database.map.incarnation !== incarnation) {
        throw new DivanError('CONFLICT', `another database ${name} is on the node`);
      }
      if (this.has(name, incarnation, place.file)) return;
      if (database === undefined) await inside.eraseLeft();
      const map = takenShardMap(database?.map ?? emptyMap(name, part), place);
      await inside.store(map);
      inside.pool.adopt(inside.path(place.file), shard);
      if (database === undefined) {
        const added = inside.add(map);
        inside.announce(added, 'created');
        inside.announce(added, 'moved');
      } else {
        database.take(map);
        inside.announce(database, 'moved');
      }
    });
  }

  /** After `take` failed: the disk has the map that is in force. Throws what writing a record throws. */
  async restore(name: string, part: NewPart): Promise<void> {
    await this.#catalog.exclusively(name, async (inside) => {
      const database = this.#catalog.find(name);
      if (database !== undefined) return inside.store(database.map);
      // Nothing of it is served: what is removed with this map is nothing.
      await inside.store({ ...emptyMap(name, part), state: 'deleting' });
      await inside.eraseLeft();
    });
  }
}

function emptyMap(name: string, part: NewPart): ShardMap {
  return { ...newShardMap(name, { ...part, ranges: [] }), state: 'live', epoch: 0 };
}
