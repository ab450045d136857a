/**
 * Goal: pages of other sites may do what the settings say, and nothing else.
 * Method: requests as browsers send them, to a server on a port of its own.
 */
import t from 'tap';
import type { Reply } from '../../support/server.js';
import { TestServer } from '../../support/server.js';

const APP = 'https://app.example';
const OTHER = 'https://other.example';

const NAMED = {
  'chttpd/enable_cors': 'true',
  'cors/origins': `${APP}, http://localhost:8080`,
  'cors/credentials': 'true',
} as const;

function allowed({ headers }: Reply): readonly (string | null)[] {
  return [
    headers.get('access-control-allow-origin'),
    headers.get('access-control-allow-credentials'),
  ];
}

function preflight(server: TestServer, origin: string, method: string, headers: string) {
  return server.call('OPTIONS', '/db/doc', {
    as: null,
    headers: {
      Origin: origin,
      'Access-Control-Request-Method': method,
      'Access-Control-Request-Headers': headers,
    },
  });
}

/** Of a login from a page of a site; undefined if it is refused. */
async function sessionFrom(server: TestServer, origin: string): Promise<string | undefined> {
  const body = { name: 'admin', password: 'secret-of-the-tests' };
  const reply = await server.call('POST', '/_session', {
    as: null,
    body,
    headers: { Origin: origin },
  });
  return reply.headers.getSetCookie().at(-1)?.split(';')[0];
}

t.test('off', async (t) => {
  const server = await TestServer.open(t);
  const reply = await server.call('GET', '/', { headers: { Origin: APP } });
  t.strictSame(allowed(reply), [null, null]);
  t.equal(reply.headers.get('vary'), null);
  t.equal((await preflight(server, APP, 'PUT', 'content-type')).status, 405);
});

t.test('for sites that are named', async (t) => {
  const server = await TestServer.open(t, { settings: NAMED });
  await server.put('/db');
  for (const [path, status] of [
    ['/db', 200],
    ['/db/missing', 404],
    ['/_no_such_thing', 404],
    ['/db/_all_docs?limit=x', 400],
  ] as const) {
    const reply = await server.call('GET', path, { headers: { Origin: APP } });
    t.equal(reply.status, status, path);
    t.strictSame(allowed(reply), [APP, 'true'], path);
    t.match(reply.headers.get('access-control-expose-headers'), /ETag/);
    t.equal(reply.headers.get('vary'), 'Origin');
    const other = await server.call('GET', path, { headers: { Origin: OTHER } });
    t.strictSame(allowed(other), [null, null], path);
    t.equal(other.headers.get('vary'), 'Origin');
  }
  const asked = await preflight(server, APP, 'PUT', 'Content-Type, Authorization');
  t.equal(asked.status, 204);
  t.strictSame(allowed(asked), [APP, 'true']);
  t.match(asked.headers.get('access-control-allow-methods'), /PUT/);
  t.match(asked.headers.get('access-control-allow-headers'), /content-type/);
  t.equal(asked.headers.get('access-control-max-age'), '600');
  t.equal((await preflight(server, APP, 'TRACE', '')).status, 405);
  t.equal((await preflight(server, APP, 'PUT', 'x-anything')).status, 405);
  t.equal((await preflight(server, OTHER, 'PUT', '')).status, 405);
});

t.test('cookies are taken from sites that are named', async (t) => {
  const server = await TestServer.open(t, { settings: NAMED });
  t.equal(await sessionFrom(server, OTHER), undefined);
  const Cookie = await sessionFrom(server, APP);
  if (Cookie === undefined) throw new Error('no session');
  const put = (Origin: string, name: string) =>
    server.call('PUT', `/${name}`, { as: null, headers: { Cookie, Origin } });
  t.equal((await put(OTHER, 'a')).status, 403);
  t.equal((await put(APP, 'a')).status, 201);
});

t.test('for all sites', async (t) => {
  const server = await TestServer.open(t, {
    settings: { 'chttpd/enable_cors': 'true', 'cors/origins': '*' },
  });
  const reply = await server.call('GET', '/', { headers: { Origin: OTHER } });
  t.strictSame(allowed(reply), ['*', null]);
  // As the npm package add-cors-to-couchdb sets it.
  const set = await server.call('PUT', '/_node/_local/_config/cors/credentials', { body: 'true' });
  t.equal(set.status, 400, 'a text that is no JSON');
  await server.call('PUT', '/_node/_local/_config/cors/credentials', { body: '"true"' });
  const named = await server.call('GET', '/', { headers: { Origin: OTHER } });
  t.strictSame(allowed(named), [OTHER, 'true'], 'credentials do not go with `*`');
  const sandboxed = await server.call('GET', '/', { headers: { Origin: 'null' } });
  t.strictSame(allowed(sandboxed), ['*', null]);
  t.equal(await sessionFrom(server, OTHER), undefined, 'but a `*` trusts nobody with cookies');
});
