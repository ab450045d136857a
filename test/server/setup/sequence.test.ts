/**
 * Goal: three nodes come from freshly started to a finished cluster as the plan of the setup says, and have the same admins, uuid and secret.
 * Method: real servers with real ports, their calls and records over a fake of the network.
 */
import t, { type Test } from 'tap';
import { FakeNetwork } from '../../support/fake-network.js';
import { memberOf } from '../../support/server.js';
import { adding, OPERATOR, SetupNode } from '../../support/setup-node.js';

async function nodes(t: Test, network: FakeNetwork, count: number): Promise<SetupNode[]> {
  const started: SetupNode[] = [];
  t.teardown(async () => {
    for (const node of started) await node.close();
  });
  for (let index = 1; index <= count; index++) {
    started.push(await SetupNode.start(network, { name: `node${index}` }));
  }
  return started;
}

t.test('the sequence of the plan', async (t) => {
  const network = new FakeNetwork();
  const [a, b, c] = await nodes(t, network, 3);
  if (a === undefined || b === undefined || c === undefined) return;
  for (const node of [a, b, c]) {
    const before = await node.ask('GET', '/_setup');
    t.same([before.status, before.body], [200, { state: 'cluster_disabled' }]);
    const enabled = await node.enable();
    t.same([enabled.status, enabled.body], [201, { ok: true }], enabled.text);
    t.match(enabled.headers['set-cookie'], [/^AuthSession=.+; Path=\/; HttpOnly/]);
    const [cookie = ''] = enabled.headers['set-cookie'] ?? [];
    const session = { cookie: cookie.split(';')[0] ?? '' };
    const who = await node.ask('GET', '/_session', { headers: session });
    t.match(who.body, { userCtx: { name: 'operator', roles: ['_admin'] } }, 'it is logged in');
    t.same((await node.state()).body, { state: 'cluster_enabled', nodes: [] });
    t.equal((await node.ask('GET', '/_setup')).status, 401, 'there is an admin now');
  }
  t.equal((await a.act({ action: 'finish_cluster' })).status, 400, 'no nodes');
  for (const node of [b, c]) {
    const added = await a.act(adding(node));
    t.same([added.status, added.body], [201, { ok: true }], added.text);
    t.same(network.trusted.length, node === b ? 1 : 2);
  }
  t.same((await a.state()).body, { state: 'cluster_enabled', nodes: [b.name, c.name] });
  t.same((await b.state()).body, { state: 'cluster_enabled', nodes: [a.name, c.name] });

  const kept = await a.ask('POST', '/_session', {
    body: { name: 'operator', password: 'a-good-password' },
  });
  const [cookie = ''] = kept.headers['set-cookie'] ?? [];
  const session = { cookie: cookie.split(';')[0] ?? '' };
  t.match((await b.ask('GET', '/_session', { headers: session })).body, {
    userCtx: { name: null },
  });
  const finished = await a.act({ action: 'finish_setup' });
  t.same([finished.status, finished.body], [201, { ok: true }], finished.text);
  const all = { state: 'cluster_finished', nodes: [a.name, b.name, c.name] };
  const uuid = memberOf((await a.ask('GET', '/')).body, 'uuid');
  for (const node of [a, b, c]) {
    await settled(node);
    t.same((await node.state()).body, all);
    t.equal(memberOf((await node.ask('GET', '/')).body, 'uuid'), uuid);
    const who = await node.ask('GET', '/_session', { headers: session });
    t.match(who.body, { userCtx: { name: 'operator' } }, 'a session of one works at all');
  }
  const names = ['_global_changes', '_replicator', '_users'];
  t.same((await a.ask('GET', '/_all_dbs', { as: OPERATOR })).body, names);
  for (const node of [a, b, c]) await node.restart();
  for (const node of [a, b, c]) {
    t.same((await node.state()).body, all, 'it survives');
    t.equal(memberOf((await node.ask('GET', '/')).body, 'uuid'), uuid);
  }
});

t.test('admins that change later', async (t) => {
  const network = new FakeNetwork();
  const [a, b, c] = await nodes(t, network, 3);
  if (a === undefined || b === undefined || c === undefined) return;
  for (const node of [a, b]) await node.enable();
  await b.ask('PUT', '/_node/_local/_config/admins/other', {
    as: OPERATOR,
    body: 'of-b-alone-123',
  });
  await a.act(adding(b));
  t.equal((await a.act({ action: 'finish_cluster' })).status, 201);
  await settled(b);
  t.same(b.server.services.admins.names, ['operator'], 'those of the coordinator, and no others');
  t.match(b.log, [{ gone: ['other'] }]);
  const put = await b.ask('PUT', '/_node/_local/_config/admins/second', {
    as: OPERATOR,
    body: 'the-second-one',
  });
  t.equal(put.status, 200);
  await settled(a);
  t.equal((await a.ask('GET', '/_all_dbs', { as: 'second:the-second-one' })).status, 200);

  network.silence(a.name);
  await b.ask('DELETE', '/_node/_local/_config/admins/second', { as: OPERATOR });
  t.equal((await a.ask('GET', '/_all_dbs', { as: 'second:the-second-one' })).status, 200);
  network.silence(a.name, false);
  await network.compare();
  await settled(a);
  t.equal((await a.ask('GET', '/_all_dbs', { as: 'second:the-second-one' })).status, 401);

  await c.enable();
  t.equal((await b.act(adding(c))).status, 400, 'finished');
  const late = await b.act(adding(c), '?i_know_what_i_am_doing=true');
  t.equal(late.status, 201, late.text);
  await network.compare();
  await settled(c);
  for (const node of [a, b, c]) {
    t.same((await node.state()).body, {
      state: 'cluster_finished',
      nodes: [a.name, b.name, c.name],
    });
  }
  t.equal(c.server.services.identity.uuid, a.server.services.identity.uuid);

  t.equal((await c.ask('PUT', '/held?q=8', { as: OPERATOR })).status, 201);
  const holding = await a.act({ action: 'remove_node', node: c.name });
  t.equal(holding.status, 400);
  t.match(holding.body, { reason: /still holds \d shards of held/ });
  t.equal((await c.ask('DELETE', '/held', { as: OPERATOR })).status, 200);
  t.equal((await a.act({ action: 'remove_node', node: a.name })).status, 400, 'itself');
  t.equal((await a.act({ action: 'remove_node', node: c.name })).status, 201);
  t.same((await b.state()).body, { state: 'cluster_finished', nodes: [a.name, b.name] });
  const back = await a.act(adding(c), '?i_know_what_i_am_doing=true');
  t.match(back.body, { reason: /was removed from this cluster/ });
});

t.test('a node that can not be reached', async (t) => {
  const network = new FakeNetwork();
  const [a, b, c] = await nodes(t, network, 3);
  if (a === undefined || b === undefined || c === undefined) return;
  for (const node of [a, b, c]) await node.enable();
  for (const node of [b, c]) await a.act(adding(node));
  const own = [a, b, c].map(({ server }) => server.services.identity.uuid);
  for (const way of ['silent', 'deaf'] as const) {
    const before = [a.records(), b.records()];
    if (way === 'silent') network.silence(c.name);
    else network.deaf.add(c.name);
    const answer = await a.act({ action: 'finish_cluster' });
    t.equal(answer.status, 400, answer.text);
    t.match(answer.body, { reason: /node3@127\.0\.0\.1 \(http/ }, 'it is named');
    t.notMatch(answer.body, { reason: /node2/ });
    if (way === 'silent') t.same([a.records(), b.records()], before, 'nothing was begun');
    for (const node of [a, b]) {
      await settled(node);
      t.match((await node.state()).body, { state: 'cluster_enabled' });
    }
    t.same(
      [a, b, c].map(({ server }) => server.services.identity.uuid),
      own,
      'nobody follows yet',
    );
    network.silence(c.name, false);
    network.deaf.delete(c.name);
  }
  t.equal((await a.act({ action: 'finish_cluster' })).status, 201);
  await network.compare();
  for (const node of [a, b, c]) {
    await settled(node);
    t.equal(node.server.services.identity.uuid, own[0]);
    t.match((await node.state()).body, { state: 'cluster_finished', nodes: { length: 3 } });
  }
});

t.test('a malformed record of an admin keeps no other from being followed', async (t) => {
  const [a] = await nodes(t, new FakeNetwork(), 1);
  if (a === undefined) return;
  await a.enable();
  const finishing = { body: { action: 'finish_cluster' }, as: OPERATOR };
  t.equal((await a.ask('POST', '/_cluster_setup', finishing)).status, 201);
  const { records } = a.server.services.cluster;
  await records.change('admin/none', () => ({ password: 7 }));
  const good = records.get('admin/operator') ?? {};
  await records.change('admin/second', () => good);
  await settled(a);
  t.same([...a.server.services.admins.names].sort(), ['operator', 'second']);
  await records.change('admin/operator', () => ({ password: 'no hash' }));
  await records.change('admin/second', () => ({ deleted: true }));
  await settled(a);
  t.equal((await a.state()).status, 200, 'it is as it was');
  await a.restart();
  t.same(a.server.services.admins.names, ['operator']);
  t.equal((await a.state()).status, 200, 'after a start too');
});

/** Until a node has taken over what it heard of. */
async function settled({ server }: SetupNode): Promise<void> {
  const { setup } = server.services;
  await setup.settled();
}
