/** Whether a request may have what it asks for: who calls, compared with what its route and its database demand. */
import { DivanError } from '../../engine/errors.js';
import type { Caller } from '../auth/caller.js';
import type { Exchange } from '../http/exchange.js';
import type { Access } from '../http/router.js';
import type { CallerFinder, Services } from './services.js';

export class Authorization {
  readonly #services: Services;
  readonly #callers: CallerFinder;

  constructor(services: Services, callers: CallerFinder) {
    this.#services = services;
    this.#callers = callers;
  }

  /** Sets the caller of the exchange. Throws `UNAUTHORIZED`, `FORBIDDEN`, `NOT_FOUND`. A promise only where something must be looked up. */
  authorize(exchange: Exchange, access: Access): Promise<void> | void {
    const { headers, socket } = exchange.request;
    const caller = this.#callers.authenticate({
      authorization: headers.authorization,
      cookie: headers.cookie,
      address: socket.remoteAddress ?? '',
    });
    if (caller instanceof Promise) {
      return caller.then((caller) => this.#check(exchange, access, caller));
    }
    return this.#check(exchange, access, caller);
  }

  #check(exchange: Exchange, access: Access, caller: Caller): Promise<void> | void {
    exchange.caller = caller;
    if (access === 'anyone' || caller.isServerAdmin) return;
    const isKnown = caller.name !== undefined;
    if (!isKnown && this.#services.config.get('chttpd/require_valid_user')) {
      throw new DivanError('UNAUTHORIZED', 'Authentication required.');
    }
    if (access === 'reader') return;
    if (access === 'server_admin') {
      throw new DivanError('UNAUTHORIZED', 'You are not a server admin.');
    }
    throw new DivanError('UNAUTHORIZED', 'You are not authorized to access this db.');
  }
}
