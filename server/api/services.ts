/** What the routes work with. */
import type { Logger } from 'pino';
import type { ActiveTasks } from '../active-tasks.js';
import type { Admins } from '../auth/admins.js';
import type { Authenticator } from '../auth/authenticator.js';
import type { NodeIdentity } from '../auth/node-identity.js';
import type { PasswordHasher } from '../auth/password-hasher.js';
import type { UserStore } from '../auth/user-store.js';
import type { CallServer } from '../cluster/call-server.js';
import type { ClusterParts } from '../cluster/parts.js';
import type { Config } from '../config/config.js';
import type { Catalog } from '../databases/catalog.js';
import type { Compactions } from '../databases/compaction.js';
import type { DatabaseUpdates } from '../databases/database-updates.js';
import type { Directory } from '../databases/placement.js';
import type { ShardPool } from '../databases/shard-pool.js';
import type { Cors } from '../http/cors.js';
import type { Exchange } from '../http/exchange.js';
import type { JsonValue } from '../http/json-value.js';
import type { BodyBudget } from '../http/request-body.js';
import type { Metrics } from '../metrics.js';
import type { NodeRecords } from '../node-records.js';
import type { Setup } from '../setup/setup.js';
import type { ClusterJobs } from '../splits/cluster-jobs.js';
import type { JobManager } from '../splits/job-manager.js';
import type { MoveTarget } from '../splits/move-target.js';
import type { Uuids } from '../uuids.js';
import type { ServerWorld } from '../world.js';
import type { FeedLimits } from './feed-limits.js';

/** What routes ask of databases of which some or all is on other nodes. */
export interface Elsewhere {
  isElsewhere(name: string): boolean;
  /** What `GET /{db}` tells the caller of an exchange. Throws `NOT_FOUND`, and `UNREACHABLE` for a node that does not answer. */
  databaseInfo(name: string, exchange: Exchange): Promise<JsonValue>;
}

export interface Services {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly log: Logger;
  /** Of the package. */
  readonly version: string;
  /** Of the server: that of this node, until it takes over that of its cluster. */
  readonly identity: NodeIdentity;
  readonly cluster: ClusterParts;
  readonly setup: Setup;
  readonly records: NodeRecords;
  readonly pool: ShardPool;
  /** What of databases is on this node. */
  readonly catalog: Catalog;
  /** Which databases there are, and where. */
  readonly directory: Directory;
  /** Databases that are not wholly on this node. */
  readonly elsewhere: Elsewhere;
  readonly uuids: Uuids;
  readonly cors: Cors;
  readonly hasher: PasswordHasher;
  readonly admins: Admins;
  readonly authenticator: Authenticator;
  readonly users: UserStore;
  readonly metrics: Metrics;
  /** By `host.now`. */
  readonly startedMs: number;
  /** Answers the calls of other nodes. */
  readonly callServer: CallServer;
  readonly feeds: FeedLimits;
  readonly tasks: ActiveTasks;
  readonly compactions: Compactions;
  /** What happens to databases, for `_db_updates`. */
  readonly updates: DatabaseUpdates;
  /** That split, merge and move shards of this node. */
  readonly jobs: JobManager;
  /** Shards that other nodes move to this one. */
  readonly arrivals: MoveTarget;
  /** Those of all nodes. */
  readonly clusterJobs: ClusterJobs;
  /** Aborted when the server is about to stop: what waits for something ends then. */
  readonly stopping: AbortSignal;
  /** What all bodies of requests in memory take. */
  readonly bodyBudget: BodyBudget;
}
