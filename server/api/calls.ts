/** `_divan/…`: what other nodes of the cluster call. */
import type { Route } from '../http/router.js';
import type { Services } from './services.js';

export function callRoutes({ callServer }: Services): Route[] {
  return [
    {
      method: 'POST',
      path: '/_divan/*',
      access: 'peer',
      handle: (exchange) => callServer.handle(exchange),
    },
  ];
}
