/**
 * Goal: what a database says of itself is checked, kept, and the same on all shards whatever fails.
 * Method: a server on a port of its own, through fetch; a disk that fails in the middle of a change.
 */
import t, { type Test } from 'tap';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { FailingStorage } from '../../support/failing-storage.js';
import { TestServer } from '../../support/server.js';

const SECURITY = { admins: { names: ['a'], roles: [] }, members: { names: [], roles: ['r'] } };

/** The distinct security texts of the shards, the one that is read first. */
function securities(server: TestServer, name: string): Promise<Set<string>> {
  return server.server.services.catalog
    .get(name)
    .readAll(
      async (all) => new Set(all.map(({ metadata }) => Buffer.from(metadata.security).toString())),
    );
}

t.test('the security object', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const first = { admins: { roles: ['_admin'] }, members: { roles: ['_admin'] } };
  t.same((await server.get('/db/_security')).body, first, 'admins only, as in CouchDB 3');
  t.match(await server.put('/db/_security', SECURITY), { status: 200, body: { ok: true } });
  t.same((await server.get('/db/_security')).body, SECURITY);
  const own = '{"cloudant":{"nobody":["_reader"]},"n":1.0,"__proto__":{"x":1}}';
  t.equal((await server.put('/db/_security', own)).status, 200, 'applications have members there');
  t.equal((await server.get('/db/_security')).text, own);
  t.equal((await server.put('/db/_security', {})).status, 200);
  t.same((await server.get('/db/_security')).body, {});
  const refused: [string, RegExp][] = [
    ['[]', /must be a JSON object/],
    ['{', /invalid JSON/],
    ['{"admins":[]}', /`admins` must be a JSON object/],
    ['{"admins":{"names":"a"}}', /names must be a JSON list of strings/],
    ['{"members":{"roles":[1]}}', /roles must be a JSON list of strings/],
    ['{"members":{},"readers":{"names":1}}', /names must be a JSON list of strings/],
    ['{"admins":{"names":["a"]},"admins":{"names":["b"]}}', /invalid JSON/],
  ];
  for (const [body, reason] of refused) {
    const reply = await server.put('/db/_security', body);
    t.match(reply, { status: 400, body: { error: 'bad_request', reason } }, body);
  }
  t.same((await server.get('/db/_security')).body, {}, 'what is refused changes nothing');
  t.equal((await server.put('/none/_security', {})).status, 404);
  t.equal((await server.post('/db/_security', {})).status, 405);
});

t.test('limits', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db?q=3');
  for (const name of ['_revs_limit', '_purged_infos_limit']) {
    t.equal((await server.get(`/db/${name}`)).text, '1000\n');
    t.match(await server.put(`/db/${name}`, '5'), { status: 200, body: { ok: true } });
    t.equal((await server.get(`/db/${name}`)).body, 5);
    for (const body of ['0', '-1', '1.5', '"5"', 'null', '{}', '2147483648', '1e400', '']) {
      t.equal((await server.put(`/db/${name}`, body)).status, 400, body);
    }
    const reason = `\`${name}\` must be an integer from 1 to 2147483647`;
    t.match(await server.put(`/db/${name}`, '[5]'), { body: { error: 'bad_request', reason } });
    t.equal((await server.put(`/db/${name}`, ' '.repeat(100))).status, 413);
    t.equal((await server.get(`/db/${name}`)).body, 5);
  }
  const limits = await server.server.services.catalog
    .get('db')
    .readAll(async (all) => all.map(({ metadata }) => metadata.revsLimit));
  t.same(limits, [5, 5, 5]);
});

/** A server whose disk can be made to fail, with a database `db` of `q` shards. */
async function failingServer(t: Test, q: number) {
  const first = await TestServer.open(t);
  await first.put(`/db?q=${q}`);
  await first.put('/db/_security', SECURITY);
  await first.close();
  const storage = new FailingStorage(nodeStorage);
  // The files have their final names from when they are opened anew.
  const options = { dataDir: first.dataDir, storage, mayLogErrors: true };
  const server = await TestServer.open(t, options);
  const before = await securities(server, 'db');
  t.equal(before.size, 1);
  const fail = (shard: number, times: 'once' | 'for ever') => {
    const path = server.server.services.catalog.get('db').shards[shard]?.slot.path;
    const onlyPath = (at: string) => at === path;
    storage.plan({ kind: 'write', call: 0, code: 'IO', times, onlyPath });
  };
  return { server, storage, before, fail };
}

t.test('a change that fails in the middle is not in force, and is undone everywhere', async (t) => {
  for (const failing of [0, 1, 2]) {
    const { server, storage, before, fail } = await failingServer(t, 3);
    fail(failing, 'for ever');
    t.equal((await server.put('/db/_security', {})).status, 500);
    t.same((await server.get('/db/_security')).body, SECURITY, `shard ${failing} failed`);
    t.equal((await securities(server, 'db')).size, failing === 2 ? 1 : 2, 'the others differ');
    storage.plan();
    await server.close();
    const again = await TestServer.open(t, { dataDir: server.dataDir });
    t.same((await again.get('/db/_security')).body, SECURITY);
    const { catalog, records } = again.server.services;
    // It comes after what the start does.
    await catalog.get('db').settings.settle();
    t.same(await securities(again, 'db'), before, 'a start makes them the same');
    t.same(records.keys('unsettled/'), []);
    await again.close();
  }
});

t.test('the next change makes all shards the same', async (t) => {
  const { server, storage, fail } = await failingServer(t, 2);
  fail(0, 'once');
  t.equal((await server.put('/db/_security', {})).status, 500);
  t.equal((await securities(server, 'db')).size, 2);
  storage.plan();
  t.equal((await server.put('/db/_revs_limit', '7')).status, 200);
  t.equal((await securities(server, 'db')).size, 1);
  t.same((await server.get('/db/_security')).body, SECURITY);
  await server.delete('/db');
  t.same(server.server.services.records.keys('unsettled/'), []);
});
