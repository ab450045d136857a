/** `/_shard_splits`: jobs that split and merge shards, as they were proposed for CouchDB. */
import { DivanError } from '../../engine/errors.js';
import { parseRate, RATE_EXPECTS, RATE_MIN } from '../../engine/rewrite/rate.js';
import { PARTS_MAX, parseRange } from '../../engine/shard/hash.js';
import { namesOfShardFile } from '../databases/shard-map.js';
import type { Exchange } from '../http/exchange.js';
import {
  type JsonObject,
  type JsonValue,
  memberOf,
  optionalBoolean,
  optionalInteger,
  optionalString,
  optionalStrings,
  requiredString,
  requiredStrings,
} from '../http/json-value.js';
import type { Route } from '../http/router.js';
import type { JobPlan, JobRequest } from '../splits/plan-job.js';
import { eventsJson, splitJobJson } from './job-json.js';
import { checkedReason, JOB_BODY_BYTES_MAX, putJobState } from './job-state.js';
import type { Services } from './services.js';

const JOBS = '/_shard_splits/jobs';
const COUNT = { min: 0, max: Number.MAX_SAFE_INTEGER };
const PARTS = 2;
const OPTIONS = ['type', 'node', 'rate', 'verify', 'keep_source', 'dry_run'];
const MEMBERS = {
  split: new Set([...OPTIONS, 'shard', 'parts', 'ranges']),
  merge: new Set([...OPTIONS, 'shards']),
};

export function shardSplitsRoutes(services: Services): Route[] {
  const splits = new ShardSplits(services);
  const route = (method: Route['method'], path: string, handle: Route['handle']): Route => ({
    method,
    path,
    access: 'server_admin',
    handle,
  });
  return [
    route('GET', '/_shard_splits', (exchange) => splits.summary(exchange)),
    route('PUT', '/_shard_splits', (exchange) => splits.switch(exchange)),
    route('GET', JOBS, (exchange) => splits.list(exchange)),
    route('POST', JOBS, (exchange) => splits.create(exchange)),
    route('GET', `${JOBS}/:id`, (exchange) => splits.job(exchange)),
    route('DELETE', `${JOBS}/:id`, (exchange) => splits.remove(exchange)),
    route('PUT', `${JOBS}/:id/state`, (exchange) => putJobState(services, exchange)),
    route('PUT', `${JOBS}/:id/rate`, (exchange) => splits.setRate(exchange)),
    route('GET', `${JOBS}/:id/events`, (exchange) => splits.events(exchange)),
  ];
}

class ShardSplits {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  summary(exchange: Exchange): void {
    const { jobs, config } = this.#services;
    const all = jobs.list();
    const node = config.get('node/name');
    const { stopReason } = jobs;
    exchange.reply(200, {
      jobs_total: all.length,
      jobs_running: all.filter(({ isWorking }) => isWorking).length,
      states: stopReason === undefined ? { running: [node] } : { stopped: [node] },
      ...(stopReason === undefined ? {} : { state_reason: stopReason }),
    });
  }

  async switch(exchange: Exchange): Promise<void> {
    const { jobs } = this.#services;
    const reason = stopReasonOf(await exchange.jsonObject(JOB_BODY_BYTES_MAX));
    if (reason === undefined) await jobs.start();
    else await jobs.stop(reason);
    exchange.reply(200, { ok: true });
  }

  list(exchange: Exchange): void {
    const jobs = this.#services.jobs.list();
    const { offset, end } = pageOf(exchange, jobs.length);
    exchange.reply(200, {
      jobs: jobs.slice(offset, end).map(splitJobJson),
      offset,
      total_rows: jobs.length,
    });
  }

  async create(exchange: Exchange): Promise<void> {
    const { jobs, config } = this.#services;
    const body = await exchange.jsonObject(JOB_BODY_BYTES_MAX);
    assertNode(requiredString(body, 'node'), config.get('node/name'));
    const request = requestOf(body);
    if (optionalBoolean(body, 'dry_run') === true) {
      exchange.reply(200, planJson(request, await jobs.plan(request)));
      return;
    }
    const { id } = await jobs.create(request, { whileStopped: false });
    exchange.reply(201, { id, ok: true });
  }

  job(exchange: Exchange): void {
    exchange.reply(200, splitJobJson(this.#services.jobs.get(exchange.param('id'))));
  }

  async remove(exchange: Exchange): Promise<void> {
    await this.#services.jobs.remove(exchange.param('id'));
    exchange.reply(200, { ok: true });
  }

  /** Of a job that works, from now on. */
  async setRate(exchange: Exchange): Promise<void> {
    const body = await exchange.jsonObject(JOB_BODY_BYTES_MAX);
    const rate = memberOf(body, 'rate');
    if (rate === undefined)
      throw bad('`rate` must be there; null is the rate of the configuration');
    await this.#services.jobs.setRate(exchange.param('id'), rateOf(rate ?? undefined));
    exchange.reply(200, { ok: true });
  }

  events(exchange: Exchange): void {
    const { job } = this.#services.jobs.get(exchange.param('id'));
    const events = eventsJson(job);
    const { offset, end } = pageOf(exchange, events.length);
    exchange.reply(200, {
      events: events.slice(offset, end),
      offset,
      total_rows: events.length,
    });
  }
}

function pageOf({ query }: Exchange, total: number): { offset: number; end: number } {
  const offset = Math.min(query.integer('skip', COUNT) ?? 0, total);
  return { offset, end: offset + (query.integer('limit', COUNT) ?? total) };
}

/** Why to stop; undefined to start. Throws `BAD_REQUEST`. */
function stopReasonOf(body: JsonObject): string | undefined {
  const stop = memberOf(body, 'stop');
  const start = memberOf(body, 'start');
  if ((stop === undefined) === (start === undefined)) {
    throw bad('the request body must be {"stop": "<reason>"} or {"start": true}');
  }
  if (stop === undefined) {
    if (start === true) return undefined;
    throw bad('`start` must be true');
  }
  if (typeof stop === 'string' && stop.trim() !== '') return checkedReason(stop);
  throw bad('`stop` must be a string that says why');
}

function assertNode(node: string, own: string): void {
  if (node === own) return;
  throw bad(`\`node\` must be the name of a node of this cluster, of which there is ${own}`);
}

function requestOf(body: JsonObject): JobRequest {
  const type = typeOf(body);
  const unknown = Object.keys(body).find((name) => !MEMBERS[type].has(name));
  if (unknown !== undefined) throw bad(`a ${type} takes no member ${JSON.stringify(unknown)}`);
  return {
    type,
    shards:
      type === 'split'
        ? [requiredString(body, 'shard')]
        : requiredStrings(body, 'shards', PARTS_MAX),
    into: type === 'split' ? intoOf(body) : 1,
    rate: rateOf(memberOf(body, 'rate')),
    verify: optionalBoolean(body, 'verify') ?? true,
    keepSource: optionalBoolean(body, 'keep_source') ?? false,
  };
}

function typeOf(body: JsonObject): JobRequest['type'] {
  const type = optionalString(body, 'type') ?? 'split';
  if (type === 'split' || type === 'merge') return type;
  throw bad('`type` must be "split" or "merge"');
}

function intoOf(body: JsonObject): JobRequest['into'] {
  const ranges = optionalStrings(body, 'ranges', PARTS_MAX);
  const parts = optionalInteger(body, 'parts', { min: PARTS, max: PARTS_MAX });
  if (ranges === undefined) return parts ?? PARTS;
  if (parts !== undefined) throw bad('`parts` and `ranges` are mutually exclusive');
  return ranges.map(parseRange);
}

/** Bytes a second, from a number of them or a text such as `50MB/s`. */
function rateOf(value: JsonValue | undefined): number | undefined {
  if (value === undefined) return undefined;
  const rate = typeof value === 'string' ? parseRate(value) : value;
  if (typeof rate === 'number' && Number.isSafeInteger(rate) && rate >= RATE_MIN) return rate;
  throw bad(
    `\`rate\` must be a number of bytes a second, at least ${RATE_MIN}, or a text ${RATE_EXPECTS}`,
  );
}

/** What a job would do. */
function planJson({ type }: JobRequest, { sources, targets, space, map }: JobPlan): JsonObject {
  const shardOf = (file: string) => namesOfShardFile(file).shard;
  return {
    ok: true,
    dry_run: true,
    type,
    database: map.name,
    sources: sources.map(shardOf),
    targets: targets.map(({ file }) => shardOf(file)),
    bytes_needed: space.bytes,
    bytes_needed_by_other_jobs: space.otherBytes,
    bytes_free: space.freeBytes,
    has_room: space.bytes + space.otherBytes <= space.freeBytes,
  };
}

function bad(reason: string): DivanError {
  return new DivanError('BAD_REQUEST', reason);
}
