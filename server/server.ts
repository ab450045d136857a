/**
 * The server: all of its parts put together, as a handler of requests that listens nowhere.
 *
 * Lifecycle: built (the data directory is locked, half-done work is finished) -> serving -> stopping (what waits, such as feeds, ends; what
 * runs goes on) -> closed (the shards are closed and the data directory is free).
 */
import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
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
import { nodeInfoRoutes } from './api/node-info.js';
import { revisionRoutes } from './api/revisions.js';
import { serverInfoRoutes } from './api/server-info.js';
import type { CallerFinder, Services } from './api/services.js';
import { NOBODY } from './auth/caller.js';
import type { Config } from './config/config.js';
import { Catalog } from './databases/catalog.js';
import { Compactions } from './databases/compaction.js';
import { isSystemName } from './databases/database-name.js';
import { ShardPool } from './databases/shard-pool.js';
import type { Exchange, ExchangeContext } from './http/exchange.js';
import { BodyBudget } from './http/request-body.js';
import { type Route, Router } from './http/router.js';
import { NodeRecords } from './node-records.js';
import { Uuids } from './uuids.js';
import type { ServerWorld } from './world.js';

export interface ServerOptions {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly log: Logger;
  /** Of the package. */
  readonly version: string;
  /** The first admin, `user:password`. */
  readonly admin: string | undefined;
  /** Threads for a compaction; 0 for none, as a storage that only this thread can reach needs. */
  readonly rewriteWorkers?: number | undefined;
}

/** An overlay takes at most so much memory; many shards may be open. */
const OVERLAY_BYTES = 32 * 1024 * 1024;

export class DivanServer {
  readonly services: Services;
  readonly router: Router;
  readonly #stopping: AbortController;

  private constructor(services: Services, router: Router, stopping: AbortController) {
    this.services = services;
    this.router = router;
    this.#stopping = stopping;
  }

  /** Throws `LOCKED` if another server has the data directory, `CORRUPT`, and what the disk throws. */
  static async build(options: ServerOptions): Promise<DivanServer> {
    const { world, config, log, version, admin } = options;
    const dataDir = config.get('couchdb/database_dir');
    if (await world.storage.makeDirectory(dataDir)) await world.storage.syncDirectory(dataDir);
    const records = await NodeRecords.open(world, dataDir);
    const tasks = new ActiveTasks(world.host);
    const { rewriteWorkers: workers } = options;
    const compactions = new Compactions({ world, config, tasks, log, workers });
    const pool = new ShardPool(world, {
      openMax: config.get('couchdb/max_dbs_open'),
      idleMs: config.get('couchdb/idle_shard_timeout'),
      cacheBytes: config.get('couchdb/shard_cache_size'),
      overlayBytes: OVERLAY_BYTES,
      onOpened: (slot, shard) => compactions.watch(slot, shard),
    });
    try {
      for (const problem of config.useRecords(records)) log.warn(problem);
      const catalog = await Catalog.open(world, records, pool, dataDir);
      compactions.attach(catalog);
      catalog.settle((name, err) => log.error({ err, name }, 'a database could not be settled'));
      const stopping = new AbortController();
      const services: Services = {
        world,
        config,
        log,
        version,
        uuid: Buffer.from(world.host.randomBytes(16)).toString('hex'),
        records,
        pool,
        catalog,
        uuids: new Uuids(world.host),
        tasks,
        compactions,
        stopping: stopping.signal,
        bodyBudget: new BodyBudget(config.get('chttpd/max_request_bytes_in_flight')),
      };
      return new DivanServer(services, newRouter(services, finderOf(admin ?? '')), stopping);
    } catch (error) {
      await compactions.close();
      await pool.close();
      await records.close();
      throw error;
    }
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
      await this.services.compactions.close();
      await this.services.pool.close();
    } finally {
      await this.services.records.close();
    }
  }
}

function routesOf(services: Services): Route[] {
  return [
    ...serverInfoRoutes(services),
    ...nodeInfoRoutes(services),
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
  ];
}

function newRouter(services: Services, callers: CallerFinder): Router {
  const { config, world, log, version, bodyBudget } = services;
  const context: ExchangeContext = {
    host: world.host,
    serverName: `Divan/${version}`,
    bodyBudget,
    limits: {
      requestBytesMax: config.get('chttpd/max_http_request_size'),
      documentBytesMax: config.get('couchdb/max_document_size'),
      queryParametersMax: config.get('chttpd/max_query_parameters'),
      stalledMs: config.get('chttpd/slow_reader_timeout'),
    },
  };
  const authorization = new Authorization(services, callers);
  const hooks = {
    accepts,
    authorize: authorization.authorize.bind(authorization),
    onError: (exchange: Exchange, error: unknown) => {
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

/** One admin with a password, for now. */
function finderOf(admin: string): CallerFinder {
  const expected = Buffer.from(`Basic ${Buffer.from(admin).toString('base64')}`);
  return {
    authenticate({ authorization }) {
      const given = Buffer.from(authorization ?? '');
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return NOBODY;
      return { name: admin.split(':')[0], roles: ['_admin'], isServerAdmin: true, via: 'basic' };
    },
  };
}
