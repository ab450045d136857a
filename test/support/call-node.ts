/** A server that is a node of a cluster: with an identity, the cookie, and calls that tests make of it. */
import type { Test } from 'tap';
import type { CallServer } from '../../server/cluster/call-server.js';
import { HttpPeerCalls } from '../../server/cluster/http-peer-calls.js';
import type { ClusterParts } from '../../server/cluster/parts.js';
import {
  type CallHandlers,
  type Node,
  type PeerCalls,
  StreamedAnswer,
} from '../../server/cluster/peers.js';
import { realServerHost, TestServer, type TestServerOptions } from './server.js';

export const COOKIE = 'the-cookie-of-the-tests';

export interface CallNodeOptions extends TestServerOptions {
  readonly name?: string;
  /** Null for none. */
  readonly cookie?: string | null;
  /** True if it answers as the members say, else everybody who has the cookie. */
  readonly isStrict?: boolean;
}

export class CallNode {
  readonly server: TestServer;
  readonly node: Node;

  private constructor(server: TestServer, name: string) {
    this.server = server;
    const { identity } = server.server.services.cluster.credentials.self;
    this.node = { name, identity, url: server.url };
  }

  static async open(t: Test, options: CallNodeOptions = {}): Promise<CallNode> {
    const { name = 'a@127.0.0.1', cookie = COOKIE, isStrict = false, ...rest } = options;
    const server = await TestServer.open(t, rest);
    const opened = new CallNode(server, name);
    const { credentials } = opened.cluster;
    credentials.self = opened.node;
    credentials.cookie = cookie ?? undefined;
    if (!isStrict) credentials.mayCall = () => true;
    return opened;
  }

  get callServer(): CallServer {
    return this.server.server.services.callServer;
  }

  get cluster(): ClusterParts {
    return this.server.server.services.cluster;
  }

  get handlers(): CallHandlers {
    return this.cluster.handlers;
  }

  get peers(): PeerCalls {
    return this.cluster.calls;
  }
}

/** Answers with what it was sent. */
export function echo(handlers: CallHandlers): void {
  handlers.on('echo', async ({ head, body }) => new StreamedAnswer(head, body));
  handlers.on('head', async ({ head, from }) => ({ ...head, from }));
}

/** Calls of a node that is only a caller. */
export function callerOf(
  t: Test,
  options: { cookie?: string; skewMs?: number; protocol?: number; identity?: string } = {},
): HttpPeerCalls {
  const { cookie = COOKIE, skewMs = 0, protocol, identity = 'c'.repeat(32) } = options;
  const peers = new HttpPeerCalls({
    host: { ...realServerHost, timeOfDay: () => Date.now() + skewMs },
    credentials: { self: { name: 'c@127.0.0.1', identity, url: 'http://127.0.0.1:1' }, cookie },
    ...(protocol === undefined ? {} : { protocol }),
  });
  t.teardown(() => peers.close());
  return peers;
}

export async function* chunksOf(
  ...chunks: readonly (string | Uint8Array)[]
): AsyncGenerator<Uint8Array, void> {
  for (const chunk of chunks) yield typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
}

export async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
