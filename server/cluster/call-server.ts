/**
 * What a node does with the calls that others send it. Nobody is heard who does not have the cookie: the signature of the header is checked
 * first, then whether the call is for this node, of a protocol that it speaks, of now, and new; only then is its body read.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { errorReply, isInternalError } from '../http/error-table.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonObject, objectOf, parseJson } from '../http/json-value.js';
import { declaredLength, passOver } from '../http/request-body.js';
import { REST } from '../http/router.js';
import type { ServerHost } from '../world.js';
import { FrameReader, FrameWriter, PAYLOAD_BYTES_MAX, pulsed } from './call-frames.js';
import { decodeError, encodeError, encodeHead } from './call-payloads.js';
import {
  CALL_HEADER,
  CALL_TYPE,
  type CallKeys,
  CLOCK_MS_MAX,
  isNeighbour,
  KeyRing,
  PROTOCOL,
  replyStart,
  type SignedContext,
  verifyContext,
} from './call-signature.js';
import type { ClusterCredentials } from './credentials.js';
import { IncomingBody } from './incoming-body.js';
import { type Call, type CallHandler, type CallHandlers, StreamedAnswer } from './peers.js';
import { SeenCalls } from './seen-calls.js';

export interface CallServerOptions {
  readonly host: ServerHost;
  readonly credentials: ClusterCredentials;
  readonly handlers: CallHandlers;
  /** Told of what should not have happened; returns an id under which it was logged. */
  readonly onError: (name: string, error: unknown) => string;
  /** Another than that of this program, for tests. */
  readonly protocol?: number;
}

/** What is in memory of a call that streams: a chunk of the connection, a frame, and what is written. */
const STREAM_BYTES = 256 * 1024;
const TYPE = { 'Content-Type': CALL_TYPE };
const EMPTY: AsyncIterable<Uint8Array> = { [Symbol.asyncIterator]: () => nothing() };

/** A call that was proved to come from who it says. */
interface Accepted {
  readonly exchange: Exchange;
  readonly keys: CallKeys;
  readonly signed: SignedContext;
  /** Once it is read from. */
  body: IncomingBody | undefined;
}

/** Why a call is not taken, with the status for that. */
class Refusal extends DivanError {
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

export class CallServer {
  readonly #options: CallServerOptions;
  readonly #protocol: number;
  readonly #keyRing = new KeyRing();
  readonly #seen: SeenCalls;

  constructor(options: CallServerOptions) {
    this.#options = options;
    this.#protocol = options.protocol ?? PROTOCOL;
    this.#seen = new SeenCalls(options.host);
    options.handlers.on('hello', () => Promise.resolve(this.#hello()), 'strangers too');
  }

  /** Random, another one after each start. */
  get boot(): string {
    return this.#seen.boot;
  }

  /** Answers a call. Throws `UNAUTHORIZED` for one that is not signed, and what replying throws. */
  async handle(exchange: Exchange): Promise<void> {
    const name = exchange.param(REST);
    const accepted = this.#authenticate(exchange, name);
    try {
      this.#check(accepted.signed, name);
      const answer = await this.#answer(accepted);
      if (answer instanceof StreamedAnswer) await this.#stream(accepted, name, answer);
      else await this.#replyWhole(accepted, encodeHead(answer));
    } catch (error) {
      if (exchange.response.headersSent || exchange.response.destroyed) throw error;
      await this.#replyError(accepted, name, error);
    }
  }

  #hello(): JsonObject {
    const { name, identity, url } = this.#options.credentials.self;
    return { name, identity, url, protocol: this.#protocol, boot: this.boot };
  }

  #authenticate(exchange: Exchange, name: string): Accepted {
    const keys = this.#keyRing.of(this.#options.credentials.cookie);
    const signed =
      keys === undefined ? undefined : verifyContext(exchange.header(CALL_HEADER), name, keys);
    if (keys !== undefined && signed !== undefined) {
      return { exchange, keys, signed, body: undefined };
    }
    throw new DivanError('UNAUTHORIZED', 'This is for the nodes of the cluster.');
  }

  /** Throws a `Refusal`. */
  #check({ context }: SignedContext, name: string): void {
    const { credentials, host, handlers } = this.#options;
    const { self } = credentials;
    if (context.to !== self.identity) {
      throw new Refusal(421, 'UNREACHABLE', `this is another node, ${self.name}`);
    }
    if (!isNeighbour(context.protocol, this.#protocol)) {
      const versions = `version ${this.#protocol} of the protocol between nodes, not ${context.protocol}`;
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
    if (!credentials.mayCall(context.from, handlers.accessOf(name))) {
      throw new Refusal(403, 'PEER', `to the node ${self.name} this one is no member`);
    }
  }

  async #answer(accepted: Accepted): ReturnType<CallHandler> {
    const { exchange, keys, signed } = accepted;
    const { name, from } = signed.context;
    const length = declaredLength(exchange.request);
    // One that is sent at once is whole before anything is done; of one that streams every frame is proved before it is used.
    if (length !== undefined && !isSentAtOnce(exchange)) {
      throw new DivanError('TOO_LARGE', 'a call that is sent at once has at most a frame');
    }
    exchange.holdMemory(length ?? STREAM_BYTES);
    const source = exchange.encodedBodyStream(Number.MAX_SAFE_INTEGER);
    const reader = new FrameReader(source, keys.request, signed.mac);
    const incoming = new IncomingBody(reader, exchange.request);
    accepted.body = incoming;
    const { kind, payload } = await reader.next();
    if (kind === 'error') throw decodeError(payload).error;
    const head = objectOf(parseJson(payload), 'the head of a call');
    if (length !== undefined) {
      await reader.next();
      await reader.finish();
    }
    const body = length === undefined ? incoming.chunks : EMPTY;
    const handler = this.#options.handlers.find(name);
    if (handler === undefined) {
      throw new DivanError('PEER', `a node does not know the call ${name.slice(0, 100)}`);
    }
    const call: Call = { from, head, body, signal: exchange.signal };
    return handler(call);
  }

  async #replyWhole({ exchange, keys, signed, body }: Accepted, head: Uint8Array): Promise<void> {
    const writer = new FrameWriter(keys.reply, replyStart(signed.mac, 200, keys));
    await body?.leave(this.#options.host);
    exchange.replyBytes(200, writer.whole(head), TYPE);
  }

  async #stream(accepted: Accepted, name: string, answer: StreamedAnswer): Promise<void> {
    const { exchange, keys, signed } = accepted;
    const { host } = this.#options;
    const head = encodeHead(answer.head);
    const writer = new FrameWriter(keys.reply, replyStart(signed.mac, 200, keys));
    const out = exchange.stream(200, TYPE);
    const send = async (frame: Uint8Array) => {
      await out.bytes(frame);
      await out.flush();
    };
    try {
      await send(writer.frame('head', head));
      for await (const chunk of pulsed(answer.body, host, exchange.signal)) {
        if (chunk.length === 0) await send(writer.pulse());
        for (const frame of writer.bodies(chunk)) await send(frame);
      }
      await send(writer.frame('end'));
    } catch (error) {
      if (exchange.signal.aborted) throw new DivanError('ABORTED', 'the caller went away');
      // Whoever reads can tell it from a connection that broke.
      await send(writer.frame('error', encodeError(this.#told(name, error))));
    }
    await accepted.body?.leave(host);
    await passedOver(exchange, host);
    await out.end();
  }

  async #replyError(accepted: Accepted, name: string, error: unknown): Promise<void> {
    const { exchange, keys, signed, body } = accepted;
    const { host } = this.#options;
    const told = this.#told(name, error);
    const status = error instanceof Refusal ? error.status : errorReply(told).status;
    const payload = encodeError(told, error instanceof Refusal ? error.boot : undefined);
    const writer = new FrameWriter(keys.reply, replyStart(signed.mac, status, keys));
    // The connection can be kept if nothing is left to be read.
    await body?.leave(host);
    if (isSentAtOnce(exchange)) await passedOver(exchange, host);
    exchange.replyBytes(status, writer.frame('error', payload), TYPE);
  }

  /** What the caller is told of an error; what is wrong here is logged here. */
  #told(name: string, error: unknown): DivanError {
    if (isDivanError(error)) {
      const isWorthIt = isInternalError(error) && error.code !== 'PEER';
      if (isWorthIt) this.#options.onError(name, error);
      return error;
    }
    const ref = this.#options.onError(name, error);
    const node = this.#options.credentials.self.name;
    return new DivanError('PEER', `the node ${node} failed; its log has more under ${ref}`);
  }
}

/** What is not, streams. */
function isSentAtOnce({ request }: Exchange): boolean {
  const length = declaredLength(request);
  return length !== undefined && length <= 2 * PAYLOAD_BYTES_MAX;
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

/** Resolves when what the handler left of the request is read, or given up: otherwise the caller might lose the end of the reply. */
function passedOver({ request }: Exchange, host: ServerHost): Promise<void> | undefined {
  if (request.complete || request.destroyed) return undefined;
  return new Promise((resolve) => passOver(request, host, resolve));
}

async function* nothing(): AsyncGenerator<Uint8Array, void> {}
