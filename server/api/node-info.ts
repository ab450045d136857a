/** `_membership`, `_active_tasks`, `_utils`: what the node is and does. */
import { DivanError } from '../../engine/errors.js';
import type { TaskRow } from '../active-tasks.js';
import type { Exchange } from '../http/exchange.js';
import type { JsonValue } from '../http/json-value.js';
import type { Route } from '../http/router.js';
import type { Services } from './services.js';

export function nodeInfoRoutes(services: Services): Route[] {
  return [
    {
      method: 'GET',
      path: '/_membership',
      access: 'server_admin',
      handle: (exchange) => membership(services, exchange),
    },
    {
      method: 'GET',
      path: '/_active_tasks',
      access: 'server_admin',
      handle: (exchange) => activeTasks(services, exchange),
    },
    { method: 'GET', path: '/_utils', access: 'reader', handle: noPage },
    { method: 'GET', path: '/_utils/*', access: 'reader', handle: noPage },
  ];
}

function membership({ config, membership }: Services, exchange: Exchange): void {
  const nodes = membership?.list().map(({ name }) => name) ?? [config.get('node/name')];
  exchange.reply(200, { all_nodes: nodes, cluster_nodes: nodes });
}

function activeTasks({ tasks, config }: Services, exchange: Exchange): void {
  const node = config.get('node/name');
  exchange.reply(
    200,
    tasks.list().map((task) => taskRow(task, node)),
  );
}

/** As in CouchDB, where the database of a compaction is a shard. */
function taskRow(task: TaskRow, node: string): JsonValue {
  return {
    node,
    pid: task.pid,
    type: task.type,
    database: task.shard,
    phase: task.phase,
    progress: Math.floor(task.share * 100),
    changes_done: task.changesDone,
    total_changes: task.changesTotal,
    started_on: task.startedOn,
    updated_on: task.updatedOn,
  };
}

function noPage(): void {
  throw new DivanError('NOT_FOUND', 'This server has no web page yet; the path is kept for it.');
}
