/**
 * Goal: what is wrong with a node that is to be added is said in words that help, and leaves both sides as they were, to the byte.
 * Method: real servers, each mistake made once; all records of both nodes before and after.
 */
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import t, { type Test } from 'tap';
import { FakeNetwork } from '../../support/fake-network.js';
import { adding, OPERATOR, SetupNode } from '../../support/setup-node.js';

class Nodes {
  readonly network = new FakeNetwork();
  readonly #started: SetupNode[] = [];
  readonly #t: Test;

  constructor(t: Test) {
    this.#t = t;
    t.teardown(async () => {
      for (const node of this.#started) await node.close();
    });
  }

  async start(name: string, isEnabled = true, url?: string): Promise<SetupNode> {
    const environment = url === undefined ? {} : { DIVAN_ADVERTISE: url };
    const options = { name, admin: OPERATOR, environment };
    const node = await SetupNode.start(this.network, options);
    this.#started.push(node);
    if (isEnabled) await node.act(node.enabling());
    return node;
  }

  /** Has a node added to another, which is to be refused, with nothing changed. */
  async refused(
    coordinator: SetupNode,
    node: SetupNode,
    reason: RegExp,
    body: object = adding(node),
    query = '',
  ): Promise<void> {
    const before = [coordinator.records(), node.records()];
    const answer = await coordinator.act(body, query);
    this.#t.equal(answer.status, 400, answer.text);
    this.#t.match(answer.body, { error: 'bad_request', reason }, answer.text);
    this.#t.same([coordinator.records(), node.records()], before, `nothing changed: ${reason}`);
  }
}

t.test('not reachable', async (t) => {
  const nodes = new Nodes(t);
  const a = await nodes.start('a');
  const b = await nodes.start('b');
  await nodes.refused(a, b, /Invalid Host and\/or Port: .*ECONNREFUSED/, adding({ port: 1 }));
  const body = { ...adding(b), node: { host: 'no-such-host.invalid' } };
  await nodes.refused(a, b, /Invalid Host and\/or Port/, body);
  const mute = createServer((socket) =>
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}'),
  );
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
  t.teardown(() => mute.close());
  const address = mute.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  const records = b.records();
  const other = await a.act(adding({ port }));
  t.match(other.body, { reason: /what answers there must|what answers there does not say/ });
  t.equal(b.records(), records);
  for (const host of ['a b', '', 'x/y', 'u@h', 'h:1', 7]) {
    await nodes.refused(a, b, /`host` must be/, { ...adding(b), node: { host } });
  }
  for (const port of [0, 65_536, 1.5, 'x', null]) {
    await nodes.refused(a, b, /`port` must be/, {
      ...adding(b),
      node: { host: '127.0.0.1', port },
    });
  }
});

t.test('wrong password, not enabled, itself', async (t) => {
  const nodes = new Nodes(t);
  const a = await nodes.start('a');
  const b = await nodes.start('b');
  await nodes.refused(a, b, /Invalid admin credentials/, adding(b, 'operator:wrong-password'));
  const disabled = await nodes.start('c', false);
  await nodes.refused(a, disabled, /Cluster is not enabled/);
  await nodes.refused(a, a, /that is this node itself/);
});

t.test('not reachable back, or not where it says', async (t) => {
  const nodes = new Nodes(t);
  const lost = await nodes.start('lost', true, 'http://127.0.0.1:2');
  const b = await nodes.start('b');
  await nodes.refused(lost, b, /can not reach lost@127.0.0.1 back at http:\/\/127.0.0.1:2/);
  await nodes.refused(
    b,
    lost,
    /lost@127.0.0.1 can not be reached at http:\/\/127.0.0.1:2, which it/,
  );
});

t.test('a name that another node has', async (t) => {
  const nodes = new Nodes(t);
  const a = await nodes.start('a');
  const same = await nodes.start('a');
  await nodes.refused(a, same, /there is a node of the name a@127.0.0.1 already/);
  const b = await nodes.start('b');
  t.equal((await a.act(adding(b))).status, 201);
  const other = await nodes.start('b');
  await nodes.refused(a, other, /there is a node of the name b@127.0.0.1 already/);
});

t.test('another cluster, another coordinator', async (t) => {
  const nodes = new Nodes(t);
  const [a, b, c, d] = [
    await nodes.start('a'),
    await nodes.start('b'),
    await nodes.start('c'),
    await nodes.start('d'),
  ];
  t.equal((await a.act(adding(b))).status, 201);
  await nodes.refused(c, b, /was added by another coordinator already: a@127.0.0.1/);
  await nodes.refused(c, a, /is the coordinator of another setup/);
  await nodes.refused(b, c, /was added by a@127.0.0.1, which coordinates the setup/);
  await nodes.refused(b, c, /coordinates the setup/, { action: 'finish_cluster' });
  t.equal((await a.act({ action: 'finish_cluster' })).status, 201);
  await nodes.network.compare();
  await nodes.refused(c, b, /is part of another cluster already/);
  await nodes.refused(c, a, /is part of another cluster already/);
  const single = await d.ask('POST', '/_cluster_setup', {
    as: OPERATOR,
    body: { action: 'enable_single_node' },
  });
  t.equal(single.status, 400, 'it is enabled');
  const alone = await nodes.start('e', false);
  await alone.ask('POST', '/_cluster_setup', {
    as: OPERATOR,
    body: { action: 'enable_single_node' },
  });
  await nodes.refused(c, alone, /set up as a single node/);
});

t.test('databases of its own', async (t) => {
  const nodes = new Nodes(t);
  const a = await nodes.start('a');
  const b = await nodes.start('b');
  await b.ask('PUT', '/mine', { as: OPERATOR });
  await nodes.refused(a, b, /has databases of its own \(mine\)/);
  await b.ask('DELETE', '/mine', { as: OPERATOR });
  t.equal((await a.act(adding(b))).status, 201);
  await b.ask('PUT', '/ours', { as: OPERATOR });
  t.equal((await a.act(adding(b))).status, 201, 'once it belongs to it they are not its own');
});

t.test('the version of the protocol', async (t) => {
  const nodes = new Nodes(t);
  const a = await nodes.start('a');
  nodes.network.protocol = 2;
  const next = await nodes.start('next');
  nodes.network.protocol = 3;
  const late = await nodes.start('late');
  await nodes.refused(a, late, /speaks version 1 .* this one 3/);
  t.equal((await a.act(adding(next))).status, 201);
});

t.test('an answer that is lost, and two at once', async (t) => {
  const nodes = new Nodes(t);
  const a = await nodes.start('a');
  const b = await nodes.start('b');
  const [one, two] = await Promise.all([a.act(adding(b)), b.act(adding(a))]);
  t.notSame([one.status, two.status], [201, 201], 'not both');
  const again = one.status === 201 ? a : b;
  t.equal((await again.act(adding(again === a ? b : a))).status, 201, 'and one can');
  const repeated = await again.act(adding(again === a ? b : a));
  t.equal(repeated.status, 201, 'a repetition is a success');
});

t.test('the cookie in the clear', async (t) => {
  const nodes = new Nodes(t);
  const a = await nodes.start('a');
  const b = await nodes.start('b');
  const machine = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
  if (machine === undefined) {
    t.pass('this machine has no address but loopback');
    return;
  }
  const c = await nodes.start('c', false);
  await c.act({ ...c.enabling(), bind_address: '0.0.0.0' });
  const added = await a.act({ ...adding(c), node: { host: machine, port: c.port } });
  t.match(added.body, { ok: true, warnings: [/unencrypted/] }, added.text);
  t.match(a.log, [{ msg: /unencrypted/ }]);
  t.same((await a.act(adding(b))).body, { ok: true }, 'on loopback nobody listens');
});
