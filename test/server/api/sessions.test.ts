/**
 * Goal: who may do what with sessions, users and databases, as in CouchDB and stricter where it says so.
 * Method: a server on a port of its own, through fetch.
 */
import t from 'tap';
import { type Reply, TestServer } from '../../support/server.js';
import { VirtualServerHost } from '../../support/server-world.js';

const JSON_TYPE = { 'Content-Type': 'application/json' };

/** The session cookie that a reply sets. */
function cookieOf(reply: Reply): string {
  return reply.headers.getSetCookie().at(-1)?.split(';')[0] ?? '';
}

async function addUser(server: TestServer, name: string, roles: readonly string[] = []) {
  await server.put('/_users');
  return server.put(`/_users/org.couchdb.user:${name}`, {
    name,
    type: 'user',
    roles,
    password: `${name}-password`,
  });
}

/** Of a document, or of the reply to a write. */
function revOf({ body }: Reply): string {
  if (typeof body === 'object' && body !== null && '_rev' in body) return String(body._rev);
  if (typeof body === 'object' && body !== null && 'rev' in body) return String(body.rev);
  throw new Error('there is no revision');
}

t.test('sessions', async (t) => {
  const server = await TestServer.open(t);
  t.equal((await addUser(server, 'ann', ['r'])).status, 201);
  const nobody = { ok: true, userCtx: { name: null, roles: [] } };
  t.match((await server.get('/_session', { as: null })).body, nobody);
  const basicAdmin = { userCtx: { name: 'admin', roles: ['_admin'] } };
  t.match((await server.get('/_session')).body, basicAdmin);
  t.match((await server.get('/_session')).body, { info: { authenticated: 'default' } });
  const form = 'name=ann&password=ann-password';
  const type = { 'Content-Type': 'application/x-www-form-urlencoded' };
  const byForm = await server.post('/_session', form, { as: null, headers: type });
  t.match(byForm, { status: 200, body: { ok: true, name: 'ann', roles: ['r'] } });
  const json = { name: 'ann', password: 'ann-password' };
  const byJson = await server.post('/_session', json, { as: null });
  for (const reply of [byForm, byJson]) {
    t.match(reply.headers.get('set-cookie'), /^AuthSession=[^;]+; Path=\/; HttpOnly; SameSite/);
    const headers = { Cookie: cookieOf(reply) };
    const told = await server.get('/_session', { as: null, headers });
    t.match(told.body, {
      userCtx: { name: 'ann', roles: ['r'] },
      info: { authenticated: 'cookie' },
    });
  }
  const out = await server.delete('/_session', { as: null });
  t.match(out, { status: 200, body: { ok: true } });
  t.match(out.headers.get('set-cookie'), /^AuthSession=; .*Max-Age=0/);
  const wrong = await server.post('/_session', { ...json, password: 'x' }, { as: null });
  t.match(wrong, { status: 401, body: { error: 'unauthorized' } });
  t.equal(wrong.headers.get('set-cookie'), null);
  const refused: [unknown, Record<string, string>, number][] = [
    ['{', JSON_TYPE, 400],
    ['{"name":"ann"}', JSON_TYPE, 400],
    ['{"name":1,"password":"x"}', JSON_TYPE, 400],
    ['name=ann', { 'Content-Type': 'text/plain' }, 415],
    ['x'.repeat(20_000), JSON_TYPE, 413],
    ['', type, 401],
  ];
  for (const [body, headers, status] of refused) {
    const reply = await server.post('/_session', body, { as: null, headers });
    t.equal(reply.status, status, String(body).slice(0, 40));
  }
  t.equal((await server.get('/_session', { as: 'ann:wrong' })).status, 401);
  t.equal((await server.get('/_session')).headers.get('Cache-Control'), 'no-store');
});

t.test('a session that is used goes on, one that is not ends', async (t) => {
  const host = new VirtualServerHost(1);
  const server = await TestServer.open(t, { host, settings: { 'chttpd_auth/timeout': '100' } });
  const [name, password] = ['admin', 'secret-of-the-tests'];
  const first = cookieOf(await server.post('/_session', { name, password }, { as: null }));
  const get = (cookie: string) =>
    server.get('/_all_dbs', { as: null, headers: { Cookie: cookie } });
  t.equal((await get(first)).headers.get('set-cookie'), null, 'it is new');
  host.advance(60_000);
  const used = await get(first);
  t.equal(used.status, 200);
  const second = cookieOf(used);
  t.match(second, /^AuthSession=./);
  host.advance(60_000);
  t.equal((await get(first)).status, 401);
  t.equal((await get(second)).status, 200);
});

t.test('a page of another site can not write with a cookie', async (t) => {
  const server = await TestServer.open(t);
  const [name, password] = ['admin', 'secret-of-the-tests'];
  const Cookie = cookieOf(await server.post('/_session', { name, password }, { as: null }));
  const from = (Origin: string) => ({ as: null, headers: { Cookie, Origin } });
  t.match(await server.put('/db', undefined, from('https://evil.example')), { status: 403 });
  t.equal((await server.get('/_all_dbs', from('https://evil.example'))).status, 200);
  t.equal((await server.put('/db', undefined, from(server.url))).status, 201);
});

t.test('a page of another site logs nobody in', async (t) => {
  const server = await TestServer.open(t);
  await addUser(server, 'ann');
  const form = 'name=ann&password=ann-password';
  const login = (Origin: string) => {
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded', Origin };
    return server.post('/_session', form, { as: null, headers });
  };
  for (const origin of ['https://evil.example', 'null', `${server.url}0`]) {
    const refused = await login(origin);
    t.match(refused, { status: 403, body: { error: 'forbidden' } }, origin);
    t.equal(refused.headers.get('set-cookie'), null);
  }
  t.equal((await login(server.url)).status, 200);
});

t.test('require_valid_user', async (t) => {
  const server = await TestServer.open(t, { settings: { 'chttpd/require_valid_user': 'true' } });
  await server.put('/db');
  await server.put('/db/_security', {});
  for (const path of ['/', '/_uuids', '/db', '/_utils', '/_all_dbs']) {
    t.equal((await server.get(path, { as: null })).status, 401, path);
  }
  for (const path of ['/_up', '/_session']) {
    t.equal((await server.get(path, { as: null })).status, 200, path);
  }
});

t.test('every way to a document of _users keeps to its rules', async (t) => {
  const server = await TestServer.open(t);
  await addUser(server, 'ann');
  await addUser(server, 'bob');
  const id = (name: string) => `org.couchdb.user:${name}`;
  const as = 'ann:ann-password';
  const own = await server.get(`/_users/${id('ann')}`, { as });
  t.match(own, { status: 200, body: { name: 'ann', derived_key: /^[0-9a-f]{64}$/ } });
  t.notMatch(own.text, /ann-password/, 'a password is never stored');
  const evil = { _id: id('eve'), name: 'eve', type: 'user', roles: [], password: 'eve-password' };
  const denied: [string, string, unknown][] = [
    ['GET', '/_users', undefined],
    ['GET', '/_users/_all_docs?include_docs=true', undefined],
    ['POST', '/_users/_all_docs', { keys: [id('bob')] }],
    ['POST', '/_users/_all_docs/queries', { queries: [{}] }],
    ['GET', '/_users/_design_docs', undefined],
    ['GET', '/_users/_local_docs', undefined],
    ['GET', '/_users/_changes?include_docs=true', undefined],
    ['POST', '/_users/_changes', {}],
    ['POST', '/_users/_bulk_get', { docs: [{ id: id('bob') }] }],
    ['POST', '/_users/_bulk_docs', { docs: [evil] }],
    ['POST', '/_users/_bulk_docs', { docs: [{ ...evil, _rev: '1-a' }], new_edits: false }],
    ['POST', '/_users', evil],
    ['PUT', `/_users/${id('eve')}`, evil],
    ['GET', `/_users/${id('bob')}`, undefined],
    ['GET', `/_users/${id('bob')}/a`, undefined],
    ['PUT', `/_users/${id('bob')}`, { name: 'bob', type: 'user', roles: [] }],
    ['DELETE', `/_users/${id('bob')}?rev=1-a`, undefined],
    ['PUT', `/_users/${id('ann')}/a`, 'x'],
    ['COPY', `/_users/${id('ann')}`, undefined],
    ['GET', '/_users/_design/x', undefined],
    ['PUT', '/_users/_design/x', {}],
    ['PUT', '/_users/_local/x', {}],
    ['POST', '/_users/_revs_diff', { [id('bob')]: ['1-a'] }],
    ['GET', '/_users/_security', undefined],
    ['PUT', '/_users/_security', {}],
    ['POST', '/_users/_purge', { [id('bob')]: ['1-a'] }],
  ];
  for (const [method, path, body] of denied) {
    const headers = { Destination: id('eve') };
    const reply = await server.call(method, path, { body, as, headers });
    t.ok([401, 403, 404].includes(reply.status), `${method} ${path}: ${reply.status}`);
    const anonymous = await server.call(method, path, { body, as: null, headers });
    t.equal(anonymous.status, 401, `${method} ${path} by nobody`);
  }
  const copy = { as, headers: { Destination: '_design/x' } };
  t.equal((await server.call('COPY', `/_users/${id('ann')}`, copy)).status, 403);
  t.match((await server.get('/_users')).body, { doc_count: 2 }, 'none of it did anything');
});

t.test('what users may do with their own document', async (t) => {
  const server = await TestServer.open(t);
  await addUser(server, 'ann', ['r']);
  const path = '/_users/org.couchdb.user:ann';
  const as = 'ann:ann-password';
  const rev = revOf(await server.get(path));
  const user = { name: 'ann', type: 'user', roles: ['r'], _rev: rev };
  const put = (body: unknown, query = '') => server.put(`${path}${query}`, body, { as });
  t.match(await put({ ...user, roles: ['r', 's'] }), { status: 403 }, 'roles are the admins’');
  t.match(await put({ ...user, roles: ['_admin'] }), { status: 403 });
  t.match(await put({ ...user, derived_key: '00' }), { status: 403 });
  t.match(await put({ ...user, _rev: undefined, password: 'new-password' }), { status: 409 });
  t.match(await put({ ...user, password: 'new-password' }, '?new_edits=false'), { status: 403 });
  t.match(await put('{"roles":["r"],"roles":["_admin"]}'), { status: 400 }, 'CVE-2017-12635');
  const cookie = cookieOf(
    await server.post('/_session', { name: 'ann', password: 'ann-password' }, { as: null }),
  );
  t.equal((await put({ ...user, password: 'new-password' })).status, 201);
  t.equal((await server.get(path, { as })).status, 401, 'the old password is none any more');
  const told = await server.get('/_session', { as: null, headers: { Cookie: cookie } });
  t.match(told.body, { userCtx: { name: null } }, 'nor is the session of the old password');
  const now = { as: 'ann:new-password' };
  t.equal((await server.get(path, now)).status, 200);
  const last = revOf(await server.get(path));
  t.equal((await server.delete(`${path}?rev=${last}`, now)).status, 200);
  t.equal((await server.get('/_session', now)).status, 401, 'who is deleted is nobody');
});

t.test('a role that is taken away while its user writes is not kept', async (t) => {
  const path = '/_users/org.couchdb.user:ann';
  const server = await TestServer.open(t);
  await addUser(server, 'ann', ['r']);
  const { text } = await server.get(path);
  const { _id, _rev, ...members }: Record<string, unknown> = JSON.parse(text);
  const without = { ...members, roles: [] };
  // Who knows all of a document can work out what its next revision will be, here by writing it elsewhere.
  const twin = await TestServer.open(t);
  await twin.put('/_users');
  t.equal(revOf(await twin.put(path, members)), _rev);
  const nextRev = revOf(await twin.put(path, { ...without, _rev }));

  const { hasher } = server.server.services;
  const make = hasher.make.bind(hasher);
  let taken: Promise<unknown> | undefined;
  hasher.make = async (password) => {
    taken ??= server.put(path, { ...without, _rev });
    await taken;
    return make(password);
  };
  const body = { ...members, _rev: nextRev, password: 'new-password' };
  await server.put(path, body, { as: 'ann:ann-password' });
  taken ??= server.put(path, { ...without, _rev });
  t.match(await taken, { status: 201, body: { rev: nextRev } });
  t.match((await server.get(path)).body, { _rev: nextRev, roles: [] });
});

t.test('no way of writing stores a password or a malformed user', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/_users');
  const user = (name: string) => ({
    _id: `org.couchdb.user:${name}`,
    name,
    type: 'user',
    roles: [],
    password: 'plain-text-password',
  });
  const bad = { ...user('bad'), roles: ['_admin'] };
  const docs = [user('a'), bad];
  const bulk = await server.post('/_users/_bulk_docs', { docs });
  t.match(bulk.body, [{ ok: true }, { id: bad._id, error: 'forbidden' }]);
  t.equal((await server.post('/_users', user('b'))).status, 201);
  t.equal((await server.post('/_users', bad)).status, 403);
  const replicated = {
    docs: [
      { ...user('c'), _rev: '1-abc' },
      { ...bad, _rev: '1-abc' },
    ],
  };
  const pushed = await server.post('/_users/_bulk_docs', { ...replicated, new_edits: false });
  t.match(pushed.body, [{ id: bad._id, error: 'forbidden' }]);
  t.equal((await server.put('/_users/org.couchdb.user:d?batch=ok', user('d'))).status, 202);
  const copy = { headers: { Destination: 'org.couchdb.user:e' } };
  t.equal((await server.call('COPY', '/_users/org.couchdb.user:a', copy)).status, 403);
  t.equal((await server.put('/_users/org.couchdb.user:f/att', 'x')).status, 403);
  await server.server.services.catalog.get('_users').flushLater();
  const all = await server.get('/_users/_all_docs?include_docs=true');
  t.match(all.body, { total_rows: 4 });
  t.notMatch(all.text, /plain-text-password/);
  for (const name of ['a', 'b', 'c', 'd']) {
    const reply = await server.get('/_session', { as: `${name}:plain-text-password` });
    t.match(reply.body, { userCtx: { name } });
  }
});

t.test('an admin that was made by itself goes with the first that was chosen', async (t) => {
  const server = await TestServer.open(t, { admin: undefined });
  const generated = server.server.generatedAdmin;
  t.match(generated, { name: 'admin', password: /^[a-z0-9]{6}(-[a-z0-9]{6}){3}$/ });
  const as = `admin:${generated?.password}`;
  t.notOk(server.server.services.admins.hasConfiguredAdmin);
  t.equal((await server.get('/_all_dbs', { as })).status, 200);
  const chosen = await server.put('/_node/_local/_config/admins/root', '"chosen-password"', { as });
  t.equal(chosen.status, 200);
  t.equal((await server.get('/_all_dbs', { as })).status, 401);
  t.equal((await server.get('/_all_dbs', { as: 'root:chosen-password' })).status, 200);
  await server.close();
  const again = await TestServer.open(t, { admin: undefined, dataDir: server.dataDir });
  t.equal(again.server.generatedAdmin, undefined);
  t.equal((await again.get('/_all_dbs', { as: 'root:chosen-password' })).status, 200);
});
