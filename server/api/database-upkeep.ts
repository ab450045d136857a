/** `_ensure_full_commit`, `_compact`, `_view_cleanup`, `_purge`, `_shards`, `_sync_shards`: what operators do with a database. */
import { DivanError } from '../../engine/errors.js';
import { checkId, isLocalId } from '../../engine/shard/document.js';
import { formatRange, hashOf, isInRange, type ShardRange } from '../../engine/shard/hash.js';
import { formatRev, parseRev, type Revision } from '../../engine/shard/revision.js';
import type { Database } from '../databases/database.js';
import { checkDatabaseName } from '../databases/database-name.js';
import type { Placement } from '../databases/placement.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonObject, type JsonValue, stringsOf } from '../http/json-value.js';
import { REST, type Route } from '../http/router.js';
import type { Services } from './services.js';

const PURGE_UUID_BYTES = 16;

export function databaseUpkeepRoutes(services: Services): Route[] {
  const upkeep = new Upkeep(services);
  const route = (
    method: Route['method'],
    path: string,
    access: Route['access'],
    handle: Route['handle'],
  ): Route => ({ method, path: `/:db/${path}`, access, handle });
  return [
    route('POST', '_ensure_full_commit', 'database_member', (exchange) => upkeep.ensure(exchange)),
    route('POST', '_compact', 'database_admin', (exchange) => upkeep.compact(exchange)),
    route('POST', '_compact/:ddoc', 'database_admin', (exchange) => upkeep.nothing(exchange)),
    route('POST', '_view_cleanup', 'database_admin', (exchange) => upkeep.nothing(exchange)),
    route('POST', '_sync_shards', 'server_admin', (exchange) => upkeep.nothing(exchange)),
    route('POST', '_purge', 'server_admin', (exchange) => upkeep.purge(exchange)),
    route('GET', '_shards', 'database_member', (exchange) => upkeep.shards(exchange)),
    route('GET', `_shards/${REST}`, 'database_member', (exchange) => upkeep.shardOf(exchange)),
  ];
}

/** A purge that was asked for. */
interface Purge {
  readonly id: string;
  readonly revs: readonly Revision[];
}

interface PlacedRange {
  readonly range: ShardRange;
  readonly name: string;
  /** The names of the nodes that have it. */
  readonly nodes: readonly string[];
}

/** In their order. */
function rangesOf({ parts }: Placement): PlacedRange[] {
  const ranges = new Map<string, PlacedRange>();
  for (const { node, shards } of parts) {
    for (const { range } of shards) {
      const name = formatRange(range);
      ranges.set(name, { range, name, nodes: [...(ranges.get(name)?.nodes ?? []), node.name] });
    }
  }
  return [...ranges.values()].sort((a, b) => a.range.start - b.range.start);
}

class Upkeep {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  /** What was acknowledged is durable already, but for what `batch=ok` only accepted. */
  async ensure(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    exchange.assertJsonType();
    await database.flushLater();
    const { map } = database;
    exchange.reply(201, { ok: true, instance_start_time: String(map.timestamp) });
  }

  compact(exchange: Exchange): void {
    const database = this.#database(exchange);
    exchange.assertJsonType();
    this.#services.compactions.request(database);
    exchange.reply(202, { ok: true });
  }

  /** There are no views whose indexes could be compacted or removed, and no second copies to be told of anything. */
  nothing(exchange: Exchange): void {
    this.#database(exchange);
    exchange.assertJsonType();
    exchange.reply(202, { ok: true });
  }

  async purge(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    const { host } = this.#services.world;
    const purges = this.#purgesOf(await exchange.jsonObject());
    const purged = new Map<string, string[]>();
    // One that fails must not hide that others were made; they are the same when they are sent again.
    const results = await Promise.allSettled(
      purges.map(async ({ id, revs }) => {
        const uuid = host.randomBytes(PURGE_UUID_BYTES);
        const gone = await database.purge({ uuid, id: Buffer.from(id), revs });
        purged.set(id, gone.map(formatRev));
      }),
    );
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    const inOrder = purges.map(({ id }): [string, string[]] => [id, purged.get(id) ?? []]);
    exchange.reply(201, { purge_seq: null, purged: Object.fromEntries(inOrder) });
  }

  shards(exchange: Exchange): void {
    const nodes = new Map<string, JsonValue>();
    for (const range of rangesOf(this.#placement(exchange))) {
      nodes.set(range.name, range.nodes);
    }
    exchange.reply(200, { shards: Object.fromEntries(nodes) });
  }

  shardOf(exchange: Exchange): void {
    const placement = this.#placement(exchange);
    const id = Buffer.from(exchange.param(REST));
    checkId(id);
    const hash = hashOf(id, placement.hashRule);
    const found = rangesOf(placement).find(({ range }) => isInRange(hash, range));
    if (found === undefined) {
      throw new DivanError('UNAVAILABLE', 'the range of the document is on no node that is known');
    }
    exchange.reply(200, { range: found.name, nodes: found.nodes });
  }

  #placement(exchange: Exchange): Placement {
    const name = exchange.param('db');
    const placement = this.#services.directory.find(name);
    if (placement !== undefined) return placement;
    checkDatabaseName(name);
    throw new DivanError('NOT_FOUND', 'Database does not exist.');
  }

  #database(exchange: Exchange): Database {
    return this.#services.catalog.get(exchange.param('db'));
  }

  /** Throws `BAD_REQUEST`, `INVALID_DOCUMENT`, before anything is purged. */
  #purgesOf(body: JsonObject): Purge[] {
    const { config } = this.#services;
    const entries = Object.entries(body);
    if (entries.length > config.get('purge/max_document_id_number')) {
      throw new DivanError('BAD_REQUEST', 'Exceeded maximum number of documents.');
    }
    const revsMax = config.get('purge/max_revisions_number');
    let count = 0;
    return entries.map(([id, value]) => {
      checkId(Buffer.from(id));
      if (isLocalId(Buffer.from(id))) {
        throw new DivanError('BAD_REQUEST', 'a _local document can not be purged: delete it');
      }
      const revs = stringsOf(value, 'the list of revisions', revsMax).map(parseRev);
      count += revs.length;
      if (count > revsMax) {
        throw new DivanError('BAD_REQUEST', 'Exceeded maximum number of revisions.');
      }
      return { id, revs };
    });
  }
}
