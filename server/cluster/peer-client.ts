/**
 * Calls to one other node, over connections that are kept. Whatever that node does, a call ends in bounded time, and so many calls at most are
 * under way or wait: calls to other nodes are delayed by none of it.
 */
import { Readable } from 'node:stream';
import { buildConnector, Pool } from 'undici';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { isObject, type JsonObject, parseJson } from '../http/json-value.js';
import type { ServerHost } from '../world.js';
import { Breaker, type Pass } from './breaker.js';
import { type Frame, FrameReader, FrameWriter, PULSE } from './call-frames.js';
import { decodeError } from './call-payloads.js';
import {
  CALL_HEADER,
  CALL_TYPE,
  type CallKeys,
  NO_BOOT,
  replyStart,
  signContext,
} from './call-signature.js';
import { CallSlots } from './call-slots.js';
import { CallWatch } from './call-watch.js';
import { OutgoingBody, type SendingEvents } from './outgoing-body.js';
import type { CallOptions, Node, StreamedReply } from './peers.js';

/** What all clients of a node have in common. */
export interface CallSender {
  readonly host: ServerHost;
  /** The protocol that it speaks. */
  readonly protocol: number;
  /** The authorities that are trusted besides no others, in PEM; undefined for those that Node.js trusts. */
  readonly ca: string | undefined;
  readonly self: () => Node;
  /** Throws `UNAVAILABLE` where there is no cookie yet. */
  readonly keys: () => CallKeys;
  /** Random, of this process. */
  readonly series: string;
  readonly nextNumber: () => number;
}

/** To the first byte of a reply. */
const TIMEOUT_MS = 10_000;
/** Between two frames of a reply: a node that is well says something much more often. */
const IDLE_MS = 60_000;
const CONNECT_MS = 5000;
const KEPT_MS = 50_000;
/** Calls that send a head and get one. */
const CALLS_MAX = 64;
/** Those that stream may last as long as a feed does, and must not keep others from being made. */
const STREAMS_MAX = 256;
const WAITING_MAX = 1000;
const HIGH_WATER = 64 * 1024;

/** No connection was made, so nothing was done. */
class NotConnected extends Error {
  readonly errno: string;

  constructor(cause: Error) {
    super(cause.message, { cause });
    const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : 'EPROTO';
    this.errno = code === 'UND_ERR_CONNECT_TIMEOUT' ? 'ETIMEDOUT' : code;
  }
}

interface Outgoing {
  readonly name: string;
  readonly head: Uint8Array;
  readonly body: AsyncIterable<Uint8Array> | undefined;
  readonly options: CallOptions;
}

/** A call from its beginning to its end. */
interface UnderWay {
  readonly outgoing: Outgoing;
  readonly watch: CallWatch;
  readonly body: OutgoingBody | undefined;
  /** Once the head of the answer is there. */
  isAnswered: boolean;
  /** What the pool does for it. */
  request: Promise<unknown>;
}

/** A message that is being sent. */
interface Sending {
  readonly header: string;
  readonly mac: Uint8Array;
  readonly content: Buffer | Readable;
}

export class PeerClient {
  readonly peer: Node;
  readonly #sender: CallSender;
  readonly #pool: Pool;
  readonly #breaker: Breaker;
  readonly #calls = new CallSlots(CALLS_MAX, WAITING_MAX);
  readonly #streams = new CallSlots(STREAMS_MAX, WAITING_MAX);
  readonly #watches = new Set<CallWatch>();
  #boot = NO_BOOT;
  /** False if the node may have been started again since. */
  #isBootSure = false;
  #isClosed = false;

  /** Throws `BAD_REQUEST` for a peer whose URL is none of http or https. */
  constructor(peer: Node, sender: CallSender) {
    this.peer = peer;
    this.#sender = sender;
    this.#breaker = new Breaker(sender.host);
    this.#pool = new Pool(originOf(peer), {
      connections: CALLS_MAX + STREAMS_MAX,
      pipelining: 1,
      keepAliveTimeout: KEPT_MS,
      keepAliveMaxTimeout: KEPT_MS,
      // Each wait has a bound of its own here.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: connector(sender.ca),
    });
    // A node that starts again takes its connections with it; whether it did is asked before anything is streamed.
    this.#pool.on('disconnect', () => {
      this.#isBootSure = false;
    });
  }

  /** True if no call is under way. */
  get isIdle(): boolean {
    return this.#watches.size === 0;
  }

  /** As `PeerCalls.call`. REQUIRES: the head fits in a frame. */
  async call(name: string, head: Uint8Array, options: CallOptions): Promise<JsonObject> {
    const reply = await this.#send({ name, head, body: undefined, options });
    for await (const _ of reply.body) {
      throw new DivanError('PEER', `${this.#who()} answered ${name} with more than a head`);
    }
    return reply.head;
  }

  /** As `PeerCalls.open`. REQUIRES: the head fits in a frame. */
  async open(outgoing: Outgoing): Promise<StreamedReply> {
    // A body can be read once only, and one that the node does not take would be lost.
    if (!this.#isBootSure) await this.call('hello', EMPTY_HEAD, outgoing.options);
    return this.#send(outgoing);
  }

  /** Ends the calls that are under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const watch of this.#watches) watch.end(stopping());
    await this.#pool.destroy(stopping());
  }

  async #send(outgoing: Outgoing): Promise<StreamedReply> {
    if (this.#isClosed) throw stopping();
    const pass = this.#breaker.admit();
    if (pass === undefined) throw this.#unreachable('it did not answer lately', 'EHOSTDOWN');
    const watch = new CallWatch(this.#sender.host, outgoing.options.signal);
    const body = outgoing.body === undefined ? undefined : new OutgoingBody(outgoing.body);
    const slots = body === undefined ? this.#calls : this.#streams;
    const underWay: UnderWay = { outgoing, watch, body, isAnswered: false, request: NOTHING };
    this.#watches.add(watch);
    try {
      watch.allow('answer', timeoutOf(outgoing), tooMany);
      await slots.take(watch.signal);
      const { head, body: answer } = await this.#exchange(underWay, slots);
      this.#breaker.succeeded(pass);
      return { head, body: await begun(this.#answer(answer, underWay, slots)) };
    } catch (error) {
      this.#over(underWay);
      this.#judge(pass, error);
      throw error instanceof ToldError ? error.told : error;
    }
  }

  /** Nothing of the call is left behind but what the pool still holds. */
  #over({ watch, body }: UnderWay): void {
    watch.end(new DivanError('ABORTED', 'the call is over'));
    this.#watches.delete(watch);
    body?.leave();
  }

  /** What the outcome of a call says of the node. */
  #judge(pass: Pass, error: unknown): void {
    if (error instanceof ToldError) this.#breaker.succeeded(pass);
    else if (isDivanError(error, 'UNREACHABLE') || isDivanError(error, 'PEER')) {
      this.#breaker.failed(pass);
      if (!this.#breaker.isOpen) return;
      const failing = this.#unreachable('it does not answer', 'EHOSTDOWN');
      this.#calls.failWaiting(failing);
      this.#streams.failWaiting(failing);
    } else this.#breaker.abandoned(pass);
  }

  /** The call, which is sent again once if the node was started since it answered last. If it fails the slot is given back. */
  async #exchange(underWay: UnderWay, slots: CallSlots): Promise<StreamedReply> {
    try {
      try {
        return await this.#attempt(underWay);
      } catch (error) {
        if (!(error instanceof ToldError) || error.boot === undefined) throw error;
        // A body is read ahead of what the node takes, so some of it may be lost.
        if (underWay.body !== undefined) throw this.#unreachable('it was started again', 'ESTALE');
      }
      return await this.#attempt(underWay);
    } catch (error) {
      // A call that was given up while its connection was being made is still in the hands of the pool.
      const give = () => slots.give();
      underWay.request.then(give, give);
      throw error;
    }
  }

  /** Throws a `ToldError` for what the node says that it threw. */
  async #attempt(underWay: UnderWay): Promise<StreamedReply> {
    const { outgoing, watch } = underWay;
    const keys = this.#sender.keys();
    const { header, mac, content } = this.#sign(underWay, keys);
    const request = this.#pool.request({
      path: `/_divan/${outgoing.name}`,
      method: 'POST',
      headers: { [CALL_HEADER]: header, 'content-type': CALL_TYPE },
      body: content,
      signal: watch.signal,
      highWaterMark: HIGH_WATER,
    });
    underWay.request = request;
    try {
      const { statusCode: status, headers, body } = await orAborted(request, watch.signal);
      if (headers['content-type'] !== CALL_TYPE) {
        body.on('error', () => undefined).destroy();
        throw this.#noAnswer(status);
      }
      const source = this.#chunks(body, underWay);
      const reader = new FrameReader(source, keys.reply, replyStart(mac, status, keys));
      const head = await this.#headOf(await reader.next(), reader);
      underWay.isAnswered = true;
      this.#isBootSure = true;
      return { head, body: reader.bodies((payload) => decodeError(payload).error) };
    } catch (error) {
      throw this.#translated(error, underWay);
    }
  }

  #sign(underWay: UnderWay, keys: CallKeys): Sending {
    const { outgoing, body, watch } = underWay;
    const { host, protocol, self, series, nextNumber } = this.#sender;
    const context = {
      protocol,
      name: outgoing.name,
      from: self().identity,
      to: this.peer.identity,
      boot: this.#boot,
      timeMs: host.timeOfDay(),
      series,
      number: nextNumber(),
    };
    const { header, mac } = signContext(context, keys);
    const writer = new FrameWriter(keys.request, mac);
    const timeoutMs = timeoutOf(outgoing);
    const silent = () =>
      this.#unreachable(`it did not answer ${outgoing.name} within ${timeoutMs} ms`);
    if (body === undefined) {
      watch.allow('answer', timeoutMs, silent);
      return { header, mac, content: writer.whole(outgoing.head) };
    }
    watch.rest('answer');
    const events: SendingEvents = {
      onOffer: () => watch.allow('question', timeoutMs, silent),
      onNothing: () => watch.rest('question'),
      onSent: () => {
        watch.rest('question');
        if (!underWay.isAnswered) watch.allow('answer', timeoutMs, silent);
      },
    };
    events.onOffer();
    const { signal } = watch;
    const frames = body.frames(writer, outgoing.head, { host, signal, events });
    return { header, mac, content: readableOf(frames) };
  }

  async #headOf({ kind, payload }: Frame, reader: FrameReader): Promise<JsonObject> {
    if (kind === 'error') {
      await reader.finish();
      const told = new ToldError(decodeError(payload));
      if (told.boot !== undefined) this.#boot = told.boot;
      throw told;
    }
    const head = parseJson(payload);
    if (isObject(head)) return head;
    throw new DivanError('PEER', `${this.#who()} answered with a head that is no object`);
  }

  /** What comes over the connection; the node may be silent for so long only. */
  async *#chunks(body: AsyncIterable<unknown>, underWay: UnderWay): AsyncGenerator<Uint8Array> {
    const { watch, outgoing } = underWay;
    const silent = () => this.#unreachable('it stopped in the middle of an answer');
    watch.allow('answer', timeoutOf(outgoing), silent);
    for await (const chunk of body) {
      watch.rest('answer');
      if (chunk instanceof Uint8Array) yield chunk;
      const ms = underWay.isAnswered ? IDLE_MS : timeoutOf(outgoing);
      watch.allow('answer', ms, silent);
    }
    watch.rest('answer');
  }

  /** The body of an answer. Its first chunk is `PULSE`: only of a generator that was begun the end is heard of. */
  async *#answer(
    body: AsyncGenerator<Uint8Array, void>,
    underWay: UnderWay,
    slots: CallSlots,
  ): AsyncGenerator<Uint8Array, void> {
    try {
      yield PULSE;
      yield* body;
    } catch (error) {
      throw this.#translated(error, underWay);
    } finally {
      // If it was left in the middle the connection is ended; so it is if nobody wants the rest of the question.
      this.#over(underWay);
      slots.give();
    }
  }

  /** What a caller is to be told of what went wrong. */
  #translated(error: unknown, { body, watch }: UnderWay): unknown {
    if (body?.failure !== undefined) return body.failure.error;
    if (watch.signal.aborted) return watch.signal.reason;
    if (error instanceof ToldError || isDivanError(error)) return error;
    if (error instanceof NotConnected) return this.#unreachable(error.message, error.errno, error);
    const message = error instanceof Error ? error.message : String(error);
    return this.#unreachable(`it broke off: ${message}`, undefined, error);
  }

  #noAnswer(status: number): DivanError {
    const why = status === 401 ? 'its cookie is another one, or it has none' : `status ${status}`;
    return new DivanError('PEER', `${this.#who()} gave an answer that is not signed: ${why}`);
  }

  #unreachable(why: string, errno?: string, cause?: unknown): DivanError {
    const facts = errno === undefined ? {} : { errno };
    return new DivanError('UNREACHABLE', `${this.#who()} can not be reached: ${why}`, facts, cause);
  }

  #who(): string {
    return `the node ${this.peer.name} at ${this.peer.url}`;
  }
}

const EMPTY_HEAD = Buffer.from('{}');
const NOTHING: Promise<unknown> = Promise.resolve();

/** What a node says that went wrong there: it was reached. */
class ToldError extends Error {
  readonly told: DivanError;
  readonly boot: string | undefined;

  constructor({ error, boot }: ReturnType<typeof decodeError>) {
    super(error.message);
    this.told = error;
    this.boot = boot;
  }
}

/** Throws `BAD_REQUEST`. */
function originOf({ name, url }: Node): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol === 'http:' || parsed?.protocol === 'https:') return parsed;
  throw new DivanError('BAD_REQUEST', `the node ${name} has the URL ${url}, which is none of http`);
}

function connector(ca: string | undefined): buildConnector.connector {
  const connect = buildConnector({ timeout: CONNECT_MS, ...(ca === undefined ? {} : { ca }) });
  return (options, callback) =>
    connect(options, (...result) => {
      const [error, socket] = result;
      if (error === null) callback(null, socket);
      else callback(new NotConnected(error), null);
    });
}

/** The pool may learn only later that a call was given up. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    const leave = () => signal.removeEventListener('abort', onAbort);
    signal.addEventListener('abort', onAbort);
    work.finally(leave).then(resolve, reject);
    if (signal.aborted) onAbort();
  });
}

function readableOf(frames: AsyncGenerator<Uint8Array, void>): Readable {
  const readable = Readable.from(frames, { objectMode: false, highWaterMark: HIGH_WATER });
  // Whoever made the call hears of it in another way.
  return readable.on('error', () => undefined);
}

/** Takes the `PULSE` that stands first. */
async function begun(
  body: AsyncGenerator<Uint8Array, void>,
): Promise<AsyncGenerator<Uint8Array, void>> {
  await body.next();
  return body;
}

function timeoutOf({ options }: Outgoing): number {
  return options.timeoutMs ?? TIMEOUT_MS;
}

function tooMany(): DivanError {
  return new DivanError('UNAVAILABLE', 'too many calls were made of a node before this one');
}

function stopping(): DivanError {
  return new DivanError('ABORTED', 'this node is about to stop');
}
