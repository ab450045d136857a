/**
 * Goal: who may use a database and which documents of `_users` is as in CouchDB 3, and nobody makes itself an admin.
 * Method: tables of security objects, callers and writes; every refused write leaves nothing to store.
 */
import t from 'tap';
import type { Caller } from '../../../server/auth/caller.js';
import { NOBODY } from '../../../server/auth/caller.js';
import { PasswordHasher } from '../../../server/auth/password-hasher.js';
import {
  accessOf,
  assertDatabaseAdmin,
  assertMember,
  defaultSecurity,
  parseSecurity,
} from '../../../server/auth/security.js';
import {
  assertMayListUsers,
  assertMayReadUser,
  prepareUserDocument,
  storedUserOf,
  type UserEdit,
} from '../../../server/auth/user-documents.js';
import { type JsonObject, parseJson } from '../../../server/http/json-value.js';
import { outcome, outcomeOf, reason } from '../../support/outcome.js';
import { configOf, VirtualServerHost } from '../../support/server-world.js';

const ROOT: Caller = { name: 'root', roles: ['_admin'], isServerAdmin: true, via: 'basic' };

function user(name: string, ...roles: string[]): Caller {
  return { name, roles, isServerAdmin: false, via: 'basic' };
}

t.test('what a security object allows', async (t) => {
  const both = {
    admins: { names: ['boss'], roles: ['ops'] },
    members: { names: ['jan'], roles: ['dev'] },
  };
  const cases = [
    [both, ROOT, 'admin'],
    [both, user('boss'), 'admin'],
    [both, user('x', 'ops'), 'admin'],
    [both, user('jan'), 'member'],
    [both, user('x', 'dev'), 'member'],
    [both, user('x', 'jan'), 'none'],
    [both, user('dev'), 'none'],
    [both, NOBODY, 'none'],
    [{}, NOBODY, 'member'],
    [{ members: {} }, NOBODY, 'member'],
    [{ members: { names: [], roles: [] } }, user('x'), 'member'],
    [{ admins: { names: ['boss'] } }, NOBODY, 'member'],
    [{ members: { roles: ['_admin'] } }, user('jan'), 'none'],
    [{ members: { roles: ['_admin'] } }, ROOT, 'admin'],
    [{ readers: { names: ['jan'] } }, NOBODY, 'none'],
    [{ readers: { names: ['jan'] } }, user('jan'), 'member'],
    [{ readers: { names: ['jan'] }, members: {} }, NOBODY, 'member'],
    [{ members: { names: ['undefined', ''] } }, NOBODY, 'none'],
  ] as const;
  for (const [json, caller, expected] of cases) {
    const { isMember, isAdmin } = accessOf(parseSecurity(json), caller);
    const found = isAdmin ? 'admin' : isMember ? 'member' : 'none';
    t.equal(found, expected, `${JSON.stringify(json)} ${caller.name}`);
    t.ok(isMember || !isAdmin, 'admins are members');
  }
  const security = parseSecurity(both);
  t.equal(
    outcome(() => assertMember(security, NOBODY)),
    'UNAUTHORIZED',
  );
  t.equal(
    outcome(() => assertMember(security, user('x'))),
    'FORBIDDEN',
  );
  t.equal(
    outcome(() => assertMember(security, user('jan'))),
    undefined,
  );
  t.equal(
    outcome(() => assertDatabaseAdmin(security, user('jan'))),
    'UNAUTHORIZED',
  );
  t.equal(
    outcome(() => assertDatabaseAdmin(security, user('boss'))),
    undefined,
  );
});

t.test('the default security', async (t) => {
  for (const [setting, isPublic] of [
    ['admin_only', false],
    ['everyone', true],
    ['admin_local', true],
  ] as const) {
    const security = defaultSecurity(setting);
    t.equal(accessOf(security, NOBODY).isMember, isPublic, setting);
    t.same(accessOf(security, ROOT), { isMember: true, isAdmin: true });
    t.equal(accessOf(security, user('jan')).isAdmin, false);
  }
});

t.test('security objects that are refused', async (t) => {
  for (const text of [
    '[]',
    'null',
    '"x"',
    '{"admins":[]}',
    '{"admins":null}',
    '{"members":{"names":"jan"}}',
    '{"members":{"names":{}}}',
    '{"members":{"names":null}}',
    '{"members":{"roles":[1]}}',
    '{"members":{"roles":["a",["b"]]}}',
    '{"admins":{"names":[null]}}',
    '{"members":{},"readers":{"names":1}}',
  ]) {
    t.equal(
      outcome(() => parseSecurity(parseJson(Buffer.from(text)))),
      'BAD_REQUEST',
      text,
    );
  }
  const text = '{"__proto__":{"names":["x"]},"cloudant":{"a":[1]},"members":{"names":["b","a"]}}';
  const { json, members } = parseSecurity(parseJson(Buffer.from(text)));
  t.equal(JSON.stringify(json), text, 'other members are kept');
  t.same([...members.names], ['b', 'a']);
});

const hasher = new PasswordHasher({
  host: new VirtualServerHost(4),
  config: configOf('max_iterations = 1000'),
  threads: 0,
});
const JAN = { type: 'user', name: 'jan', roles: ['dev'] };
const ID = 'org.couchdb.user:jan';

function prepare(document: JsonObject, edit: Partial<UserEdit> = {}): Promise<JsonObject> {
  const base = { id: ID, previous: undefined, caller: ROOT, isReplicated: false };
  return prepareUserDocument({ ...base, document, ...edit }, hasher);
}

t.test('a password becomes a hash', async (t) => {
  const stored = await prepare({ _id: ID, ...JAN, password: 'apple', email: 'jan@example.org' });
  t.notMatch(JSON.stringify(stored), /apple|"password"/);
  t.match(stored, {
    ...JAN,
    email: 'jan@example.org',
    password_scheme: 'pbkdf2',
    pbkdf2_prf: 'sha256',
    iterations: 3,
    derived_key: /^[0-9a-f]{64}$/,
    salt: /^[0-9a-f]{32}$/,
  });
  const found = storedUserOf(ID, stored);
  t.same(found?.roles, ['dev']);
  t.ok(await hasher.verify('apple', found?.password));

  const own = { previous: stored, caller: user('jan', 'dev') };
  t.same(await prepare({ ...stored, email: 'x' }, own), { ...stored, email: 'x' });
  const changed = await prepare({ ...stored, password: 'pear', password_sha: 'old' }, own);
  t.not(changed['salt'], stored['salt']);
  t.notOk('password_sha' in changed);
  t.ok(await hasher.verify('pear', storedUserOf(ID, changed)?.password));
  t.notOk('password' in (await prepare({ ...JAN, password: null })), 'an admin without one');
  t.equal(storedUserOf(ID, JAN), undefined, 'who cannot log in');
  const odd = await prepare({ ...JSON.parse('{"__proto__":{"a":1}}'), ...JAN, password: 'x' });
  t.ok(Object.hasOwn(odd, '__proto__'));
});

t.test('users of CouchDB come along', async (t) => {
  const old = {
    ...JAN,
    password_scheme: 'pbkdf2',
    iterations: 10,
    derived_key: 'e579375db0e0c6a6fc79cd9e36a36859f71575c3',
    salt: '1112283cf988a34f124200a050d308a1',
  };
  t.same(await prepare(old, { isReplicated: true }), old);
  t.ok(await hasher.verify('apple', storedUserOf(ID, old)?.password));
  const older = { ...JAN, password_sha: 'a9993e364706816aba3e25717850c26c9cd0d89d', salt: 'bc' };
  t.same(await prepare(older), older);
  t.ok(await hasher.verify('a', storedUserOf(ID, older)?.password));
  for (const broken of [
    { ...old, iterations: 0 },
    { ...old, iterations: 1001 },
    { ...old, iterations: '10' },
    { ...old, derived_key: 'e5' },
    { ...old, salt: 1 },
    { ...old, password_scheme: 'plain' },
    { ...old, pbkdf2_prf: 'md5' },
  ]) {
    t.equal(await outcomeOf(prepare(broken)), 'FORBIDDEN');
  }
  for (const other of [
    { ...old, type: 'x' },
    { ...old, name: 'ana' },
    { ...old, _deleted: true },
    { ...old, iterations: 0 },
  ]) {
    t.equal(storedUserOf(ID, other), undefined);
  }
  const sly = { ...old, roles: ['_admin', 'dev', 7] };
  t.same(storedUserOf(ID, sly)?.roles, ['dev'], 'written elsewhere, it is no admin here');
});

t.test('what nobody may write', async (t) => {
  for (const [document, expected] of [
    [{ ...JAN, type: 'x' }, 'doc.type must be user'],
    [{ type: 'user', roles: [] }, 'doc.name is required'],
    [{ ...JAN, name: 1 }, 'doc.name is required'],
    [{ ...JAN, name: 'ana' }, 'Doc ID must be of the form org.couchdb.user:name'],
    [{ ...JAN, _id: 'other' }, 'Doc ID must be of the form org.couchdb.user:name'],
    [{ type: 'user', name: 'jan' }, 'doc.roles must exist'],
    [{ ...JAN, roles: 'dev' }, 'doc.roles must be an array'],
    [{ ...JAN, roles: [1] }, 'doc.roles can only contain strings'],
    [{ ...JAN, roles: ['_admin'] }, 'No system roles (starting with underscore) in users db.'],
    [{ ...JAN, password: 1 }, 'doc.password must be a string'],
    [{ ...JAN, password: '' }, 'doc.password must not be empty'],
  ] as const) {
    const refused = await prepare(document).then(String, (error: Error) => error.message);
    t.equal(refused, expected);
  }
  const named = (name: string) => prepare({ ...JAN, name }, { id: `org.couchdb.user:${name}` });
  t.equal(await outcomeOf(named('a:b')), 'FORBIDDEN');
  t.equal(await outcomeOf(named('_a')), 'FORBIDDEN');
  t.equal(await outcomeOf(prepare(JAN, { id: 'jan' })), 'FORBIDDEN');
  t.same(await prepare({ views: {} }, { id: '_design/x' }), { views: {} });
  t.same(await prepare({ _deleted: true, password: 'x' }), { _deleted: true });
  // CVE-2017-12635: two members of one name, of which two parsers took different ones.
  const twice = '{"type":"user","name":"jan","roles":["_admin"],"roles":[]}';
  t.match(
    reason(() => parseJson(Buffer.from(twice))),
    /roles|member/,
  );
});

t.test('who may write which', async (t) => {
  const previous = await prepare({ ...JAN, password: 'apple' });
  const jan = user('jan', 'dev');
  const refused: readonly (readonly [string, JsonObject, Partial<UserEdit>])[] = [
    ['other roles', { ...previous, roles: ['dev', 'ops'] }, { previous, caller: jan }],
    ['fewer roles', { ...previous, roles: [] }, { previous, caller: jan }],
    ['roles of a new one', JAN, { caller: jan }],
    ['a hash', { ...previous, iterations: 1 }, { previous, caller: jan }],
    ['no hash', JAN, { previous, caller: jan }],
    ['another user', previous, { previous, caller: user('ana') }],
    ['the deletion of another', { _deleted: true }, { previous, caller: user('ana') }],
    ['a replicated write', previous, { previous, caller: jan, isReplicated: true }],
    ['a design document', {}, { id: '_design/x', caller: jan }],
    ['a checkpoint', {}, { id: '_local/x', caller: jan }],
  ];
  for (const [what, document, edit] of refused) {
    t.equal(await outcomeOf(prepare(document, edit)), 'FORBIDDEN', what);
  }
  t.equal(await outcomeOf(prepare(JAN, { caller: NOBODY })), 'UNAUTHORIZED');
  t.same(await prepare({ _deleted: true }, { previous, caller: jan }), { _deleted: true });
  const ops = { ...previous, roles: ['ops'] };
  t.same(await prepare(ops, { previous }), ops, 'an admin changes roles');
});

t.test('who may read which', async (t) => {
  const read = (id: string, caller: Caller) => outcome(() => assertMayReadUser(id, caller)) ?? 'ok';
  t.equal(read(ID, user('jan')), 'ok');
  t.equal(read(ID, ROOT), 'ok');
  t.equal(read(ID, user('ana')), 'NOT_FOUND');
  t.equal(read('jan', user('jan')), 'NOT_FOUND');
  t.equal(read(ID, NOBODY), 'UNAUTHORIZED');
  t.equal(read('org.couchdb.user:undefined', NOBODY), 'UNAUTHORIZED');
  t.equal(read('_design/_auth', user('jan')), 'FORBIDDEN');
  t.equal(read('_design/_auth', ROOT), 'ok');
  const list = (caller: Caller) => outcome(() => assertMayListUsers(caller)) ?? 'ok';
  t.same([list(ROOT), list(user('jan')), list(NOBODY)], ['ok', 'FORBIDDEN', 'UNAUTHORIZED']);
});
