/**
 * Goal: databases are made, listed and removed through any node, with statuses that say whether a majority has that, and `_shards` shows all nodes.
 * Method: two servers, whose records and calls go through memory.
 */
import t, { type Test } from 'tap';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { CallHandlers } from '../../../server/cluster/peers.js';
import { clusterOf } from '../../support/cluster-seams.js';
import { eventually } from '../../support/directory-node.js';
import { FailingStorage } from '../../support/failing-storage.js';
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
    servers.push(await TestServer.open(t, { cluster: clusterOf(seams), settings }));
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
    cluster: clusterOf({ ...seams, handlers: new CallHandlers() }),
  });
  t.strictSame((await server.get('/_all_dbs')).body, ['old']);
  t.match((await server.get('/old/x')).body, { is: 'there' });
  t.strictSame(records.keys('database/'), ['database/old']);
  t.equal(records.keys('row/').length, 1);
  t.equal((await server.put('/old')).status, 412);
  t.equal((await server.delete('/old')).status, 200);
  await server.close();
});

t.test('a deletion that may be on the disk', async (t) => {
  const storage = new FailingStorage(nodeStorage);
  const server = await TestServer.open(t, { storage, mayLogErrors: true });
  t.equal((await server.put('/db?q=2')).status, 201);
  t.equal((await server.put('/db/a', {})).status, 201);
  const onlyPath = (path: string) => path.includes('node.divan');
  const plan = { kind: 'sync', code: 'IO', afterwards: true, call: 0, onlyPath } as const;
  storage.plan({ ...plan, times: 'for ever' });
  t.ok((await server.delete('/db')).status >= 500);
  t.equal((await server.get('/db/a')).status, 200, 'it is there');
  t.ok((await server.put('/db/b', {})).status >= 500, 'and what might go with it is not taken');
  storage.plan();
  let put = await server.put('/db/b', {});
  for (let tries = 0; put.status !== 201 && tries < 100; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    put = await server.put('/db/b', {});
  }
  t.equal(put.status, 201, 'until it is sure that it stays');
  await server.close();
  const again = await TestServer.open(t, { dataDir: server.dataDir });
  t.equal((await again.get('/db/b')).status, 200);
  await again.close();
});
