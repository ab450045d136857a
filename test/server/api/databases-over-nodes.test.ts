/**
 * Goal: databases are made, listed and removed through any node, with statuses that say whether a majority has that, and `_shards` shows all nodes.
 * Method: two servers, whose records and calls go through memory.
 */
import t, { type Test } from 'tap';
import { CallHandlers } from '../../../server/cluster/peers.js';
import { eventually } from '../../support/directory-node.js';
import { FakeCluster, FakeRecords, MemoryRecords } from '../../support/fake-cluster.js';
import { memberOf, TestServer } from '../../support/server.js';

async function startTwo(t: Test): Promise<{ cluster: FakeCluster; servers: TestServer[] }> {
  const cluster = new FakeCluster(2);
  const servers: TestServer[] = [];
  for (const node of cluster.nodes) {
    const records = new FakeRecords(cluster, node, new MemoryRecords());
    const handlers = new CallHandlers();
    const membership = cluster.membership(node);
    const calls = cluster.calls(node);
    cluster.running.set(node.identity, { records, handlers });
    const settings = { 'cluster/q': '2' };
    const seams = { records, membership, calls, handlers };
    servers.push(await TestServer.open(t, { cluster: seams, settings }));
  }
  return { cluster, servers };
}

t.test('databases over two nodes', async (t) => {
  const { cluster, servers } = await startTwo(t);
  const [a, b] = servers;
  if (a === undefined || b === undefined) throw new Error('two servers');
  t.match(await a.put('/db'), { status: 201, body: { ok: true } });
  t.equal((await b.put('/db')).status, 412);
  for (const server of servers) {
    t.strictSame((await server.get('/_all_dbs')).body, ['db']);
    const shards = memberOf((await server.get('/db/_shards')).body, 'shards');
    t.strictSame(Object.keys(Object(shards)), ['00000000-7fffffff', '80000000-ffffffff']);
    t.strictSame(Object.values(Object(shards)).flat().sort(), ['node1@test', 'node2@test']);
    const { body } = await server.get('/db/_shards/x');
    t.strictSame(memberOf(body, 'nodes'), memberOf(shards, String(memberOf(body, 'range'))));
  }
  t.equal((await a.get('/none/_shards')).status, 404);

  cluster.isCut = () => true;
  t.equal((await a.delete('/db')).status, 202, 'one of two is no majority');
  t.equal((await a.get('/db/_shards')).status, 404);
  t.equal((await b.get('/db/_shards')).status, 200, 'the other one does not know yet');
  cluster.isCut = () => false;
  await cluster.exchange();
  t.ok(await eventually(() => b.server.services.catalog.find('db') === undefined));
  t.strictSame((await b.get('/_all_dbs')).body, []);
  t.equal((await b.put('/db')).status, 201);
  t.equal((await a.delete('/db')).status, 200);
  t.equal((await a.delete('/db')).status, 404);
});

t.test('a database from before there were records', async (t) => {
  const alone = await TestServer.open(t);
  await alone.put('/old?q=2', undefined);
  await alone.put('/old/x', { is: 'there' });
  await alone.close();
  const cluster = new FakeCluster(1);
  const [node] = cluster.nodes;
  if (node === undefined) throw new Error('a node');
  const records = new FakeRecords(cluster, node, new MemoryRecords());
  const seams = { records, membership: cluster.membership(node), calls: cluster.calls(node) };
  const { dataDir } = alone;
  const server = await TestServer.open(t, {
    dataDir,
    cluster: { ...seams, handlers: new CallHandlers() },
  });
  t.strictSame((await server.get('/_all_dbs')).body, ['old']);
  t.match((await server.get('/old/x')).body, { is: 'there' });
  t.strictSame(records.keys('database/'), ['database/old']);
  t.equal(records.keys('row/').length, 1);
  t.equal((await server.put('/old')).status, 412);
  t.equal((await server.delete('/old')).status, 200);
  await server.close();
});
