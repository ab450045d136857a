/**
 * The server: all of its parts put together, as a handler of requests that listens nowhere.
 *
 * Lifecycle: built (the data directory is locked, half-done work is finished) -> serving -> stopping (what waits, such as feeds, ends; what
 * runs goes on) -> closed (the shards are closed and the data directory is free).
 */
import { setMaxListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { CacheSpace } from '../engine/shard/cache-space.js';
import { ActiveTasks } from './active-tasks.js';
import { allDocsRoutes } from './api/all-docs.js';
import { attachmentRoutes } from './api/attachments.js';
import { Authorization } from './api/authorization.js';
import { bulkDocumentRoutes } from './api/bulk-documents.js';
import { bulkGetRoutes } from './api/bulk-get.js';
import { callRoutes } from './api/calls.js';
import { changesRoutes } from './api/changes.js';
import { clusterSetupRoutes } from './api/cluster-setup.js';
import { databaseSettingsRoutes } from './api/database-settings.js';
import { databaseUpkeepRoutes } from './api/database-upkeep.js';
import { databaseRoutes } from './api/databases.js';
import { dbUpdatesRoutes } from './api/db-updates.js';
import { documentRoutes } from './api/documents.js';
import { FeedLimits } from './api/feed-limits.js';
import { nodeConfigRoutes } from './api/node-config.js';
import { nodeInfoRoutes } from './api/node-info.js';
import { nodeMetricsRoutes } from './api/node-metrics.js';
import { reshardRoutes } from './api/reshard.js';
import { revisionRoutes } from './api/revisions.js';
import { serverInfoRoutes } from './api/server-info.js';
import type { Services } from './api/services.js';
import { sessionRoutes } from './api/session.js';
import { setupRoutes } from './api/setup.js';
import { shardSplitsRoutes } from './api/shard-splits.js';
import { Admins } from './auth/admins.js';
import { Authenticator } from './auth/authenticator.js';
import { openIdentity } from './auth/node-identity.js';
import { PasswordHasher } from './auth/password-hasher.js';
import { USERS_DATABASE } from './auth/user-documents.js';
import { UserStore } from './auth/user-store.js';
import { seamsOf } from './cluster/parts.js';
import type { Config } from './config/config.js';
import { Catalog } from './databases/catalog.js';
import { Compactions } from './databases/compaction.js';
import { isSystemName } from './databases/database-name.js';
import { DatabaseUpdates } from './databases/database-updates.js';
import { namesOfShardFile } from './databases/shard-map.js';
import { ShardPool } from './databases/shard-pool.js';
import { Cors } from './http/cors.js';
import type { Exchange, ExchangeContext } from './http/exchange.js';
import { BodyBudget } from './http/request-body.js';
import { type Route, Router } from './http/router.js';
import { type MetricSources, Metrics, type ProcessMeter } from './metrics.js';
import {
  bindingOf,
  type ClusterOptions,
  type NodeCluster,
  newSetup,
  newUpdateWriter,
  openCluster,
  openDirectory,
} from './node-cluster.js';
import { openClusterJobs, openJobs, openMoveTarget } from './node-jobs.js';
import { NodeRecords } from './node-records.js';
import { Routing, type ServicesHere } from './routing/routing.js';
import type { JobRunner } from './splits/job.js';
import { Uuids } from './uuids.js';
import type { EventLoopWatch, ServerWorld } from './world.js';

export interface ServerOptions {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly log: Logger;
  /** Of the package. */
  readonly version: string;
  /** The first admin, `user:password`. */
  readonly admin: string | undefined;
  /** Undefined to do without what the process knows of itself. */
  readonly process?: ProcessMeter | undefined;
  /** Undefined where the work of jobs goes on at one rate, however late the event loop is. */
  readonly watchEventLoop?: (() => EventLoopWatch) | undefined;
  /** The thread that hashes passwords; 0 for none, where nothing may run beside this one. */
  readonly hashThreads?: 0 | 1;
  /** Threads for a compaction; 0 for none, as a storage that only this thread can reach needs. */
  readonly rewriteWorkers?: number | undefined;
  /** How it reaches other nodes; undefined for over the network. */
  readonly cluster?: ClusterOptions | undefined;
  /** Does the work of jobs that split and merge shards; undefined for the one that does it on the shards that are open. */
  readonly runner?: JobRunner | undefined;
}

/** What is opened first, in this order. */
type FirstParts = Pick<
  Services,
  'records' | 'hasher' | 'tasks' | 'compactions' | 'pool' | 'updates'
>;
type LocalParts = FirstParts & Pick<Services, 'catalog' | 'uuids'>;

/** An overlay takes at most so much memory; many shards may be open. */
const OVERLAY_BYTES = 32 * 1024 * 1024;

export class DivanServer {
  readonly services: Services;
  readonly router: Router;
  /** An admin that was made at this start because there was none, to be printed once. */
  readonly generatedAdmin: { readonly name: string; readonly password: string } | undefined;
  readonly #stopping: AbortController;

  private constructor(
    services: ServicesHere,
    stopping: AbortController,
    generatedAdmin: DivanServer['generatedAdmin'],
  ) {
    const routing = new Routing(services, seamsOf(services.cluster), this.handler);
    this.services = { ...services, elsewhere: routing };
    this.router = newRouter(this.services, routing.around(routesOf(this.services)));
    this.generatedAdmin = generatedAdmin;
    this.#stopping = stopping;
  }

  /**
   * Throws `LOCKED` if another server has the data directory, `CORRUPT`, `INVALID_SETTING` for a configured admin that may be none, and what
   * the disk throws.
   */
  static async build(options: ServerOptions): Promise<DivanServer> {
    const { world, config, log } = options;
    const dataDir = config.get('couchdb/database_dir');
    const records = await NodeRecords.open(world, dataDir);
    const { hashThreads: threads = 1, rewriteWorkers: workers } = options;
    const hasher = new PasswordHasher({ host: world.host, config, threads });
    const tasks = new ActiveTasks(world.host);
    const compactions = new Compactions({ world, config, tasks, log, workers });
    const updates = new DatabaseUpdates(world.host);
    const pool = new ShardPool(world, {
      openMax: config.get('couchdb/max_dbs_open'),
      idleMs: config.get('couchdb/idle_shard_timeout'),
      cache: new CacheSpace(config.get('couchdb/cache_size')),
      overlayBytes: OVERLAY_BYTES,
      onOpened: (slot, shard) => {
        compactions.watch(slot, shard);
        updates.watch(slot.path, shard);
      },
    });
    try {
      return await DivanServer.#assemble(options, {
        ...{ records, hasher, tasks, compactions, pool, updates },
      });
    } catch (error) {
      await compactions.close();
      await pool.close();
      await hasher.close();
      await records.close();
      throw error;
    }
  }

  static async #assemble(options: ServerOptions, parts: FirstParts): Promise<DivanServer> {
    const { world, config, log } = options;
    const { records, hasher, compactions, pool } = parts;
    for (const problem of config.useRecords(records)) log.warn(problem);
    const accounts = await openAccounts(options, { records, hasher });
    const dataDir = config.get('couchdb/database_dir');
    const guards = new Map([[USERS_DATABASE, accounts.users]]);
    const catalog = await Catalog.open(world, { records, pool, dataDir }, guards);
    accounts.users.attach(catalog);
    compactions.attach(catalog);
    const uuids = new Uuids(world.host);
    const node = await openCluster({ world, config, log, records, uuids }, options.cluster);
    try {
      return await DivanServer.#join(options, { ...parts, catalog, uuids }, accounts, node);
    } catch (error) {
      await node.http.close();
      await node.cluster.close();
      throw error;
    }
  }

  static async #join(
    options: ServerOptions,
    parts: LocalParts,
    accounts: Accounts,
    node: NodeCluster,
  ): Promise<DivanServer> {
    const { world, config, log, version, process } = options;
    const { records, hasher, compactions, pool, updates, catalog, uuids } = parts;
    const { identity, admins, users, authenticator, generated, changed } = accounts;
    const { host } = world;
    const base = { world, config, log, records, uuids };
    const feeds = new FeedLimits();
    const seams = seamsOf(node.cluster);
    const jobs = openJobs(options, seams, parts);
    // Before anybody writes: it holds back what is not this node's yet.
    const arrivals = openMoveTarget(options, seams, { ...parts, jobs });
    catalog.settle((name, err) => log.error({ err, name }, 'a database could not be settled'));
    const told = { catalog, onMade: updates.note.bind(updates) };
    const directory = await openDirectory(base, node, told);
    updates.attach(catalog, newUpdateWriter(base, node, { catalog, directory }));
    arrivals.begin(directory);
    const stopping = new AbortController();
    // Any number of feeds listen to it.
    setMaxListeners(0, stopping.signal);
    const setup = newSetup(node, {
      ...{ host, config, log, records, admins, hasher, identity, directory },
      secretChanged: () => authenticator.forgetAll(),
    });
    await setup.start(changed);
    const services: ServicesHere = {
      ...parts,
      metrics: new Metrics(
        metricSources({ pool, feeds, authenticator, compactions, jobs }),
        process,
      ),
      startedMs: host.now(),
      feeds,
      world,
      config,
      log,
      version,
      identity,
      cluster: node.cluster,
      setup,
      directory,
      jobs,
      arrivals,
      clusterJobs: openClusterJobs(seams, jobs, catalog),
      admins,
      users,
      authenticator,
      cors: new Cors(config),
      callServer: node.callServer,
      stopping: stopping.signal,
      bodyBudget: new BodyBudget(config.get('chttpd/max_request_bytes_in_flight')),
    };
    jobs.begin();
    return new DivanServer(services, stopping, generated);
  }

  /** Serves a request. Never throws. */
  readonly handler = (request: IncomingMessage, response: ServerResponse): void => {
    void this.router.handle(request, response);
  };

  /** Ends what waits. */
  stop(): void {
    this.#stopping.abort();
  }

  /** Closes all shards. REQUIRES: no request is being served. */
  async close(): Promise<void> {
    this.stop();
    try {
      const { catalog } = this.services;
      await this.services.setup.close();
      await this.services.updates.close();
      await Promise.all(catalog.names().map((name) => catalog.find(name)?.flushLater()));
      await this.services.jobs.close();
      await this.services.arrivals.close();
      await this.services.directory.close();
      await this.services.cluster.close();
      await this.services.compactions.close();
      await this.services.pool.close();
    } finally {
      this.services.authenticator.close();
      await this.services.hasher.close();
      await this.services.records.close();
    }
  }
}

type Accounts = Awaited<ReturnType<typeof openAccounts>>;

/** Who there is and who may say so. Throws `INVALID_SETTING`, `CORRUPT`, and what writing a record throws. */
async function openAccounts(
  { world, config, admin }: ServerOptions,
  { records, hasher }: Pick<Services, 'records' | 'hasher'>,
) {
  const { host } = world;
  const identity = await openIdentity(world, records);
  const configured = {
    environment: admin,
    file: config.fileAdmins,
    address: bindingOf(config, records).host,
  };
  const opened = await Admins.open({ host, records, hasher }, configured);
  const users = new UserStore(hasher);
  const authenticator = new Authenticator({
    ...{ host, config, hasher, admins: opened.admins, users },
    get secret() {
      return identity.secret;
    },
  });
  return { ...opened, identity, users, authenticator };
}

function routesOf(services: Services): Route[] {
  return [
    ...serverInfoRoutes(services),
    ...sessionRoutes(services),
    ...setupRoutes(services),
    ...clusterSetupRoutes(services),
    ...dbUpdatesRoutes(services),
    ...nodeInfoRoutes(services),
    ...nodeConfigRoutes(services),
    ...nodeMetricsRoutes(services),
    ...databaseRoutes(services),
    ...attachmentRoutes(services),
    ...databaseSettingsRoutes(services),
    ...databaseUpkeepRoutes(services),
    ...documentRoutes(services),
    ...bulkDocumentRoutes(services),
    ...bulkGetRoutes(services),
    ...revisionRoutes(services),
    ...allDocsRoutes(services),
    ...changesRoutes(services),
    ...shardSplitsRoutes(services),
    ...reshardRoutes(services),
    ...callRoutes(services),
  ];
}

function metricSources({
  pool,
  feeds,
  authenticator,
  compactions,
  jobs,
}: Pick<Services, 'pool' | 'feeds' | 'authenticator' | 'compactions' | 'jobs'>): MetricSources {
  return {
    openShards: () => pool.openCount,
    openDatabases: () =>
      new Set(pool.openPaths.map((path) => namesOfShardFile(path).database)).size,
    documentReads: () => pool.documentReads,
    documentWrites: () => pool.documentWrites,
    feeds: () => feeds.total,
    authCacheHits: () => authenticator.hits,
    authCacheMisses: () => authenticator.misses,
    compactionsRunning: () => (compactions.isRunning ? 1 : 0),
    compactions: () => compactions.completed,
    jobsWorking: () => jobs.load.working,
    jobsWaiting: () => jobs.load.waiting,
    jobsCompleted: () => jobs.counts.completed,
    jobsFailed: () => jobs.counts.failed,
    jobsRetried: () => jobs.counts.retries,
    jobBytes: () => jobs.bytes,
  };
}

function newRouter(services: Services, routes: readonly Route[]): Router {
  const { config, world, log, version, bodyBudget, metrics } = services;
  const context: ExchangeContext = {
    host: world.host,
    serverName: `Divan/${version}`,
    bodyBudget,
    // Some of them may be changed while the server runs.
    limits: {
      get requestBytesMax() {
        return config.get('chttpd/max_http_request_size');
      },
      get documentBytesMax() {
        return config.get('couchdb/max_document_size');
      },
      queryParametersMax: config.get('chttpd/max_query_parameters'),
      stalledMs: config.get('chttpd/slow_reader_timeout'),
    },
  };
  const authorization = new Authorization(services);
  const hooks = {
    accepts,
    admit: services.cors.admit.bind(services.cors),
    authorize: authorization.authorize.bind(authorization),
    onDone: ({ request, response }: Exchange, startMs: number) =>
      metrics.request(request.method ?? '', response.statusCode, world.host.now() - startMs),
    onError: (exchange: Exchange, error: unknown) => {
      metrics.error();
      const ref = services.uuids.next();
      log.error({ ref, err: error, url: exchange.request.url }, 'a request failed');
      return ref;
    },
  };
  return new Router(context, hooks, routes, config.get('chttpd/max_uri_length'));
}

/** Names with an underscore are the server's own, but for some. */
function accepts(param: string, segment: string): boolean {
  if (!segment.startsWith('_')) return segment !== '';
  if (param === 'db') return isSystemName(segment);
  return param !== 'doc' || /^_(design|local)\//.test(segment);
}
