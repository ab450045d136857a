/** A node of a `FakeCluster`: the parts of a server that have to do with where databases are. */
import type { Storage } from '../../engine/file/storage.js';
import { CallHandlers, type Node } from '../../server/cluster/peers.js';
import type { Catalog } from '../../server/databases/catalog.js';
import type { Database } from '../../server/databases/database.js';
import { databaseKey, readDatabaseValue } from '../../server/databases/database-record.js';
import { ClusterDirectory } from '../../server/databases/directory.js';
import type { NewDatabase } from '../../server/databases/placement.js';
import type { ShardPool } from '../../server/databases/shard-pool.js';
import type { NodeRecords } from '../../server/node-records.js';
import { EagerHost } from './eager-host.js';
import { type FakeCluster, FakeRecords } from './fake-cluster.js';
import { openKeptParts } from './kept-parts.js';

const TURNS_MAX = 20_000;

/** Its clock can be set. */
export class SkewedHost extends EagerHost {
  skewMs = 0;

  override timeOfDay(): number {
    return super.timeOfDay() + this.skewMs;
  }
}

export interface StartOptions {
  readonly cluster: FakeCluster;
  readonly index: number;
  readonly storage: Storage;
  readonly seed: number;
  readonly skewMs?: number;
}

export class DirectoryNode {
  readonly node: Node;
  readonly host: SkewedHost;
  readonly shared: FakeRecords;
  readonly pool: ShardPool;
  readonly catalog: Catalog;
  readonly directory: ClusterDirectory;
  readonly #cluster: FakeCluster;
  readonly #records: NodeRecords;

  private constructor(
    cluster: FakeCluster,
    records: NodeRecords,
    parts: Pick<DirectoryNode, 'node' | 'host' | 'shared' | 'pool' | 'catalog' | 'directory'>,
  ) {
    this.#cluster = cluster;
    this.#records = records;
    this.node = parts.node;
    this.host = parts.host;
    this.shared = parts.shared;
    this.pool = parts.pool;
    this.catalog = parts.catalog;
    this.directory = parts.directory;
  }

  /** Starts as a server does. What it hears of afterwards is up to `FakeCluster.exchange`. */
  static async start(options: StartOptions): Promise<DirectoryNode> {
    const { cluster, index, storage, seed, skewMs = 0 } = options;
    const node = cluster.nodes[index];
    if (node === undefined) throw new RangeError(`there is no node ${index}`);
    const host = new SkewedHost(seed * 100 + index);
    host.skewMs = skewMs;
    const world = { storage, host };
    const { records, pool, catalog } = await openKeptParts(world);
    const shared = new FakeRecords(cluster, node, records);
    const handlers = new CallHandlers();
    const membership = cluster.membership(node);
    const calls = cluster.calls(node);
    const parts = { world, catalog, records: shared, membership, calls, onError: () => undefined };
    const directory = await ClusterDirectory.open(parts, handlers);
    cluster.running.set(node.identity, { records: shared, handlers });
    return new DirectoryNode(cluster, records, { node, host, shared, pool, catalog, directory });
  }

  create(name: string, options: Partial<NewDatabase> = {}): Promise<boolean> {
    const security = Buffer.from('{"admins":{"names":["x"]}}');
    return this.directory.create(name, {
      ...{ q: 4, copies: 1, hashRule: 'document', security },
      ...options,
    });
  }

  /** Which incarnations it knows, those that are deleted left out. */
  knownIncarnations(name: string): string[] {
    return [...readDatabaseValue(this.shared.get(databaseKey(name))).incarnations.keys()];
  }

  /** Its process ends, as if it was killed. What it still does has no effect. */
  kill(): void {
    this.#cluster.running.delete(this.node.identity);
    this.host.die();
  }

  async close(): Promise<void> {
    this.#cluster.running.delete(this.node.identity);
    await this.directory.close();
    await this.pool.close();
    await this.#records.close();
    this.host.die();
  }
}

/** Resolves when `isSo`, with whether it is. */
export async function eventually(isSo: () => boolean): Promise<boolean> {
  for (let turn = 0; turn < TURNS_MAX && !isSo(); turn++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  return isSo();
}

/** The one of some nodes that holds a document, and its part of the database. */
export function ownerOf(
  nodes: readonly DirectoryNode[],
  name: string,
  id: string,
): Database | undefined {
  return nodes
    .map(({ catalog }) => catalog.find(name))
    .find((database) => (database?.current.find(Buffer.from(id)) ?? -1) >= 0);
}
