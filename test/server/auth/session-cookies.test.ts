/**
 * Goal: session cookies are those of CouchDB, and browsers are not made to use them for other sites.
 * Method: a cookie made by hand; tables of origins and hosts.
 */
import { createHmac } from 'node:crypto';
import t from 'tap';
import { type Caller, NOBODY } from '../../../server/auth/caller.js';
import * as cookies from '../../../server/auth/session-cookie.js';
import { outcome } from '../../support/outcome.js';

const SECRET = new Uint8Array(64).fill(7);

t.test('the cookie is as CouchDB makes it', async (t) => {
  const token = cookies.makeToken(Buffer.from('secret'), 'salt', 'jan', 0x65f0a1b2);
  const mac = createHmac('sha256', 'secretsalt').update('jan:65F0A1B2').digest();
  t.equal(token, Buffer.concat([Buffer.from('jan:65F0A1B2:'), mac]).toString('base64url'));
  const odd = cookies.parseToken(cookies.makeToken(SECRET, 's', 'a:b:FF', 255));
  t.same([odd?.name, odd?.madeAt], ['a:b:FF', 255]);
  const options = { maxAgeSeconds: undefined, sameSite: 'lax', secure: true } as const;
  t.equal(cookies.setCookie('x', options), 'AuthSession=x; Path=/; HttpOnly; SameSite=Lax; Secure');
  const none = { maxAgeSeconds: 5, sameSite: 'none', secure: false } as const;
  t.match(cookies.setCookie('x', none), /SameSite=None; Max-Age=5; Secure$/);
});

t.test('writes of other sites', async (t) => {
  const via = (via: Caller['via']): Caller => ({
    name: 'jan',
    roles: [],
    isServerAdmin: false,
    via,
  });
  const check = (
    method: string,
    origin: string | undefined,
    host: string | undefined,
    by: Caller,
  ) => outcome(() => cookies.assertSameOrigin(by, { method, origin, host })) ?? 'ok';
  const own = [
    ['http://db.example.com:5984', 'db.example.com:5984'],
    ['https://DB.example.com', 'db.example.com'],
    ['https://db.example.com', 'db.example.com:443'],
    ['http://db.example.com:80', 'db.example.com'],
    ['http://[::1]:5984', '[::1]:5984'],
    [undefined, 'db.example.com'],
  ] as const;
  const foreign = [
    ['http://evil.example', 'db.example.com'],
    ['http://db.example.com:5985', 'db.example.com:5984'],
    ['http://db.example.com.evil.example', 'db.example.com'],
    ['http://db.example.com@evil.example', 'db.example.com'],
    ['http://evil.example#db.example.com', 'db.example.com'],
    ['null', 'db.example.com'],
    ['', 'db.example.com'],
    ['file://', ''],
    ['http://db.example.com', undefined],
    ['http://evil.example', 'x@evil.example'],
  ] as const;
  for (const [origin, host] of own) t.equal(check('PUT', origin, host, via('cookie')), 'ok');
  for (const [origin, host] of foreign) {
    for (const method of ['PUT', 'POST', 'DELETE', 'COPY', 'WHAT']) {
      t.equal(check(method, origin, host, via('cookie')), 'FORBIDDEN', `${method} ${origin}`);
    }
    t.equal(check('GET', origin, host, via('cookie')), 'ok');
    t.equal(check('PUT', origin, host, via('basic')), 'ok');
    t.equal(check('PUT', origin, host, NOBODY), 'ok');
  }
});
