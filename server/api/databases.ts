/** `/{db}`, `_all_dbs`, `_dbs_info`: databases as wholes. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { firstSecurity } from '../auth/first-security.js';
import type { Database } from '../databases/database.js';
import { isSystemName } from '../databases/database-name.js';
import { updateSeqOf } from '../databases/since-token.js';
import { errorReply, isInternalError } from '../http/error-table.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonValue, requiredStrings } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import { idRange } from './id-range.js';
import { type ListQuery, listQuery } from './list-query.js';
import type { Services } from './services.js';

/** As in CouchDB. */
const INFO_KEYS_MAX = 100;
const Q_MAX = 64;

export function databaseRoutes(services: Services): Route[] {
  const databases = new Databases(services);
  return [
    {
      method: 'PUT',
      path: '/:db',
      access: 'server_admin',
      handle: (exchange) => databases.create(exchange),
    },
    {
      method: 'GET',
      path: '/:db',
      access: 'database_member',
      handle: (exchange) => databases.info(exchange),
    },
    {
      method: 'DELETE',
      path: '/:db',
      access: 'server_admin',
      handle: (exchange) => databases.remove(exchange),
    },
    {
      method: 'GET',
      path: '/_all_dbs',
      access: 'server_admin',
      handle: (exchange) => databases.list(exchange),
    },
    {
      method: 'GET',
      path: '/_dbs_info',
      access: 'server_admin',
      handle: (exchange) => databases.infos(exchange),
    },
    {
      method: 'POST',
      path: '/_dbs_info',
      access: 'server_admin',
      handle: (exchange) => databases.infosOf(exchange),
    },
  ];
}

class Databases {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  async create(exchange: Exchange): Promise<void> {
    const { directory, config } = this.#services;
    const { query } = exchange;
    const name = exchange.param('db');
    const partitioned = query.boolean('partitioned') === true;
    if (partitioned && isSystemName(name)) {
      throw new DivanError('BAD_REQUEST', 'Cannot partition a system database');
    }
    const isEverywhere = await directory.create(name, {
      q: query.integer('q', { min: 1, max: Q_MAX }) ?? config.get('cluster/q'),
      copies: query.integer('n', { min: 1, max: Q_MAX }) ?? config.get('cluster/n'),
      hashRule: partitioned ? 'partition' : 'document',
      security: firstSecurity(name, config.get('couchdb/default_security')),
    });
    const { host } = exchange.request.headers;
    const location = `http://${host ?? 'localhost'}/${encodeURIComponent(name)}`;
    exchange.reply(isEverywhere ? 201 : 202, { ok: true }, { Location: location });
  }

  async info(exchange: Exchange): Promise<void> {
    exchange.reply(200, await databaseInfo(this.#services.catalog.get(exchange.param('db'))));
  }

  async remove(exchange: Exchange): Promise<void> {
    if (exchange.query.has('rev')) {
      // CouchDB refuses this too: somebody who meant a document left its id out.
      throw new DivanError(
        'BAD_REQUEST',
        'You tried to DELETE a database with a ?rev= parameter. Did you mean to DELETE a document instead?',
      );
    }
    const isEverywhere = await this.#services.directory.remove(exchange.param('db'));
    exchange.reply(isEverywhere ? 200 : 202, { ok: true });
  }

  list(exchange: Exchange): void {
    exchange.reply(200, this.#selected(listQuery(exchange.query, undefined, INFO_KEYS_MAX)));
  }

  async infos(exchange: Exchange): Promise<void> {
    const names = this.#selected(listQuery(exchange.query, undefined, INFO_KEYS_MAX));
    await this.#replyInfos(exchange, names);
  }

  async infosOf(exchange: Exchange): Promise<void> {
    const body = await exchange.jsonObject();
    await this.#replyInfos(exchange, requiredStrings(body, 'keys', INFO_KEYS_MAX));
  }

  async #replyInfos(exchange: Exchange, names: readonly string[]): Promise<void> {
    const out = exchange.stream(200);
    if (out.closed) return;
    await out.text('[');
    for (const [index, name] of names.entries()) {
      const row = await this.#infoRow(name, exchange);
      await out.text(`${index === 0 ? '' : ','}\n${JSON.stringify(row)}`);
    }
    await out.text('\n]\n');
    await out.end();
  }

  /** Says so of a database that is not there, or not any more, or on nodes that do not answer: the others are told of all the same. */
  async #infoRow(name: string, exchange: Exchange): Promise<JsonValue> {
    const { catalog, directory, elsewhere } = this.#services;
    try {
      if (directory.find(name) === undefined) return { key: name, error: 'not_found' };
      const isElsewhere = elsewhere.isElsewhere(name);
      const info = isElsewhere
        ? await elsewhere.databaseInfo(name, exchange)
        : await databaseInfo(catalog.get(name));
      return { key: name, info };
    } catch (error) {
      if (!isDivanError(error) || isInternalError(error)) throw error;
      return { key: name, error: errorReply(error).error };
    }
  }

  /** The names that a query asks for. */
  #selected(query: ListQuery): string[] {
    const range = idRange(query, '', '');
    if (range === undefined) return [];
    const { gt, gte, lt, lte } = range;
    const names = this.#services.directory.names().filter((name) => {
      const key = Buffer.from(name);
      return (
        (gt === undefined || Buffer.compare(key, gt) > 0) &&
        (gte === undefined || Buffer.compare(key, gte) >= 0) &&
        (lt === undefined || Buffer.compare(key, lt) < 0) &&
        (lte === undefined || Buffer.compare(key, lte) <= 0)
      );
    });
    if (query.descending) names.reverse();
    return names.slice(query.skip, query.skip + query.limit);
  }
}

/** What `GET /{db}` tells. */
export async function databaseInfo(database: Database): Promise<{ [name: string]: JsonValue }> {
  return database.readAll(async (snapshots, { map, slots }) => {
    let fileBytes = 0;
    for (const slot of slots) fileBytes += await slot.fileBytes();
    const sum = (pick: (counters: (typeof snapshots)[number]['counters']) => number) =>
      snapshots.reduce((total, { counters }) => total + pick(counters), 0);
    return {
      instance_start_time: String(map.timestamp),
      db_name: map.name,
      purge_seq: String(sum(({ purgeSeq }) => purgeSeq)),
      update_seq: updateSeqOf(snapshots),
      sizes: {
        file: fileBytes,
        external: sum(({ externalBytes }) => externalBytes),
        active: sum(({ activeBytes }) => activeBytes),
      },
      props: map.hashRule === 'partition' ? { partitioned: true } : {},
      doc_del_count: sum(({ deletedDocs }) => deletedDocs),
      doc_count: sum(({ liveDocs }) => liveDocs),
      disk_format_version: DISK_FORMAT_VERSION,
      compact_running: database.isCompacting,
      cluster: {
        q: map.shards.length,
        n: map.copies,
        w: quorum(map.copies),
        r: quorum(map.copies),
      },
    };
  });
}

const DISK_FORMAT_VERSION = 1;

function quorum(copies: number): number {
  return Math.floor(copies / 2) + 1;
}
