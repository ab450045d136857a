/**
 * Which calls a node takes: those whose header is signed with the cookie, that are for this node, of a protocol that it speaks, of now, new, and
 * from one that may call. Nothing of a call but its header and its name is needed for that.
 */
import { DivanError } from '../../engine/errors.js';
import type { ServerHost } from '../world.js';
import {
  type CallContext,
  type CallKeys,
  CLOCK_MS_MAX,
  isNeighbour,
  KeyRing,
  PROTOCOL,
  type SignedContext,
  verifyContext,
} from './call-signature.js';
import type { ClusterCredentials } from './credentials.js';
import type { CallHandlers } from './peers.js';
import { SeenCalls } from './seen-calls.js';

export interface CallGateOptions {
  readonly host: ServerHost;
  readonly credentials: ClusterCredentials;
  /** Of which calls strangers may make. */
  readonly handlers: Pick<CallHandlers, 'accessOf'>;
  /** Another than that of this program, for tests. */
  readonly protocol?: number;
}

/** Why a call is not taken, with the status for that. */
export class Refusal extends DivanError {
  readonly status: number;
  /** Of this node, for who used another one. */
  readonly boot: string | undefined;

  constructor(
    status: number,
    code: 'PEER' | 'UNREACHABLE' | 'UNAVAILABLE',
    message: string,
    boot?: string,
  ) {
    super(code, message);
    this.status = status;
    this.boot = boot;
  }
}

export class CallGate {
  readonly protocol: number;
  readonly #options: CallGateOptions;
  readonly #keyRing = new KeyRing();
  readonly #seen: SeenCalls;

  constructor(options: CallGateOptions) {
    this.#options = options;
    this.protocol = options.protocol ?? PROTOCOL;
    this.#seen = new SeenCalls(options.host);
  }

  /** Random, another one after each start. */
  get boot(): string {
    return this.#seen.boot;
  }

  /** Whom a call comes from, and the keys of the cookie. Throws `UNAUTHORIZED` for one that is not signed. */
  authenticate(
    header: string | undefined,
    name: string,
  ): { readonly keys: CallKeys; readonly signed: SignedContext } {
    const keys = this.#keyRing.of(this.#options.credentials.cookie);
    const signed = keys === undefined ? undefined : verifyContext(header, name, keys);
    if (keys !== undefined && signed !== undefined) return { keys, signed };
    throw new DivanError('UNAUTHORIZED', 'This is for the nodes of the cluster.');
  }

  /** Takes a call, once. Throws a `Refusal`. */
  admit(context: CallContext): void {
    const { credentials, host, handlers } = this.#options;
    const { self } = credentials;
    if (context.to !== self.identity) {
      throw new Refusal(421, 'UNREACHABLE', `this is another node, ${self.name}`);
    }
    if (!isNeighbour(context.protocol, this.protocol)) {
      const versions = `version ${this.protocol} of the protocol between nodes, not ${context.protocol}`;
      throw new Refusal(505, 'PEER', `the node ${self.name} speaks ${versions}`);
    }
    const aheadMs = host.timeOfDay() - context.timeMs;
    if (Math.abs(aheadMs) > CLOCK_MS_MAX) throw wrongClock(aheadMs, self.name);
    const { boot } = this;
    if (context.boot !== boot) {
      throw new Refusal(409, 'UNREACHABLE', `the node ${self.name} was started again`, boot);
    }
    const taken = this.#seen.take(context.series, context.number);
    if (taken === 'repeated') {
      throw new Refusal(409, 'PEER', `the node ${self.name} had this call already`);
    }
    if (taken === 'full') {
      throw new Refusal(503, 'UNAVAILABLE', `too many clients call the node ${self.name}`);
    }
    if (!credentials.mayCall(context.from, handlers.accessOf(context.name))) {
      throw new Refusal(403, 'PEER', `to the node ${self.name} this one is no member`);
    }
  }
}

/** The side whose clock is ahead is named by what it is to the one that reads this. */
function wrongClock(aheadMs: number, name: string): Refusal {
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  const where = aheadMs > 0 ? 'ahead of' : 'behind';
  const clocks = `the clock of the node ${name} is ${seconds} s ${where} that of the node that calls it`;
  return new Refusal(
    401,
    'PEER',
    `${clocks}; nodes whose clocks differ by more than a minute do not talk`,
  );
}
