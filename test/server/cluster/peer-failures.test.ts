/**
 * Goal: a node that stands still, stalls or is gone costs others bounded waits and nothing else; https is spoken where it is configured.
 * Method: a node in a process of its own that is stopped by a signal; servers that do not what they should.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { HttpPeerCalls } from '../../../server/cluster/http-peer-calls.js';
import { type Node, StreamedAnswer } from '../../../server/cluster/peers.js';
import { Config } from '../../../server/config/config.js';
import { Listener, listenerOptions } from '../../../server/listener.js';
import { readAuthorities, readCertificate } from '../../../server/tls-files.js';
import { CallNode, COOKIE, callerOf, chunksOf, echo, textOf } from '../../support/call-node.js';
import { newCertificate } from '../../support/certificate.js';
import { settled } from '../../support/outcome.js';
import { realServerHost } from '../../support/server.js';

const PROGRAM = fileURLToPath(new URL('../../support/call-node-process.js', import.meta.url));

/** A node that can be stopped. */
async function processNode(t: Test): Promise<{ node: Node; stop: () => void; goOn: () => void }> {
  const args = ['-u', 'NODE_OPTIONS', process.execPath, PROGRAM, COOKIE];
  const child = spawn('env', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(async () => {
    child.kill('SIGCONT');
    child.stdin.end();
    await once(child, 'close');
  });
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  const { name, identity, url } = JSON.parse(String(line));
  return {
    node: { name: String(name), identity: String(identity), url: String(url) },
    stop: () => child.kill('SIGSTOP'),
    goOn: () => child.kill('SIGCONT'),
  };
}

t.test('a node that is stopped', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  echo(b.handlers);
  const { node, stop, goOn } = await processNode(t);
  t.same(await a.peers.call(node, 'head', { x: 1 }), { x: 1 });
  stop();
  const options = { timeoutMs: 1500 };
  const start = performance.now();
  const stuck = Array.from({ length: 200 }, () => settled(a.peers.call(node, 'head', {}, options)));
  for (let i = 0; i < 100; i++) {
    const before = performance.now();
    await a.peers.call(b.node, 'head', {});
    t.ok(performance.now() - before < 1000, 'another node is called as ever');
  }
  for (const error of await Promise.all(stuck)) t.match(error, { code: /UNREACHABLE|UNAVAILABLE/ });
  t.ok(performance.now() - start < 5000, 'all end in bounded time');
  const before = performance.now();
  const failing = await settled(a.peers.call(node, 'head', {}, options));
  t.match(failing, { code: 'UNREACHABLE', facts: { errno: 'EHOSTDOWN' } });
  t.ok(performance.now() - before < 500, 'now calls fail at once');
  goOn();
  const end = performance.now() + 15_000;
  let answer: unknown;
  while (performance.now() < end && answer === undefined) {
    const got = await settled(a.peers.call(node, 'head', { back: true }, options));
    if (got instanceof Error) await delay(50);
    else answer = got;
  }
  t.same(answer, { back: true }, 'a probe finds that it is there again');
});

t.test('more calls than may wait', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  let release = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  let running = 0;
  b.handlers.on('wait', async () => {
    running++;
    await released;
    return {};
  });
  // A machine that does much else is slow.
  const patient = { timeoutMs: 60_000 };
  const calls = Array.from({ length: 64 + 1000 }, () => a.peers.call(b.node, 'wait', {}, patient));
  for (let tries = 0; tries < 2000 && running < 64; tries++) await delay(10);
  t.equal(running, 64);
  await t.rejects(a.peers.call(b.node, 'wait', {}), { code: 'UNAVAILABLE' });
  release();
  await Promise.all(calls);
  t.equal(running, 64 + 1000, 'all are made in the end');
});

/** A server that speaks as it is told, at a port of its own. */
async function oddNode(t: Test, speak: (write: (text: string) => void) => void): Promise<Node> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => speak((text) => socket.write(text)));
    t.teardown(() => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const isAddress = (address: unknown): address is AddressInfo => typeof address === 'object';
  const address = server.address();
  const port = isAddress(address) ? address.port : 0;
  return { name: 'odd@127.0.0.1', identity: '0'.repeat(32), url: `http://127.0.0.1:${port}` };
}

t.test('nodes that are none', async (t) => {
  const type = 'Content-Type: application/vnd.divan.call';
  const odd: Record<string, string> = {
    'says nothing': '',
    'stops in the head': 'HTTP/1.1 200 OK\r\nContent-Le',
    'stops in the body': `HTTP/1.1 200 OK\r\n${type}\r\nContent-Length: 100\r\n\r\nxx`,
    'speaks no HTTP': 'SSH-2.0-OpenSSH\r\n',
    'answers like another server': 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n',
  };
  await Promise.all(
    Object.entries(odd).map(async ([what, text]) => {
      const node = await oddNode(t, (write) => write(text));
      const start = performance.now();
      const error = await settled(callerOf(t).call(node, 'head', {}, { timeoutMs: 400 }));
      t.match(error, { code: /UNREACHABLE|PEER/ }, what);
      t.ok(performance.now() - start < 1500, `${what}, in time`);
    }),
  );
  const gone = await oddNode(t, () => undefined);
  const unused = { ...gone, url: 'http://127.0.0.1:1' };
  const caller = callerOf(t);
  for (let i = 0; i < 3; i++) {
    await t.rejects(caller.call(unused, 'head', {}), {
      code: 'UNREACHABLE',
      facts: { errno: 'ECONNREFUSED' },
    });
  }
  await t.rejects(caller.call(unused, 'head', {}), {
    code: 'UNREACHABLE',
    facts: { errno: 'EHOSTDOWN' },
  });
  await caller.close();
  await t.rejects(caller.call(unused, 'head', {}), { code: 'ABORTED' });
});

t.test('whoever stalls in the middle of a body is cut off', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { settings: { 'chttpd/body_timeout': '200' } });
  let heard: unknown;
  b.handlers.on('sink', async ({ body }) => {
    try {
      await textOf(body);
    } catch (error) {
      heard = error;
      throw error;
    }
    return {};
  });
  let end = () => {};
  async function* stalling(): AsyncGenerator<Uint8Array, void> {
    yield Buffer.from('some');
    await new Promise<void>((resolve) => (end = resolve));
  }
  const start = performance.now();
  t.match(await settled(a.peers.open(b.node, 'sink', {}, stalling())), {
    code: /UNREACHABLE|PEER/,
  });
  t.ok(performance.now() - start < 3000);
  end();
  for (let tries = 0; tries < 300 && heard === undefined; tries++) await delay(10);
  t.match(heard, { code: 'ABORTED' });
});

/** Settings that name files which hold these texts. */
async function configOf(t: Test, texts: Readonly<Record<string, string>>): Promise<Config> {
  const directory = await mkdtemp(join(tmpdir(), 'divan-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const lines: string[] = [];
  for (const [name, text] of Object.entries(texts)) {
    const [section = '', key = ''] = name.split('/');
    const path = join(directory, key);
    await writeFile(path, text);
    lines.push(`[${section}]`, `${key} = ${path}`);
  }
  return new Config({
    environment: {},
    flags: new Map([['--config', 'test.ini']]),
    readFile: () => lines.join('\n'),
  });
}

t.test('https', async (t) => {
  const { cert, key } = newCertificate();
  const config = await configOf(t, {
    'chttpd/cert_file': cert,
    'chttpd/key_file': key,
    'cluster/ca_file': cert,
  });
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  echo(b.handlers);
  b.handlers.on('long', async ({ head }) => new StreamedAnswer(head, chunksOf('x'.repeat(1e6))));
  const certificate = await readCertificate(nodeStorage, config);
  const listener = await Listener.open(realServerHost, b.server.server.handler, {
    ...listenerOptions(config, certificate),
    port: 0,
  });
  const url = `https://127.0.0.1:${listener.address.port}`;
  const node = { ...b.node, url };
  const credentials = { self: { ...b.node, identity: 'c'.repeat(32) }, cookie: COOKIE };
  const ca = await readAuthorities(nodeStorage, config);
  const trusting = new HttpPeerCalls({ host: realServerHost, credentials, ca });
  t.teardown(() => trusting.close());
  t.same(await trusting.call(node, 'head', {}), { from: 'c'.repeat(32) });
  const long = await trusting.open(node, 'long', {}, chunksOf());
  t.equal((await textOf(long.body)).length, 1e6);
  t.ok(listener.connections > 0);
  t.match(await settled(callerOf(t).call(node, 'head', {})), {
    code: 'UNREACHABLE',
    facts: { errno: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
  });
  const plain = { ...node, url: url.replace('https', 'http') };
  t.match(await settled(callerOf(t).call(plain, 'head', {})), { code: 'UNREACHABLE' });
  // One that never shakes hands must not keep the server from stopping.
  const silent = connect(listener.address.port, '127.0.0.1');
  silent.on('error', () => undefined);
  await once(silent, 'connect');
  const start = performance.now();
  await listener.close();
  t.ok(performance.now() - start < 2000);
});

t.test('certificates that are none', async (t) => {
  const { cert, key } = newCertificate();
  const read = async (texts: Readonly<Record<string, string>>) =>
    readCertificate(nodeStorage, await configOf(t, texts));
  t.equal(await read({}), undefined);
  for (const texts of [
    { 'chttpd/cert_file': cert },
    { 'chttpd/key_file': key },
    { 'chttpd/cert_file': cert, 'chttpd/key_file': newCertificate().key },
    { 'chttpd/cert_file': 'x', 'chttpd/key_file': key },
  ]) {
    await t.rejects(read(texts), { code: 'INVALID_SETTING' });
  }
  const config = await configOf(t, { 'cluster/ca_file': 'none' });
  await t.rejects(readAuthorities(nodeStorage, config), { code: 'INVALID_SETTING' });
  const missing = new Config({
    environment: { DIVAN_CLUSTER_CA_FILE: '/nowhere/ca.pem' },
    flags: new Map(),
    readFile: () => undefined,
  });
  await t.rejects(readAuthorities(nodeStorage, missing), {
    code: 'INVALID_SETTING',
    message: /nowhere/,
  });
});
