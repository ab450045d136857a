/** The parts of a server that keep databases, opened as `DivanServer.build` does, with little memory. */
import type { Host } from '../../engine/file/host.js';
import { CacheSpace } from '../../engine/shard/cache-space.js';
import { evenRanges, FULL_RANGE } from '../../engine/shard/hash.js';
import { Catalog } from '../../server/databases/catalog.js';
import type { Database } from '../../server/databases/database.js';
import { ShardPool } from '../../server/databases/shard-pool.js';
import { NodeRecords } from '../../server/node-records.js';
import type { ServerWorld } from '../../server/world.js';

export const DATA_DIR = '/data';

const BYTES = 64 * 1024;

export interface KeptParts {
  readonly records: NodeRecords;
  readonly pool: ShardPool;
  readonly catalog: Catalog;
  readonly host: Host;
}

/** Throws what the disk throws. */
export async function openKeptParts(world: ServerWorld): Promise<KeptParts> {
  const records = await NodeRecords.open(world, DATA_DIR);
  const pool = new ShardPool(world, {
    openMax: 100,
    idleMs: 1e9,
    cache: new CacheSpace(BYTES),
    overlayBytes: BYTES,
  });
  const catalog = await Catalog.open(world, { records, pool, dataDir: DATA_DIR });
  return { records, pool, catalog, host: world.host };
}

/** Makes a database that is all on this node. Throws as `Catalog.make`. */
export function makeWhole(
  { catalog, host }: Pick<KeptParts, 'catalog' | 'host'>,
  name: string,
  { q, security = Buffer.of() }: { readonly q: number; readonly security?: Uint8Array },
): Promise<Database> {
  const incarnation = Buffer.from(host.randomBytes(16)).toString('hex');
  const timestamp = catalog.nextSuffix(name);
  const ranges = evenRanges(FULL_RANGE, q);
  const part = { incarnation, timestamp, copies: 1, hashRule: 'document', ranges } as const;
  return catalog.make(name, part, security);
}
