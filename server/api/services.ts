/** What the routes work with. */
import type { Authenticator } from '../auth/authenticator.js';
import type { Config } from '../config/config.js';
import type { Catalog } from '../databases/catalog.js';
import type { ShardPool } from '../databases/shard-pool.js';
import type { NodeRecords } from '../node-records.js';
import type { ServerWorld } from '../world.js';

export interface Services {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly records: NodeRecords;
  readonly pool: ShardPool;
  readonly catalog: Catalog;
  readonly authenticator: Authenticator;
  readonly uuids: Uuids;
}

/** Ids for what has none. */
export interface Uuids {
  /** 32 hexadecimal digits, each one greater than those before, so that documents with such ids are written next to one another. */
  next(): string;
}
