/**
 * Goal: the port moves when a cluster is enabled, under running requests, whether or not old and new collide; it is kept, and comes back if it fails.
 * Method: real listeners; a feed and a slow upload that began before, keep-alive connections, a port that somebody else has.
 */
import { Agent, request } from 'node:http';
import { createServer, type Server } from 'node:net';
import t, { type Test } from 'tap';
import { FakeNetwork } from '../../support/fake-network.js';
import { type NodeOptions, OPERATOR, SetupNode } from '../../support/setup-node.js';

async function start(t: Test, options: Partial<NodeOptions> = {}): Promise<SetupNode> {
  const node = await SetupNode.start(new FakeNetwork(), { name: 'n', admin: OPERATOR, ...options });
  t.teardown(() => node.close());
  return node;
}

async function occupied(t: Test, host = '127.0.0.1', port = 0): Promise<number> {
  const other: Server = createServer();
  await new Promise<void>((resolve) => other.listen(port, host, resolve));
  t.teardown(() => other.close());
  const address = other.address();
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

async function freePort(): Promise<number> {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const address = other.address();
  await new Promise((resolve) => other.close(resolve));
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

/** A request whose body comes when it is told to. */
function slowPut(node: SetupNode): { begun: Promise<void>; finish: () => Promise<number> } {
  const sent = request({
    host: '127.0.0.1',
    port: node.port,
    method: 'PUT',
    path: '/db/slow',
    headers: { 'content-length': 2, authorization: `Basic ${btoa(OPERATOR)}` },
  });
  const status = new Promise<number>((resolve, reject) => {
    sent.on('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on('error', reject);
  });
  status.catch(() => undefined);
  const begun = new Promise<void>((resolve) => {
    sent.write('{', () => setTimeout(resolve, 20));
  });
  return {
    begun,
    finish: () => {
      sent.end('}');
      return status;
    },
  };
}

for (const bind_address of ['0.0.0.0', '127.0.0.1']) {
  t.test(`to ${bind_address}, under requests`, async (t) => {
    const node = await start(t);
    await node.ask('PUT', '/db', { as: OPERATOR });
    const old = node.port;
    // With all addresses and the same port the old one is in the way.
    const port = bind_address === '0.0.0.0' ? old : await freePort();
    const slow = slowPut(node);
    const feed = node.ask('GET', '/db/_changes?feed=longpoll&since=now&timeout=60000', {
      as: OPERATOR,
    });
    await slow.begun;
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.teardown(() => agent.destroy());
    const kept = () =>
      new Promise<number>((resolve, reject) => {
        const sent = request({ host: '127.0.0.1', port: old, path: '/_up', agent }, (response) => {
          response.resume();
          response.on('end', () => resolve(response.statusCode ?? 0));
        });
        sent.on('error', reject);
        sent.end();
      });
    t.equal(await kept(), 200);
    const enabled = await node.act({ ...node.enabling(), bind_address, port });
    t.same([enabled.status, enabled.body], [201, { ok: true }], 'its own answer comes');
    t.equal(node.listener.address.address, bind_address);
    t.equal(node.port, port);
    t.equal(await kept(), 200, 'a connection that is kept goes on');
    t.equal(await slow.finish(), 201, 'so does a request that runs');
    t.equal((await feed).status, 200, 'and a feed');
    const at = { host: '127.0.0.1', port };
    t.equal((await node.ask('GET', '/_up', { at })).status, 200);
    if (port !== old) await t.rejects(node.ask('GET', '/_up', { at: { ...at, port: old } }));
    await node.restart();
    t.same([node.listener.address.address, node.port], [bind_address, port], 'it is kept');
    const { self } = node.server.services.cluster.members;
    t.equal(self.url, `http://127.0.0.1:${port}`, 'others are told of it');
  });
}

t.test('an address that can not be had', async (t) => {
  const node = await start(t);
  const before = [node.records(), node.port];
  const port = await occupied(t);
  for (const [body, reason] of [
    [{ port }, /the port is in use/],
    [{ bind_address: '192.0.2.1' }, /this machine does not have that address/],
    [{ bind_address: '192.0.2.1', port: node.port }, /this machine does not have that address/],
  ] as const) {
    const answer = await node.act({ ...node.enabling(), ...body });
    t.match(answer, { status: 400, body: { error: 'bad_request', reason } }, answer.text);
    t.equal((await node.ask('GET', '/_up')).status, 200, 'it listens where it did');
    t.same([node.records(), node.port], before);
  }
});

t.test('a collision that was for nothing', async (t) => {
  const node = await start(t);
  const before = [node.records(), node.port];
  // All addresses can not be had as long as somebody has one of them; the old listener makes room, and comes back.
  await occupied(t, '127.0.0.2', node.port);
  const answer = await node.act({ ...node.enabling(), bind_address: '0.0.0.0' });
  t.match(answer, { status: 400, body: { reason: /the port is in use/ } }, answer.text);
  t.equal((await node.ask('GET', '/_up')).status, 200);
  t.same([node.records(), node.port], before);
  t.equal(node.listener.address.address, '127.0.0.1');
  t.equal((await node.act(node.enabling())).status, 201, 'and may be enabled elsewhere');
});

t.test('a disk that fails undoes it', async (t) => {
  const node = await start(t);
  const port = await freePort();
  const old = node.port;
  node.disk.failNextSync();
  const answer = await node.act({ ...node.enabling(), port });
  t.ok(answer.status >= 500, answer.text);
  t.equal(node.port, old);
  t.equal((await node.ask('GET', '/_up')).status, 200);
  await t.rejects(node.ask('GET', '/_up', { at: { host: '127.0.0.1', port } }));
});

t.test('a flag and a variable are stronger, and the answer says so', async (t) => {
  const node = await start(t, {
    flags: new Map([['--port', '0']]),
    environment: { DIVAN_HOST: '127.0.0.1' },
  });
  const old = node.port;
  const answer = await node.act({ ...node.enabling(), bind_address: '0.0.0.0', port: 1234 });
  t.match(answer, {
    status: 201,
    body: {
      ok: true,
      warnings: [/DIVAN_HOST is stronger .* it is 127\.0\.0\.1/, /the flag --port is stronger/],
    },
  });
  t.same([node.listener.address.address, node.port], ['127.0.0.1', old]);
  t.match(
    JSON.parse(node.records()).find(([key]: [string]) => key === 'setup'),
    ['setup', { binding: { host: '0.0.0.0', port: 1234 } }],
  );
});

t.test('requests that come before it is certain wait', async (t) => {
  const node = await start(t);
  const port = await freePort();
  const move = await node.listener.move({ host: '127.0.0.1', port });
  await t.rejects(node.listener.move({ host: '127.0.0.1', port: 1 }), { code: 'UNAVAILABLE' });
  const at = { host: '127.0.0.1', port };
  let isAnswered = false;
  const early = node.ask('GET', '/_up', { at }).then((answer) => {
    isAnswered = true;
    return answer.status;
  });
  await node.ask('GET', '/_up');
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.notOk(isAnswered);
  move.commit();
  t.equal(await early, 200);

  const back = await node.listener.move({ host: '127.0.0.1', port: await freePort() });
  const lost = node.ask('GET', '/_up', { at: { host: '127.0.0.1', port: back.address.port } });
  lost.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await back.undo();
  await t.rejects(lost);
  t.equal(node.port, port);
});
