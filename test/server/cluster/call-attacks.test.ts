/**
 * Goal: nobody without the cookie is heard or believed, whatever was recorded and however it is changed; what is refused says why only to
 * those who have it.
 * Method: requests built byte by byte and sent over raw sockets to a real server, and replies changed by a proxy on their way back.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { FrameWriter } from '../../../server/cluster/call-frames.js';
import {
  type CallContext,
  KeyRing,
  NO_BOOT,
  PROTOCOL,
  signContext,
} from '../../../server/cluster/call-signature.js';
import { CallNode, COOKIE, callerOf, chunksOf, textOf } from '../../support/call-node.js';
import { RawClient } from '../../support/raw-client.js';

const FROM = 'f'.repeat(32);
const SERIES = 'e'.repeat(32);
let number = 0;

interface Target {
  readonly t: Test;
  readonly node: CallNode;
  handled: number;
}

async function target(t: Test): Promise<Target> {
  const node = await CallNode.open(t);
  const made: Target = { t, node, handled: 0 };
  node.handlers.on('work', async ({ body }) => {
    await textOf(body);
    made.handled++;
    return { done: true };
  });
  return made;
}

interface Forged {
  readonly context?: Partial<CallContext>;
  readonly cookie?: string;
  readonly frames?: (writer: FrameWriter) => Buffer;
  readonly isStreamed?: boolean;
}

/** The bytes of a call, which is right but for what is asked for. */
function callTo({ node }: Target, forged: Forged = {}): { head: string; body: Buffer } {
  const keys = new KeyRing().of(forged.cookie ?? COOKIE);
  if (keys === undefined) throw new Error('no keys');
  const context: CallContext = {
    protocol: PROTOCOL,
    name: 'work',
    from: FROM,
    to: node.node.identity,
    boot: node.callServer.boot,
    timeMs: Date.now(),
    series: SERIES,
    number: ++number,
    ...forged.context,
  };
  const { header, mac } = signContext(context, keys);
  const writer = new FrameWriter(keys.request, mac);
  const frames = forged.frames ?? ((writer) => writer.whole(Buffer.from('{"a":1}')));
  const body = frames(writer);
  const head = `POST /_divan/work HTTP/1.1\r\nHost: a\r\nContent-Type: application/vnd.divan.call\r\nDivan-Call: ${header}\r\n`;
  return { head, body };
}

async function send(
  { node }: Target,
  { head, body }: { head: string; body: Buffer },
  isStreamed = false,
): Promise<number | undefined> {
  const client = await RawClient.open(node.server.listener.address.port);
  const size = isStreamed ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`;
  client.send(`${head}${size}\r\n\r\n`);
  if (isStreamed) client.send(`${body.length.toString(16)}\r\n`);
  client.send(body);
  if (isStreamed) client.send('\r\n0\r\n\r\n');
  const reply = await client.reply();
  client.close();
  return reply?.status;
}

t.test('each byte of a call counts', async (t) => {
  const to = await target(t);
  t.equal(await send(to, callTo(to)), 200);
  t.equal(to.handled, 1);
  const { body } = callTo(to);
  for (let at = 0; at < body.length; at++) {
    const call = callTo(to);
    call.body[at] = (call.body[at] ?? 0) ^ 1;
    t.not(await send(to, call), 200, `byte ${at} of the frames`);
  }
  const line = /Divan-Call: (.*)\r\n/.exec(callTo(to).head)?.[1] ?? '';
  for (const [at, character] of [...line].entries()) {
    const call = callTo(to);
    const start = call.head.indexOf('Divan-Call: ') + 'Divan-Call: '.length + at;
    const actual = call.head[start] ?? '';
    const other = character === ' ' ? '_' : actual === '1' ? '2' : '1';
    const head = call.head.slice(0, start) + other + call.head.slice(start + 1);
    t.equal(await send(to, { head, body: call.body }), 401, `character ${at} of the header`);
  }
  const call = callTo(to);
  t.equal(await send(to, { ...call, head: call.head.replace('/work', '/hello') }), 401, 'the name');
  t.equal(await send(to, { ...call, head: call.head.replace('Divan-Call', 'X') }), 401, 'none');
  t.equal(to.handled, 1, 'nothing was done');
  t.equal(await send(to, callTo(to)), 200);
});

t.test('who calls, whom, and when', async (t) => {
  const to = await target(t);
  const { identity } = to.node.node;
  const status = (forged: Forged) => send(to, callTo(to, forged));
  t.equal(await status({ cookie: 'another' }), 401);
  t.equal(await status({ context: { to: '0'.repeat(32) } }), 421);
  t.equal(await status({ context: { protocol: PROTOCOL + 1 } }), 200);
  t.equal(await status({ context: { protocol: PROTOCOL + 2 } }), 505);
  t.equal(await status({ context: { timeMs: Date.now() - 61_000 } }), 401, 'stale');
  t.equal(await status({ context: { timeMs: Date.now() + 61_000 } }), 401, 'of the future');
  t.equal(await status({ context: { timeMs: Date.now() - 55_000 } }), 200);
  t.equal(await status({ context: { timeMs: Date.now() + 55_000 } }), 200);
  t.equal(await status({ context: { boot: NO_BOOT } }), 409);
  t.equal(to.handled, 3);
  const recorded = callTo(to);
  t.equal(await send(to, recorded), 200);
  t.equal(await send(to, recorded), 409, 'repeated');
  t.equal(await send(to, recorded, true), 409, 'repeated in another form');
  t.equal(to.handled, 4);
  to.node.cluster.credentials.mayCall = (from) => from !== FROM;
  t.equal(await status({}), 403, 'one that is no member');
  to.node.cluster.credentials.mayCall = () => true;
  to.node.cluster.credentials.cookie = undefined;
  t.equal(await status({}), 401, 'without a cookie nobody is heard');
  const fresh = callTo(to);
  await to.node.server.close();
  const again = await CallNode.open(t, { dataDir: to.node.server.dataDir });
  t.equal(again.node.identity, identity);
  t.equal(await send({ ...to, node: again }, recorded), 409, 'repeated after a start');
  t.equal(await send({ ...to, node: again }, fresh), 409, 'recorded before a start');
});

t.test('frames that are left out, repeated, moved, cut off, too long', async (t) => {
  const to = await target(t);
  const parts = (writer: FrameWriter) => {
    const head = writer.frame('head', Buffer.from('{}'));
    const [one, two] = ['one', 'two'].map((text) => writer.frame('body', Buffer.from(text)));
    return [head, one ?? head, two ?? head, writer.frame('end')] as const;
  };
  const picked = (...which: readonly number[]) =>
    callTo(to, {
      frames: (writer) => {
        const all = parts(writer);
        return Buffer.concat(which.map((at) => all[at] ?? all[0]));
      },
    });
  t.equal(await send(to, picked(0, 1, 2, 3), true), 200);
  t.equal(to.handled, 1);
  for (const which of [
    [0, 2, 3],
    [0, 1, 3],
    [0, 1, 1, 2, 3],
    [0, 2, 1, 3],
    [1, 2, 3],
    [0, 1, 2],
    [0, 1, 2, 3, 3],
  ]) {
    t.not(await send(to, picked(...which), true), 200, which.join());
  }
  t.not(await send(to, picked(0, 1, 2, 3)), 200, 'one that is sent at once has no body');
  const wrong: Record<string, (writer: FrameWriter) => Buffer> = {
    'cut off': (writer) => writer.whole(Buffer.from('{}')).subarray(0, -5),
    'something behind': (writer) =>
      Buffer.concat([writer.whole(Buffer.from('{}')), Buffer.from('x')]),
    'no head': (writer) => writer.frame('end'),
    'two heads': (writer) =>
      Buffer.concat([writer.frame('head', Buffer.from('{}')), writer.whole(Buffer.from('{}'))]),
    'too long': (writer) => writer.whole(Buffer.from(`{"a":"${'x'.repeat(1024 * 1024)}"}`)),
    'no JSON': (writer) => writer.whole(Buffer.from('{')),
    'no object': (writer) => writer.whole(Buffer.from('[]')),
    nothing: () => Buffer.alloc(0),
  };
  for (const [what, frames] of Object.entries(wrong)) {
    t.not(await send(to, callTo(to, { frames })), 200, what);
    t.not(await send(to, callTo(to, { frames }), true), 200, `${what}, streamed`);
  }
  t.equal(to.handled, 1);
});

interface Changed {
  readonly status: number;
  readonly body: Buffer;
  readonly type?: string;
}

/** A proxy that changes what a node answers to all but its refusal of a boot id. */
async function proxyTo(
  t: Test,
  { node }: CallNode,
  change: { with: (reply: Changed) => Changed },
): Promise<string> {
  const server = createServer(async (incoming, outgoing) => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const reply = await request(`${node.url}${incoming.url}`, {
      method: 'POST',
      headers: { 'divan-call': String(incoming.headers['divan-call']) },
      body: Buffer.concat(chunks),
    });
    const body = Buffer.from(await reply.body.arrayBuffer());
    const got: Changed = { status: reply.statusCode, body };
    const changed = got.status === 409 ? got : change.with(got);
    const type = changed.type ?? String(reply.headers['content-type']);
    outgoing.writeHead(changed.status, {
      'Content-Type': type,
      'Content-Length': changed.body.length,
    });
    outgoing.end(changed.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.closeAllConnections());
  t.teardown(() => server.close());
  const isAddress = (address: unknown): address is AddressInfo => typeof address === 'object';
  const address = server.address();
  return isAddress(address) ? `http://127.0.0.1:${address.port}` : '';
}

t.test('answers that are forged', async (t) => {
  const to = await target(t);
  const change = { with: (reply: Changed) => reply };
  const url = await proxyTo(t, to.node, change);
  const ask = () => callerOf(t).call({ ...to.node.node, url }, 'work', {});
  t.same(await ask(), { done: true });
  let recorded: Changed = { status: 0, body: Buffer.alloc(0) };
  change.with = (reply) => {
    recorded = reply;
    return reply;
  };
  await ask();
  for (let at = 0; at < recorded.body.length; at++) {
    change.with = ({ status, body }) => {
      body[at] = (body[at] ?? 0) ^ 1;
      return { status, body };
    };
    await t.rejects(ask(), { code: /PEER|UNREACHABLE/ }, `byte ${at}`);
  }
  const forgeries: Record<string, (reply: Changed) => Changed> = {
    'the answer to another call': () => recorded,
    'another status': ({ body }) => ({ status: 201, body }),
    'cut off': ({ status, body }) => ({ status, body: body.subarray(0, -1) }),
    'without its end': ({ status, body }) => ({ status, body: body.subarray(0, -37) }),
    'something behind': ({ status, body }) => ({ status, body: Buffer.concat([body, body]) }),
    nothing: ({ status }) => ({ status, body: Buffer.alloc(0) }),
    'unsigned JSON': () => ({ status: 200, body: Buffer.from('{}'), type: 'application/json' }),
    'unsigned refusal': () => ({ status: 401, body: Buffer.from('{}'), type: 'application/json' }),
  };
  for (const [what, forge] of Object.entries(forgeries)) {
    change.with = forge;
    await t.rejects(ask(), { code: /PEER|UNREACHABLE/ }, what);
  }
});

t.test('what a caller is told', async (t) => {
  const to = await target(t);
  const { node } = to.node;
  const ask = (options: Parameters<typeof callerOf>[1], peer = node) =>
    callerOf(t, options).call(peer, 'work', {});
  await t.rejects(ask({ skewMs: -75_000 }), {
    code: 'PEER',
    message: /clock of the node a@127\.0\.0\.1 is 75 s ahead of that of the node that calls it/,
  });
  await t.rejects(ask({ skewMs: 90_000 }), { code: 'PEER', message: /is 90 s behind/ });
  t.same(await ask({ skewMs: 50_000 }), { done: true });
  await t.rejects(ask({ cookie: 'another' }), { code: 'PEER', message: /its cookie is another/ });
  await t.rejects(ask({ protocol: PROTOCOL + 2 }), { code: 'PEER', message: /version 1 .* not 3/ });
  t.same(await ask({ protocol: PROTOCOL + 1 }), { done: true });
  const other = { ...node, identity: '0'.repeat(32) };
  await t.rejects(ask({}, other), { code: 'UNREACHABLE', message: /another node, a@127/ });
  const caller = callerOf(t);
  await t.rejects(caller.open({ ...node, url: 'ftp://a' }, 'work', {}, chunksOf()), {
    code: 'BAD_REQUEST',
  });
  to.node.cluster.credentials.cookie = undefined;
  await t.rejects(to.node.peers.call(node, 'work', {}), { code: 'UNAVAILABLE' });
});
