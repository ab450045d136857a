/** A request and its reply, as the routes see them. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';
import { type Caller, NOBODY } from '../auth/caller.js';
import { formatETag, isNotModified } from './etags.js';
import { type JsonObject, type JsonValue, objectOf, parseJson } from './json-value.js';
import { type PeerContext, peerOf } from './peer-context.js';
import { Query } from './query.js';
import { ReplyStream } from './reply-stream.js';
import {
  type BodyBudget,
  bodyStream,
  declaredLength,
  hasBody,
  passOver,
  rawBodyStream,
  wholeBody,
} from './request-body.js';

/** Bounds that all requests share. */
export interface ExchangeLimits {
  /** A body that is not a document. */
  readonly requestBytesMax: number;
  readonly documentBytesMax: number;
  readonly queryParametersMax: number;
  /** How long a client may read nothing of a reply. */
  readonly stalledMs: number;
}

export interface ExchangeContext {
  readonly host: Host;
  readonly limits: ExchangeLimits;
  readonly bodyBudget: BodyBudget;
  /** The value of the `Server` header. */
  readonly serverName: string;
}

export type Headers = Readonly<Record<string, string>>;

const PEER_STALLED_MS = 60 * 60 * 1000;
const JSON_TYPE = 'application/json';
/** Longer bodies cost more to copy than a second buffer costs to send. */
const JOINED_BYTES_MAX = 8 * 1024;

export class Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** By name, as they stand in the route, decoded. */
  readonly params: ReadonlyMap<string, string>;
  /** Set by the router before the route is called. */
  caller: Caller = NOBODY;
  /** Set with the caller: it is an admin of the database in the path, or of the server. */
  isDatabaseAdmin = false;
  /** Set with the caller: whether it may is for other nodes to decide, and was not decided here. */
  isForOthers = false;
  /** Set with the caller: whether it would be let in now, which replies that last ask for from time to time. */
  mayGoOn: () => Promise<boolean> = () => Promise.resolve(true);
  /** Names and values by turns, sent along with the reply. */
  readonly #headers: string[];
  readonly #context: ExchangeContext;
  readonly #rawQuery: string;
  #query: Query | undefined;
  readonly #releases: (() => void)[] = [];
  #abort: AbortController | undefined;

  constructor(
    context: ExchangeContext,
    request: IncomingMessage,
    response: ServerResponse,
    params: ReadonlyMap<string, string>,
    rawQuery: string,
    sentAlong: readonly string[] = [],
  ) {
    this.#context = context;
    this.request = request;
    this.response = response;
    this.params = params;
    this.#rawQuery = rawQuery;
    this.#headers = [...sentAlong];
  }

  /** Names and values by turns of what `setHeader` was called with. */
  get sentAlong(): readonly string[] {
    return this.#headers;
  }

  get isHead(): boolean {
    return this.request.method === 'HEAD';
  }

  /** What a node that passes the request on says of it; undefined for a client. */
  get peer(): PeerContext | undefined {
    return peerOf(this.request.socket);
  }

  get limits(): ExchangeLimits {
    return this.#context.limits;
  }

  get query(): Query {
    this.#query ??= new Query(this.#rawQuery, this.limits.queryParametersMax);
    return this.#query;
  }

  /** A parameter of the path. REQUIRES: the route has it. */
  param(name: string): string {
    const value = this.params.get(name);
    if (value === undefined) throw new RangeError(`the route has no parameter ${name}`);
    return value;
  }

  header(name: string): string | undefined {
    const value = this.request.headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  }

  /** Aborted when the client goes away before the reply is complete. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      const abort = new AbortController();
      this.#abort = abort;
      this.response.once('close', () => abort.abort());
    }
    return this.#abort.signal;
  }

  /** Sends a header along with the reply. */
  setHeader(name: string, value: string): void {
    this.#headers.push(name, value);
  }

  get hasBody(): boolean {
    return hasBody(this.request);
  }

  /** The whole body, at most `bytesMax` bytes. Throws `TOO_LARGE`, `UNAVAILABLE`, `BAD_REQUEST`, `UNSUPPORTED_TYPE`, `ABORTED`. */
  async body(bytesMax = this.limits.requestBytesMax): Promise<Uint8Array> {
    this.#askForBody(bytesMax);
    const { bytes, release } = await wholeBody(this.request, bytesMax, this.#context.bodyBudget);
    this.#releases.push(release);
    return bytes;
  }

  /** The body as it comes. */
  bodyStream(bytesMax: number): AsyncGenerator<Uint8Array, void> {
    this.#askForBody(bytesMax);
    return bodyStream(this.request, bytesMax);
  }

  /** The body as it comes, still encoded as its `Content-Encoding` says. */
  encodedBodyStream(bytesMax: number): AsyncGenerator<Uint8Array, void> {
    this.#askForBody(bytesMax);
    return rawBodyStream(this.request, bytesMax);
  }

  /** A client that waits to be asked sends its body now; one that announces too much is not asked. */
  #askForBody(bytesMax: number): void {
    const isWaiting = this.header('expect')?.toLowerCase() === '100-continue';
    if (isWaiting && (declaredLength(this.request) ?? 0) <= bytesMax) this.response.writeContinue();
  }

  /** Accounts for memory that reading the body as it comes takes, until the request is done. Throws `UNAVAILABLE`. */
  holdMemory(bytes: number): void {
    const { bodyBudget } = this.#context;
    bodyBudget.take(bytes);
    this.#releases.push(() => bodyBudget.give(bytes));
  }

  /** The body as a value. Throws also `INVALID_JSON`, and `UNSUPPORTED_TYPE` for a body of another type. */
  async json(bytesMax = this.limits.documentBytesMax): Promise<JsonValue> {
    this.assertJsonType();
    return parseJson(await this.body(bytesMax));
  }

  async jsonObject(bytesMax = this.limits.documentBytesMax): Promise<JsonObject> {
    return objectOf(await this.json(bytesMax), 'the request body');
  }

  /** As CouchDB demands of every POST. Throws `UNSUPPORTED_TYPE`. */
  assertJsonType(): void {
    if (this.contentType === JSON_TYPE) return;
    throw new DivanError('UNSUPPORTED_TYPE', `Content-Type must be ${JSON_TYPE}`);
  }

  /** The type of the body without its parameters, in lower case. */
  get contentType(): string | undefined {
    return this.header('content-type')?.split(';')[0]?.trim().toLowerCase();
  }

  /** Replies with a value as JSON. */
  reply(status: number, value: JsonValue, headers: Headers = {}): void {
    this.replyText(status, `${JSON.stringify(value)}\n`, headers);
  }

  /** Replies with JSON text. */
  replyText(status: number, text: string | Uint8Array, headers: Headers = {}): void {
    this.replyBytes(status, text, { 'Content-Type': JSON_TYPE, ...headers });
  }

  replyBytes(status: number, body: string | Uint8Array, headers: Headers): void {
    const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
    // RFC 9110, section 8.6: what has no content says no length.
    const lengthHeader: Headers = status === 204 ? {} : { 'Content-Length': String(length) };
    this.#writeHead(status, { ...lengthHeader, ...headers });
    const { request, response } = this;
    if (request.complete || !hasBody(request)) {
      endWith(response, body);
      return;
    }
    response.write(body);
    passOver(request, this.#context.host, () => response.end());
  }

  /** Sends along the entity tag of what is replied; false if it is one that no header can hold. */
  setETag(tag: string): boolean {
    const text = formatETag(tag);
    if (text !== undefined) this.setHeader('ETag', text);
    return text !== undefined;
  }

  /** Sends an entity tag along; replies that the client has it already, if its `If-None-Match` says so, and is true then. */
  replyIfUnchanged(tag: string): boolean {
    if (!this.setETag(tag)) return false;
    if (!isNotModified(this.header('if-none-match'), tag)) return false;
    this.#writeHead(304, {});
    this.response.end();
    return true;
  }

  /** Begins a reply of unknown length. For HEAD there is nothing to write: it is complete, and `closed`. */
  stream(status: number, headers: Headers = { 'Content-Type': JSON_TYPE }): ReplyStream {
    this.#writeHead(status, headers);
    if (this.isHead) this.response.end();
    // A node may have to read long from others before it goes on here; if it is gone, the connection is.
    const stalledMs = this.peer === undefined ? this.limits.stalledMs : PEER_STALLED_MS;
    return new ReplyStream(this.response, this.#context.host, stalledMs);
  }

  /** Replies with chunks as they come. */
  async replyChunks(
    status: number,
    chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    headers?: Headers,
  ): Promise<void> {
    const out = this.stream(status, headers);
    if (out.closed) return;
    await out.all(chunks);
    await out.end();
  }

  /** Of the router: lets go of what the body took. */
  finish(): void {
    for (const release of this.#releases) release();
  }

  #writeHead(status: number, headers: Headers): void {
    const { request } = this;
    const all = this.#headers;
    all.push('Server', this.#context.serverName, 'X-Content-Type-Options', 'nosniff');
    if (headers['Cache-Control'] === undefined) all.push('Cache-Control', 'must-revalidate');
    for (const name of Object.keys(headers)) all.push(name, headers[name] ?? '');
    // What is left of a body that nobody wants would have to be read before the next request.
    if (!request.complete && hasBody(request)) all.push('Connection', 'close');
    this.response.writeHead(status, all);
  }
}

/** Ends a reply. node:http joins a body with the head, into one buffer to send, if it is a text of the encoding of the head. */
function endWith(response: ServerResponse, body: string | Uint8Array): void {
  if (typeof body === 'string' || body.length > JOINED_BYTES_MAX) response.end(body);
  else
    response.end(
      Buffer.from(body.buffer, body.byteOffset, body.length).toString('latin1'),
      'latin1',
    );
}
