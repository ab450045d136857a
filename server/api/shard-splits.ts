/** `/_shard_splits`: jobs that split and merge shards, as they were proposed for CouchDB. */
import { DivanError } from '../../engine/errors.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonObject, memberOf, optionalBoolean, requiredString } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import { parseJobRate, parseJobRequest } from '../splits/job-request.js';
import { checkedReason, JOB_BODY_BYTES_MAX, namesMember, putJobState } from './job-state.js';
import type { Services } from './services.js';

const JOBS = '/_shard_splits/jobs';
const COUNT = { min: 0, max: Number.MAX_SAFE_INTEGER };

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

  async summary(exchange: Exchange): Promise<void> {
    const { nodes, unreachable } = await this.#services.clusterJobs.summary();
    const stopped = nodes.filter(({ stopReason }) => stopReason !== undefined);
    const running = nodes.filter(({ stopReason }) => stopReason === undefined);
    const sumOf = (of: 'total' | 'working') => nodes.reduce((sum, node) => sum + node[of], 0);
    exchange.reply(200, {
      jobs_total: sumOf('total'),
      jobs_running: sumOf('working'),
      states: {
        ...namesMember(
          'running',
          running.map(({ node }) => node),
        ),
        ...namesMember(
          'stopped',
          stopped.map(({ node }) => node),
        ),
        ...namesMember('unreachable', unreachable),
      },
      ...(stopped[0] === undefined ? {} : { state_reason: stopped[0].stopReason ?? '' }),
    });
  }

  async switch(exchange: Exchange): Promise<void> {
    const { clusterJobs } = this.#services;
    const reason = stopReasonOf(await exchange.jsonObject(JOB_BODY_BYTES_MAX));
    const missed = await (reason === undefined ? clusterJobs.start() : clusterJobs.stop(reason));
    exchange.reply(200, { ok: true, ...namesMember('unreachable', missed) });
  }

  async list(exchange: Exchange): Promise<void> {
    const { query } = exchange;
    const [skip, limit] = [query.integer('skip', COUNT), query.integer('limit', COUNT)];
    const list = await this.#services.clusterJobs.list('splits', skip ?? 0, limit);
    const { jobs, offset, total, unreachable } = list;
    exchange.reply(200, {
      jobs,
      offset,
      total_rows: total,
      ...namesMember('unreachable', unreachable),
    });
  }

  async create(exchange: Exchange): Promise<void> {
    const { clusterJobs } = this.#services;
    const body = await exchange.jsonObject(JOB_BODY_BYTES_MAX);
    const node = requiredString(body, 'node');
    // What is wrong with the request is said whether the node can be reached or not.
    clusterJobs.checkNode(node);
    parseJobRequest(body);
    if (optionalBoolean(body, 'dry_run') === true) {
      exchange.reply(200, await clusterJobs.plan(node, body));
      return;
    }
    const id = await clusterJobs.create(node, body, false);
    exchange.reply(201, { id, ok: true });
  }

  async job(exchange: Exchange): Promise<void> {
    exchange.reply(200, await this.#services.clusterJobs.read(exchange.param('id'), 'splits'));
  }

  async remove(exchange: Exchange): Promise<void> {
    await this.#services.clusterJobs.remove(exchange.param('id'));
    exchange.reply(200, { ok: true });
  }

  /** Of a job that works, from now on. */
  async setRate(exchange: Exchange): Promise<void> {
    const body = await exchange.jsonObject(JOB_BODY_BYTES_MAX);
    const rate = memberOf(body, 'rate');
    if (rate === undefined)
      throw bad('`rate` must be there; null is the rate of the configuration');
    const wanted = parseJobRate(rate ?? undefined);
    await this.#services.clusterJobs.setRate(exchange.param('id'), wanted);
    exchange.reply(200, { ok: true });
  }

  async events(exchange: Exchange): Promise<void> {
    const events = await this.#services.clusterJobs.events(exchange.param('id'));
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

function bad(reason: string): DivanError {
  return new DivanError('BAD_REQUEST', reason);
}
