/** `/_reshard`: the same jobs in the form of CouchDB 3.5 (mem3_reshard_httpd.erl). */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { formatRange, isRangeName, parseRange } from '../../engine/shard/hash.js';
import { checkDatabaseName } from '../databases/database-name.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import type { JobState } from '../splits/job.js';
import { parseShardName } from '../splits/plan-job.js';
import { bodyOf, namesMember, putJobState, wantedState } from './job-state.js';
import type { Services } from './services.js';

const STOPPED_BY_USER = 'Cluster-wide resharding stopped by the user';
/** CouchDB's jobs split in two. */
const PARTS = 2;
const COUNTED: readonly JobState[] = ['completed', 'failed', 'running', 'stopped'];

export function reshardRoutes(services: Services): Route[] {
  const reshard = new Reshard(services);
  const route = (method: Route['method'], path: string, handle: Route['handle']): Route => ({
    method,
    path: `/_reshard${path}`,
    access: 'server_admin',
    handle,
  });
  return [
    route('GET', '', (exchange) => reshard.summary(exchange)),
    route('GET', '/state', (exchange) => reshard.state(exchange)),
    route('PUT', '/state', (exchange) => reshard.setState(exchange)),
    route('GET', '/jobs', (exchange) => reshard.list(exchange)),
    route('POST', '/jobs', (exchange) => reshard.create(exchange)),
    route('GET', '/jobs/:id', (exchange) => reshard.job(exchange)),
    route('DELETE', '/jobs/:id', (exchange) => reshard.remove(exchange)),
    route('GET', '/jobs/:id/state', (exchange) => reshard.jobState(exchange)),
    route('PUT', '/jobs/:id/state', (exchange) => putJobState(services, exchange)),
  ];
}

class Reshard {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  async summary(exchange: Exchange): Promise<void> {
    const { nodes, unreachable } = await this.#services.clusterJobs.summary();
    const counts = COUNTED.map((state): [string, number] => [
      state,
      nodes.reduce((sum, node) => sum + (node.counts.get(state) ?? 0), 0),
    ]);
    exchange.reply(200, {
      state: this.#state,
      state_reason: this.#stopReason ?? null,
      ...Object.fromEntries(counts),
      total: nodes.reduce((sum, { total }) => sum + total, 0),
      ...namesMember('unreachable', unreachable),
    });
  }

  state(exchange: Exchange): void {
    exchange.reply(200, { state: this.#state, reason: this.#stopReason ?? null });
  }

  async setState(exchange: Exchange): Promise<void> {
    const { clusterJobs } = this.#services;
    const wanted = await wantedState(exchange);
    let missed: readonly string[] = [];
    if (wanted.state === 'running') missed = await clusterJobs.start();
    // As in CouchDB, the reason of the first one stays.
    else if (this.#stopReason === undefined) {
      missed = await clusterJobs.stop(wanted.reason ?? STOPPED_BY_USER);
    }
    exchange.reply(200, { ok: true, ...namesMember('unreachable', missed) });
  }

  async list(exchange: Exchange): Promise<void> {
    const { clusterJobs } = this.#services;
    const { jobs, total, unreachable } = await clusterJobs.list('reshard', 0, undefined);
    exchange.reply(200, {
      total_rows: total,
      offset: 0,
      jobs,
      ...namesMember('unreachable', unreachable),
    });
  }

  async create(exchange: Exchange): Promise<void> {
    const shards = await this.#selected(await bodyOf(exchange));
    const results: JsonObject[] = [];
    // One after another, so that they get their turns in the order of their ranges.
    for (const shard of shards) results.push(await this.#split(shard));
    const made = results.filter((result) => result['ok'] === true).length;
    exchange.reply(made === results.length ? 201 : made > 0 ? 202 : 500, results);
  }

  async job(exchange: Exchange): Promise<void> {
    exchange.reply(200, await this.#services.clusterJobs.read(exchange.param('id'), 'reshard'));
  }

  async remove(exchange: Exchange): Promise<void> {
    await this.#services.clusterJobs.remove(exchange.param('id'));
    exchange.reply(200, { ok: true });
  }

  async jobState(exchange: Exchange): Promise<void> {
    exchange.reply(200, await this.#services.clusterJobs.read(exchange.param('id'), 'state'));
  }

  get #stopReason(): string | undefined {
    return this.#services.clusterJobs.stopReason;
  }

  get #state(): string {
    return this.#stopReason === undefined ? 'running' : 'stopped';
  }

  async #split({ node, shard }: PlacedName): Promise<JsonObject> {
    const rest = { node, shard };
    try {
      const body = { type: 'split', node, shard, parts: PARTS };
      const id = await this.#services.clusterJobs.create(node, body, true);
      return { ok: true, id, ...rest };
    } catch (error) {
      if (!isDivanError(error) || error.facts.path !== undefined) throw error;
      return { error: nameOf(error, shard), ...rest };
    }
  }

  /** The shards that a body selects, with CouchDB's order of checks and reasons. */
  async #selected(body: JsonObject): Promise<readonly PlacedName[]> {
    const node = this.#nodeOf(memberOf(body, 'node'));
    const shard = shardOf(memberOf(body, 'shard'));
    const database = databaseOf(memberOf(body, 'db'));
    const named = database ?? shard?.database;
    const placed =
      named === undefined ? undefined : await this.#services.clusterJobs.shardsOf(named, node);
    if (database !== undefined && placed === undefined) throw bad('Invalid `db`');
    const range = rangeOf(memberOf(body, 'range'));
    if (memberOf(body, 'type') !== 'split') throw bad('`job type must be `split`');
    if (shard === undefined && database === undefined) {
      throw bad('Must specify at least `db` or `shard`');
    }
    if (shard !== undefined && database !== undefined) {
      throw bad('`db` and `shard` are mutually exclusive');
    }
    if (shard !== undefined && range !== undefined) {
      throw bad('`range` and `shard` are mutually exclusive');
    }
    if (placed === undefined) {
      checkDatabaseName(named ?? '');
      throw new DivanError('NOT_FOUND', 'Database does not exist.');
    }
    const found = placed.filter(({ shard: name }) =>
      shard === undefined ? range === undefined || range === rangeIn(name) : name === shard.name,
    );
    if (found.length === 0) throw new DivanError('NOT_FOUND', 'missing');
    return found;
  }

  /** Of which node the shards are to be; undefined for all. */
  #nodeOf(value: JsonValue | undefined): string | undefined {
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw bad('Invalid `node`');
    if (this.#services.clusterJobs.nodes.includes(value)) return value;
    throw bad(value.includes('@') ? 'Not connected to `node`' : '`node` is not a valid node name');
  }
}

/** The name of a shard, and of its node. */
interface PlacedName {
  readonly node: string;
  readonly shard: string;
}

/** That it is none is found out later. */
function databaseOf(value: JsonValue | undefined): string | undefined {
  if (value === undefined || typeof value === 'string') return value;
  throw bad('Invalid `db`');
}

function rangeIn(shard: string): string {
  return shard.split('/')[1] ?? '';
}

function shardOf(value: JsonValue | undefined): ReturnType<typeof parseShardName> | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string') throw bad('Invalid `shard`');
  try {
    return parseShardName(value);
  } catch (error) {
    if (isDivanError(error)) throw bad('`shard` is invalid');
    throw error;
  }
}

function rangeOf(value: JsonValue | undefined): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || !isRangeName(value.toLowerCase())) throw bad('Invalid `range`');
  const start = value.slice(0, 8).toLowerCase();
  if (start >= value.slice(9).toLowerCase()) throw bad('Invalid `range`');
  return formatRange(parseRange(value));
}

/** CouchDB's names, where it has one. */
function nameOf(error: DivanError, shard: string): string {
  if (error.code === 'MAX_JOBS') return 'max_jobs_exceeded';
  if (error.code === 'BUSY') return 'job_already_exists';
  if (error.code !== 'INVALID_RANGE') return error.message;
  const [, start = '', end = ''] = shard.split(/[/-]/);
  const bounds = [start, end].map((text) => Number.parseInt(text, 16)).join(',');
  return `{shard_range_cannot_be_split,[${bounds}],${PARTS}}`;
}

function bad(reason: string): DivanError {
  return new DivanError('BAD_REQUEST', reason);
}
