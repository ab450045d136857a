/**
 * Goal: the server says what it is, and who may not ask is told so.
 * Method: a server on a port of its own, through fetch.
 */
import t from 'tap';
import { TestServer } from '../../support/server.js';

t.test('what the server says of itself', async (t) => {
  const server = await TestServer.open(t);
  const welcome = await server.get('/', { as: null });
  t.equal(welcome.status, 200);
  t.match(welcome.body, { couchdb: 'Welcome', version: '3.5.0', uuid: /^[0-9a-f]{32}$/ });
  t.same((await server.get('/_up', { as: null })).body, { status: 'ok', seeds: {} });
  t.match((await server.get('/_uuids?count=2')).body, { uuids: [/^[0-9a-f]{32}$/, String] });
  t.match(await server.get('/_uuids?count=1001'), { status: 400, body: { error: 'bad_request' } });
  t.match(await server.get('/_nothing'), { status: 404, body: { error: 'not_found' } });
});

t.test('in maintenance load balancers are sent elsewhere, and requests served', async (t) => {
  const server = await TestServer.open(t);
  const setting = '/_node/_local/_config/couchdb/maintenance_mode';
  for (const [mode, status] of [
    ['true', 'maintenance_mode'],
    ['nolb', 'nolb'],
  ]) {
    t.equal((await server.put(setting, JSON.stringify(mode))).status, 200);
    t.match(await server.get('/_up', { as: null }), { status: 404, body: { status } });
    t.equal((await server.get('/_all_dbs')).status, 200);
  }
  t.equal((await server.put(setting, '"no"')).status, 400);
  t.equal((await server.put(setting, '"false"')).status, 200);
  t.equal((await server.get('/_up', { as: null })).status, 200);
});

t.test('a database outlives a restart', async (t) => {
  const first = await TestServer.open(t);
  t.match(await first.put('/db'), { status: 201, body: { ok: true } });
  t.match(await first.put('/db/a', { n: 1 }), { status: 201 });
  await first.close();
  const second = await TestServer.open(t, { dataDir: first.dataDir });
  t.match(await second.get('/db/a'), { status: 200, body: { _id: 'a', n: 1 } });
});
