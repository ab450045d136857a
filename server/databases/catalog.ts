/**
 * The databases of this node, or the parts of databases that it has: made, found, removed. Their shard maps are records of the node.
 *
 * A database is made in three durable steps: its map as `creating`, its files, its map as `live`; and removed in three: its map as
 * `deleting`, its files, its map. A start finishes what a crash left half done, so no file is without a map, and no answer was given
 * before the step that it speaks of was durable.
 *
 * When a step fails it is not known whether the disk has it. What is done then is right in both cases: files go only after a map that
 * says so, and a database whose deletion is in doubt takes no more writes.
 *
 * A database that is *set aside* is not in force any more, since another one of its name is: it is not served, and its documents are on their
 * way to the other one. Its map is another record, so that both are there meanwhile.
 */
import assert from 'node:assert';
import { basename, dirname, join } from 'node:path';
import { compactCheckpointPath } from '../../engine/rewrite/compact.js';
import { removeLeftovers } from '../../engine/rewrite/job.js';
import type { Shard } from '../../engine/shard/shard.js';
import { makeDirectory, removeFile } from '../durable-names.js';
import type { NodeRecords } from '../node-records.js';
import { settledOrAborted } from '../settled-or-aborted.js';
import type { ServerWorld } from '../world.js';
import { AsideMaps } from './aside-maps.js';
import { exists, missing } from './catalog-errors.js';
import type { CatalogEvent, CatalogInside, CatalogListener } from './catalog-inside.js';
import { Database, type DatabaseParts, type WriteGuard } from './database.js';
import { checkDatabaseName } from './database-name.js';
import { UNSETTLED_PREFIX } from './database-settings.js';
import { RecordMembers } from './record-members.js';
import {
  movedShardMap,
  type NewPart,
  newShardMap,
  readShardMap,
  SHARD_MAP_PREFIX,
  type ShardMap,
  type ShardPlace,
  shardMapKey,
  shardMapRecord,
  suffixOf,
} from './shard-map.js';
import type { ShardPool } from './shard-pool.js';
import type { ShardSlot } from './shard-slot.js';

/** Shards that take the place of others. */
export interface ShardMove {
  /** The files of the old ones, as in the shard map. */
  readonly from: readonly string[];
  /** The new ones, which tile the ranges of the old ones. */
  readonly to: readonly NewShard[];
}

export interface NewShard extends ShardPlace {
  /** Open, and durable with its name. */
  readonly shard: Shard;
}

/** What the greatest number in file names of databases that are gone was, by name: no file is named as one before it. */
const GONE_PREFIX = 'gone/';

/** What databases of some names have a say in, by name. */
export type WriteGuards = ReadonlyMap<string, WriteGuard>;

export class Catalog {
  readonly #world: ServerWorld;
  readonly #records: NodeRecords;
  readonly #pool: ShardPool;
  readonly #dataDir: string;
  readonly #guards: WriteGuards;
  /** Of databases that are set aside. */
  readonly aside: AsideMaps;
  readonly #databases = new Map<string, Database>();
  /** Names that are being made or removed. */
  readonly #changing = new Map<string, Promise<unknown>>();
  readonly #listeners = new Set<CatalogListener>();

  private constructor(
    world: ServerWorld,
    parts: Omit<DatabaseParts, 'guard'>,
    guards: WriteGuards,
  ) {
    this.#world = world;
    this.#records = parts.records;
    this.#pool = parts.pool;
    this.#dataDir = parts.dataDir;
    this.#guards = guards;
    this.aside = new AsideMaps(parts.records);
  }

  /** Finishes what a crash left half done, and finds the rest. Throws `CORRUPT` for a bad shard map, and what the disk throws. */
  static async open(
    world: ServerWorld,
    parts: Omit<DatabaseParts, 'guard'>,
    guards: WriteGuards = new Map(),
  ): Promise<Catalog> {
    const { records, dataDir } = parts;
    const catalog = new Catalog(world, parts, guards);
    await makeDirectory(world.storage, join(dataDir, 'shards'));
    for (const map of catalog.aside.load()) await catalog.#eraseAside(map);
    for (const key of records.keys(SHARD_MAP_PREFIX)) {
      const map = readShardMap(records.get(key));
      // It was being set aside, or brought back, which is decided anew.
      if (catalog.aside.has(map.incarnation)) await records.remove(key);
      else if (map.state === 'live') catalog.#add(map);
      else await catalog.#erase(map);
    }
    return catalog;
  }

  /** The database of a name. Throws `NOT_FOUND`, and `INVALID_NAME` for what can be none. */
  get(name: string): Database {
    const database = this.#databases.get(name);
    if (database !== undefined) return database;
    checkDatabaseName(name);
    throw missing();
  }

  find(name: string): Database | undefined {
    return this.#databases.get(name);
  }

  /**
   * Has every database that a crash left in the middle of a change of its settings get to its end, in the background: until then, too,
   * only what is in force is seen. `onError` must not throw.
   */
  settle(onError: (name: string, error: unknown) => void): void {
    for (const key of this.#records.keys(UNSETTLED_PREFIX)) {
      const name = key.slice(UNSETTLED_PREFIX.length);
      const database = this.#databases.get(name);
      database?.run(database.settings.settle()).catch((error) => onError(name, error));
    }
  }

  /** The names of all databases, in the order of their bytes. */
  names(): string[] {
    return [...this.#databases.keys()].sort((a, b) => (a < b ? -1 : 1));
  }

  /** Calls `listener`, which must not throw. Returns what ends that. */
  onChange(listener: CatalogListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Makes this node's part of a database, durable when it resolves. Throws `INVALID_NAME`, `EXISTS` if there is one of this name, and
   * what the disk throws.
   */
  async make(name: string, part: NewPart, security: Uint8Array): Promise<Database> {
    checkDatabaseName(name);
    return this.#alone(name, async () => {
      if (this.#databases.has(name)) throw exists();
      await this.#eraseLeft(name);
      const map = await this.#newMap(name, part);
      await this.#store(map);
      try {
        await this.#makeFiles(map, security);
        const live: ShardMap = { ...map, state: 'live' };
        await this.#store(live);
        return this.#announce(this.#add(live), 'created');
      } catch (error) {
        // If that fails too, the next start does it, or the next making.
        await this.#discard(map).catch(() => undefined);
        throw error;
      }
    });
  }

  /** What is to stand in the file names of a new database of a name: the time, or more, if a file of that name had as much. */
  nextSuffix(name: string): number {
    return Math.max(Math.floor(this.#world.host.timeOfDay() / 1000), this.#suffixFloor(name));
  }

  /** Removes a database; its users get `NOT_FOUND` from now on. Durable when it resolves. Throws `NOT_FOUND`, `INVALID_NAME`. */
  async remove(name: string): Promise<void> {
    await this.#alone(name, async () => {
      const database = this.get(name);
      try {
        await this.#store({ ...database.map, state: 'deleting' });
      } catch (error) {
        await this.#store(database.map).catch(() => this.#withdraw(database));
        throw error;
      }
      await this.#withdraw(database);
      await this.#erase(database.map);
    });
  }

  /**
   * Puts shards in the place of others, in one durable step; the new ones are the pool's from then on. Throws `NOT_FOUND` for a database that is
   * not there any more, and what `movedShardMap` throws, with nothing changed. When it throws anything else it is not known whether
   * the disk has the new map: then the old shards take no more writes until this is called again for them, or the server starts again.
   *
   * REQUIRES: it is called within `Shard.handOver` of all old shards, or again after it failed; the new ones hold all that was acknowledged; and
   * all of that is within `whileSettled` or `whileHeld` of `database.settings`.
   */
  async moveShards(database: Database, { from, to }: ShardMove): Promise<void> {
    assert(database.settings.isHeld, 'the settings of a database that is moved do not change');
    // A deletion that goes on waits for whoever calls this: it must not wait for the deletion.
    const { ended } = database;
    await this.#alone(database.name, () => this.#moveShards(database, from, to), ended);
  }

  async #moveShards(
    database: Database,
    from: readonly string[],
    to: readonly NewShard[],
  ): Promise<void> {
    if (this.#databases.get(database.name) !== database) throw missing();
    const map = movedShardMap(database.map, from, to);
    try {
      await this.#store(map);
    } catch (error) {
      for (const file of from) this.#pool.slot(this.#path(file)).suspend(error);
      throw error;
    }
    for (const { file, shard } of to) this.#pool.adopt(this.#path(file), shard);
    database.take(map);
    this.#announce(database, 'moved');
  }

  /** Of `ShardHandover`: has `work` change the map of a database, while nothing else does. Throws as `#alone`. */
  exclusively<T>(
    name: string,
    work: (inside: CatalogInside) => Promise<T>,
    ended?: AbortSignal,
  ): Promise<T> {
    const inside: CatalogInside = {
      pool: this.#pool,
      path: (file) => this.#path(file),
      store: (map) => this.#store(map),
      eraseLeft: () => this.#eraseLeft(name),
      add: (map) => this.#add(map),
      announce: (database, what) => this.#announce(database, what),
    };
    return this.#alone(name, () => work(inside), ended);
  }

  /** Gives a map an epoch that is greater than all that others know of. Throws `NOT_FOUND`, and what writing a record throws. */
  async raiseEpoch(database: Database, epoch: number): Promise<void> {
    await this.#alone(database.name, async () => {
      if (this.#databases.get(database.name) !== database) throw missing();
      if (database.map.epoch >= epoch) return;
      const map = { ...database.map, epoch };
      await this.#store(map);
      database.take(map);
    });
  }

  /**
   * Takes a database out of service, since another one of its name is in force; its files stay, and who reads in them
   * reads on. Throws `NOT_FOUND`, and what writing a record throws.
   */
  async setAside(name: string): Promise<void> {
    await this.#alone(name, async () => {
      const database = this.get(name);
      const { map } = database;
      await this.aside.add(map);
      await this.#withdraw(database, () => {
        // Writes that come too late find no shard.
        database.take({ ...map, shards: [] });
      });
      await this.#records.remove(shardMapKey(name));
    });
  }

  /** Has a database that was set aside serve again. Throws `EXISTS` if there is another one of its name, and what writing a record throws. */
  async bringBack(incarnation: string): Promise<Database> {
    const map = this.aside.get(incarnation);
    return this.#alone(map.name, async () => {
      if (this.#databases.has(map.name)) throw exists();
      await this.#eraseLeft(map.name);
      await this.asideSlots(incarnation);
      const back: ShardMap = { ...map, epoch: map.epoch + 1 };
      // A change of its settings may have been under way when it was set aside.
      await this.#records.set(UNSETTLED_PREFIX + map.name, {});
      await this.#store(back);
      await this.aside.remove(incarnation);
      const database = this.#add(back);
      database.run(database.settings.settle()).catch(() => undefined);
      return this.#announce(database, 'created');
    });
  }

  /** Removes a database that was set aside. Throws what writing a record and removing a file throws. */
  async removeAside(incarnation: string): Promise<void> {
    const map = this.aside.get(incarnation);
    await this.#alone(map.name, () => this.#eraseAside(map));
  }

  /** The slots of a database that was set aside, once all who used it before are done: what they wrote is there then. */
  async asideSlots(incarnation: string): Promise<readonly ShardSlot[]> {
    const paths = this.aside.get(incarnation).shards.map(({ file }) => this.#path(file));
    for (const path of paths) await this.#pool.retire(path);
    return paths.map((path) => this.#pool.slot(path));
  }

  async #eraseAside(map: ShardMap): Promise<void> {
    await this.aside.add({ ...map, state: 'deleting' });
    await this.#eraseFiles(map);
    await this.#keepSuffix(map);
    await this.aside.remove(map.incarnation);
  }

  /** `announced` is called when all have heard of it, and nothing has stopped yet. */
  async #withdraw(database: Database, announced: () => void = () => undefined): Promise<void> {
    this.#databases.delete(database.name);
    this.#announce(database, 'deleted');
    announced();
    await database.end();
  }

  /** Throws `NOT_FOUND` if it would have to wait and `ended` is aborted. */
  async #alone<T>(name: string, work: () => Promise<T>, ended?: AbortSignal): Promise<T> {
    for (;;) {
      const earlier = this.#changing.get(name);
      if (earlier === undefined) break;
      if (ended?.aborted === true) throw missing();
      await settledOrAborted(earlier, ended);
    }
    const changing = work();
    this.#changing.set(name, changing);
    try {
      return await changing;
    } finally {
      this.#changing.delete(name);
    }
  }

  #add(map: ShardMap): Database {
    const database = new Database(
      this.#world,
      {
        pool: this.#pool,
        records: this.#records,
        dataDir: this.#dataDir,
        guard: this.#guards.get(map.name),
      },
      map,
    );
    this.#databases.set(map.name, database);
    return database;
  }

  #announce(database: Database, what: CatalogEvent): Database {
    for (const listener of this.#listeners) listener(database.name, what, database);
    return database;
  }

  #store(map: ShardMap): Promise<void> {
    return this.#records.set(shardMapKey(map.name), shardMapRecord(map));
  }

  /** The map of a part, whose file names nothing else has or had. */
  async #newMap(name: string, part: NewPart): Promise<ShardMap> {
    for (let suffix = Math.max(part.timestamp, this.#suffixFloor(name)); ; suffix++) {
      const map = newShardMap(name, part, suffix);
      const taken = await Promise.all(
        map.shards.map(({ file }) => this.#world.storage.identity(this.#path(file))),
      );
      if (taken.every((identity) => identity === undefined)) return map;
    }
  }

  #suffixFloor(name: string): number {
    const gone = this.#records.get(GONE_PREFIX + name);
    const aside = this.aside.of(name).map((map) => suffixOf(map) + 1);
    const last = gone === undefined ? 0 : new RecordMembers(gone, 'suffix').whole('suffix') + 1;
    return Math.max(last, ...aside);
  }

  /** Called before the map of files that are gone is. */
  async #keepSuffix(map: ShardMap): Promise<void> {
    const suffix = Math.max(suffixOf(map), this.#suffixFloor(map.name) - 1);
    await this.#records.set(GONE_PREFIX + map.name, { suffix });
  }

  /** Removes what is left of a database that could not be made or removed. */
  async #eraseLeft(name: string): Promise<void> {
    const record = this.#records.get(shardMapKey(name));
    if (record === undefined) return;
    const map = readShardMap(record);
    if (!this.aside.has(map.incarnation)) await this.#discard(map);
  }

  async #discard(map: ShardMap): Promise<void> {
    await this.#store({ ...map, state: 'deleting' });
    await this.#erase(map);
  }

  async #makeFiles(map: ShardMap, security: Uint8Array): Promise<void> {
    const { hashRule } = map;
    for (const { range, file } of map.shards) {
      const path = this.#path(file);
      await makeDirectory(this.#world.storage, dirname(path));
      await this.#pool.create(path, { range, hashRule });
      if (security.length > 0) {
        await this.#pool.slot(path).write((shard) => shard.setMetadata({ security }));
      }
    }
  }

  /** Removes the files of a map and then the map. Readers that have a file open read on, and nobody waits for them. */
  async #erase(map: ShardMap): Promise<void> {
    await this.#eraseFiles(map);
    await this.#records.remove(UNSETTLED_PREFIX + map.name);
    // Files that were never served leave nothing behind that could be taken for them.
    if (map.state !== 'creating') await this.#keepSuffix(map);
    await this.#records.remove(shardMapKey(map.name));
  }

  async #eraseFiles(map: ShardMap): Promise<void> {
    for (const { file } of map.shards) {
      const path = this.#path(file);
      this.#pool.drop(path);
      await removeFile(this.#world.storage, path);
      await removeLeftovers(this.#world.storage, {
        checkpointPath: compactCheckpointPath(path),
        name: basename(path),
        directories: [dirname(path)],
      });
    }
  }

  #path(file: string): string {
    return join(this.#dataDir, ...file.split('/'));
  }
}
