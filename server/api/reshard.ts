/** `/_reshard`: the same jobs in the form of CouchDB 3.5 (mem3_reshard_httpd.erl). */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { formatRange, isRangeName, parseRange } from '../../engine/shard/hash.js';
import { namesOfShardFile } from '../databases/shard-map.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonObject, type JsonValue, memberOf } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import type { JobState } from '../splits/job.js';
import { parseShardName } from '../splits/plan-job.js';
import { reshardJobJson } from './job-json.js';
import { bodyOf, putJobState, wantedState } from './job-state.js';
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

  summary(exchange: Exchange): void {
    const all = this.#services.jobs.list();
    const counts = COUNTED.map((state): [string, number] => [
      state,
      all.filter((job) => job.state === state).length,
    ]);
    exchange.reply(200, {
      state: this.#state,
      state_reason: this.#services.jobs.stopReason ?? null,
      ...Object.fromEntries(counts),
      total: all.length,
    });
  }

  state(exchange: Exchange): void {
    exchange.reply(200, { state: this.#state, reason: this.#services.jobs.stopReason ?? null });
  }

  async setState(exchange: Exchange): Promise<void> {
    const { jobs } = this.#services;
    const wanted = await wantedState(exchange);
    if (wanted.state === 'running') await jobs.start();
    // As in CouchDB, the reason of the first one stays.
    else if (jobs.stopReason === undefined) await jobs.stop(wanted.reason ?? STOPPED_BY_USER);
    exchange.reply(200, { ok: true });
  }

  list(exchange: Exchange): void {
    const jobs = this.#services.jobs.list();
    exchange.reply(200, { total_rows: jobs.length, offset: 0, jobs: jobs.map(reshardJobJson) });
  }

  async create(exchange: Exchange): Promise<void> {
    const shards = this.#selected(await bodyOf(exchange));
    const results: JsonObject[] = [];
    // One after another, so that they get their turns in the order of their ranges.
    for (const shard of shards) results.push(await this.#split(shard));
    const made = results.filter((result) => result['ok'] === true).length;
    exchange.reply(made === results.length ? 201 : made > 0 ? 202 : 500, results);
  }

  job(exchange: Exchange): void {
    exchange.reply(200, reshardJobJson(this.#services.jobs.get(exchange.param('id'))));
  }

  async remove(exchange: Exchange): Promise<void> {
    await this.#services.jobs.remove(exchange.param('id'));
    exchange.reply(200, { ok: true });
  }

  jobState(exchange: Exchange): void {
    const { state, reason } = this.#services.jobs.get(exchange.param('id'));
    exchange.reply(200, { state, reason: reason ?? null });
  }

  get #state(): string {
    return this.#services.jobs.stopReason === undefined ? 'running' : 'stopped';
  }

  get #node(): string {
    return this.#services.config.get('node/name');
  }

  async #split(shard: string): Promise<JsonObject> {
    const rest = { node: this.#node, shard };
    try {
      const { jobs } = this.#services;
      const request = { rate: undefined, verify: true, keepSource: false };
      const { id } = await jobs.create(
        { ...request, type: 'split', shards: [shard], into: PARTS },
        { whileStopped: true },
      );
      return { ok: true, id, ...rest };
    } catch (error) {
      if (!isDivanError(error) || error.facts.path !== undefined) throw error;
      return { error: nameOf(error, shard), ...rest };
    }
  }

  /** The shards that a body selects, with CouchDB's order of checks and reasons. */
  #selected(body: JsonObject): string[] {
    this.#checkNode(memberOf(body, 'node'));
    const shard = shardOf(memberOf(body, 'shard'));
    const database = this.#databaseOf(memberOf(body, 'db'));
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
    return this.#found(database ?? shard?.database ?? '', (name, itsRange) =>
      shard === undefined ? range === undefined || range === itsRange : name === shard.name,
    );
  }

  #found(database: string, isWanted: (name: string, range: string) => boolean): string[] {
    const { shards } = this.#services.catalog.get(database).map;
    const found = shards
      .map(({ file, range }) => ({ name: namesOfShardFile(file).shard, range: formatRange(range) }))
      .filter(({ name, range }) => isWanted(name, range));
    if (found.length === 0) throw new DivanError('NOT_FOUND', 'missing');
    return found.map(({ name }) => name);
  }

  #checkNode(value: JsonValue | undefined): void {
    if (value === undefined || value === this.#node) return;
    if (typeof value !== 'string') throw bad('Invalid `node`');
    throw bad(value.includes('@') ? 'Not connected to `node`' : '`node` is not a valid node name');
  }

  #databaseOf(value: JsonValue | undefined): string | undefined {
    if (value === undefined) return undefined;
    if (typeof value !== 'string' || this.#services.catalog.find(value) === undefined) {
      throw bad('Invalid `db`');
    }
    return value;
  }
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
