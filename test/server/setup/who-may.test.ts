/**
 * Goal: as long as nobody has chosen an admin, whoever is on this machine may choose one, and nobody else may do anything; afterwards only admins.
 * Method: a freshly started server, asked as by a page of another site, by a name that leads here, by a proxy, and by its own generated admin.
 */
import { networkInterfaces } from 'node:os';
import t from 'tap';
import { isFromThisMachine } from '../../../server/http/loopback.js';
import { FakeNetwork } from '../../support/fake-network.js';
import { OPERATOR, SetupNode } from '../../support/setup-node.js';

const PATHS = ['/_setup', '/_cluster_setup'];
const FLAT = {
  action: 'enable_cluster',
  username: 'operator',
  password: 'a-good-password',
  bind_address: '0.0.0.0',
  node_count: 2,
};

t.test('before there is an admin', async (t) => {
  const node = await SetupNode.start(new FakeNetwork(), { name: 'node1' });
  t.teardown(() => node.close());
  const records = node.records();
  const bodies = new Map<string, object>([
    ['/_setup', node.enabling()],
    ['/_cluster_setup', { ...FLAT, port: node.port }],
  ]);
  for (const path of PATHS) {
    const body = bodies.get(path);
    t.equal((await node.ask('GET', path)).status, 200, path);
    for (const headers of [
      { origin: 'http://127.0.0.1' },
      { origin: 'null' },
      { host: 'example.com' },
      { host: 'localhost.example.com' },
      { host: '127.0.0.1.example.com' },
      { host: '10.0.0.1' },
      { forwarded: 'for=10.0.0.1' },
      { 'x-forwarded-for': '10.0.0.1' },
      { 'X-Forwarded-Host': 'example.com' },
      { 'x-forwarded-anything': '' },
      { via: '1.1 proxy' },
      { 'x-real-ip': '10.0.0.1' },
      { 'cf-connecting-ip': '10.0.0.1' },
    ]) {
      const what = `${path} ${JSON.stringify(headers)}`;
      t.equal((await node.ask('GET', path, { headers })).status, 401, what);
      t.equal((await node.ask('POST', path, { headers, body })).status, 401, what);
    }
    for (const action of [
      'add_node',
      'receive_cookie',
      'finish_cluster',
      'enable_single_node',
      'x',
    ]) {
      t.equal((await node.ask('POST', path, { body: { action } })).status, 401, action);
    }
    t.equal((await node.ask('POST', path, { body, as: 'operator:guessed-it' })).status, 401);
  }
  const remote = { ...FLAT, remote_node: '127.0.0.1' };
  t.equal((await node.ask('POST', '/_cluster_setup', { body: remote })).status, 401);
  t.equal(node.records(), records, 'nothing happened');
  t.equal((await node.ask('GET', '/_db_updates')).status, 401, 'nothing else is open');
});

t.test('the generated admin goes with the first that is chosen', async (t) => {
  const node = await SetupNode.start(new FakeNetwork(), { name: 'node1' });
  t.teardown(() => node.close());
  const { name = '', password = '' } = node.server.generatedAdmin ?? {};
  const login = await node.ask('POST', '/_session', { body: { name, password } });
  const [cookie = ''] = login.headers['set-cookie'] ?? [];
  const headers = { cookie: cookie.split(';')[0] ?? '' };
  t.equal((await node.ask('GET', '/_all_dbs', { headers })).status, 200);
  const { ops } = node.disk;
  const before = ops.length;
  const enabled = await node.ask('POST', '/_setup', { body: node.enabling(), headers });
  t.equal(enabled.status, 201, enabled.text);
  const writes = ops.slice(before).filter(({ kind }) => kind === 'write');
  t.equal(writes.length, 1, 'admins and state change in one durable step');
  t.equal((await node.ask('GET', '/_all_dbs', { headers })).status, 401, 'its session too');
  t.equal((await node.ask('GET', '/_all_dbs', { as: `${name}:${password}` })).status, 401);
  t.same(node.server.services.admins.names, ['operator']);
});

t.test('two that choose at once', async (t) => {
  const node = await SetupNode.start(new FakeNetwork(), { name: 'node1' });
  t.teardown(() => node.close());
  const bodies = ['one', 'two'].map((user) => ({
    ...node.enabling(),
    admin: { user, pass: 'a-good-password' },
  }));
  const answers = await Promise.all(bodies.map((body) => node.ask('POST', '/_setup', { body })));
  t.same(answers.map(({ status }) => status).sort(), [201, 401], 'the second is nobody by then');
  t.equal(node.server.services.admins.names.length, 1);
});

t.test('with an admin configured', async (t) => {
  const node = await SetupNode.start(new FakeNetwork(), { name: 'node1', admin: OPERATOR });
  t.teardown(() => node.close());
  t.equal((await node.ask('GET', '/_setup')).status, 401);
  t.equal((await node.ask('POST', '/_setup', { body: node.enabling() })).status, 401);
  t.equal((await node.act(node.enabling())).status, 201);
});

t.test('a request from elsewhere', async (t) => {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const from = (remoteAddress: string, host = 'localhost', httpVersion = '1.1') =>
    isFromThisMachine({
      ...{ headers: { host }, httpVersion, rawHeaders: ['Host', host] },
      socket: { remoteAddress },
    });
  for (const { address, internal } of addresses) t.equal(from(address), internal, address);
  for (const address of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) t.ok(from(address));
  for (const address of ['', '10.0.0.1', '128.0.0.1', '::ffff:10.0.0.1', '::2', '127.0.0.1.x']) {
    t.notOk(from(address), address);
  }
  t.notOk(from('127.0.0.1', 'localhost', '1.0'), 'a proxy that says nothing of itself');
  for (const host of ['localhost', 'LOCALHOST:5984', '127.0.0.1:80', '[::1]', '[::1]:5984']) {
    t.ok(from('127.0.0.1', host), host);
  }
  for (const host of [
    '',
    'localhost.',
    '[::2]',
    '127.1',
    'localhost:x',
    '127.0.0.1:1:2',
    '0.0.0.0',
  ]) {
    t.notOk(from('127.0.0.1', host), host);
  }
});
