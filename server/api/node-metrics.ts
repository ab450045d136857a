/** `/_node/{node}`, its `_prometheus`, `_stats`, `_storage` and `_system`: how the node is doing, in numbers. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { Exchange } from '../http/exchange.js';
import { isObject, type JsonValue, memberOf } from '../http/json-value.js';
import { REST, type Route } from '../http/router.js';
import type { StatsGroup, StatsValue } from '../metrics.js';
import { nodeRoute } from './node-name.js';
import type { Services } from './services.js';

export function nodeMetricsRoutes(services: Services): Route[] {
  const { metrics, config } = services;
  return [
    nodeRoute(services, 'GET', '', (exchange) =>
      exchange.reply(200, { name: config.get('node/name') }),
    ),
    nodeRoute(services, 'GET', '_prometheus', async (exchange) => {
      const headers = { 'Content-Type': metrics.contentType };
      exchange.replyBytes(200, await metrics.prometheus(), headers);
    }),
    nodeRoute(services, 'GET', '_stats', (exchange) =>
      exchange.reply(200, jsonOf(metrics.stats())),
    ),
    nodeRoute(services, 'GET', `_stats/${REST}`, (exchange) => partOfStats(services, exchange)),
    nodeRoute(services, 'GET', '_storage', (exchange) => storage(services, exchange)),
    nodeRoute(services, 'GET', '_system', (exchange) => system(services, exchange)),
  ];
}

/** As in CouchDB, a path below `_stats` leads to a part of it. */
function partOfStats({ metrics }: Services, exchange: Exchange): void {
  let part: JsonValue | undefined = jsonOf(metrics.stats());
  for (const name of exchange.param(REST).split('/')) {
    part = isObject(part) ? memberOf(part, name) : undefined;
  }
  if (part === undefined) throw new DivanError('NOT_FOUND', 'missing');
  exchange.reply(200, part);
}

function jsonOf(stats: StatsGroup | StatsValue): JsonValue {
  const members = Object.entries(stats).map(([name, value]): [string, JsonValue] => [
    name,
    typeof value === 'object' ? jsonOf(value) : value,
  ]);
  return Object.fromEntries(members);
}

/** What the node holds: its shards, and how many bytes their files have. */
async function storage({ catalog, config, version }: Services, exchange: Exchange): Promise<void> {
  let shards = 0;
  let bytes = 0;
  for (const name of catalog.names()) {
    const database = catalog.find(name);
    for (const { slot } of database?.shards ?? []) {
      try {
        bytes += await slot.fileBytes();
        shards++;
      } catch (error) {
        if (!isDivanError(error, 'NOT_FOUND') || database?.ended.aborted !== true) throw error;
      }
    }
  }
  exchange.reply(200, { name: config.get('node/name'), version, shards, bytes });
}

function system({ metrics, world, startedMs }: Services, exchange: Exchange): void {
  const { process } = metrics;
  const memory = process?.memory();
  const delay = process?.eventLoopDelay();
  exchange.reply(200, {
    uptime: Math.floor((world.host.now() - startedMs) / 1000),
    memory: memory === undefined ? {} : { ...memory },
    event_loop_delay_ms: delay === undefined ? {} : { ...delay },
  });
}
