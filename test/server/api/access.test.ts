/**
 * Goal: every route is open to exactly those whom its access names, however they say who they are; one that names nobody is no route.
 * Method: the route table of a real server, each route called by each kind of caller with basic credentials and with a session cookie.
 */
import t from 'tap';
import { BodyBudget } from '../../../server/http/request-body.js';
import { type Access, type Route, Router } from '../../../server/http/router.js';
import { type Reply, realServerHost, TestServer } from '../../support/server.js';

const CALLERS = ['nobody', 'wrong', 'user', 'member', 'databaseAdmin', 'serverAdmin'] as const;
type CallerKind = (typeof CALLERS)[number];

const OK = 'served';

/** What each is answered: 401, 403, or anything else. */
const EXPECTED: Readonly<Record<Access, Readonly<Record<CallerKind, number | typeof OK>>>> = {
  anyone: {
    nobody: OK,
    wrong: 401,
    user: OK,
    member: OK,
    databaseAdmin: OK,
    serverAdmin: OK,
  },
  reader: {
    nobody: OK,
    wrong: 401,
    user: OK,
    member: OK,
    databaseAdmin: OK,
    serverAdmin: OK,
  },
  setup: {
    nobody: 401,
    wrong: 401,
    user: 401,
    member: 401,
    databaseAdmin: 401,
    serverAdmin: OK,
  },
  database_member: {
    nobody: 401,
    wrong: 401,
    user: 403,
    member: OK,
    databaseAdmin: OK,
    serverAdmin: OK,
  },
  database_admin: {
    nobody: 401,
    wrong: 401,
    user: 401,
    member: 401,
    databaseAdmin: OK,
    serverAdmin: OK,
  },
  server_admin: {
    nobody: 401,
    wrong: 401,
    user: 401,
    member: 401,
    databaseAdmin: 401,
    serverAdmin: OK,
  },
  peer: {
    nobody: 401,
    wrong: 401,
    user: 401,
    member: 401,
    databaseAdmin: 401,
    serverAdmin: 401,
  },
};

const CREDENTIALS: ReadonlyMap<CallerKind, string> = new Map([
  ['user', 'user:user-password'],
  ['member', 'member:member-password'],
  ['databaseAdmin', 'keeper:keeper-password'],
  ['serverAdmin', 'admin:secret-of-the-tests'],
]);

const PARAMS: ReadonlyMap<string, string> = new Map([
  [':db', 'db'],
  [':doc', 'doc'],
  [':node', '_local'],
  ['*', 'rest'],
]);

function concrete(path: string): string {
  return path
    .split('/')
    .map((part) => PARAMS.get(part) ?? (part.startsWith(':') ? 'x' : part))
    .join('/');
}

async function prepareDatabase(server: TestServer): Promise<void> {
  if (server.server.services.catalog.find('db') !== undefined) return;
  await server.put('/db');
  await server.put('/db/_security', {
    admins: { names: ['keeper'], roles: [] },
    members: { names: [], roles: ['readers'] },
  });
}

async function prepare(t: Parameters<typeof TestServer.open>[0]): Promise<TestServer> {
  const server = await TestServer.open(t);
  await server.put('/_users');
  for (const [name, roles] of [
    ['user', []],
    ['member', ['readers']],
    ['keeper', []],
  ] as const) {
    const user = { name, roles, type: 'user', password: `${name}-password` };
    await server.put(`/_users/org.couchdb.user:${name}`, user);
  }
  await prepareDatabase(server);
  return server;
}

async function cookieFor(server: TestServer, credentials: string): Promise<string> {
  const [name, password] = credentials.split(':');
  const reply = await server.post('/_session', { name, password }, { as: null });
  return reply.headers.getSetCookie()[0]?.split(';')[0] ?? '';
}

function outcome({ status }: Reply): number | typeof OK {
  return status === 401 || status === 403 ? status : OK;
}

t.test('every route, by every kind of caller', async (t) => {
  const server = await prepare(t);
  const { routes } = server.server.router;
  t.ok(routes.length > 60, `${routes.length} routes`);
  let strangers = 0;
  for (const kind of CALLERS) {
    const credentials = CREDENTIALS.get(kind);
    const cookie =
      credentials === undefined ? 'AuthSession=YTphOmE' : await cookieFor(server, credentials);
    for (const { method, path, access } of routes) {
      await prepareDatabase(server);
      const where = `${method} ${path}, which is for ${access}, by ${kind}`;
      const target = concrete(path);
      // Too many wrong passwords of one user would be another answer.
      const wrong = kind === 'wrong' ? `stranger${++strangers}:x` : null;
      const basic = await server.call(method, target, { as: credentials ?? wrong });
      t.equal(outcome(basic), EXPECTED[access][kind], `${where} with basic credentials`);
      t.ok(basic.status < 500, `${where}: ${basic.status} ${basic.text}`);
      await prepareDatabase(server);
      // A cookie that is none is of nobody.
      const who = kind === 'wrong' ? 'nobody' : kind;
      const byCookie = await server.call(method, target, {
        as: null,
        headers: { Cookie: kind === 'nobody' ? 'a=b' : cookie },
      });
      t.equal(outcome(byCookie), EXPECTED[access][who], `${where} with a cookie`);
    }
  }
});

t.test('a method that a path does not have is told before who calls matters', async (t) => {
  const server = await TestServer.open(t);
  const reply = await server.call('COPY', '/_all_dbs', { as: null });
  t.equal(reply.status, 405);
  t.equal(reply.headers.get('allow'), 'GET, HEAD');
});

t.test('a route that does not say who may call it is none', async (t) => {
  const limits = { requestBytesMax: 1, documentBytesMax: 1, queryParametersMax: 1, stalledMs: 1 };
  const context = {
    host: realServerHost,
    limits,
    bodyBudget: new BodyBudget(1),
    serverName: 'test',
  };
  const hooks = {
    accepts: () => true,
    admit: () => false,
    authorize: () => undefined,
    onError: () => '',
  };
  const make = (parts: string) => {
    const route: Route = { ...JSON.parse(parts), handle: () => undefined };
    return new Router(context, hooks, [route], 1000);
  };
  t.ok(make('{"method":"GET","path":"/x","access":"reader"}'));
  for (const parts of [
    '{"method":"GET","path":"/x"}',
    '{"method":"GET","path":"/x","access":"everybody"}',
    '{"method":"GET","path":"/x","access":"database_member"}',
    '{"method":"GET","path":"/:dbx","access":"database_admin"}',
  ]) {
    t.throws(() => make(parts), /does not say who may call it/, parts);
  }
});

t.test('members do not write design documents, whichever way', async (t) => {
  const server = await prepare(t);
  const as = CREDENTIALS.get('member') ?? null;
  const keeper = CREDENTIALS.get('databaseAdmin') ?? null;
  const design = { _id: '_design/x', views: {} };
  t.equal((await server.put('/db/plain', {}, { as })).status, 201);
  t.equal((await server.post('/db', design, { as })).status, 401);
  t.equal((await server.put('/db/_design/x', design, { as })).status, 401);
  t.equal((await server.put('/db/_design%2Fx', design, { as })).status, 401);
  t.equal((await server.put('/db/_design%2Fx/file', 'text', { as })).status, 401);
  const Destination = '_design/x';
  t.equal((await server.call('COPY', '/db/plain', { as, headers: { Destination } })).status, 401);
  for (const more of [{}, { new_edits: false }]) {
    const docs = [
      { ...design, _rev: '1-a' },
      { _id: 'other', _rev: '1-a' },
    ].map((doc) => ('new_edits' in more ? doc : { _id: doc._id }));
    const { body } = await server.post('/db/_bulk_docs', { docs, ...more }, { as });
    t.match(body, [{ id: '_design/x', error: 'unauthorized' }], 'only that one is refused');
  }
  t.equal((await server.get('/db/_design/x', { as: keeper })).status, 404);
  t.equal((await server.get('/db/other', { as })).status, 200, 'the others are written');
  const { body } = await server.put('/db/_design/x', design, { as: keeper });
  t.match(body, { ok: true });
  t.equal((await server.get('/db/_design/x', { as })).status, 200, 'members read them');
  const rev = typeof body === 'object' && body !== null && 'rev' in body ? body.rev : '';
  t.equal((await server.delete(`/db/_design%2Fx?rev=${rev}`, { as })).status, 401);
  t.equal((await server.delete(`/db/_design/x?rev=${rev}`, { as: keeper })).status, 200);
});
