/** Signs the calls of one process of a simulation, as those over HTTP are signed. */
import {
  type CallKeys,
  KeyRing,
  NO_BOOT,
  PROTOCOL,
  signContext,
} from '../../server/cluster/call-signature.js';
import type { ClusterCredentials } from '../../server/cluster/credentials.js';
import type { ServerHost } from '../../server/world.js';

const SERIES_BYTES = 16;

export class CallSigner {
  readonly #host: ServerHost;
  readonly #credentials: ClusterCredentials;
  readonly #keyRing = new KeyRing();
  readonly #series: string;
  /** Of other nodes, as they said last. */
  readonly #boots = new Map<string, string>();
  #number = 0;

  constructor(host: ServerHost, credentials: ClusterCredentials) {
    this.#host = host;
    this.#credentials = credentials;
    this.#series = Buffer.from(host.randomBytes(SERIES_BYTES)).toString('hex');
  }

  /** The header of a call. */
  sign(to: string, name: string): string {
    const { self } = this.#credentials;
    const context = {
      ...{ protocol: PROTOCOL, name, to, from: self.identity, series: this.#series },
      boot: this.#boots.get(to) ?? NO_BOOT,
      timeMs: this.#host.timeOfDay(),
      number: ++this.#number,
    };
    return signContext({ ...context, timeMs: Math.floor(context.timeMs) }, this.#keys).header;
  }

  /** That a node was started again. */
  learn(to: string, boot: string): void {
    this.#boots.set(to, boot);
  }

  get #keys(): CallKeys {
    const keys = this.#keyRing.of(this.#credentials.cookie);
    if (keys === undefined) throw new Error('a node of a simulation has a cookie');
    return keys;
  }
}
