/** Routes below `/_node/{node}`, where a node is called by its name or, by itself, `_local`. */
import { DivanError } from '../../engine/errors.js';
import type { Exchange } from '../http/exchange.js';
import type { Method, Route } from '../http/router.js';
import type { Services } from './services.js';

/** A route of this node, for the admins of the server. `path` is what follows the name; '' for the node itself. */
export function nodeRoute(
  { cluster }: Services,
  method: Method,
  path: string,
  handle: Route['handle'],
): Route {
  return {
    method,
    path: path === '' ? '/_node/:node' : `/_node/:node/${path}`,
    access: 'server_admin',
    handle: (exchange: Exchange) => {
      const node = exchange.param('node');
      if (node === '_local' || node === cluster.members.self.name) return handle(exchange);
      throw new DivanError('NOT_FOUND', `there is no node ${node.slice(0, 100)}`);
    },
  };
}
