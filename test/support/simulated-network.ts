/**
 * A network of nodes in one process: calls are delayed, lost on their way there or back, delivered twice, or cut off, on either way or on both.
 * A caller can not tell which: after its timeout it hears that there is no answer.
 */
import { DivanError } from '../../engine/errors.js';
import {
  type CallHandlers,
  type CallOptions,
  type Node,
  type PeerCalls,
  StreamedAnswer,
  type StreamedReply,
} from '../../server/cluster/peers.js';
import type { JsonObject } from '../../server/http/json-value.js';
import type { SimulatedScheduler } from './simulated-scheduler.js';

/** What is there of a node while it runs. */
export interface Endpoint {
  readonly handlers: CallHandlers;
  readonly isUp: boolean;
}

export interface Weather {
  readonly lossOfRequests: number;
  readonly lossOfReplies: number;
  readonly duplicates: number;
  readonly delayMsMax: number;
}

export const FAIR: Weather = { lossOfRequests: 0, lossOfReplies: 0, duplicates: 0, delayMsMax: 20 };
export const FOUL: Weather = {
  lossOfRequests: 0.05,
  lossOfReplies: 0.05,
  duplicates: 0.05,
  delayMsMax: 400,
};

const TIMEOUT_MS = 10_000;

interface Answer {
  readonly head: JsonObject;
  readonly body: readonly Uint8Array[];
}

export class SimulatedNetwork {
  weather = FAIR;
  /** How many calls met which fate. */
  readonly fates = new Map<string, number>();
  readonly #scheduler: SimulatedScheduler;
  readonly #endpoints = new Map<string, Endpoint>();
  /** `from>to` of what does not get through. */
  readonly #cuts = new Set<string>();

  constructor(scheduler: SimulatedScheduler) {
    this.#scheduler = scheduler;
  }

  attach(identity: string, endpoint: Endpoint): void {
    this.#endpoints.set(identity, endpoint);
  }

  /** Nothing gets from the one to the other; the other way is open. */
  cut(from: string, to: string): void {
    this.#cuts.add(`${from}>${to}`);
  }

  /** Nothing gets from one side to the other, either way. */
  part(side: readonly string[], other: readonly string[]): void {
    for (const a of side) {
      for (const b of other) {
        this.cut(a, b);
        this.cut(b, a);
      }
    }
  }

  heal(): void {
    this.#cuts.clear();
  }

  /** The calls of one life of a node; `isAlive` says whether that goes on. */
  callsOf(identity: string, isAlive: () => boolean): PeerCalls {
    const send = async (
      peer: Node,
      name: string,
      head: JsonObject,
      body: readonly Uint8Array[],
      options: CallOptions = {},
    ) => {
      const answer = await this.#send(identity, peer.identity, { name, head, body }, options);
      // Who is dead hears nothing.
      return isAlive() ? answer : never<Answer>();
    };
    return {
      call: async (peer, name, head, options) => (await send(peer, name, head, [], options)).head,
      open: async (peer, name, head, body, options) => {
        const chunks: Uint8Array[] = [];
        for await (const chunk of body) chunks.push(Uint8Array.from(chunk));
        return streamedReply(await send(peer, name, head, chunks, options));
      },
    };
  }

  #send(
    from: string,
    to: string,
    call: { name: string; head: JsonObject; body: readonly Uint8Array[] },
    options: CallOptions,
  ): Promise<Answer> {
    const scheduler = this.#scheduler;
    const sent = { ...call, head: copyOf(call.head) };
    return new Promise((resolve, reject) => {
      const noAnswer = () => reject(new DivanError('UNREACHABLE', 'there is no answer'));
      scheduler.after(options.timeoutMs ?? TIMEOUT_MS, noAnswer);
      const arrive = (isFirst: boolean) => {
        const answered = this.#handle(from, to, sent);
        answered.then(
          (answer) => this.#reply({ from, to, isFirst }, () => resolve(answer)),
          (error) => this.#reply({ from, to, isFirst }, () => reject(error)),
        );
      };
      const { lossOfRequests, duplicates } = this.weather;
      if (this.#isCut(from, to)) return this.#count('cut');
      if (scheduler.chance(lossOfRequests)) return this.#count('request lost');
      scheduler.after(this.#delay(), () => arrive(true));
      if (!scheduler.chance(duplicates)) return;
      this.#count('duplicate');
      scheduler.after(this.#delay(), () => arrive(false));
    });
  }

  async #handle(
    from: string,
    to: string,
    call: { name: string; head: JsonObject; body: readonly Uint8Array[] },
  ): Promise<Answer> {
    const endpoint = this.#endpoints.get(to);
    this.#scheduler.trace(`${from.slice(-2)}>${to.slice(-2)} ${call.name} ${sizeOf(call.head)}`);
    if (endpoint === undefined || !endpoint.isUp) {
      throw new DivanError('UNREACHABLE', 'nobody listens', { errno: 'ECONNREFUSED' });
    }
    const handler = endpoint.handlers.find(call.name);
    if (handler === undefined) throw new DivanError('PEER', `no handler for ${call.name}`);
    const signal = new AbortController().signal;
    const answer = await handler({
      from,
      head: copyOf(call.head),
      body: streamOf(call.body),
      signal,
    });
    if (!(answer instanceof StreamedAnswer)) return { head: copyOf(answer), body: [] };
    const body: Uint8Array[] = [];
    for await (const chunk of answer.body) body.push(Uint8Array.from(chunk));
    return { head: copyOf(answer.head), body };
  }

  #reply(way: { from: string; to: string; isFirst: boolean }, deliver: () => void): undefined {
    if (!way.isFirst) return;
    if (this.#endpoints.get(way.to)?.isUp !== true && this.#scheduler.chance(0.5)) return;
    if (this.#isCut(way.to, way.from)) return this.#count('reply cut');
    if (this.#scheduler.chance(this.weather.lossOfReplies)) return this.#count('reply lost');
    this.#count('answered');
    this.#scheduler.after(this.#delay(), deliver);
  }

  #isCut(from: string, to: string): boolean {
    return this.#cuts.has(`${from}>${to}`);
  }

  #delay(): number {
    return 1 + this.#scheduler.below(this.weather.delayMsMax);
  }

  /** Returns nothing, for those who count and are done. */
  #count(fate: string): undefined {
    this.fates.set(fate, (this.fates.get(fate) ?? 0) + 1);
  }
}

/** As it is after it was JSON on the way. */
function copyOf(head: JsonObject): JsonObject {
  const copy: JsonObject = JSON.parse(JSON.stringify(head));
  return copy;
}

function sizeOf(head: JsonObject): number {
  return JSON.stringify(head).length;
}

async function* streamOf(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void> {
  yield* chunks;
}

function streamedReply({ head, body }: Answer): StreamedReply {
  return { head, body: streamOf(body) };
}

function never<T>(): Promise<T> {
  return new Promise(() => {});
}
