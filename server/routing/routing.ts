/**
 * Requests on any node: what is asked of a database that is not wholly here is passed on to the nodes that have it, and their answers are put
 * together. A database that is all here is served as on a node alone.
 */
import type { RequestListener } from 'node:http';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { documentId } from '../api/documents.js';
import type { Elsewhere, Services } from '../api/services.js';
import type { ClusterSeams } from '../cluster/parts.js';
import type { Membership } from '../cluster/shared-records.js';
import { UPDATES_DATABASE } from '../databases/update-writer.js';
import type { Exchange } from '../http/exchange.js';
import type { JsonValue } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import { copy } from './copying.js';
import { DividedReads } from './divided-reads.js';
import { DividedWrites } from './divided-writes.js';
import { InnerServer } from './inner-server.js';
import { type MergedChangesParts, mergedChanges, mergedFeed } from './merged-changes.js';
import { MergedLists } from './merged-lists.js';
import { Owners } from './owners.js';
import { Passing } from './passing.js';
import { Refusal, sendOn } from './replies.js';
import { Requests } from './requests.js';
import { RemoteUsers } from './users-elsewhere.js';
import { WholeDatabase } from './whole-database.js';

/** What there is before there is a `Routing`. */
export type ServicesHere = Omit<Services, 'elsewhere'>;

type Serve = Route['handle'];

/** Of one document, or of something in it. */
const DOCUMENT_PATHS: ReadonlySet<string> = new Set([
  '/:db/:doc',
  '/:db/_design/:ddoc',
  '/:db/_local/:local',
  '/:db/:doc/*',
  '/:db/_design/:ddoc/*',
]);
/** What the directory answers on every node. */
const EVERYWHERE: ReadonlySet<string> = new Set(['PUT /:db', 'DELETE /:db']);
/** What a node refuses that was removed from its cluster: it would tell of databases that it has no part in any more. */
const PATHS_OF_MEMBERS = /^\/(:db|_all_dbs|_dbs_info|_db_updates|_shard_splits|_reshard)(\/|$)/;
const SHARDS_PATH = '/:db/_shards';
const DB_UPDATES_PATH = '/_db_updates';
const NODE_PATH = '/_node/:node';
/** The body was read, and is not kept. */
const MOVED_MEANWHILE = 'some of the database was moved to another node meanwhile; send it again';

export class Routing implements Elsewhere {
  readonly #owners: Owners;
  readonly #requests: Requests;
  readonly #whole: WholeDatabase;
  readonly #services: ServicesHere;
  readonly #membership: Membership;

  /** `handler` serves what other nodes pass on: the same routes as those of clients. */
  constructor(services: ServicesHere, seams: ClusterSeams, handler: RequestListener) {
    const { membership, calls, handlers } = seams;
    const { world, catalog, directory: placements, users } = services;
    const { host } = world;
    const self = () => membership.self;
    this.#services = services;
    this.#membership = membership;
    const isLeaving = (name: string) => catalog.find(name)?.isSettledHere === false;
    this.#owners = new Owners(host, placements, self, isLeaving);
    const inner = new InnerServer(handler);
    const passing = new Passing({ host, catalog, placements, calls, self, inner }, handlers);
    this.#requests = new Requests(this.#owners, passing);
    this.#whole = new WholeDatabase(this.#owners, this.#requests);
    new RemoteUsers({ owners: this.#owners, calls, membership, users, catalog }, handlers);
  }

  isElsewhere(name: string): boolean {
    return this.#owners.isElsewhere(name);
  }

  async databaseInfo(name: string, exchange: Exchange): Promise<JsonValue> {
    try {
      return await this.#whole.info(exchange, name);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      throw new DivanError('UNREACHABLE', `${name}: ${error.message}`, {}, error);
    }
  }

  /** The routes, which serve databases and nodes wherever they are. */
  around(routes: readonly Route[]): Route[] {
    const table = this.#table();
    return routes.map((route) => {
      const handle = this.#serving(route, table);
      const isOfMembers = PATHS_OF_MEMBERS.test(route.path);
      return { ...route, handle: isOfMembers ? this.#unlessRemoved(handle) : handle };
    });
  }

  #serving(route: Route, table: ReadonlyMap<string, Serve>): Serve {
    const { method, path, handle } = route;
    if (path.startsWith(NODE_PATH)) return this.#ofNode(handle);
    if (path === DB_UPDATES_PATH) return this.#dbUpdates(handle);
    const key = `${method} ${path}`;
    if (!path.startsWith('/:db') || EVERYWHERE.has(key)) return handle;
    if (path === SHARDS_PATH || path.startsWith(`${SHARDS_PATH}/`))
      return this.#ofPlacement(handle);
    const elsewhere = table.get(key) ?? this.#ofDocument(route);
    if (elsewhere === undefined) throw new RangeError(`nothing serves ${key} elsewhere`);
    return this.#choosing(handle, elsewhere);
  }

  #unlessRemoved(serve: Serve): Serve {
    return (exchange) => {
      const membership = this.#membership;
      if (!membership.hasLeft(membership.self.identity)) return serve(exchange);
      throw new DivanError(
        'UNAVAILABLE',
        'this node was removed from its cluster; with an empty data directory it can be used again',
      );
    };
  }

  #choosing(here: Serve, elsewhere: Serve): Serve {
    return (exchange) => {
      // What another node passes on is served with what is here, or not at all: nothing goes round in circles.
      if (exchange.peer !== undefined) return here(exchange);
      // Even if all of it has come here since, whether the caller may is still to be decided by whoever has it.
      const isElsewhere = exchange.isForOthers || this.isElsewhere(exchange.param('db'));
      return isElsewhere ? refusing(exchange, elsewhere) : following(exchange, here, elsewhere);
    };
  }

  /** Every node knows it, but whether the caller may be told is for those to decide that have the database. */
  #ofPlacement(here: Serve): Serve {
    return async (exchange) => {
      const assertReader = () => this.#whole.assertReader(exchange);
      if (exchange.isForOthers) await refusing(exchange, assertReader, here);
      else await here(exchange);
    };
  }

  #ofDocument({ method, path }: Route): Serve | undefined {
    if (!DOCUMENT_PATHS.has(path)) return undefined;
    if (method === 'COPY') return (exchange) => copy(this.#owners, this.#requests, exchange);
    return async (exchange) =>
      sendOn(exchange, await this.#requests.ofDocument(exchange, documentId(exchange)));
  }

  #ofNode(here: Serve): Serve {
    return async (exchange) => {
      const name = exchange.param('node');
      const node = this.#membership.named(name);
      const isHere = name === '_local' || node?.identity === this.#membership.self.identity;
      if (isHere || node === undefined || exchange.peer !== undefined) return here(exchange);
      return sendOn(exchange, await this.#requests.passOn(exchange, node));
    };
  }

  #feeds(): MergedChangesParts {
    const { world, config, feeds: limits, stopping } = this.#services;
    return { host: world.host, config, limits, stopping, requests: this.#requests };
  }

  #dbUpdates(here: Serve): Serve {
    const feeds = this.#feeds();
    const kind = { database: UPDATES_DATABASE, path: DB_UPDATES_PATH, rows: 'databases' } as const;
    const merged: Serve = (exchange) => mergedFeed(feeds, exchange, kind);
    return (exchange) =>
      exchange.peer === undefined && this.isElsewhere(UPDATES_DATABASE)
        ? refusing(exchange, merged)
        : here(exchange);
  }

  #table(): ReadonlyMap<string, Serve> {
    const { config } = this.#services;
    const requests = this.#requests;
    const whole = this.#whole;
    const lists = new MergedLists(config, this.#owners, requests, whole);
    const writes = new DividedWrites(this.#services, this.#owners, requests);
    const reads = new DividedReads(this.#services, this.#owners, requests, whole);
    const feeds = this.#feeds();
    const first: Serve = (exchange) => whole.ofFirst(exchange);
    const each: Serve = (exchange) => whole.ofEach(exchange);
    const changes: Serve = (exchange) => mergedChanges(feeds, exchange);
    const listed = ['_all_docs', '_design_docs', '_local_docs'].flatMap(
      (kind): [string, Serve][] => [
        [`GET /:db/${kind}`, (exchange) => lists.list(exchange, kind)],
        [`POST /:db/${kind}`, (exchange) => lists.list(exchange, kind)],
        [`POST /:db/${kind}/queries`, (exchange) => lists.queries(exchange, kind)],
      ],
    );
    const settings = ['_security', '_revs_limit', '_purged_infos_limit'].flatMap(
      (path): [string, Serve][] => [
        [`GET /:db/${path}`, first],
        [`PUT /:db/${path}`, each],
      ],
    );
    const upkeep = [
      '_ensure_full_commit',
      '_compact',
      '_compact/:ddoc',
      '_view_cleanup',
      '_sync_shards',
    ].map((path): [string, Serve] => [`POST /:db/${path}`, each]);
    return new Map<string, Serve>([
      ['GET /:db', async (exchange) => this.#replyInfo(exchange)],
      ['POST /:db', (exchange) => writes.postOne(exchange)],
      ['POST /:db/_bulk_docs', (exchange) => writes.postMany(exchange)],
      ['POST /:db/_bulk_get', (exchange) => reads.bulkGet(exchange)],
      ['POST /:db/_revs_diff', (exchange) => reads.revisions(exchange, undefined)],
      ['POST /:db/_missing_revs', (exchange) => reads.revisions(exchange, 'missing_revs')],
      ['POST /:db/_purge', (exchange) => reads.purge(exchange)],
      ['GET /:db/_changes', changes],
      ['POST /:db/_changes', changes],
      ...listed,
      ...settings,
      ...upkeep,
    ]);
  }

  async #replyInfo(exchange: Exchange): Promise<void> {
    exchange.reply(200, await this.#whole.info(exchange, exchange.param('db')));
  }
}

/** Serves what is all here; a request that is still not served when some of that has gone to another node goes after it. */
async function following(exchange: Exchange, here: Serve, elsewhere: Serve): Promise<void> {
  try {
    await here(exchange);
  } catch (error) {
    if (!isDivanError(error, 'MOVED') || exchange.response.headersSent) throw error;
    if (exchange.hasBody) throw new DivanError('UNAVAILABLE', MOVED_MEANWHILE, {}, error);
    await refusing(exchange, elsewhere);
  }
}

/** Replies what a node refuses with. */
async function refusing(exchange: Exchange, ...serves: readonly Serve[]): Promise<void> {
  try {
    for (const serve of serves) await serve(exchange);
  } catch (error) {
    if (!(error instanceof Refusal) || exchange.response.headersSent) throw error;
    error.reply(exchange);
  }
}
