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
import { CallGate, type CallGateOptions, Refusal } from './call-gate.js';
import { decodeError, encodeError, encodeHead } from './call-payloads.js';
import {
  CALL_HEADER,
  CALL_TYPE,
  type CallKeys,
  replyStart,
  type SignedContext,
} from './call-signature.js';
import { IncomingBody } from './incoming-body.js';
import { type Call, type CallHandler, type CallHandlers, StreamedAnswer } from './peers.js';

export interface CallServerOptions extends CallGateOptions {
  readonly handlers: CallHandlers;
  /** Told of what should not have happened; returns an id under which it was logged. */
  readonly onError: (name: string, error: unknown) => string;
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

export class CallServer {
  readonly gate: CallGate;
  readonly #options: CallServerOptions;

  constructor(options: CallServerOptions) {
    this.#options = options;
    this.gate = new CallGate(options);
    options.handlers.on('hello', () => Promise.resolve(this.#hello()), 'strangers too');
  }

  /** Random, another one after each start. */
  get boot(): string {
    return this.gate.boot;
  }

  /** Answers a call. Throws `UNAUTHORIZED` for one that is not signed, and what replying throws. */
  async handle(exchange: Exchange): Promise<void> {
    const name = exchange.param(REST);
    const proved = this.gate.authenticate(exchange.header(CALL_HEADER), name);
    const accepted: Accepted = { ...proved, exchange, body: undefined };
    try {
      this.gate.admit(proved.signed.context);
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
    return { name, identity, url, protocol: this.gate.protocol, boot: this.boot };
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

/** Resolves when what the handler left of the request is read, or given up: otherwise the caller might lose the end of the reply. */
function passedOver({ request }: Exchange, host: ServerHost): Promise<void> | undefined {
  if (request.complete || request.destroyed) return undefined;
  return new Promise((resolve) => passOver(request, host, resolve));
}

async function* nothing(): AsyncGenerator<Uint8Array, void> {}
