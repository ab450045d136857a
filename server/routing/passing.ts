/** Passes requests on to the nodes that serve them, and serves those that other nodes pass on. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import {
  type Call,
  type CallHandlers,
  type Node,
  type PeerCalls,
  StreamedAnswer,
} from '../cluster/peers.js';
import type { Catalog } from '../databases/catalog.js';
import type { Database } from '../databases/database.js';
import type { Placements } from '../databases/placement.js';
import { formatCover } from '../databases/shard-map.js';
import type { ServerHost } from '../world.js';
import type { InnerServer } from './inner-server.js';
import {
  type PassedReply,
  type PassedRequest,
  readReplyHead,
  readRequestHead,
  replyHead,
  requestHead,
} from './passed-request.js';

const CALL = 'request';
/** A node that takes nothing of a body and begins no reply for so long does not answer. */
const SILENT_MS = 30_000;
/** One that sends nothing more of a reply for so long has stopped in the middle of it. */
const STOPPED_MS = 60_000;
/** The call itself waits for as long as `SILENT_MS` is kept to. */
const CALL_MS = 24 * 60 * 60 * 1000;

export interface PassingParts {
  readonly host: ServerHost;
  readonly catalog: Catalog;
  readonly placements: Placements;
  readonly calls: PeerCalls;
  readonly self: () => Node;
  readonly inner: InnerServer;
}

/** Of a request without a body. */
export async function* noBody(): AsyncGenerator<Uint8Array, void> {}

export class Passing {
  readonly #parts: PassingParts;

  constructor(parts: PassingParts, handlers: CallHandlers) {
    this.#parts = parts;
    handlers.on(CALL, (call) => this.#answer(call));
  }

  /**
   * Has a node serve a request; resolves when the reply begins. Throws `MOVED` if the node has not what the request is about, having done
   * nothing; `UNREACHABLE`, naming the node, if it does not answer: whether it did anything is not known then, unless an `errno` says that there
   * was no connection; `ABORTED`.
   */
  async send(
    node: Node,
    request: PassedRequest,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<PassedReply> {
    const isHere = node.identity === this.#parts.self().identity;
    const reply = await (isHere
      ? this.#serve(request, body, signal)
      : this.#sendAway(node, request, body, signal));
    if (reply.code !== 'MOVED') return reply;
    await reply.body.return();
    throw new DivanError('MOVED', `${node.name} has not that part of the database`);
  }

  async #sendAway(
    node: Node,
    request: PassedRequest,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<PassedReply> {
    const silence = new Silence(this.#parts.host);
    const both = AbortSignal.any([signal, silence.signal]);
    try {
      const options = { timeoutMs: CALL_MS, signal: both };
      const head = requestHead(request);
      const sent = silence.watching(body);
      const reply = await this.#parts.calls.open(node, CALL, head, sent, options);
      return { ...readReplyHead(reply.head), body: this.#received(node, reply.body) };
    } catch (error) {
      if (isDivanError(error, 'MOVED') || signal.aborted) throw error;
      throw unreachable(node, error);
    } finally {
      silence.end();
    }
  }

  /** The body of a reply, whose failures name the node; it must not stop in the middle. */
  async *#received(
    node: Node,
    body: AsyncGenerator<Uint8Array, void>,
  ): AsyncGenerator<Uint8Array, void> {
    let isOver = false;
    try {
      while (!isOver) {
        const next = await inTime(this.#parts.host, body.next(), STOPPED_MS);
        isOver = next.done === true;
        if (next.done !== true) yield next.value;
      }
    } catch (error) {
      throw unreachable(node, error);
    } finally {
      // One that is stopped would be waited for here.
      if (!isOver) void body.return().catch(() => undefined);
    }
  }

  async #answer({ head, body, signal }: Call): Promise<StreamedAnswer> {
    const request = readRequestHead(head);
    const reply = await this.#serve(request, body, signal);
    return new StreamedAnswer(replyHead(reply), reply.body);
  }

  /** Serves a request of another node, or of this one to itself. Throws `MOVED` if it is about what is not here. */
  async #serve(
    request: PassedRequest,
    body: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<PassedReply> {
    const { database: name, cover, shape } = request;
    const database = name === undefined ? undefined : this.#database(name);
    const { inner } = this.#parts;
    if (database === undefined || cover === undefined) return inner.request(request, body, signal);
    assertCover(database, cover);
    const gone = new AbortController();
    // A reply about all that is here must not go on, as if it were whole, without what is moved away meanwhile.
    const stop = database.onMove(() => {
      if (formatCover(database.map.shards) !== cover) gone.abort();
    });
    let isFeed = false;
    try {
      const reply = await inner.request(request, body, AbortSignal.any([signal, gone.signal]));
      assertCover(database, cover);
      // What does not wait for changes has by now taken hold of all that it reads.
      isFeed = shape.feed !== undefined;
      return isFeed ? { ...reply, body: ending(reply.body, stop) } : reply;
    } catch (error) {
      if (gone.signal.aborted) throw new DivanError('MOVED', 'documents were moved', {}, error);
      throw error;
    } finally {
      if (!isFeed) stop();
    }
  }

  #database(name: string): Database {
    const database = this.#parts.catalog.find(name);
    if (database !== undefined) return database;
    if (this.#parts.placements.find(name) === undefined) {
      throw new DivanError('NOT_FOUND', 'Database does not exist.');
    }
    throw new DivanError('MOVED', `nothing of ${name} is here`);
  }
}

function assertCover(database: Database, cover: string): void {
  if (formatCover(database.map.shards) === cover) return;
  throw new DivanError('MOVED', 'the node has other ranges than it was taken to have');
}

async function* ending(
  body: AsyncGenerator<Uint8Array, void>,
  end: () => void,
): AsyncGenerator<Uint8Array, void> {
  try {
    yield* body;
  } finally {
    end();
  }
}

/** That a node does not answer, or not as it should. */
export function unreachable(node: Node, error: unknown): DivanError {
  const facts = isDivanError(error) ? error.facts : {};
  const why = error instanceof Error ? error.message : 'it broke off';
  return new DivanError(
    'UNREACHABLE',
    `the node ${node.name} does not answer: ${why}`,
    facts,
    error,
  );
}

/** What a promise resolves with. Throws `UNREACHABLE` if that takes too long. */
export async function inTime<T>(host: ServerHost, waited: Promise<T>, ms: number): Promise<T> {
  let cancelTimer: (() => void) | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new DivanError('UNREACHABLE', 'it says nothing');
    cancelTimer = host.setTimer(() => reject(error), ms);
  });
  try {
    return await Promise.race([waited, late]);
  } finally {
    cancelTimer?.();
  }
}

/** Notices that a peer has taken nothing for too long, though there was something to take. */
class Silence {
  readonly #host: ServerHost;
  readonly #abort = new AbortController();
  #cancelTimer: (() => void) | undefined;
  #isOver = false;

  constructor(host: ServerHost) {
    this.#host = host;
    this.#begin();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** A body, while which is waited for the peer is not silent. */
  async *watching(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
    this.#pause();
    for await (const chunk of body) {
      this.#begin();
      yield chunk;
      this.#pause();
    }
    this.#begin();
  }

  /** The reply has begun, or nobody waits for it any more. */
  end(): void {
    this.#isOver = true;
    this.#pause();
  }

  #pause(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #begin(): void {
    this.#pause();
    if (this.#isOver) return;
    this.#cancelTimer = this.#host.setTimer(() => this.#abort.abort(), SILENT_MS);
  }
}
