/**
 * Whether a request may have what it asks for: who calls, compared with what its route and its database demand.
 *
 * In the database `_users` nobody but the admins of the server gets at anything, but for each user its own document, by its id in the
 * path: whatever route is added, it is shut until it is let in here.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { Caller } from '../auth/caller.js';
import {
  accessOf,
  assertDatabaseAdmin,
  assertMember,
  parseSecurity,
  type Security,
} from '../auth/security.js';
import { assertSameOrigin } from '../auth/session-cookie.js';
import {
  assertMayListUsers,
  assertMayReadUser,
  USERS_DATABASE,
  userNameOf,
} from '../auth/user-documents.js';
import type { Exchange } from '../http/exchange.js';
import { isFromThisMachine } from '../http/loopback.js';
import type { Route } from '../http/router.js';
import type { Services } from './services.js';

/** The only path that leads a user to its own document. */
const DOCUMENT_PATH = '/:db/:doc';
const OWN_METHODS: ReadonlySet<Route['method']> = new Set(['GET', 'PUT', 'DELETE']);

export class Authorization {
  readonly #services: Services;
  /** By the bytes of their texts, which are the same ones as long as nothing is changed. */
  readonly #securities = new WeakMap<Uint8Array, Security>();

  constructor(services: Services) {
    this.#services = services;
  }

  /**
   * Sets the caller of the exchange. Throws `UNAUTHORIZED`, `FORBIDDEN`, `NOT_FOUND`, and what finding out who calls throws. A promise only
   * where something must be looked up.
   */
  authorize(exchange: Exchange, route: Route): Promise<void> | void {
    // By its signature alone: neither a password nor a cookie lets anybody in there.
    if (route.access === 'peer') return;
    const { peer } = exchange;
    // It was found out, and held to what is demanded of browsers, where the request came in.
    if (peer !== undefined) return this.#check(exchange, route, peer.caller);
    const { headers, socket } = exchange.request;
    const caller = this.#services.authenticator.authenticate({
      authorization: headers.authorization,
      cookie: headers.cookie,
      address: socket.remoteAddress ?? '',
    });
    if (caller instanceof Promise) {
      return caller.then((caller) => this.#check(exchange, route, caller));
    }
    return this.#check(exchange, route, caller);
  }

  #check(exchange: Exchange, route: Route, caller: Caller): Promise<void> | void {
    exchange.caller = caller;
    exchange.mayGoOn = () => this.#mayGoOn(exchange, route);
    const isOfClient = exchange.peer === undefined;
    if (caller.via === 'cookie' && isOfClient) this.#checkCookie(exchange, caller);
    return this.#admit(exchange, route, caller);
  }

  /** Whether the caller would be let in now: the database may be closed to it by now, and it may have been removed. */
  async #mayGoOn(exchange: Exchange, route: Route): Promise<boolean> {
    try {
      const caller = await this.#services.authenticator.current(exchange.caller);
      await this.#admit(exchange, route, caller);
      return true;
    } catch (error) {
      if (!isDivanError(error)) throw error;
      return false;
    }
  }

  #admit(
    exchange: Exchange,
    { access, method, path }: Route,
    caller: Caller,
  ): Promise<void> | void {
    exchange.isDatabaseAdmin = caller.isServerAdmin;
    if (access === 'anyone' || caller.isServerAdmin) return;
    if (access === 'setup') return this.#admitToSetup(exchange);
    if (caller.name === undefined && this.#services.config.get('chttpd/require_valid_user')) {
      throw new DivanError('UNAUTHORIZED', 'Authentication required.');
    }
    if (access === 'reader') return;
    if (access === 'server_admin') {
      throw new DivanError('UNAUTHORIZED', 'You are not a server admin.');
    }
    if (access === 'peer') throw new DivanError('UNAUTHORIZED', 'This is for other nodes.');
    const name = exchange.param('db');
    if (name === USERS_DATABASE) {
      if (path === DOCUMENT_PATH && OWN_METHODS.has(method)) return checkOwn(exchange, caller);
      return assertMayListUsers(caller);
    }
    return this.#checkDatabase(exchange, name, access, caller);
  }

  /** As long as nobody has chosen an admin, nobody can say who it is; whoever is on this machine may choose one. */
  #admitToSetup({ request }: Exchange): void {
    if (!this.#services.admins.hasConfiguredAdmin && isFromThisMachine(request)) return;
    throw new DivanError('UNAUTHORIZED', 'You are not a server admin.');
  }

  /** Browsers send a cookie by themselves; and a session that is used goes on. */
  #checkCookie(exchange: Exchange, caller: Caller): void {
    const { method = '', headers } = exchange.request;
    const { origin, host } = headers;
    if (!this.#services.cors.isTrusted(origin)) assertSameOrigin(caller, { method, origin, host });
    const cookie = this.#services.authenticator.renewedCookie(caller);
    if (cookie !== undefined) exchange.setHeader('Set-Cookie', cookie);
  }

  async #checkDatabase(
    exchange: Exchange,
    name: string,
    access: 'database_member' | 'database_admin',
    caller: Caller,
  ): Promise<void> {
    // The nodes that have its documents decide, each for what it is asked for.
    if (exchange.peer === undefined && this.#services.elsewhere.isElsewhere(name)) {
      exchange.isForOthers = true;
      return;
    }
    const { security: text } = await this.#services.catalog.get(name).settings.current();
    let security = this.#securities.get(text);
    if (security === undefined) {
      security = parseSecurity(text.length === 0 ? {} : JSON.parse(Buffer.from(text).toString()));
      this.#securities.set(text, security);
    }
    exchange.isDatabaseAdmin = accessOf(security, caller).isAdmin;
    if (access === 'database_admin') assertDatabaseAdmin(security, caller);
    else assertMember(security, caller);
  }
}

function checkOwn(exchange: Exchange, caller: Caller): void {
  const id = exchange.param('doc');
  assertMayReadUser(id, caller);
  if (caller.name !== undefined && userNameOf(id) === caller.name) return;
  throw new DivanError('FORBIDDEN', 'You are not allowed to access this db.');
}
