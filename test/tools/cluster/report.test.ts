/**
 * Goal: what is wrong with a cluster is said, and nothing else.
 * Method: a server that answers what a node would, and is wrong in ways that nodes are not to be.
 */
import { createServer } from 'node:http';
import t from 'tap';
import { AdminClient } from '../../../tools/cluster/admin-client.js';
import { reportOf } from '../../../tools/cluster/report.js';

t.test('status of a database that is not on nodes as a whole', async (t) => {
  const name = 'node1@127.0.0.1';
  const shards = new Map<string, object>([
    ['whole', { '80000000-ffffffff': [name], '00000000-7fffffff': [name] }],
    ['part', { '00000000-7fffffff': [name] }],
    ['lost', { '00000000-7fffffff': [name], '80000000-ffffffff': [] }],
    ['twice', { '00000000-ffffffff': [name], '80000000-ffffffff': [name] }],
  ]);
  const answers = new Map<string, unknown>([
    ['/_setup', { state: 'cluster_finished', nodes: [name] }],
    ['/_membership', { cluster_nodes: [name] }],
    [`/_node/${encodeURIComponent(name)}/_storage`, { name, version: '1', shards: 5, bytes: 9 }],
    ['/_shard_splits/jobs', { jobs: [] }],
    ['/_all_dbs', [...shards.keys()]],
    ...[...shards].map(([name, shards]) => [`/${name}/_shards`, { shards }] as const),
  ]);
  const server = createServer(({ url = '' }, response) => {
    response.end(JSON.stringify(answers.get(url)));
  });
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it has a port');
  const { signal } = new AbortController();
  const node = new AdminClient(`http://127.0.0.1:${address.port}`, undefined, signal);
  const { problems } = await reportOf(node);
  t.same(
    problems.map((problem) => problem.replace(/: .*/, '')),
    ['part', 'lost', 'twice'],
  );
  answers.set('/_all_dbs', ['whole']);
  t.same((await reportOf(node)).problems, []);
  answers.set('/_setup', { state: 'cluster_enabled', nodes: [] });
  answers.set('/_shard_splits/jobs', { jobs: [], unreachable: [name] });
  t.match((await reportOf(node)).problems, [/jobs of node1/, /not finished/]);
});
