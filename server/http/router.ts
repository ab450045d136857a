/**
 * From a request to its route. A route says who may call it; nothing is served that does not say so. Whatever a route throws becomes
 * CouchDB's `{"error", "reason"}`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import findMyWay from 'find-my-way';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { errorReply, isInternalError } from './error-table.js';
import { Exchange, type ExchangeContext } from './exchange.js';
import { parseTarget, type RequestTarget } from './path.js';
import { ERROR_CODE_HEADER } from './peer-context.js';

/**
 * Who may call a route. `anyone`: whoever reaches the port. `reader`: anyone, unless valid users are required. `server_admin`: admins of
 * the server. `setup`: those as well, and whoever is on this machine as long as nobody has chosen an admin. `database_member`,
 * `database_admin`: whom the security object of the database in the path (`:db`) names. `peer`: other nodes of the cluster, which the
 * route itself finds out.
 */
export type Access = (typeof ACCESSES)[number];

const ACCESSES = [
  'anyone',
  'reader',
  'server_admin',
  'setup',
  'database_member',
  'database_admin',
  'peer',
] as const;

export type Method = 'GET' | 'PUT' | 'POST' | 'DELETE' | 'COPY';

export const METHODS: readonly Method[] = ['GET', 'PUT', 'POST', 'DELETE', 'COPY'];

export interface Route {
  readonly method: Method;
  /** As find-my-way takes it: `/:db/_all_docs`. `GET` serves `HEAD` too. */
  readonly path: string;
  readonly access: Access;
  readonly handle: (exchange: Exchange) => Promise<void> | void;
}

/** What surrounds the routes. */
export interface RouterHooks {
  /** Whether a segment of a path can be the parameter of that name: `_all_docs` is no `:doc`. */
  readonly accepts: (param: string, segment: string) => boolean;
  /** Called before anything else is done for a request; true if it is answered. */
  readonly admit: (exchange: Exchange) => boolean;
  /** Finds out who calls and whether it may. Throws `UNAUTHORIZED`, `FORBIDDEN`, `NOT_FOUND`. */
  readonly authorize: (exchange: Exchange, route: Route) => Promise<void> | void;
  /** Told of every request when its reply is complete or given up. */
  readonly onDone?: (exchange: Exchange, startMs: number) => void;
  /** Told of defects and of failures that an operator should look into; returns an id under which they were logged. */
  readonly onError: (exchange: Exchange, error: unknown) => string;
}

const NO_PARAMS: ReadonlyMap<string, string> = new Map();

/** A route with the places of its parameters in the path; the last one may take all that is left of it. */
interface PlacedRoute {
  readonly route: Route;
  readonly params: readonly { readonly name: string; readonly index: number }[];
  readonly restFrom: number | undefined;
}

/** What `*` at the end of a route's path is called. */
export const REST = '*';

export class Router {
  readonly routes: readonly Route[];
  readonly #router = findMyWay({
    ignoreTrailingSlash: true,
    ignoreDuplicateSlashes: true,
    maxParamLength: 8192,
  });
  readonly #placed = new Map<unknown, PlacedRoute>();
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
      assertAccess(route);
      // A match is recognised by the handler that find-my-way gives back; it never calls it.
      const handler = () => undefined;
      this.#router.on(route.method, route.path, handler);
      this.#placed.set(handler, placed(route));
    }
  }

  /** Serves a request. Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const startMs = this.#context.host.now();
    let exchange = new Exchange(this.#context, request, response, NO_PARAMS, '');
    try {
      assertOneHost(request);
      if (this.#hooks.admit(exchange)) return;
      const target = parseTarget(request.url ?? '', this.#urlBytesMax);
      const found = this.#find(request.method ?? '', target);
      const { route } = found;
      exchange = new Exchange(
        this.#context,
        request,
        response,
        paramsOf(found, target),
        target.query,
        exchange.sentAlong,
      );
      const authorized = this.#hooks.authorize(exchange, route);
      if (authorized !== undefined) await authorized;
      await route.handle(exchange);
    } catch (error) {
      this.#fail(exchange, error);
    } finally {
      exchange.finish();
      this.#hooks.onDone?.(exchange, startMs);
    }
  }

  #find(method: string, target: RequestTarget): PlacedRoute {
    const wanted = METHODS.find((known) => known === (method === 'HEAD' ? 'GET' : method));
    const found = wanted === undefined ? undefined : this.#match(wanted, target);
    if (found !== undefined) return found;
    const allowed = METHODS.filter((known) => this.#match(known, target) !== undefined);
    if (allowed.length === 0) throw new DivanError('NOT_FOUND', 'missing');
    throw new MethodNotAllowed(allowed);
  }

  #match(method: Method, { path, segments }: RequestTarget): PlacedRoute | undefined {
    const match = this.#router.find(method, path);
    const found = match === null ? undefined : this.#placed.get(match.handler);
    const fits = found?.params.every(({ name, index }) =>
      this.#hooks.accepts(name, segments[index] ?? ''),
    );
    return fits === true ? found : undefined;
  }

  #fail(exchange: Exchange, error: unknown): void {
    const { response } = exchange;
    const isKnown = isDivanError(error);
    const id =
      !isKnown || isInternalError(error) ? this.#hooks.onError(exchange, error) : undefined;
    if (response.headersSent || response.destroyed) {
      // What was sent looks whole to nobody: the client sees that the connection broke.
      response.destroy();
      return;
    }
    const { status, error: name, reason } = isKnown ? errorReply(error) : DEFECT;
    if (isKnown && exchange.peer !== undefined) exchange.setHeader(ERROR_CODE_HEADER, error.code);
    if (error instanceof MethodNotAllowed) exchange.setHeader('Allow', error.allow);
    if (status === 401) exchange.setHeader('WWW-Authenticate', 'Basic realm="Divan"');
    exchange.reply(
      status,
      id === undefined ? { error: name, reason } : { error: name, reason, ref: id },
    );
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

/** RFC 9112, section 3.2: whoever reads the other one would take the request for one to another server. Throws `BAD_REQUEST`. */
function assertOneHost({ rawHeaders }: IncomingMessage): void {
  let count = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    if (rawHeaders[index]?.length === 4 && rawHeaders[index]?.toLowerCase() === 'host') count++;
  }
  if (count > 1) throw new DivanError('BAD_REQUEST', 'a request has one Host header');
}

/** What does not say who may call it is not served, and what asks for a database has one to ask for. */
function assertAccess({ access, method, path }: Route): void {
  const needsDatabase = access === 'database_member' || access === 'database_admin';
  const hasDatabase = path === '/:db' || path.startsWith('/:db/');
  if (ACCESSES.includes(access) && (hasDatabase || !needsDatabase)) return;
  throw new RangeError(`the route ${method} ${path} does not say who may call it`);
}

function placed(route: Route): PlacedRoute {
  const params: { name: string; index: number }[] = [];
  let restFrom: number | undefined;
  for (const [index, segment] of route.path.split('/').slice(1).entries()) {
    if (segment.startsWith(':')) params.push({ name: segment.slice(1), index });
    if (segment === REST) restFrom = index;
  }
  return { route, params, restFrom };
}

/** The parameters, from the segments that were decoded once: find-my-way only says which route it is. */
function paramsOf(found: PlacedRoute, { segments }: RequestTarget): ReadonlyMap<string, string> {
  if (found.params.length === 0 && found.restFrom === undefined) return NO_PARAMS;
  const params = new Map<string, string>();
  for (const { name, index } of found.params) params.set(name, segments[index] ?? '');
  if (found.restFrom !== undefined) params.set(REST, segments.slice(found.restFrom).join('/'));
  return params;
}
