/**
 * Goal: calls between nodes bring heads and bodies both ways, and errors as they were thrown; bodies of any size pass with little memory; who
 * goes away is noticed.
 * Method: real servers that call one another over loopback.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { DivanError } from '../../../engine/errors.js';
import { PROTOCOL } from '../../../server/cluster/call-signature.js';
import { StreamedAnswer } from '../../../server/cluster/peers.js';
import { CallNode, callerOf, chunksOf, echo, textOf } from '../../support/call-node.js';
import { settled } from '../../support/outcome.js';
import { realServerHost } from '../../support/server.js';

const MIB = 1024 * 1024;

t.test('a head and its answer', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  echo(b.handlers);
  t.same(await a.peers.call(b.node, 'head', { x: [1, 'ü'] }), {
    x: [1, 'ü'],
    from: a.node.identity,
  });
  t.same(await b.peers.call(b.node, 'head', {}), { from: b.node.identity }, 'of itself');
  const hello = await a.peers.call(b.node, 'hello', {});
  t.same(hello, { ...b.node, protocol: PROTOCOL, boot: b.callServer.boot });
  b.handlers.on('with/path', async () => ({ path: true }));
  t.same(await a.peers.call(b.node, 'with/path', {}), { path: true });
  const connections = b.server.listener.connections;
  for (let i = 0; i < 20; i++) await a.peers.call(b.node, 'head', {});
  t.equal(b.server.listener.connections, connections, 'connections are kept');
});

t.test('bodies both ways', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  echo(b.handlers);
  const reply = await a.peers.open(b.node, 'echo', { n: 1 }, chunksOf('one ', '', 'two'));
  t.same(reply.head, { n: 1 });
  t.equal(await textOf(reply.body), 'one two');
  const empty = await a.peers.open(b.node, 'echo', {}, chunksOf());
  t.equal(await textOf(empty.body), '');
  const large = Buffer.alloc(3 * MIB + 7, 'abcdefg');
  const { body } = await a.peers.open(b.node, 'echo', {}, chunksOf(large, large));
  t.ok(Buffer.from(await textOf(body)).equals(Buffer.concat([large, large])));
  b.handlers.on('unread', async () => ({ ok: true }));
  const unread = await a.peers.open(b.node, 'unread', {}, chunksOf(large, large, large));
  t.same(unread.head, { ok: true }, 'a handler need not read the body');
  t.equal(await textOf(unread.body), '');
  t.same(await a.peers.call(b.node, 'unread', {}), { ok: true });
  await t.rejects(a.peers.call(b.node, 'echo', { x: 'y'.repeat(2 * MIB) }), { code: 'TOO_LARGE' });
  b.handlers.on('large', async () => ({ x: 'y'.repeat(2 * MIB) }));
  await t.rejects(a.peers.call(b.node, 'large', {}), { code: 'TOO_LARGE' });
});

t.test('what is thrown there is thrown here', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1', mayLogErrors: true });
  const facts = { path: 'p', pos: 3, expected: 'x', actual: 4, errno: 'EIO', at: 5, id: 'i' };
  b.handlers.on('moved', async () => {
    throw new DivanError('MOVED', 'it is elsewhere', facts);
  });
  b.handlers.on('defect', async () => {
    throw new TypeError('a secret of the other node');
  });
  b.handlers.on('late', async ({ body }) => new StreamedAnswer({ ok: true }, failing(body)));
  async function* failing(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) yield chunk;
    throw new DivanError('CONFLICT', 'in the end');
  }
  for (let i = 0; i < 5; i++) {
    const error = { code: 'MOVED', message: 'it is elsewhere', facts };
    await t.rejects(a.peers.call(b.node, 'moved', {}), error);
    await t.rejects(a.peers.open(b.node, 'moved', {}, chunksOf('x')), error);
  }
  const defect = await settled(a.peers.call(b.node, 'defect', {}));
  t.match(defect, { code: 'PEER', message: /^the node b@127\.0\.0\.1 failed; its log has more/ });
  t.match(b.server.errors[0], { call: 'defect', err: { message: 'a secret of the other node' } });
  await t.rejects(a.peers.call(b.node, 'nothing', {}), { code: 'PEER', message: /nothing/ });
  const late = await a.peers.open(b.node, 'late', {}, chunksOf('some'));
  t.same(late.head, { ok: true });
  await t.rejects(textOf(late.body), { code: 'CONFLICT', message: 'in the end' });
});

t.test('300 MB each way, in little memory', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  const chunk = Buffer.alloc(256 * 1024, 7);
  const chunks = 1200;
  const memory = { most: 0 };
  async function* many(): AsyncGenerator<Uint8Array, void> {
    for (let i = 0; i < chunks; i++) {
      const { arrayBuffers, heapUsed } = process.memoryUsage();
      memory.most = Math.max(memory.most, arrayBuffers + heapUsed);
      yield chunk;
    }
  }
  b.handlers.on('sink', async ({ body }) => ({ bytes: await lengthOf(body) }));
  b.handlers.on('source', async () => new StreamedAnswer({}, many()));
  globalThis.gc?.();
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  const before = arrayBuffers + heapUsed;
  const start = performance.now();
  const sent = await a.peers.open(b.node, 'sink', {}, many());
  t.equal(sent.head['bytes'], chunks * chunk.length);
  await textOf(sent.body);
  const middle = performance.now();
  const { body } = await a.peers.open(b.node, 'source', {}, chunksOf());
  t.equal(await lengthOf(body), chunks * chunk.length);
  t.ok(memory.most - before < 100 * MIB, `${(memory.most - before) / MIB} MiB more`);
  const speed = (ms: number) => `${Math.round(300 / (ms / 1000))} MiB/s`;
  t.comment(`there ${speed(middle - start)}, back ${speed(performance.now() - middle)}`);
});

async function lengthOf(body: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const chunk of body) bytes += chunk.length;
  return bytes;
}

t.test('whoever reads slowly slows the sender down', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  let sent = 0;
  async function* endless(): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      sent += MIB;
      yield Buffer.alloc(MIB);
    }
  }
  let left = 0;
  b.handlers.on('endless', async () => new StreamedAnswer({}, leaving(endless())));
  async function* leaving(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* body;
    } finally {
      left++;
    }
  }
  const { body } = await a.peers.open(b.node, 'endless', {}, chunksOf());
  await body.next();
  await delay(300);
  t.ok(sent < 40 * MIB, `${sent / MIB} MiB`);
  await body.return();
  await until(() => left === 1);
  t.equal(left, 1, 'the source is left when the reader leaves');
  sent = 0;
  let heard: unknown;
  const resumed = new AbortController();
  b.handlers.on('stuck', async ({ body }) => {
    try {
      for await (const _ of body) {
        if (!resumed.signal.aborted) await once(resumed.signal, 'abort');
      }
    } catch (error) {
      heard = error;
    }
    return {};
  });
  const abort = new AbortController();
  const options = { signal: abort.signal };
  const stuck = a.peers.open(b.node, 'stuck', {}, leaving(endless()), options);
  stuck.catch(() => undefined);
  await delay(300);
  t.ok(sent < 40 * MIB, `${sent / MIB} MiB`);
  abort.abort();
  await t.rejects(stuck, { code: 'ABORTED' });
  await until(() => left === 2);
  t.equal(left, 2, 'the source is left when the call is given up');
  resumed.abort();
  await until(() => heard !== undefined);
  t.match(heard, { code: 'ABORTED' });
  let aborted = 0;
  b.handlers.on('lingering', async ({ body, signal }) => {
    for await (const _ of body) break;
    await once(signal, 'abort');
    aborted++;
    return {};
  });
  const lingering = new AbortController();
  const calling = a.peers.open(b.node, 'lingering', {}, endless(), { signal: lingering.signal });
  calling.catch(() => undefined);
  await delay(100);
  lingering.abort();
  await t.rejects(calling, { code: 'ABORTED' });
  await until(() => aborted === 1);
  t.equal(aborted, 1, 'a handler that reads no more hears that the caller is gone');
});

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500 && !condition(); tries++) await delay(10);
}

t.test('who goes away', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  let aborted = 0;
  b.handlers.on('wait', async ({ signal }) => {
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    aborted++;
    throw new DivanError('ABORTED', 'gone');
  });
  const abort = new AbortController();
  const call = a.peers.call(b.node, 'wait', {}, { signal: abort.signal });
  call.catch(() => undefined);
  await delay(100);
  abort.abort();
  await t.rejects(call, { code: 'ABORTED' });
  await until(() => aborted === 1);
  t.equal(aborted, 1, 'the handler hears of it');
  const slow = a.peers.call(b.node, 'wait', {}, { timeoutMs: 100 });
  await t.rejects(slow, { code: 'UNREACHABLE', message: /did not answer wait within 100 ms/ });
  await until(() => aborted === 2);
  t.equal(aborted, 2);
  await t.rejects(a.peers.call(b.node, 'wait', {}, { signal: AbortSignal.abort() }), {
    code: 'ABORTED',
  });
});

t.test('a body whose source fails', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
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
  async function* failing(): AsyncGenerator<Uint8Array, void> {
    yield Buffer.from('some');
    await delay(50);
    throw new DivanError('CHECKSUM', 'of the source');
  }
  await t.rejects(a.peers.open(b.node, 'sink', {}, failing()), { code: 'CHECKSUM' });
  await until(() => heard !== undefined);
  t.match(heard, { code: 'ABORTED' });
});

t.test('a node that was started again', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  echo(b.handlers);
  await a.peers.call(b.node, 'head', {});
  const before = b.callServer.boot;
  await b.server.close();
  const again = await CallNode.open(t, {
    name: 'b@127.0.0.1',
    dataDir: b.server.dataDir,
  });
  echo(again.handlers);
  t.equal(again.node.identity, b.node.identity, 'it is the same node');
  t.not(again.callServer.boot, before);
  const reply = await a.peers.open(again.node, 'echo', {}, chunksOf('body'));
  t.equal(await textOf(reply.body), 'body');
  t.same(await a.peers.call(again.node, 'head', {}), { from: a.node.identity });
});

t.test('a node whose clock was set back', async (t) => {
  let aheadMs = 40_000;
  const host = { ...realServerHost, timeOfDay: () => Date.now() + aheadMs };
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1', host });
  echo(b.handlers);
  const open = () => a.peers.open(b.node, 'echo', {}, chunksOf('body'));
  t.equal(await textOf((await open()).body), 'body');
  aheadMs = -30_000;
  await t.rejects(open(), { code: 'UNREACHABLE', facts: { errno: 'ESTALE' } });
  t.equal(await textOf((await open()).body), 'body');
  aheadMs = 40_000;
  await a.peers.call(b.node, 'head', {});
  aheadMs = -30_000;
  t.same(await a.peers.call(b.node, 'head', {}), { from: a.node.identity }, 'it is sent again');
});

t.test('the speed of calls', async (t) => {
  const a = await CallNode.open(t);
  const b = await CallNode.open(t, { name: 'b@127.0.0.1' });
  echo(b.handlers);
  const call = () => a.peers.call(b.node, 'head', {});
  const measure = async (ms: number) => {
    let calls = 0;
    const start = performance.now();
    const worker = async () => {
      for (; performance.now() - start < ms; calls++) await call();
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    return Math.round(calls / (ms / 1000));
  };
  await measure(300);
  const speed = await measure(700);
  t.ok(speed > 10, `${speed} calls/s`);
  t.comment(`${speed} calls/s, both nodes in one process`);
  const alone = callerOf(t, { identity: 'd'.repeat(32) });
  t.same(await alone.call(b.node, 'head', {}), { from: 'd'.repeat(32) });
});
