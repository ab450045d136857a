/** What the two endpoints of the setup have in common: who may do what, and how it is answered. */
import { DivanError } from '../../engine/errors.js';
import type { Exchange } from '../http/exchange.js';
import {
  type IntegerBounds,
  type JsonObject,
  type JsonValue,
  memberOf,
  optionalString,
  stringsOf,
} from '../http/json-value.js';
import { checkAddress, checkPort } from '../setup/binding.js';
import { refused } from '../setup/refused.js';
import type { ChosenAdmin, Done, Enabling } from '../setup/setup.js';
import type { Services } from './services.js';

/** More than any request of the setup needs. */
export const BODY_BYTES_MAX = 64 * 1024;
const DATABASES_MAX = 100;
const NODES: IntegerBounds = { min: 1, max: 1000 };
/** With its port or without: a host name or an IP address. */
const HOST = /^([A-Za-z0-9]([A-Za-z0-9.-]{0,252})|[0-9A-Fa-f:.]{2,45})$/;

/** Without credentials there is one thing that can be done: to choose the first admin. Throws `UNAUTHORIZED`. */
export function assertAdminUnless(isFirstStep: boolean, { caller }: Exchange): void {
  if (isFirstStep || caller.isServerAdmin) return;
  throw new DivanError('UNAUTHORIZED', 'You are not a server admin.');
}

/** The body and its `action`. Throws `BAD_REQUEST`, `UNSUPPORTED_TYPE`, `INVALID_JSON`, `TOO_LARGE`. */
export async function actionOf(exchange: Exchange): Promise<{ action: string; body: JsonObject }> {
  const body = await exchange.jsonObject(BODY_BYTES_MAX);
  const action = memberOf(body, 'action');
  return { action: typeof action === 'string' ? action : '', body };
}

/** 201, with what an operator should know of it. */
export function replyDone(exchange: Exchange, { warnings }: Done): void {
  exchange.reply(201, { ok: true, ...(warnings.length > 0 ? { warnings } : {}) }, NOT_STORED);
}

export const NOT_STORED = { 'Cache-Control': 'no-store' };

/** Who has just chosen an admin and its password is logged in as that. */
export function logIn(
  { authenticator }: Services,
  exchange: Exchange,
  admin: ChosenAdmin | undefined,
): void {
  const cookie = admin === undefined ? undefined : authenticator.adminCookie(admin.name);
  if (cookie !== undefined) exchange.setHeader('Set-Cookie', cookie);
}

/** Throws `BAD_REQUEST` unless both are texts that are not empty. */
export function nameAndPassword(
  user: JsonValue | undefined,
  password: JsonValue | undefined,
): { name: string; text: string } {
  if (typeof user === 'string' && user !== '' && typeof password === 'string' && password !== '') {
    return { name: user, text: password };
  }
  throw refused('the name and the password of an admin must be texts that are not empty');
}

/** Throws `BAD_REQUEST`. */
export function bindingOf(body: JsonObject): Enabling['binding'] {
  const host = optionalString(body, 'bind_address');
  const port = memberOf(body, 'port');
  return {
    ...(host === undefined ? {} : { host: checkAddress(host) }),
    ...(port === undefined ? {} : { port: checkPort(port) }),
  };
}

/** Where a node is reached. Throws `BAD_REQUEST`. */
export function placeOf(
  object: JsonObject,
  defaultPort: number,
): { host: string; port: number; scheme: 'http' | 'https' | undefined } {
  const scheme = optionalString(object, 'scheme');
  if (scheme !== undefined && scheme !== 'http' && scheme !== 'https') {
    throw refused('`scheme` must be http or https');
  }
  const port = memberOf(object, 'port');
  return {
    host: checkHost(memberOf(object, 'host')),
    port: port === undefined ? defaultPort : checkPort(port),
    scheme,
  };
}

/** Throws `BAD_REQUEST`. */
export function checkHost(host: JsonValue | undefined): string {
  if (typeof host === 'string' && HOST.test(host)) return host;
  throw refused('`host` must be the name or the IP address of a node');
}

/** Names of databases. Throws `BAD_REQUEST`, `TOO_LARGE`. */
export function databasesOf(value: JsonValue | undefined): string[] | undefined {
  if (value === undefined) return undefined;
  return [...stringsOf(value, '`ensure_dbs_exist`', DATABASES_MAX)];
}

/** A number of nodes; a text of digits will do. Throws `BAD_REQUEST`. */
export function nodeCountOf(value: JsonValue | undefined): number | undefined {
  if (value === undefined) return undefined;
  const count = typeof value === 'string' && /^\d{1,4}$/.test(value) ? Number(value) : value;
  const isWhole = typeof count === 'number' && Number.isInteger(count);
  if (isWhole && count >= NODES.min && count <= NODES.max) return count;
  throw refused(`\`node_count\` must be an integer from ${NODES.min} to ${NODES.max}`);
}
