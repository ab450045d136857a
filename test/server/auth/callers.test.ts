/**
 * Goal: nobody is taken for somebody else: by password, by session cookie, by what is remembered; and guessing takes long.
 * Method: a virtual clock, admins and users in memory, hashes of few iterations; cookies damaged in every byte.
 */
import t from 'tap';
import {
  type AdminSource,
  Authenticator,
  type ChangeListener,
  type Credentials,
  parseBasic,
  type StoredUser,
  type UserSource,
} from '../../../server/auth/authenticator.js';
import { Backoff, networkOf } from '../../../server/auth/backoff.js';
import { type Caller, NOBODY } from '../../../server/auth/caller.js';
import type { PasswordRecord } from '../../../server/auth/password.js';
import { PasswordHasher } from '../../../server/auth/password-hasher.js';
import * as cookies from '../../../server/auth/session-cookie.js';
import type { Config } from '../../../server/config/config.js';
import { outcome, outcomeOf } from '../../support/outcome.js';
import { configOf, VirtualServerHost } from '../../support/server-world.js';

const SECRET = new Uint8Array(64).fill(7);

/** Accounts in memory that tell of their changes. */
class Accounts<T> {
  readonly accounts = new Map<string, T>();
  readonly #listeners = new Set<ChangeListener>();

  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  put(name: string, account: T | undefined): void {
    if (account === undefined) this.accounts.delete(name);
    else this.accounts.set(name, account);
    for (const listener of this.#listeners) listener(name);
  }
}

class AdminAccounts extends Accounts<PasswordRecord> implements AdminSource {
  find(name: string): PasswordRecord | undefined {
    return this.accounts.get(name);
  }
}

class UserAccounts extends Accounts<StoredUser> implements UserSource {
  finds = 0;

  async find(name: string): Promise<StoredUser | undefined> {
    this.finds++;
    return this.accounts.get(name);
  }
}

/** Counts what is verified. */
class CountingHasher extends PasswordHasher {
  verified = 0;
  /** Results come after it. */
  gate: Promise<void> = Promise.resolve();

  override async verify(password: string, record: PasswordRecord | undefined): Promise<boolean> {
    this.verified++;
    const isRight = await super.verify(password, record);
    await this.gate;
    return isRight;
  }
}

class Stage {
  readonly host = new VirtualServerHost(1);
  readonly admins = new AdminAccounts();
  readonly users = new UserAccounts();
  readonly config: Config;
  readonly hasher: CountingHasher;
  readonly authenticator: Authenticator;

  constructor(...lines: readonly string[]) {
    this.config = configOf(...lines);
    this.hasher = new CountingHasher({ host: this.host, config: this.config, threads: 0 });
    this.authenticator = new Authenticator({ ...this, secret: SECRET });
  }

  async withAccounts(): Promise<this> {
    this.admins.put('root', await this.hasher.make('rootpass'));
    await this.setUser('jan', 'apple', ['dev', '_admin']);
    return this;
  }

  async setUser(name: string, password: string, roles: readonly string[] = []): Promise<void> {
    this.users.put(name, { roles, password: await this.hasher.make(password) });
  }

  ask(credentials: Partial<Credentials>): Caller | Promise<Caller> {
    const none = { authorization: undefined, cookie: undefined, address: '10.0.0.1' };
    return this.authenticator.authenticate({ ...none, ...credentials });
  }

  /** The code of what it ends with, or whose request it is. */
  async outcome(credentials: Partial<Credentials>): Promise<unknown> {
    const caller = await outcomeOf(Promise.resolve().then(() => this.ask(credentials)));
    return typeof caller === 'string' ? caller : Object(caller).name;
  }

  async login(name: string, password: string): Promise<string> {
    const login = { name, password, address: '10.0.0.1' };
    return cookieOf((await this.authenticator.login(login)).cookie);
  }
}

/** What a browser sends back of a `Set-Cookie`. */
function cookieOf(setCookie: string): string {
  return setCookie.split(';')[0] ?? '';
}

function basic(name: string, password: string): string {
  return `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`;
}

t.test('by password', async (t) => {
  const stage = await new Stage().withAccounts();
  t.equal(stage.ask({}), NOBODY);
  t.same(await stage.ask({ authorization: basic('root', 'rootpass') }), {
    name: 'root',
    roles: ['_admin'],
    isServerAdmin: true,
    via: 'basic',
  });
  t.same(
    await stage.ask({ authorization: basic('jan', 'apple') }),
    { name: 'jan', roles: ['dev'], isServerAdmin: false, via: 'basic' },
    'a document cannot give the role of an admin',
  );
  const wrong = [
    basic('jan', 'Apple'),
    basic('jan', ''),
    basic('', 'apple'),
    basic('nobody', 'apple'),
    'Basic',
    'Basic !!!',
    'Basic amFu',
    'Bearer abc',
    `${basic('jan', 'apple')} x`,
    `Basic ${Buffer.from([0x6a, 0xff, 0x3a, 0x61]).toString('base64')}`,
    '',
  ];
  for (const authorization of wrong) {
    t.equal(await stage.outcome({ authorization }), 'UNAUTHORIZED', authorization);
  }
  await t.rejects(async () => stage.ask({ authorization: basic('jan', 'x') }), {
    message: 'Name or password is incorrect.',
  });
  t.same(parseBasic(basic('foo@example.org', ':bar')), {
    name: 'foo@example.org',
    password: ':bar',
  });
});

t.test('an admin goes before a user of that name', async (t) => {
  const stage = await new Stage().withAccounts();
  const authorization = basic('jan', 'apple');
  await stage.ask({ authorization });
  stage.admins.put('jan', await stage.hasher.make('adminpass'));
  t.equal(await stage.outcome({ authorization }), 'UNAUTHORIZED');
  const admin = await stage.ask({ authorization: basic('jan', 'adminpass') });
  t.ok(admin.isServerAdmin);
  stage.admins.put('jan', undefined);
  t.equal(await stage.outcome({ authorization: basic('jan', 'adminpass') }), 'UNAUTHORIZED');
  t.equal((await stage.ask({ authorization })).isServerAdmin, false);
});

t.test('what was verified is remembered until something changes', async (t) => {
  const stage = await new Stage('[chttpd_auth_cache]', 'max_objects = 3').withAccounts();
  const authorization = basic('jan', 'apple');
  const first = await stage.ask({ authorization });
  t.equal(stage.ask({ authorization }), first, 'at once, no promise');
  t.equal(stage.hasher.verified, 1);

  await stage.setUser('jan', 'pear');
  t.equal(await stage.outcome({ authorization }), 'UNAUTHORIZED', 'not after a new password');
  await stage.setUser('jan', 'apple', ['ops']);
  t.same((await stage.ask({ authorization })).roles, ['ops']);
  stage.users.put('jan', undefined);
  t.equal(await stage.outcome({ authorization }), 'UNAUTHORIZED', 'not after the user is gone');

  const root = { authorization: basic('root', 'rootpass') };
  await stage.ask(root);
  stage.host.advance(stage.config.get('chttpd_auth_cache/max_lifetime') - 1);
  t.notOk(stage.ask(root) instanceof Promise);
  stage.host.advance(1);
  const verified = stage.hasher.verified;
  t.ok((await stage.ask(root)).isServerAdmin);
  t.equal(stage.hasher.verified, verified + 1, 'not for ever');
  for (const name of ['a', 'b', 'c', 'd']) {
    await stage.setUser(name, 'pw');
    await stage.ask({ authorization: basic(name, 'pw') });
  }
  t.equal(stage.authenticator.remembered, 3);
  const before = stage.hasher.verified;
  await stage.ask({ authorization: basic('d', 'pw') });
  t.equal(stage.hasher.verified, before, 'what was used last stays');
});

t.test('a change while a password is verified', async (t) => {
  const stage = await new Stage().withAccounts();
  const authorization = basic('jan', 'apple');
  const pear = await stage.hasher.make('pear');
  let open = () => {};
  stage.hasher.gate = new Promise((resolve) => {
    open = resolve;
  });
  const early = stage.outcome({ authorization });
  while (stage.hasher.verified === 0) await stage.host.yieldTurn();
  stage.users.put('jan', { roles: [], password: pear });
  const late = stage.outcome({ authorization });
  open();
  t.equal(await early, 'jan');
  t.equal(await late, 'UNAUTHORIZED', 'whoever comes later is not given the result of before');
  t.equal(stage.authenticator.remembered, 0, 'nor is it remembered');
  t.equal(await stage.outcome({ authorization }), 'UNAUTHORIZED');
});

t.test('those who ask for the same at once share the work', async (t) => {
  const stage = await new Stage().withAccounts();
  const authorization = basic('jan', 'apple');
  const all = await Promise.all(Array.from({ length: 16 }, () => stage.ask({ authorization })));
  t.equal(new Set(all).size, 1);
  t.equal(stage.hasher.verified, 1);
  const wrong = basic('jan', 'wrong');
  const outcomes = Array.from({ length: 16 }, () => stage.outcome({ authorization: wrong }));
  t.same(new Set(await Promise.all(outcomes)), new Set(['UNAUTHORIZED']), 'as one attempt');
  t.equal(stage.hasher.verified, 2);
});

t.test('an unknown user costs as much as a known one', async (t) => {
  const stage = await new Stage().withAccounts();
  await stage.outcome({ authorization: basic('nobody', 'x') });
  await stage.outcome({ authorization: basic('jan', 'x') });
  t.equal(stage.hasher.verified, 2);
});

t.test('wrong passwords have to wait', async (t) => {
  const stage = await new Stage().withAccounts();
  const guess = (n: number, address = '10.0.0.1') =>
    stage.outcome({ authorization: basic('jan', `guess${n}`), address });
  for (let n = 0; n < 5; n++) t.equal(await guess(n), 'UNAUTHORIZED');
  const right = { authorization: basic('jan', 'apple') };
  t.equal(await stage.outcome(right), 'FORBIDDEN', 'the right one too: it tells nothing');
  t.equal(await stage.outcome({ ...right, address: '10.0.0.2' }), 'jan', 'not from elsewhere');
  t.equal(await stage.outcome(right), 'jan', 'what was verified before needs no password');
  t.equal(await stage.outcome({ authorization: basic('root', 'rootpass') }), 'root');
  stage.host.advance(1000);
  t.equal(await guess(6), 'UNAUTHORIZED');
  stage.host.advance(1999);
  t.equal(await guess(7), 'FORBIDDEN', 'twice as long');
  stage.host.advance(1);
  t.equal(await stage.login('jan', 'apple').then(() => 'ok'), 'ok', 'then all is forgotten');
  t.equal(await guess(8), 'UNAUTHORIZED');

  const many = await Promise.all(Array.from({ length: 20 }, (_, n) => guess(n, '10.9.9.9')));
  t.equal(
    many.filter((code) => code === 'UNAUTHORIZED').length,
    5,
    'many at once are no way around',
  );
});

t.test('the table of wrong passwords', async (t) => {
  const host = new VirtualServerHost(1);
  const lockout = [
    '[chttpd_auth_lockout]',
    'threshold = 1',
    'max_objects = 2',
    'max_lifetime = 4000',
  ];
  const backoff = new Backoff(host, configOf(...lockout));
  const tries = (name: string) => outcome(() => backoff.begin(name, '::1')) ?? 'ok';
  for (const [wait, expected] of [
    [0, 'ok'],
    [999, 'FORBIDDEN'],
    [1, 'ok'],
    [2000, 'ok'],
    [4000, 'ok'],
    [3999, 'FORBIDDEN'],
    [1, 'ok'],
  ] as const) {
    host.advance(wait);
    t.equal(tries('a'), expected, `after ${wait} ms`);
  }
  host.advance(8000);
  t.equal(tries('a'), 'ok');
  host.advance(1000);
  t.equal(tries('a'), 'ok', 'it was forgotten');
  for (const name of ['b', 'c', 'd']) tries(name);
  t.equal(backoff.size, 2);
  t.equal(tries('d'), 'FORBIDDEN');
  backoff.cancel('d', '::1');
  t.equal(tries('d'), 'ok', 'what could not be judged does not count');
  for (const [address, network] of [
    ['1.2.3.4', '1.2.3.4'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
    ['2001:db8::6', '2001:db8:0:0'],
    ['::1', '0:0:0:0'],
    ['fe80::1:2:3:4', 'fe80:0:0:0'],
  ] as const) {
    t.equal(networkOf(address), network, address);
  }
});

t.test('an overloaded hasher counts against nobody', async (t) => {
  const stage = await new Stage(
    'max_hash_queue = 1',
    '[chttpd_auth_lockout]',
    'threshold = 1',
  ).withAccounts();
  const busy = new PasswordHasher({ host: stage.host, config: stage.config, threads: 0 });
  await busy.close();
  const authenticator = new Authenticator({ ...stage, hasher: busy, secret: SECRET });
  const login = { name: 'jan', password: 'x', address: '1' };
  for (let n = 0; n < 3; n++) t.equal(await outcomeOf(authenticator.login(login)), 'CLOSED');
});

t.test('sessions', async (t) => {
  const stage = await new Stage().withAccounts();
  const { caller, cookie: header } = await stage.authenticator.login({
    name: 'jan',
    password: 'apple',
    address: '10.0.0.1',
  });
  t.equal(caller.name, 'jan');
  t.match(header, /^AuthSession=[\w-]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=600$/);
  const cookie = cookieOf(header);
  const first = await stage.ask({ cookie: `other=1; ${cookie}` });
  t.same(first, { name: 'jan', roles: ['dev'], isServerAdmin: false, via: 'cookie' });
  const finds = stage.users.finds;
  t.equal(stage.ask({ cookie }), first, 'at once');
  t.equal(stage.users.finds, finds);
  t.equal(stage.authenticator.renewedCookie(first), undefined);
  stage.host.advance(60_001);
  const renewed = cookieOf(stage.authenticator.renewedCookie(first) ?? '');
  t.not(renewed, cookie, 'after a tenth of it');
  stage.host.advance(539_998);
  t.equal(await stage.outcome({ cookie }), 'jan');
  stage.host.advance(1);
  t.equal(await stage.outcome({ cookie }), undefined, 'it is over');
  t.equal(await stage.outcome({ cookie: renewed }), 'jan');
  await stage.setUser('jan', 'apple');
  t.equal(
    await stage.outcome({ cookie: renewed }),
    undefined,
    'every change of a password ends it',
  );
  const again = await stage.login('jan', 'apple');
  t.equal(await stage.outcome({ cookie: again }), 'jan');
  stage.users.put('jan', undefined);
  t.equal(await stage.outcome({ cookie: again }), undefined, 'the user is gone');
  const admin = stage.ask({ cookie: await stage.login('root', 'rootpass') });
  t.notOk(admin instanceof Promise, 'an admin needs no looking up');
  t.ok((await admin).isServerAdmin);
  t.equal(
    await stage.outcome({ cookie: again, authorization: basic('root', 'no') }),
    'UNAUTHORIZED',
    'a wrong password is not made good by a cookie',
  );
  t.match(stage.authenticator.logoutCookie(), /^AuthSession=; Path=\/; HttpOnly; .*Max-Age=0/);
});

t.test('a session cannot be made up', async (t) => {
  const stage = await new Stage().withAccounts();
  const cookie = await stage.login('jan', 'apple');
  const value = cookie.slice('AuthSession='.length);
  const salt = stage.users.accounts.get('jan')?.password.salt ?? '';
  for (let index = 0; index < value.length; index++) {
    const other = value[index] === 'A' ? 'B' : 'A';
    const damaged = value.slice(0, index) + other + value.slice(index + 1);
    t.equal(await stage.outcome({ cookie: `AuthSession=${damaged}` }), undefined, `byte ${index}`);
  }
  const now = Math.floor(stage.host.timeOfDay() / 1000);
  const made = (secret: Uint8Array, salt: string, at: number) =>
    `AuthSession=${cookies.makeToken(secret, salt, 'jan', at)}`;
  t.equal(await stage.outcome({ cookie: made(SECRET, salt, now) }), 'jan');
  t.equal(await stage.outcome({ cookie: made(new Uint8Array(64), salt, now) }), undefined);
  t.equal(await stage.outcome({ cookie: made(SECRET, '', now) }), undefined);
  t.equal(await stage.outcome({ cookie: made(SECRET, salt, now - 600) }), undefined);
  t.equal(await stage.outcome({ cookie: made(SECRET, salt, now + 600) }), undefined);
  for (const text of [
    '',
    'x',
    '====',
    'a'.repeat(5000),
    Buffer.from('jan:1:').toString('base64url'),
  ]) {
    t.equal(await stage.outcome({ cookie: `AuthSession=${text}` }), undefined);
  }
  t.equal(await stage.outcome({ cookie: `${cookie}; AuthSession=x` }), undefined, 'two of them');
  t.equal(await stage.outcome({ cookie: `AuthSession=x; ${cookie}` }), undefined, 'two of them');
  t.equal(await stage.outcome({ cookie: `${cookie}=` }), undefined, 'padding');
  t.equal(await stage.outcome({ authorization: `c${value}` }), 'UNAUTHORIZED');
});

t.test('sessions by other settings', async (t) => {
  const stage = await new Stage(
    'allow_persistent_cookies = false',
    'same_site = lax',
  ).withAccounts();
  const { cookie } = await stage.authenticator.login({
    name: 'jan',
    password: 'apple',
    address: '',
  });
  t.match(cookie, /; Path=\/; HttpOnly; SameSite=Lax$/);

  const short = await new Stage('timeout = 10').withAccounts();
  const session = { cookie: await short.login('jan', 'apple') };
  t.equal(await short.outcome(session), 'jan');
  short.host.advance(10_000);
  t.equal(await short.outcome(session), undefined, 'it does not last as long as it is remembered');
});
