/**
 * Goal: every route is open to exactly those whom its access names, however they say who they are; one that names nobody is no route.
 * Method: the route table of a real server, each route called by each kind of caller: with basic credentials, with a session cookie, with the
 * signature of a node, and, as long as nobody has chosen an admin, from this machine in all the ways in which others make it look so.
 */

import { request } from 'node:http';
import t from 'tap';
import { FrameWriter } from '../../../server/cluster/call-frames.js';
import {
  CALL_HEADER,
  CLOCK_MS_MAX,
  KeyRing,
  PROTOCOL,
  signContext,
} from '../../../server/cluster/call-signature.js';
import { BodyBudget } from '../../../server/http/request-body.js';
import { type Access, type Route, Router } from '../../../server/http/router.js';
import { CallNode, COOKIE } from '../../support/call-node.js';
import { ADMIN, type Reply, realServerHost, TestServer } from '../../support/server.js';

const CALLERS = ['nobody', 'wrong', 'user', 'member', 'databaseAdmin', 'serverAdmin'] as const;
/** Without credentials, before there is an admin: on this machine, through a name that leads here, from a page, by a proxy. */
const FRESH = ['here', 'rebound', 'page', 'proxied'] as const;
/** With the signature of a node: a right one, that of another cookie, one that is too old, one that was used. */
const PEERS = ['peer', 'forged', 'stale', 'replayed'] as const;
type CallerKind = (typeof CALLERS)[number] | (typeof FRESH)[number] | (typeof PEERS)[number];

const OK = 'served';
type Outcome = number | typeof OK;

function row(
  [nobody, wrong, user, member, databaseAdmin, serverAdmin]: readonly [
    ...[Outcome, Outcome, Outcome, Outcome, Outcome, Outcome],
  ],
  [here, rebound, page, proxied]: readonly [Outcome, Outcome, Outcome, Outcome],
  [peer, forged, stale, replayed]: readonly [Outcome, Outcome, Outcome, Outcome],
): Readonly<Record<CallerKind, Outcome>> {
  return {
    ...{ nobody, wrong, user, member, databaseAdmin, serverAdmin },
    ...{ here, rebound, page, proxied },
    ...{ peer, forged, stale, replayed },
  };
}

const NONE = [401, 401, 401, 401] as const;
const ALL = [OK, OK, OK, OK] as const;

/** What each is answered, in the order of the lists above. For all but calls of nodes a signature is nothing. */
const EXPECTED: Readonly<Record<Access, Readonly<Record<CallerKind, Outcome>>>> = {
  anyone: row([OK, 401, OK, OK, OK, OK], ALL, ALL),
  reader: row([OK, 401, OK, OK, OK, OK], ALL, ALL),
  setup: row([401, 401, 401, 401, 401, OK], [OK, 401, 401, 401], NONE),
  database_member: row([401, 401, 403, OK, OK, OK], NONE, NONE),
  database_admin: row([401, 401, 401, 401, OK, OK], NONE, NONE),
  server_admin: row([401, 401, 401, 401, 401, OK], NONE, NONE),
  peer: row([401, 401, 401, 401, 401, 401], NONE, [OK, 401, 401, 409]),
};

const CREDENTIALS: ReadonlyMap<CallerKind, string> = new Map([
  ['user', 'user:user-password'],
  ['member', 'member:member-password'],
  ['databaseAdmin', 'keeper:keeper-password'],
  ['serverAdmin', ADMIN],
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

async function prepareDatabase(server: TestServer, as = ADMIN): Promise<void> {
  if (server.server.services.catalog.find('db') !== undefined) return;
  await server.put('/db', undefined, { as });
  const security = {
    admins: { names: ['keeper'], roles: [] },
    members: { names: [], roles: ['readers'] },
  };
  await server.put('/db/_security', security, { as });
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

function outcome({ status }: Pick<Reply, 'status'>): Outcome {
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

t.test('before there is an admin', async (t) => {
  const server = await TestServer.open(t, { admin: undefined });
  const { name = '', password = '' } = server.server.generatedAdmin ?? {};
  const headersOf = new Map<(typeof FRESH)[number], Readonly<Record<string, string>>>([
    ['here', {}],
    ['rebound', { host: `example.com:${server.listener.address.port}` }],
    ['page', { origin: server.url }],
    ['proxied', { 'x-forwarded-for': '10.0.0.1' }],
  ]);
  for (const { method, path, access } of server.server.router.routes) {
    for (const kind of FRESH) {
      await prepareDatabase(server, `${name}:${password}`);
      const headers = headersOf.get(kind) ?? {};
      const where = `${method} ${path}, which is for ${access}, by ${kind}`;
      const reply = await ask(server, method, concrete(path), headers);
      t.equal(outcome(reply), EXPECTED[access][kind], where);
    }
  }
  t.equal(server.server.services.setup.state, 'cluster_disabled', 'nothing was done by it');
});

t.test('with the signature of a node', async (t) => {
  const node = await CallNode.open(t);
  const { server } = node;
  node.handlers.on('rest', async () => ({}));
  await prepareDatabase(server);
  const covered = new Set<string>();
  for (const { method, path, access } of server.server.router.routes) {
    const name = path === '/_divan/*' ? 'rest' : 'hello';
    for (const kind of PEERS) {
      const { header, body } = signed(node, name, kind);
      const send = () => {
        const rest = access === 'peer' ? body : undefined;
        return ask(server, method, concrete(path), { [CALL_HEADER]: header }, rest);
      };
      if (kind === 'replayed') await send();
      const reply = await send();
      const where = `${method} ${path}, which is for ${access}, by ${kind}`;
      const isRefused = access === 'peer' && reply.status !== 200;
      t.equal(isRefused ? reply.status : outcome(reply), EXPECTED[access][kind], where);
      if (access === 'peer') covered.add(kind);
    }
  }
  t.same([...covered], PEERS, 'nodes do call');
});

/** As `TestServer.call`, with headers that `fetch` does not let anybody choose. */
function ask(
  { url }: TestServer,
  method: Route['method'],
  path: string,
  headers: Readonly<Record<string, string>>,
  body?: Uint8Array,
): Promise<{ readonly status: number }> {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { 'content-length': body.length };
    const sent = request(url + path, { method, headers: { ...headers, ...length } });
    sent.on('response', (response) => {
      response.resume().on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0 }));
    });
    sent.on('error', reject).end(body);
  });
}

let callNumber = 0;

/** A call with a signature that is right, or wrong in one thing. */
function signed({ callServer, node }: CallNode, name: string, kind: (typeof PEERS)[number]) {
  const keys = new KeyRing().of(kind === 'forged' ? `${COOKIE}-of-others` : COOKIE);
  if (keys === undefined) throw new RangeError('there are no keys');
  const context = {
    ...{ protocol: PROTOCOL, name, from: 'f'.repeat(32), to: node.identity },
    ...{ boot: callServer.boot, series: 'e'.repeat(32), number: ++callNumber },
    timeMs: Date.now() - (kind === 'stale' ? CLOCK_MS_MAX + 5000 : 0),
  };
  const { header, mac } = signContext(context, keys);
  return { header, body: new FrameWriter(keys.request, mac).whole(Buffer.from('{}')) };
}

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
