/**
 * A network of nodes in one process: calls are delayed, lost on their way there or back, delivered twice, or cut off, on either way or on both.
 * A caller can not tell which: after its timeout it hears that there is no answer.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { type CallGate, Refusal } from '../../server/cluster/call-gate.js';
import {
  type CallHandlers,
  type CallOptions,
  type Node,
  type PeerCalls,
  StreamedAnswer,
  type StreamedReply,
} from '../../server/cluster/peers.js';
import type { JsonObject } from '../../server/http/json-value.js';
import type { CallSigner } from './call-signer.js';
import { never } from './process-storage.js';
import type { SimulatedScheduler } from './simulated-scheduler.js';

/** What is there of a node while it runs. */
export interface Endpoint {
  readonly handlers: CallHandlers;
  readonly isUp: boolean;
  /** Of a node that takes no calls but signed ones, each once. */
  readonly gate?: CallGate | undefined;
}

export interface Weather {
  readonly lossOfRequests: number;
  readonly lossOfReplies: number;
  readonly duplicates: number;
  readonly delayMsMax: number;
  /** How much later than the first one a duplicate comes, at most. */
  readonly replayMsMax?: number;
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

interface SentCall {
  readonly from: string;
  readonly to: string;
  readonly name: string;
  readonly head: JsonObject;
  readonly body: readonly Uint8Array[];
  /** Undefined where calls are not signed. */
  readonly header: string | undefined;
}

export class SimulatedNetwork {
  weather = FAIR;
  /** How many calls met which fate. */
  readonly fates = new Map<string, number>();
  /** What handlers threw that they must not, and calls that were taken twice. */
  readonly defects: string[] = [];
  readonly #taken = new Set<string>();
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

  /** The calls of one life of a node; `isAlive` says whether that goes on. Without a signer they are not signed. */
  callsOf(identity: string, isAlive: () => boolean, signer?: CallSigner): PeerCalls {
    const sendOnce = async (call: SentCall, options: CallOptions) => {
      try {
        const answer = await this.#send(call, options);
        // Who is dead hears nothing.
        return isAlive() ? answer : never<Answer>();
      } catch (error) {
        return isAlive() ? Promise.reject(error) : never<Answer>();
      }
    };
    const send = async (
      peer: Node,
      name: string,
      head: JsonObject,
      body: readonly Uint8Array[],
      options: CallOptions = {},
    ) => {
      const to = peer.identity;
      const call = { from: identity, to, name, head: copyOf(head), body };
      const header = signer?.sign(to, name);
      try {
        return await sendOnce({ ...call, header }, options);
      } catch (error) {
        if (!(error instanceof Refusal) || error.boot === undefined) throw error;
        signer?.learn(to, error.boot);
      }
      return sendOnce({ ...call, header: signer?.sign(to, name) }, options);
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

  #send(call: SentCall, { timeoutMs = TIMEOUT_MS, signal }: CallOptions): Promise<Answer> {
    const scheduler = this.#scheduler;
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        stopTimer();
        signal?.removeEventListener('abort', abort);
        settle();
      };
      const fail = (code: 'UNREACHABLE' | 'ABORTED', message: string) =>
        end(() => reject(new DivanError(code, message)));
      const stopTimer = scheduler.after(timeoutMs, () => fail('UNREACHABLE', 'there is no answer'));
      const abort = () => fail('ABORTED', 'the call is not waited for any more');
      if (signal?.aborted === true) abort();
      else signal?.addEventListener('abort', abort);
      const arrive = (isFirst: boolean) => {
        this.#handle(call).then(
          (answer) => this.#reply(call, isFirst, () => end(() => resolve(answer))),
          (error) => this.#reply(call, isFirst, () => end(() => reject(error))),
        );
      };
      const { lossOfRequests, duplicates, replayMsMax = 0 } = this.weather;
      if (this.#isCut(call.from, call.to)) return this.#count('cut');
      if (scheduler.chance(lossOfRequests)) return this.#count('request lost');
      scheduler.after(this.#delay(), () => arrive(true));
      if (!scheduler.chance(duplicates)) return;
      this.#count('duplicate');
      const lateMs = scheduler.chance(0.5) ? scheduler.below(replayMsMax + 1) : 0;
      scheduler.after(this.#delay() + lateMs, () => arrive(false));
    });
  }

  async #handle(call: SentCall): Promise<Answer> {
    const { from, to, name, head } = call;
    const endpoint = this.#endpoints.get(to);
    this.#scheduler.trace(`${from.slice(-2)}>${to.slice(-2)} ${name} ${sizeOf(head)}`);
    if (endpoint === undefined || !endpoint.isUp) {
      throw new DivanError('UNREACHABLE', 'nobody listens', { errno: 'ECONNREFUSED' });
    }
    if (endpoint.gate !== undefined) this.#admit(endpoint.gate, call);
    const handler = endpoint.handlers.find(name);
    if (handler === undefined) throw new DivanError('PEER', `no handler for ${name}`);
    const { signal } = new AbortController();
    const body = streamOf(call.body);
    try {
      const answer = await handler({ from, head: copyOf(head), body, signal });
      if (!(answer instanceof StreamedAnswer)) return { head: copyOf(answer), body: [] };
      const chunks: Uint8Array[] = [];
      for await (const chunk of answer.body) chunks.push(Uint8Array.from(chunk));
      return { head: copyOf(answer.head), body: chunks };
    } catch (error) {
      if (isDivanError(error)) throw error;
      this.defects.push(`${name}: ${error instanceof Error ? error.stack : error}`);
      throw new DivanError('PEER', 'the node failed');
    }
  }

  /** Throws a `Refusal`. */
  #admit(gate: CallGate, { header = '', name }: SentCall): void {
    const { signed } = gate.authenticate(header, name);
    gate.admit(signed.context);
    if (this.#taken.has(header)) this.defects.push(`${name} was taken twice`);
    this.#taken.add(header);
  }

  #reply({ from, to }: SentCall, isFirst: boolean, deliver: () => void): undefined {
    if (!isFirst) return;
    if (this.#endpoints.get(to)?.isUp !== true && this.#scheduler.chance(0.5)) return;
    if (this.#isCut(to, from)) return this.#count('reply cut');
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
