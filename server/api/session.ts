/** `_session`: who calls, logging in and out, as in CouchDB. */
import { DivanError } from '../../engine/errors.js';
import { assertLoginOrigin } from '../auth/session-cookie.js';
import type { Exchange } from '../http/exchange.js';
import { objectOf, optionalString, parseJson, requiredString } from '../http/json-value.js';
import { Query } from '../http/query.js';
import type { Route } from '../http/router.js';
import type { Services } from './services.js';

/** More than any name and password need. */
const BODY_BYTES_MAX = 16 * 1024;
const FORM_TYPE = 'application/x-www-form-urlencoded';
const FORM_FIELDS_MAX = 10;
const HANDLERS = ['cookie', 'default'];

export function sessionRoutes(services: Services): Route[] {
  const path = '/_session';
  const access = 'anyone';
  return [
    { method: 'GET', path, access, handle: tell },
    { method: 'POST', path, access, handle: (exchange) => login(services, exchange) },
    { method: 'DELETE', path, access, handle: (exchange) => logout(services, exchange) },
  ];
}

function tell(exchange: Exchange): void {
  const { name, roles, via } = exchange.caller;
  const authenticated =
    via === undefined ? {} : { authenticated: via === 'basic' ? 'default' : via };
  exchange.reply(
    200,
    {
      ok: true,
      userCtx: { name: name ?? null, roles },
      info: { authentication_handlers: HANDLERS, ...authenticated },
    },
    NOT_STORED,
  );
}

async function login({ authenticator, cors }: Services, exchange: Exchange): Promise<void> {
  const { method = '', headers } = exchange.request;
  const { origin, host } = headers;
  if (!cors.isTrusted(origin)) assertLoginOrigin({ method, origin, host });
  const { name, password } = await credentialsOf(exchange);
  const address = exchange.request.socket.remoteAddress ?? '';
  const { caller, cookie } = await authenticator.login({ name, password, address });
  exchange.setHeader('Set-Cookie', cookie);
  exchange.reply(200, { ok: true, name, roles: caller.roles }, NOT_STORED);
}

function logout({ authenticator }: Services, exchange: Exchange): void {
  exchange.setHeader('Set-Cookie', authenticator.logoutCookie());
  exchange.reply(200, { ok: true }, NOT_STORED);
}

const NOT_STORED = { 'Cache-Control': 'no-store' };

/** Throws `BAD_REQUEST`, `INVALID_JSON`, `TOO_LARGE`, `UNSUPPORTED_TYPE`. */
async function credentialsOf(exchange: Exchange): Promise<{ name: string; password: string }> {
  const type = exchange.contentType;
  if (type !== 'application/json' && type !== FORM_TYPE) {
    const reason = `Content-Type must be application/json or ${FORM_TYPE}`;
    throw new DivanError('UNSUPPORTED_TYPE', reason);
  }
  const bytes = await exchange.body(BODY_BYTES_MAX);
  if (type === FORM_TYPE) {
    const form = new Query(Buffer.from(bytes).toString('latin1'), FORM_FIELDS_MAX);
    const name = form.string('username') ?? form.string('name') ?? '';
    return { name, password: form.string('password') ?? '' };
  }
  const body = objectOf(parseJson(bytes), 'the request body');
  // Cloudant's clients say `username`, and CouchDB takes it.
  const name = optionalString(body, 'username') ?? requiredString(body, 'name');
  return { name, password: requiredString(body, 'password') };
}
