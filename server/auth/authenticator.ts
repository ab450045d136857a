/**
 * Who calls: server admins and users, who prove it with a name and password or with a session cookie.
 *
 * What was verified is remembered by a salted hash of the header, so that the password is not kept and a request with the header of the one
 * before costs a hash instead of a KDF. It is forgotten when the admin or user changes, when it is old, and when there is too much of it.
 */
import { hash } from 'node:crypto';
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { Config } from '../config/config.js';
import type { ServerHost } from '../world.js';
import { Backoff } from './backoff.js';
import { type Caller, NOBODY } from './caller.js';
import type { PasswordRecord } from './password.js';
import type { PasswordHasher } from './password-hasher.js';
import {
  type CookieOptions,
  clearCookie,
  isCurrent,
  isGenuine,
  isToBeRenewed,
  makeToken,
  parseToken,
  type SessionToken,
  setCookie,
  tokenOf,
} from './session-cookie.js';

export interface StoredUser {
  /** Its document is on another node, which may change it without this one hearing of that in time. */
  readonly isElsewhere?: boolean;
  readonly roles: readonly string[];
  readonly password: PasswordRecord;
}

/** Told of every change before anybody is told that it was made; of all names if it is undefined. */
export type ChangeListener = (name: string | undefined) => void;

/** The users, who are documents of the database `_users`. */
export interface UserSource {
  /** Undefined if there is no such user, or it has no password. */
  find(name: string): Promise<StoredUser | undefined>;
  /** Calls the listener until the returned function is called. */
  onChange(listener: ChangeListener): () => void;
}

/** The admins of the server. They go before users of the same name. */
export interface AdminSource {
  find(name: string): PasswordRecord | undefined;
  onChange(listener: ChangeListener): () => void;
}

export interface AuthenticatorOptions {
  readonly host: ServerHost;
  readonly config: Config;
  readonly hasher: PasswordHasher;
  readonly admins: AdminSource;
  readonly users: UserSource;
  /** The key of session cookies. It is read anew each time, since it becomes another one when the node takes over that of its cluster. */
  readonly secret: Uint8Array;
}

/** What a request brings along. */
export interface Credentials {
  /** Its headers of these names. */
  readonly authorization: string | undefined;
  readonly cookie: string | undefined;
  /** Of the client. */
  readonly address: string;
}

/** Who logs in. */
export interface Login {
  readonly name: string;
  readonly password: string;
  readonly address: string;
}

/** Of a user, or, without roles, of an admin. */
interface Account {
  readonly isElsewhere?: boolean;
  readonly password: PasswordRecord;
  readonly roles?: readonly string[];
}

interface Remembered {
  readonly caller: Caller;
  /** Of `host.now`. */
  readonly untilMs: number;
}

/** What is needed to make the next cookie of a session, and, if it is one, when the present one was made. */
interface Session {
  readonly salt: string;
  /** Seconds since 1970. */
  readonly madeAt: number;
}

interface Verified {
  readonly caller: Caller;
  readonly isElsewhere: boolean;
  readonly salt: string;
}

/** How long what is known of users elsewhere is believed. */
const ELSEWHERE_MS = 3000;
const WRONG = 'Name or password is incorrect.';
const ADMIN_ROLES = ['_admin'];

export class Authenticator {
  /** How often credentials were known already, and how often they had to be looked up. */
  hits = 0;
  misses = 0;
  readonly #options: AuthenticatorOptions;
  readonly #backoff: Backoff;
  /** Of the hashes under which things are remembered. */
  readonly #salt: string;
  /** By hash, what was used last at the end. */
  readonly #remembered = new Map<string, Remembered>();
  /** Verifications under way, by hash and address. */
  readonly #underway = new Map<string, Promise<Verified>>();
  readonly #sessions = new WeakMap<Caller, Session>();
  readonly #stopListening: readonly (() => void)[];
  /** Rises with every change of an admin or a user. */
  #changes = 0;

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.host, options.config);
    this.#salt = Buffer.from(options.host.randomBytes(32)).toString('hex');
    const forget: ChangeListener = (name) => this.#forget(name);
    this.#stopListening = [options.admins.onChange(forget), options.users.onChange(forget)];
  }

  /** How much is remembered. */
  get remembered(): number {
    return this.#remembered.size;
  }

  close(): void {
    for (const stop of this.#stopListening) stop();
  }

  /**
   * Who makes a request; not a promise if the same headers were verified lately. A cookie that is old or of another server is of nobody, as
   * in CouchDB; a wrong `Authorization` is an error. Throws or rejects with `UNAUTHORIZED`, `FORBIDDEN` after too many wrong passwords,
   * `UNAVAILABLE`, and what reading a user throws.
   */
  authenticate({ authorization, cookie, address }: Credentials): Caller | Promise<Caller> {
    if (authorization !== undefined) return this.#byPassword(authorization, address);
    const token = cookie === undefined ? undefined : tokenOf(cookie);
    return token === undefined ? NOBODY : this.#byToken(token);
  }

  /** Verifies a name and password and begins a session. Returns the value for `Set-Cookie`. Rejects as `authenticate`. */
  async login(login: Login): Promise<{ caller: Caller; cookie: string }> {
    const { name, password } = login;
    const key = this.#hash(`l${name.length} ${name}${password}`);
    const { caller, salt } = await this.#verifyOnce(key, login);
    return { caller, cookie: this.#cookie(name, salt) };
  }

  /**
   * The value for `Set-Cookie` that begins a session of an admin, for who has just chosen its password; undefined if there is no such admin.
   */
  adminCookie(name: string): string | undefined {
    const admin = this.#options.admins.find(name);
    return admin === undefined ? undefined : this.#cookie(name, admin.salt);
  }

  /** Nothing that was verified counts any longer: the secret is another one. */
  forgetAll(): void {
    this.#forget(undefined);
  }

  /**
   * The value for `Set-Cookie` with which a session goes on, if the caller is in one of which more than a tenth is gone. `caller` is what
   * `authenticate` returned.
   */
  renewedCookie(caller: Caller): string | undefined {
    const session = this.#sessions.get(caller);
    if (session === undefined || caller.name === undefined) return undefined;
    const { host, config } = this.#options;
    const timeout = config.get('chttpd_auth/timeout');
    if (!isToBeRenewed(session.madeAt, host.timeOfDay(), timeout)) return undefined;
    return this.#cookie(caller.name, session.salt);
  }

  /** A caller as it is by now, for replies that last: with the roles that it has now; nobody if its user is there no longer. */
  async current(caller: Caller): Promise<Caller> {
    const { name, via } = caller;
    if (name === undefined || via === undefined) return caller;
    const { admins, users } = this.#options;
    const admin = admins.find(name);
    const account = admin === undefined ? await users.find(name) : { password: admin };
    return account === undefined ? NOBODY : callerOf(name, account, via);
  }

  /** The value for `Set-Cookie` that ends a session in the browser. */
  logoutCookie(): string {
    return clearCookie(this.#cookieOptions());
  }

  #byPassword(authorization: string, address: string): Caller | Promise<Caller> {
    const key = this.#hash(`b${authorization}`);
    const caller = this.#recall(key);
    if (caller !== undefined) return caller;
    const credentials = parseBasic(authorization);
    if (credentials === undefined) throw new DivanError('UNAUTHORIZED', WRONG);
    const changes = this.#changes;
    return this.#verifyOnce(key, { ...credentials, address }).then(({ caller, isElsewhere }) => {
      this.#remember(key, caller, changes, isElsewhere);
      return caller;
    });
  }

  /** As `#verify`; those who ask at the same time for the same share the work. */
  #verifyOnce(key: string, login: Login): Promise<Verified> {
    const underwayKey = `${key} ${login.address}`;
    const underway = this.#underway.get(underwayKey);
    if (underway !== undefined) return underway;
    const verified = this.#verify(login).finally(() => {
      if (this.#underway.get(underwayKey) === verified) this.#underway.delete(underwayKey);
    });
    this.#underway.set(underwayKey, verified);
    return verified;
  }

  async #verify({ name, password, address }: Login): Promise<Verified> {
    this.#backoff.begin(name, address);
    try {
      const { admins, users, hasher } = this.#options;
      const admin = admins.find(name);
      const account = admin === undefined ? await users.find(name) : { password: admin };
      const isRight = await hasher.verify(password, account?.password);
      if (!isRight || account === undefined) throw new DivanError('UNAUTHORIZED', WRONG);
      this.#backoff.succeed(name, address);
      const isElsewhere = isUserElsewhere(account);
      const { salt } = account.password;
      return { caller: callerOf(name, account, 'basic'), salt, isElsewhere };
    } catch (error) {
      if (!isDivanError(error, 'UNAUTHORIZED')) this.#backoff.cancel(name, address);
      throw error;
    }
  }

  #byToken(text: string): Caller | Promise<Caller> {
    const key = this.#hash(`c${text}`);
    const known = this.#recall(key);
    if (known !== undefined) {
      const madeAt = this.#sessions.get(known)?.madeAt;
      return madeAt !== undefined && this.#isCurrent(madeAt) ? known : NOBODY;
    }
    const token = parseToken(text);
    if (token === undefined || !this.#isCurrent(token.madeAt)) return NOBODY;
    const changes = this.#changes;
    const admin = this.#options.admins.find(token.name);
    if (admin !== undefined) return this.#ofToken(key, token, { password: admin }, changes);
    const user = this.#options.users.find(token.name);
    return user.then((user) =>
      user === undefined ? NOBODY : this.#ofToken(key, token, user, changes),
    );
  }

  #ofToken(key: string, token: SessionToken, account: Account, changes: number): Caller {
    const { salt } = account.password;
    if (!isGenuine(token, this.#options.secret, salt)) return NOBODY;
    const caller = callerOf(token.name, account, 'cookie');
    this.#sessions.set(caller, { salt, madeAt: token.madeAt });
    this.#remember(key, caller, changes, isUserElsewhere(account));
    return caller;
  }

  #isCurrent(madeAt: number): boolean {
    const { host, config } = this.#options;
    return isCurrent(madeAt, host.timeOfDay(), config.get('chttpd_auth/timeout'));
  }

  #cookie(name: string, salt: string): string {
    const madeAt = Math.floor(this.#options.host.timeOfDay() / 1000);
    return setCookie(makeToken(this.#options.secret, salt, name, madeAt), this.#cookieOptions());
  }

  #cookieOptions(): CookieOptions {
    const { config } = this.#options;
    const isPersistent = config.get('chttpd_auth/allow_persistent_cookies');
    return {
      maxAgeSeconds: isPersistent ? config.get('chttpd_auth/timeout') : undefined,
      sameSite: config.get('chttpd_auth/same_site'),
      secure: config.get('chttpd_auth/secure_cookie'),
    };
  }

  #hash(text: string): string {
    return hash('sha256', this.#salt + text, 'base64');
  }

  #recall(key: string): Caller | undefined {
    const found = this.#remembered.get(key);
    if (found !== undefined) this.#remembered.delete(key);
    if (found === undefined || found.untilMs <= this.#options.host.now()) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    this.#remembered.set(key, found);
    return found.caller;
  }

  /** Not if an admin or a user changed since `#changes` was `changes`: it may have been this one. */
  #remember(key: string, caller: Caller, changes: number, isElsewhere: boolean): void {
    if (changes !== this.#changes) return;
    const { host, config } = this.#options;
    const lifetime = config.get('chttpd_auth_cache/max_lifetime');
    const untilMs = host.now() + (isElsewhere ? Math.min(lifetime, ELSEWHERE_MS) : lifetime);
    this.#remembered.set(key, { caller, untilMs });
    const [oldest] = this.#remembered.keys();
    const isFull = this.#remembered.size > config.get('chttpd_auth_cache/max_objects');
    if (isFull && oldest !== undefined) this.#remembered.delete(oldest);
  }

  #forget(name: string | undefined): void {
    this.#changes++;
    // Whoever comes from now on must not be given what was verified against the record of before.
    this.#underway.clear();
    for (const [key, { caller }] of this.#remembered) {
      if (name === undefined || caller.name === name) this.#remembered.delete(key);
    }
  }
}

function isUserElsewhere({ isElsewhere }: Account): boolean {
  return isElsewhere === true;
}

/** What begins with `_` is no role that a document can give (CVE-2017-12635). */
function callerOf(name: string, account: Account, via: 'basic' | 'cookie'): Caller {
  if (account.roles === undefined) return { name, roles: ADMIN_ROLES, isServerAdmin: true, via };
  const roles = account.roles.filter((role) => !role.startsWith('_'));
  return { name, roles, isServerAdmin: false, via };
}

/** The name and password of an `Authorization` header; undefined if it is of another scheme or malformed (RFC 7617). */
export function parseBasic(
  header: string,
): { readonly name: string; readonly password: string } | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(header)?.[1];
  if (encoded === undefined) return undefined;
  const bytes = Buffer.from(encoded, 'base64');
  const text = bytes.toString();
  // Bytes that are no UTF-8 would become the same replacement character.
  if (!Buffer.from(text).equals(bytes)) return undefined;
  const colon = text.indexOf(':');
  return colon <= 0 ? undefined : { name: text.slice(0, colon), password: text.slice(colon + 1) };
}
