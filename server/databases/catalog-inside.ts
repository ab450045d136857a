/** What of a catalog others hear, and what is open to those who change the part of a database that a node has. */
import type { Database } from './database.js';
import type { ShardMap } from './shard-map.js';
import type { ShardPool } from './shard-pool.js';

/**
 * Heard when databases come and go; of one that is deleted or set aside, before what goes on in it is stopped and its files are removed.
 * `moved`: its map is another one, and durable.
 */
export type CatalogListener = (name: string, what: CatalogEvent, database: Database) => void;

export type CatalogEvent = 'created' | 'deleted' | 'moved';

/** What `ShardHandover` is given of a catalog. */
export interface CatalogInside {
  readonly pool: ShardPool;
  readonly path: (file: string) => string;
  readonly store: (map: ShardMap) => Promise<void>;
  readonly eraseLeft: () => Promise<void>;
  readonly add: (map: ShardMap) => Database;
  readonly announce: (database: Database, what: CatalogEvent) => void;
}
