// Goal: documents that are moved while somebody asks for them, and answers that are lost: nothing is written twice, and nothing is answered as if it
// were whole. Method: nodes in this process, whose calls are refused or lost as the test says.
import t from 'tap';
import { InProcessCluster } from '../../support/in-process-cluster.js';
import { memberOf } from '../../support/server.js';

const MIB = 1024 * 1024;

t.test('what is moved meanwhile is sent again, if it can be', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  const { network } = cluster;
  const node = cluster.node(0);
  const [id = ''] = await cluster.idsOf(1, true);
  const requests = [
    ['GET', `/db/${id}`, undefined, 200],
    ['PUT', `/db/new-${id}`, { n: 1 }, 201],
    ['POST', '/db', { _id: `posted-${id}` }, 201],
    ['POST', '/db/_bulk_docs', { docs: [{ _id: `bulk-${id}` }, { _id: 'bulk' }] }, 201],
    ['GET', '/db/_all_docs', undefined, 200],
    ['GET', '/db/_changes', undefined, 200],
    ['GET', '/db', undefined, 200],
    ['PUT', '/db/_revs_limit', 55, 200],
    ['POST', '/db/_revs_diff', { [id]: ['1-0'] }, 200],
  ] as const;
  for (const [method, path, body, status] of requests) {
    network.moved = 2;
    const answer = await node.call(method, path, body === undefined ? {} : { body });
    t.equal(answer.status, status, `${method} ${path}`);
    t.notMatch(answer.text, /service_unavailable/);
    network.moved = 0;
  }
  network.readFirst = true;
  const { rev } = Object(await node.put(`/db/kept-${id}`, {}).then(({ body }) => body));
  for (const [bytes, status] of [
    [MIB / 2, 201],
    [2 * MIB, 503],
  ] as const) {
    const owner = await cluster.ownerOf(`kept-${id}`);
    const path = `/db/kept-${id}/a${bytes}?rev=${bytes > MIB ? '1-0' : rev}`;
    network.moved = 1;
    const answer = await cluster.node(1 - owner).put(path, Buffer.alloc(bytes));
    t.equal(answer.status, status, `${bytes} bytes: ${answer.text}`);
  }
  network.moved = 1000;
  const never = await node.get(`/db/${id}`);
  t.equal(never.status, 503);
  network.moved = 0;
});

t.test('a read is repeated after its reply was lost, a write is not', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  const { network } = cluster;
  const [id = ''] = await cluster.idsOf(1, true);
  network.lost = 1;
  t.equal((await cluster.node(0).get(`/db/${id}`)).status, 200);
  network.lost = 2;
  t.equal((await cluster.node(0).get(`/db/${id}`)).status, 503);
  const before = network.calls.get('request') ?? 0;
  network.lost = 1;
  const put = await cluster.node(0).put(`/db/${id}?rev=1-0`, {});
  t.equal(put.status, 503);
  t.match(memberOf(put.body, 'reason'), /n1@127\.0\.0\.1.*not known whether/);
  t.equal(network.calls.get('request'), before + 1);
});

t.test('a node refuses with MOVED what it has not, and what it is not taken to have', async (t) => {
  const cluster = await InProcessCluster.withDocuments(t, 2);
  const [self, other] = cluster.network.nodes;
  if (self === undefined || other === undefined) throw new RangeError('there are two nodes');
  const { calls } = cluster.network.seamsOf(self);
  const caller = { name: 'admin', roles: ['_admin'], isServerAdmin: true, via: 'basic' };
  const head = { method: 'GET', headers: [], hasBody: false, caller, shape: {}, database: 'db' };
  const ask = (more: { url: string; cover: string | null; database?: string }) =>
    calls.open(other, 'request', { ...head, ...more }, nothing());
  const [id = ''] = await cluster.idsOf(1, false);
  const reply = await ask({ url: `/db/${id}`, cover: null });
  t.match(reply.head, { status: 503, code: 'MOVED' });
  await reply.body.return();
  const whole = ask({ url: '/db/_all_docs', cover: '00000000-ffffffff' });
  await t.rejects(whole, { code: 'MOVED' });
  await t.rejects(ask({ url: '/no/a', cover: null, database: 'no' }), { code: 'NOT_FOUND' });
  const nobody = { name: null, roles: [], isServerAdmin: false, via: null };
  const url = '/db/_security';
  const refused = await calls.open(
    other,
    'request',
    { ...head, method: 'PUT', url, caller: nobody },
    nothing(),
  );
  t.match(refused.head, { status: 401 });
  await refused.body.return();
});

async function* nothing(): AsyncGenerator<Uint8Array, void> {}
