/**
 * From a request to its route. A route says who may call it; nothing is served that does not say so. Whatever a route throws becomes
 * CouchDB's `{"error", "reason"}`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import findMyWay from 'find-my-way';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { errorReply, isInternalError } from './error-table.js';
import { Exchange, type ExchangeContext } from './exchange.js';
import { checkTarget } from './path.js';

/**
 * Who may call a route. `anyone`: whoever reaches the port. `reader`: anyone, unless valid users are required. `server_admin`: admins of
 * the server. `database_member`, `database_admin`: whom the security object of the database in the path (`:db`) names.
 */
export type Access = 'anyone' | 'reader' | 'server_admin' | 'database_member' | 'database_admin';

export type Method = 'GET' | 'PUT' | 'POST' | 'DELETE' | 'COPY';

const METHODS: readonly Method[] = ['GET', 'PUT', 'POST', 'DELETE', 'COPY'];

export interface Route {
  readonly method: Method;
  /** As find-my-way takes it: `/:db/_all_docs`. `GET` serves `HEAD` too. */
  readonly path: string;
  readonly access: Access;
  readonly handle: (exchange: Exchange) => Promise<void> | void;
}

/** What surrounds the routes. */
export interface RouterHooks {
  /** Finds out who calls and whether it may. Throws `UNAUTHORIZED`, `FORBIDDEN`, `NOT_FOUND`. */
  readonly authorize: (exchange: Exchange, access: Access) => Promise<void> | void;
  /** Told of every request when its reply is complete or given up. */
  readonly onDone?: (exchange: Exchange, route: Route | undefined, startMs: number) => void;
  /** Told of defects and of failures that an operator should look into; returns an id under which they were logged. */
  readonly onError: (exchange: Exchange, error: unknown) => string;
}

const NO_PARAMS: ReadonlyMap<string, string> = new Map();

export class Router {
  readonly routes: readonly Route[];
  readonly #router = findMyWay({
    ignoreTrailingSlash: true,
    maxParamLength: 8192,
    caseSensitive: true,
  });
  readonly #context: ExchangeContext;
  readonly #hooks: RouterHooks;
  readonly #urlBytesMax: number;

  constructor(
    context: ExchangeContext,
    hooks: RouterHooks,
    routes: readonly Route[],
    urlBytesMax: number,
  ) {
    this.routes = routes;
    this.#context = context;
    this.#hooks = hooks;
    this.#urlBytesMax = urlBytesMax;
    for (const route of routes) {
      // The store is what a match is recognised by; the router never calls the handler itself.
      this.#router.on(routed(route.method), route.path, () => undefined, route);
    }
  }

  /** Serves a request. Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const startMs = this.#context.host.now();
    let exchange = new Exchange(this.#context, request, response, NO_PARAMS, '');
    let route: Route | undefined;
    try {
      const { path, rawQuery } = checkTarget(request.url ?? '', this.#urlBytesMax);
      const match = this.#find(request.method ?? '', path);
      route = match.route;
      exchange = new Exchange(this.#context, request, response, match.params, rawQuery);
      const authorized = this.#hooks.authorize(exchange, route.access);
      if (authorized !== undefined) await authorized;
      await route.handle(exchange);
    } catch (error) {
      this.#fail(exchange, error);
    } finally {
      exchange.finish();
      this.#hooks.onDone?.(exchange, route, startMs);
    }
  }

  #find(method: string, path: string): { route: Route; params: ReadonlyMap<string, string> } {
    const wanted = METHODS.find((known) => known === (method === 'HEAD' ? 'GET' : method));
    const match = wanted === undefined ? null : this.#router.find(routed(wanted), path);
    if (match !== null) return { route: this.#routeOf(match.store), params: paramsOf(match.params) };
    const allowed = METHODS.filter((known) => this.#router.find(routed(known), path) !== null);
    if (allowed.length === 0) throw new DivanError('NOT_FOUND', 'missing');
    throw new MethodNotAllowed(allowed);
  }

  #routeOf(store: unknown): Route {
    const route = this.routes.find((route) => route === store);
    if (route === undefined) throw new RangeError('the router found what it was not given');
    return route;
  }

  #fail(exchange: Exchange, error: unknown): void {
    const { response } = exchange;
    const isKnown = isDivanError(error);
    const id = !isKnown || isInternalError(error) ? this.#hooks.onError(exchange, error) : undefined;
    if (response.headersSent || response.destroyed) {
      // What was sent looks whole to nobody: the client sees that the connection broke.
      response.destroy();
      return;
    }
    const { status, error: name, reason } = isKnown ? errorReply(error) : DEFECT;
    if (error instanceof MethodNotAllowed) exchange.setHeader('Allow', error.allow);
    if (status === 401) exchange.setHeader('WWW-Authenticate', 'Basic realm="Divan"');
    exchange.reply(status, id === undefined ? { error: name, reason } : { error: name, reason, ref: id });
  }
}

const DEFECT = {
  status: 500,
  error: 'unknown_error',
  reason: 'Divan failed in a way that it should not; the log has more under this ref.',
};

class MethodNotAllowed extends DivanError {
  readonly allow: string;

  constructor(methods: readonly Method[]) {
    const allow = methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]));
    super('METHOD_NOT_ALLOWED', `Only ${allow.join(',')} allowed`);
    this.allow = allow.join(', ');
  }
}

/** Any name will do for the router's own table: COPY is none that it knows everywhere. */
function routed(method: Method): 'GET' | 'PUT' | 'POST' | 'DELETE' | 'COPY' {
  return method;
}

function paramsOf(params: Readonly<Record<string, string | undefined>>): ReadonlyMap<string, string> {
  const map = new Map<string, string>();
  for (const [name, value] of Object.entries(params)) if (value !== undefined) map.set(name, value);
  return map;
}
