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
import { changesRoutes } from './api/changes.js';
import { databaseSettingsRoutes } from './api/database-settings.js';
import { databaseUpkeepRoutes } from './api/database-upkeep.js';
import { databaseRoutes } from './api/databases.js';
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
import { shardSplitsRoutes } from './api/shard-splits.js';
import { Admins } from './auth/admins.js';
import { Authenticator } from './auth/authenticator.js';
import { openIdentity } from './auth/node-identity.js';
import { PasswordHasher } from './auth/password-hasher.js';
import { USERS_DATABASE } from './auth/user-documents.js';
import { UserStore } from './auth/user-store.js';
import type { CallHandlers, PeerCalls } from './cluster/peers.js';
import type { Membership, SharedRecords } from './cluster/shared-records.js';
import type { Config } from './config/config.js';
import { Catalog } from './databases/catalog.js';
import { CatalogDirectory } from './databases/catalog-directory.js';
import { Compactions } from './databases/compaction.js';
import { isSystemName } from './databases/database-name.js';
import { ClusterDirectory } from './databases/directory.js';
import type { Directory } from './databases/placement.js';
import { ShardHandover } from './databases/shard-handover.js';
import { namesOfShardFile } from './databases/shard-map.js';
import { ShardPool } from './databases/shard-pool.js';
import { Cors } from './http/cors.js';
import type { Exchange, ExchangeContext } from './http/exchange.js';
import { BodyBudget } from './http/request-body.js';
import { type Route, Router } from './http/router.js';
import { type MetricSources, Metrics, type ProcessMeter } from './metrics.js';
import { NodeRecords } from './node-records.js';
import { ClusterJobs } from './splits/cluster-jobs.js';
import type { JobRunner } from './splits/job.js';
import { JobManager } from './splits/job-manager.js';
import { LiveJobRunner } from './splits/live-job-runner.js';
import { MoveSource } from './splits/move-source.js';
import { MoveTarget } from './splits/move-target.js';
import { OwnJobs } from './splits/own-jobs.js';
import { filesOf } from './splits/plan-job.js';
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
  /** What this node has in common with others; undefined for a node alone. */
  readonly cluster?: ClusterSeams | undefined;
  /** Does the work of jobs that split and merge shards; undefined for the one that does it on the shards that are open. */
  readonly runner?: JobRunner | undefined;
}

/** An overlay takes at most so much memory; many shards may be open. */
const OVERLAY_BYTES = 32 * 1024 * 1024;

/** How this node knows of others. */
export interface ClusterSeams {
  readonly records: SharedRecords;
  readonly membership: Membership;
  readonly calls: PeerCalls;
  readonly handlers: CallHandlers;
}

export class DivanServer {
  readonly services: Services;
  readonly router: Router;
  /** An admin that was made at this start because there was none, to be printed once. */
  readonly generatedAdmin: { readonly name: string; readonly password: string } | undefined;
  readonly #stopping: AbortController;

  private constructor(
    services: Services,
    stopping: AbortController,
    generatedAdmin: DivanServer['generatedAdmin'],
  ) {
    this.services = services;
    this.router = newRouter(services);
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
    const pool = new ShardPool(world, {
      openMax: config.get('couchdb/max_dbs_open'),
      idleMs: config.get('couchdb/idle_shard_timeout'),
      cache: new CacheSpace(config.get('couchdb/cache_size')),
      overlayBytes: OVERLAY_BYTES,
      onOpened: (slot, shard) => compactions.watch(slot, shard),
    });
    try {
      return await DivanServer.#assemble(options, { records, hasher, tasks, compactions, pool });
    } catch (error) {
      await compactions.close();
      await pool.close();
      await hasher.close();
      await records.close();
      throw error;
    }
  }

  static async #assemble(
    options: ServerOptions,
    parts: Pick<Services, 'records' | 'hasher' | 'tasks' | 'compactions' | 'pool'>,
  ): Promise<DivanServer> {
    const { world, config, log, version, admin, process } = options;
    const { records, hasher, compactions, pool } = parts;
    const feeds = new FeedLimits();
    const { host } = world;
    for (const problem of config.useRecords(records)) log.warn(problem);
    const { uuid, secret } = await openIdentity(world, records);
    const configured = {
      environment: admin,
      file: config.fileAdmins,
      address: config.get('chttpd/bind_address'),
    };
    const { admins, generated } = await Admins.open({ host, records, hasher }, configured);
    const users = new UserStore(hasher);
    const dataDir = config.get('couchdb/database_dir');
    const guards = new Map([[USERS_DATABASE, users]]);
    const catalog = await Catalog.open(world, { records, pool, dataDir }, guards);
    users.attach(catalog);
    compactions.attach(catalog);
    const jobs = openJobs(options, { ...parts, catalog });
    // Before anybody writes: it holds back what is not this node's yet.
    const arrivals = openMoveTarget(options, { ...parts, catalog, jobs });
    catalog.settle((name, err) => log.error({ err, name }, 'a database could not be settled'));
    const directory = await openDirectory(options, catalog, uuid);
    arrivals?.begin(directory);
    const stopping = new AbortController();
    // Any number of feeds listen to it.
    setMaxListeners(0, stopping.signal);
    const authenticator = new Authenticator({ host, config, hasher, admins, users, secret });
    const services: Services = {
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
      uuid,
      catalog,
      directory,
      jobs,
      arrivals,
      clusterJobs: openClusterJobs(options, jobs, catalog),
      admins,
      users,
      authenticator,
      uuids: new Uuids(host),
      cors: new Cors(config),
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
      await Promise.all(catalog.names().map((name) => catalog.find(name)?.flushLater()));
      await this.services.jobs.close();
      await this.services.arrivals?.close();
      await this.services.directory.close();
      await this.services.compactions.close();
      await this.services.pool.close();
    } finally {
      this.services.authenticator.close();
      await this.services.hasher.close();
      await this.services.records.close();
    }
  }
}

function openJobs(
  { world, config, log, runner, rewriteWorkers: workers, watchEventLoop, cluster }: ServerOptions,
  parts: Pick<Services, 'records' | 'tasks' | 'compactions' | 'pool' | 'catalog'>,
): JobManager {
  const { catalog, pool } = parts;
  const dataDir = config.get('couchdb/database_dir');
  const common = { world, config, pool, dataDir, watchEventLoop };
  const handover = new ShardHandover(catalog);
  const moves =
    cluster === undefined
      ? undefined
      : new MoveSource({ ...common, ...cluster, handover }, cluster.handlers);
  const jobs = JobManager.open({
    ...{ ...parts, world, config, log, shared: cluster, moves },
    runner: runner ?? new LiveJobRunner({ ...common, catalog, workers, moves }),
  });
  moves?.attach(jobs.all);
  return jobs;
}

/** Takes shards that other nodes move to this one. */
function openMoveTarget(
  { world, config, log, cluster }: ServerOptions,
  parts: Pick<Services, 'records' | 'pool' | 'catalog' | 'jobs'>,
): MoveTarget | undefined {
  if (cluster === undefined) return undefined;
  const { membership, calls, handlers } = cluster;
  const { records, pool, catalog, jobs } = parts;
  return new MoveTarget(
    {
      ...{ world, records, pool, catalog, membership, calls },
      dataDir: config.get('couchdb/database_dir'),
      handover: new ShardHandover(catalog),
      isInJob: (file) => [...jobs.all.values()].some(({ job }) => filesOf(job).includes(file)),
      onError: (err) => log.warn({ err }, 'what became of a shard is asked again later'),
    },
    handlers,
  );
}

function openClusterJobs(
  { config, cluster }: ServerOptions,
  jobs: JobManager,
  catalog: Catalog,
): ClusterJobs {
  return new ClusterJobs(new OwnJobs(jobs, catalog), config.get('node/name'), cluster);
}

function openDirectory(
  { world, config, log, cluster }: ServerOptions,
  catalog: Catalog,
  uuid: string,
): Promise<Directory> {
  if (cluster === undefined) {
    const self = () => ({ name: config.get('node/name'), identity: uuid, url: '' });
    return Promise.resolve(new CatalogDirectory(catalog, self));
  }
  const onError = (name: string, err: unknown) =>
    log.warn(
      { err, name },
      'a database is not yet what the cluster says it is; this is tried again',
    );
  return ClusterDirectory.open({ ...cluster, world, catalog, onError }, cluster.handlers);
}

function routesOf(services: Services): Route[] {
  return [
    ...serverInfoRoutes(services),
    ...sessionRoutes(services),
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

function newRouter(services: Services): Router {
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
  return new Router(context, hooks, routesOf(services), config.get('chttpd/max_uri_length'));
}

/** Names with an underscore are the server's own, but for some. */
function accepts(param: string, segment: string): boolean {
  if (!segment.startsWith('_')) return segment !== '';
  if (param === 'db') return isSystemName(segment);
  return param !== 'doc' || /^_(design|local)\//.test(segment);
}
