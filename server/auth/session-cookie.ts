/**
 * The session cookie in CouchDB's form (`src/couch/src/couch_httpd_auth.erl`): base64url of `name:TIME:MAC`, TIME in hexadecimal seconds
 * since 1970, MAC an HMAC-SHA-256 of `name:TIME` whose key is the server's secret followed by the salt of the user's password. So a session
 * ends when the password changes. The server remembers no sessions.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { DivanError } from '../../engine/errors.js';
import type { SettingValues } from '../config/settings.js';
import type { Caller } from './caller.js';

export const SESSION_COOKIE = 'AuthSession';

const MAC_BYTES = 32;
/** A name is part of it. */
const TOKEN_LENGTH_MAX = 4096;
/** A session is renewed when less than this share of it is left. */
const RENEW_BELOW = 0.9;

export interface SessionToken {
  readonly name: string;
  /** Seconds since 1970. */
  readonly madeAt: number;
  readonly mac: Uint8Array;
}

export interface CookieOptions {
  /** How long a browser keeps it; undefined for as long as it is open. */
  readonly maxAgeSeconds: number | undefined;
  readonly sameSite: SettingValues['chttpd_auth/same_site'];
  /** Sent over https only. With `none` it is so anyway: browsers demand it. */
  readonly secure: boolean;
}

/** The value of a session cookie. */
export function makeToken(secret: Uint8Array, salt: string, name: string, madeAt: number): string {
  const signed = `${name}:${hexTime(madeAt)}`;
  const mac = macOf(secret, salt, signed);
  return Buffer.concat([Buffer.from(`${signed}:`), mac]).toString('base64url');
}

/** What a cookie says, be it genuine or not; undefined if it is malformed. */
export function parseToken(value: string): SessionToken | undefined {
  if (value.length > TOKEN_LENGTH_MAX) return undefined;
  const bytes = Buffer.from(value, 'base64url');
  // One session has one text: padding, other alphabets and stray bits are not taken.
  if (bytes.toString('base64url') !== value) return undefined;
  const end = bytes.length - MAC_BYTES - 1;
  const text = bytes.toString('utf8', 0, Math.max(end, 0));
  const [, name = '', time = ''] = /^(.+):([0-9A-F]{1,12})$/s.exec(text) ?? [];
  if (name === '' || bytes[end] !== 0x3a || !Buffer.from(text).equals(bytes.subarray(0, end))) {
    return undefined;
  }
  return { name, madeAt: Number.parseInt(time, 16), mac: bytes.subarray(end + 1) };
}

/** True if this server made the token for a user whose password has this salt. */
export function isGenuine(token: SessionToken, secret: Uint8Array, salt: string): boolean {
  const mac = macOf(secret, salt, `${token.name}:${hexTime(token.madeAt)}`);
  return timingSafeEqual(mac, token.mac);
}

/** True within `timeoutSeconds` of when it was made; one from the future, after the clock was set back, is as bad as an old one. */
export function isCurrent(madeAt: number, nowMs: number, timeoutSeconds: number): boolean {
  return Math.abs(nowMs / 1000 - madeAt) < timeoutSeconds;
}

/** True if so much of a session is gone that the client should get a new cookie. */
export function isToBeRenewed(madeAt: number, nowMs: number, timeoutSeconds: number): boolean {
  return madeAt + timeoutSeconds - nowMs / 1000 < timeoutSeconds * RENEW_BELOW;
}

/**
 * The session token of a `Cookie` header. Undefined if there is none, and if there are several different ones: another site of the same
 * domain can plant a second.
 */
export function tokenOf(header: string): string | undefined {
  let found: string | undefined;
  for (const pair of header.split(';')) {
    const equals = pair.indexOf('=');
    if (equals < 0 || pair.slice(0, equals).trim() !== SESSION_COOKIE) continue;
    const value = pair
      .slice(equals + 1)
      .trim()
      .replace(/^"(.*)"$/, '$1');
    if (found !== undefined && found !== value) return undefined;
    found = value;
  }
  return found === '' ? undefined : found;
}

/** The value of a `Set-Cookie` header. */
export function setCookie(value: string, options: CookieOptions): string {
  const { maxAgeSeconds, sameSite, secure } = options;
  const parts = [`${SESSION_COOKIE}=${value}`, 'Path=/', 'HttpOnly', SAME_SITE[sameSite]];
  if (maxAgeSeconds !== undefined) parts.push(`Max-Age=${maxAgeSeconds}`);
  if (secure || sameSite === 'none') parts.push('Secure');
  return parts.join('; ');
}

/** The value of a `Set-Cookie` header that takes the cookie away. */
export function clearCookie(options: CookieOptions): string {
  return setCookie('', { ...options, maxAgeSeconds: 0 });
}

const SAME_SITE = { strict: 'SameSite=Strict', lax: 'SameSite=Lax', none: 'SameSite=None' };
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/** The parts of a request that tell whether a page of another site had a browser send it. */
export interface RequestOrigin {
  readonly method: string;
  readonly origin: string | undefined;
  readonly host: string | undefined;
}

/**
 * Throws `FORBIDDEN` for a request that may write, is authenticated by a cookie, which browsers add by themselves, and comes from a page of
 * another site, as its `Origin` says (CVE-2010-2234). Browsers send that header with every such request.
 */
export function assertSameOrigin(caller: Caller, request: RequestOrigin): void {
  if (caller.via !== 'cookie' || SAFE_METHODS.has(request.method) || isOfThisSite(request)) return;
  throw new DivanError(
    'FORBIDDEN',
    'A session cookie is not accepted for a write from a page of another site.',
  );
}

/**
 * Throws `FORBIDDEN` for a login by a page of another site: a form there needs nobody's consent, and whoever is logged in by it under a
 * name that is not theirs writes into the databases of somebody else.
 */
export function assertLoginOrigin(request: RequestOrigin): void {
  if (isOfThisSite(request)) return;
  throw new DivanError('FORBIDDEN', 'A page of another site cannot log in here.');
}

/** True for a request that no page had a browser send, or one of this site. */
function isOfThisSite({ origin, host }: RequestOrigin): boolean {
  return origin === undefined || (host !== undefined && isOriginOf(origin, host));
}

/** True if an origin, `https://host:port`, has the host of a `Host` header; a port that its scheme implies may be left out in either. */
function isOriginOf(origin: string, host: string): boolean {
  const [, scheme = ''] = /^(https?):\/\/[^/?#@\\]+$/i.exec(origin) ?? [];
  const other = `${scheme}://${host}`;
  if (scheme === '' || !/^[^/?#@\\]+$/.test(host)) return false;
  if (!URL.canParse(origin) || !URL.canParse(other)) return false;
  return new URL(origin).host === new URL(other).host;
}

function hexTime(seconds: number): string {
  return seconds.toString(16).toUpperCase();
}

function macOf(secret: Uint8Array, salt: string, signed: string): Buffer {
  const key = Buffer.concat([secret, Buffer.from(salt)]);
  return createHmac('sha256', key).update(signed).digest();
}
