/** What of a catalog is open to those who change the part of a database that a node has. */
import type { CatalogEvent } from './catalog.js';
import type { Database } from './database.js';
import type { ShardMap } from './shard-map.js';
import type { ShardPool } from './shard-pool.js';

/** What `ShardHandover` is given of a catalog. */
export interface CatalogInside {
  readonly pool: ShardPool;
  readonly path: (file: string) => string;
  readonly store: (map: ShardMap) => Promise<void>;
  readonly eraseLeft: () => Promise<void>;
  readonly add: (map: ShardMap) => Database;
  readonly announce: (database: Database, what: CatalogEvent) => void;
}
