/**
 * The seam between everything that calls other nodes and how that is done. What is passed is JSON and bytes: a simulation carries it through
 * memory, a server over signed HTTP.
 */
import type { JsonObject } from '../http/json-value.js';

/** What a node is to the others. */
export interface Node {
  /** `name@host`, for people. */
  readonly name: string;
  /** Random, made once and kept: 32 hexadecimal digits. */
  readonly identity: string;
  /** Where it is reached, as it says itself: scheme, host and port. */
  readonly url: string;
}

export interface CallOptions {
  /** To the first frame of the reply, and for each time that the peer takes nothing of the body. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface StreamedReply {
  readonly head: JsonObject;
  /**
   * To be read to its end, or left by `return`: until then the call goes on. Throws `UNREACHABLE` if it breaks off, `PEER` if it is not what
   * the peer sent, and what the body of the answer throws there.
   */
  readonly body: AsyncGenerator<Uint8Array, void>;
}

/** Calls other nodes. */
export interface PeerCalls {
  /**
   * Sends a head and gets one. Throws what the handler there throws, `UNREACHABLE` when there is no answer (whether it was done is not known
   * then, unless there is an `errno`: it was not), `PEER` for an answer that is none, `UNAVAILABLE` when too many wait, `ABORTED`.
   */
  call(peer: Node, name: string, head: JsonObject, options?: CallOptions): Promise<JsonObject>;
  /** As `call`, with bodies both ways. `body` is read as fast as the peer takes it, and left by `return` when the peer takes no more. */
  open(
    peer: Node,
    name: string,
    head: JsonObject,
    body: AsyncIterable<Uint8Array>,
    options?: CallOptions,
  ): Promise<StreamedReply>;
}

export interface Call {
  /** The identity of the node that calls, which is proved. */
  readonly from: string;
  readonly head: JsonObject;
  /** Throws `ABORTED` if the caller goes away, `UNREACHABLE` if it breaks off, `PEER` if it is not what the caller sent. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Aborted when the caller is gone. */
  readonly signal: AbortSignal;
}

/** Answers a call. What it throws goes to the caller. */
export type CallHandler = (call: Call) => Promise<JsonObject | StreamedAnswer>;

/** An answer that has a body. */
export class StreamedAnswer {
  readonly head: JsonObject;
  readonly body: AsyncIterable<Uint8Array>;

  constructor(head: JsonObject, body: AsyncIterable<Uint8Array>) {
    this.head = head;
    this.body = body;
  }
}

/** Whom a node answers, of those who have the cookie. Strangers are no members as far as it knows: new ones, and such as came while it was away. */
export type CallAccess = 'members' | 'strangers too';

/** What a node answers, by the names of calls. */
export class CallHandlers {
  readonly #handlers = new Map<string, CallHandler>();
  readonly #forStrangers = new Set<string>();

  /** REQUIRES: nothing else answers to this name. */
  on(name: string, handler: CallHandler, access: CallAccess = 'members'): void {
    if (this.#handlers.has(name)) throw new RangeError(`the call ${name} has a handler`);
    this.#handlers.set(name, handler);
    if (access === 'strangers too') this.#forStrangers.add(name);
  }

  accessOf(name: string): CallAccess {
    return this.#forStrangers.has(name) ? 'strangers too' : 'members';
  }

  find(name: string): CallHandler | undefined {
    return this.#handlers.get(name);
  }
}
