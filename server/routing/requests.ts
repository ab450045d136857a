/** Requests of this node to others, and to itself, on behalf of a client: of one document, or of a part of a database. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { Node } from '../cluster/peers.js';
import type { Exchange } from '../http/exchange.js';
import type { PartShape } from '../http/peer-context.js';
import { declaredLength } from '../http/request-body.js';
import { KEPT_BYTES_MAX, KeptBody } from './kept-body.js';
import type { OwnedPart, Owners } from './owners.js';
import {
  type HeaderList,
  type PassedReply,
  type PassedRequest,
  passedHeaders,
} from './passed-request.js';
import { noBody, type Passing } from './passing.js';
import { assertServed } from './replies.js';

/** What is sent instead of what the client sent. */
export interface Instead {
  readonly method?: string;
  readonly url?: string;
  readonly body?: readonly Uint8Array[];
  /** Of the body, if it is not JSON; '' for none. */
  readonly type?: string;
  /** Besides those of the client that are not about its body, or in their place. */
  readonly headers?: HeaderList;
  readonly shape?: PartShape;
  /** That it is about, where that is not in the path of the client's request. */
  readonly database?: string;
}

export interface AskOptions {
  /** Of the database, where that is not in the path of the client's request. */
  readonly name?: string;
  /** Told of a part that is left out since its node does not answer; without it that is thrown. */
  readonly onUnreachable?: (index: number, error: DivanError) => void;
}

/** A part of a database with the reply of its node. */
export interface PartReply {
  readonly part: OwnedPart;
  readonly reply: PassedReply;
}

const JSON_TYPE = 'application/json';
const BODY_BYTES_MAX = Number.MAX_SAFE_INTEGER;
const READS = new Set(['GET', 'HEAD']);
/** Headers that speak of the body that the client sent, or of what it asked for. */
const OF_CLIENT = new Set([
  ...['content-length', 'content-encoding', 'content-type', 'content-md5'],
  ...['if-match', 'if-none-match', 'if-range', 'range', 'destination'],
]);

export class Requests {
  readonly #owners: Owners;
  readonly #passing: Passing;

  constructor(owners: Owners, passing: Passing) {
    this.#owners = owners;
    this.#passing = passing;
  }

  /**
   * Passes the request of a client on, as it came, to the node that has a document; `id` in UTF-8. Resolves when the reply begins. A read is
   * repeated once after a lost connection; of a write it is not known then what became of it. Throws `NOT_FOUND`, `UNREACHABLE`, `UNAVAILABLE`.
   */
  async ofDocument(exchange: Exchange, id: Uint8Array): Promise<PassedReply> {
    const name = exchange.param('db');
    const request = requestOf(exchange, {});
    const body = exchange.hasBody
      ? new KeptBody(exchange.encodedBodyStream(BODY_BYTES_MAX))
      : undefined;
    const length = declaredLength(exchange.request) ?? KEPT_BYTES_MAX;
    if (body !== undefined) exchange.holdMemory(Math.min(length, KEPT_BYTES_MAX));
    return this.#owners.retrying(name, async (attempt) => {
      const node = this.#owners.ofDocument(name, id, attempt);
      const send = () =>
        this.#passing.send(node, request, body?.chunks() ?? noBody(), exchange.signal);
      try {
        return await send();
      } catch (error) {
        if (!isDivanError(error, 'UNREACHABLE')) throw error;
        if (READS.has(request.method)) return await send();
        throw outcomeUnknown(error);
      }
    });
  }

  /** Has a node serve what is sent instead of the request of a client. Throws `MOVED`, `UNREACHABLE`. */
  toNode(
    exchange: Exchange,
    node: Node,
    instead: Instead,
    cover?: string,
    signal = exchange.signal,
  ): Promise<PassedReply> {
    const request = { ...requestOf(exchange, instead), cover };
    return this.#passing.send(node, request, chunksOf(instead.body ?? []), signal);
  }

  /** As `toNode`, of a write: it is said of one whose answer is lost that its outcome is not known. */
  async writeTo(exchange: Exchange, node: Node, instead: Instead): Promise<PassedReply> {
    try {
      return await this.toNode(exchange, node, instead);
    } catch (error) {
      throw isDivanError(error, 'UNREACHABLE') ? outcomeUnknown(error) : error;
    }
  }

  /** As `toNode`, with a body that comes piece by piece. */
  streamTo(
    exchange: Exchange,
    node: Node,
    { body, type, ...instead }: Omit<Instead, 'body'> & { body: AsyncIterable<Uint8Array> },
  ): Promise<PassedReply> {
    const headers: HeaderList = [
      ...(instead.headers ?? []),
      ['content-type', type ?? JSON_TYPE],
      ['transfer-encoding', 'chunked'],
    ];
    const request = { ...requestOf(exchange, { ...instead, headers }), hasBody: true };
    return this.#passing.send(node, request, body, exchange.signal);
  }

  /** Passes the request of a client on to a node, whatever it is about. Throws `UNREACHABLE`. */
  async passOn(exchange: Exchange, node: Node): Promise<PassedReply> {
    const request = { ...requestOf(exchange, {}), database: undefined };
    const body = exchange.hasBody ? exchange.encodedBodyStream(BODY_BYTES_MAX) : noBody();
    return this.#passing.send(node, request, body, exchange.signal);
  }

  /**
   * Asks for all parts of the database of a request at once, but for those for which there is nothing to ask; resolves when all replies begin,
   * all of them successes. Throws `Refusal`, `NOT_FOUND`, `UNREACHABLE`, `UNAVAILABLE`, with no reply left open.
   */
  ofAll(
    exchange: Exchange,
    insteadOf: (index: number, parts: readonly OwnedPart[]) => Instead | undefined,
    options: AskOptions = {},
  ): Promise<PartReply[]> {
    const { name = exchange.param('db'), onUnreachable } = options;
    return this.#owners.retrying(name, async () => {
      const parts = this.#owners.parts(name);
      const results = await Promise.allSettled(
        parts.map(async (part, index): Promise<PartReply | undefined> => {
          const instead = insteadOf(index, parts);
          if (instead === undefined) return undefined;
          const { node, cover } = part;
          try {
            const request = { ...requestOf(exchange, instead), database: name, cover };
            const body = chunksOf(instead.body ?? []);
            const reply = await this.#passing.send(node, request, body, exchange.signal);
            await assertServed(reply);
            return { part, reply };
          } catch (error) {
            if (onUnreachable === undefined || !isDivanError(error, 'UNREACHABLE')) throw error;
            onUnreachable(index, error);
            return undefined;
          }
        }),
      );
      const replies = results.flatMap((result) =>
        result.status === 'fulfilled' && result.value !== undefined ? [result.value] : [],
      );
      const failed = results.find((result) => result.status === 'rejected');
      if (failed === undefined) return replies;
      for (const { reply } of replies) await reply.body.return();
      throw failed.reason;
    });
  }
}

/** The request of a client as it goes on. */
function requestOf(exchange: Exchange, instead: Instead): PassedRequest {
  const { request, caller } = exchange;
  const { method = request.method ?? '', url = request.url ?? '', body, shape = {} } = instead;
  const isNew = instead.url !== undefined || instead.method !== undefined || body !== undefined;
  return {
    method,
    url,
    headers: isNew ? headersWith(exchange, instead) : passedHeaders(request.headers),
    hasBody: isNew ? body !== undefined : exchange.hasBody,
    caller,
    shape,
    database: instead.database ?? exchange.params.get('db'),
    cover: undefined,
  };
}

function headersWith(exchange: Exchange, { body, type, headers = [] }: Instead): HeaderList {
  const named = new Set(headers.map(([name]) => name));
  const kept = passedHeaders(exchange.request.headers).filter(
    ([name]) => !OF_CLIENT.has(name) && !named.has(name),
  );
  if (body === undefined) return [...kept, ...headers];
  const length = body.reduce((sum, part) => sum + part.length, 0);
  const ofBody: HeaderList = type === '' ? [] : [['content-type', type ?? JSON_TYPE]];
  return [...kept, ...headers, ...ofBody, ['content-length', String(length)]];
}

async function* chunksOf(body: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void> {
  for (const part of body) yield part;
}

/** That a write may or may not have been made; known where there was no connection. */
export function outcomeUnknown(error: DivanError): DivanError {
  if (error.facts.errno !== undefined) return error;
  const reason = `${error.message}; it is not known whether the request was carried out`;
  return new DivanError('UNREACHABLE', reason, error.facts, error);
}
