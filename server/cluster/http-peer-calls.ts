/** Calls other nodes over signed HTTP: the `PeerCalls` of a server. */
import { DivanError } from '../../engine/errors.js';
import type { JsonObject } from '../http/json-value.js';
import type { ServerHost } from '../world.js';
import { leaveSource } from './call-frames.js';
import { encodeHead } from './call-payloads.js';
import { type CallKeys, KeyRing, PROTOCOL } from './call-signature.js';
import type { ClusterCredentials } from './credentials.js';
import { type CallSender, PeerClient } from './peer-client.js';
import type { CallOptions, Node, PeerCalls, StreamedReply } from './peers.js';

export interface HttpPeerCallsOptions {
  readonly host: ServerHost;
  readonly credentials: Pick<ClusterCredentials, 'self' | 'cookie'>;
  /** The authorities whose certificates are taken, in PEM; undefined for those that Node.js trusts. */
  readonly ca?: string | undefined;
  /** Another than that of this program, for tests. */
  readonly protocol?: number;
}

/** Of more nodes the connections are not kept. */
const PEERS_MAX = 1000;
const SERIES_BYTES = 16;

export class HttpPeerCalls implements PeerCalls {
  readonly #sender: CallSender;
  /** By identity, the one that was called last at the end. */
  readonly #clients = new Map<string, PeerClient>();
  #isClosed = false;

  constructor({ host, credentials, ca, protocol = PROTOCOL }: HttpPeerCallsOptions) {
    const keyRing = new KeyRing();
    let number = 0;
    this.#sender = {
      host,
      protocol,
      ca,
      self: () => credentials.self,
      keys: () => keysOf(keyRing, credentials.cookie),
      series: Buffer.from(host.randomBytes(SERIES_BYTES)).toString('hex'),
      nextNumber: () => ++number,
    };
  }

  /** Throws also `TOO_LARGE` for a head that does not fit in a frame, and `BAD_REQUEST` for a URL that is none. */
  async call(
    peer: Node,
    name: string,
    head: JsonObject,
    options: CallOptions = {},
  ): Promise<JsonObject> {
    return this.#clientOf(peer).call(name, encodeHead(head), options);
  }

  /** As `call`. */
  async open(
    peer: Node,
    name: string,
    head: JsonObject,
    body: AsyncIterable<Uint8Array>,
    options: CallOptions = {},
  ): Promise<StreamedReply> {
    try {
      const client = this.#clientOf(peer);
      return await client.open({ name, head: encodeHead(head), body, options });
    } catch (error) {
      // Where it was not even begun. To leave it again does no harm.
      leaveSource(body[Symbol.asyncIterator]());
      throw error;
    }
  }

  /** Ends all calls with `ABORTED`, and makes none any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.all(clients.map((client) => client.close()));
  }

  #clientOf(peer: Node): PeerClient {
    if (this.#isClosed) throw new DivanError('ABORTED', 'this node is about to stop');
    const known = this.#clients.get(peer.identity);
    this.#clients.delete(peer.identity);
    const isSame = known?.peer.url === peer.url;
    const client = known !== undefined && isSame ? known : new PeerClient(peer, this.#sender);
    // Nobody answers any more where the node was.
    if (known !== undefined && !isSame) void known.close();
    this.#clients.set(peer.identity, client);
    if (this.#clients.size > PEERS_MAX) this.#closeOne();
    return client;
  }

  #closeOne(): void {
    for (const [identity, client] of this.#clients) {
      if (!client.isIdle) continue;
      this.#clients.delete(identity);
      void client.close();
      return;
    }
  }
}

function keysOf(keyRing: KeyRing, cookie: string | undefined): CallKeys {
  const keys = keyRing.of(cookie);
  if (keys !== undefined) return keys;
  throw new DivanError('UNAVAILABLE', 'this node is in no cluster: it has no cookie yet');
}
