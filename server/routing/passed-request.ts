/** A request on its way to the node that serves it, and its reply on the way back: what of them goes into the heads of a call. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { DivanError } from '../../engine/errors.js';
import type { Caller } from '../auth/caller.js';
import {
  isObject,
  type JsonObject,
  type JsonValue,
  memberOf,
  optionalInteger,
  optionalString,
  requiredArray,
  requiredString,
  stringsOf,
} from '../http/json-value.js';
import type { PartShape } from '../http/peer-context.js';

export type HeaderList = readonly (readonly [name: string, value: string])[];

export interface PassedRequest {
  readonly method: string;
  /** Path and query, as the client sent them. */
  readonly url: string;
  readonly headers: HeaderList;
  readonly hasBody: boolean;
  readonly caller: Caller;
  readonly shape: PartShape;
  /** The database that it is about. Undefined for one about the node itself. */
  readonly database: string | undefined;
  /** What ranges of the database the node is taken to have, as a text, if the reply is about all of them. */
  readonly cover: string | undefined;
}

export interface PassedReply {
  readonly status: number;
  readonly headers: HeaderList;
  /** Of the error that is replied, if it is one. */
  readonly code: string | undefined;
  /** To be read to its end, or left by `return`. Throws `UNREACHABLE` if it breaks off. */
  readonly body: AsyncGenerator<Uint8Array, void>;
}

const HEADERS_MAX = 2000;

/** Headers that concern one connection only (RFC 9110, section 7.6.1). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
/** What the node that a client calls has done with already: found out who it is, asked for the body. */
const DONE_WITH: ReadonlySet<string> = new Set(['authorization', 'cookie', 'expect', 'origin']);
/** What every reply of this node gets anyway. */
const OWN: ReadonlySet<string> = new Set(['date', 'server', 'x-content-type-options']);
const INTERNAL_PREFIX = 'divan-';

/** The headers of a client's request that go on with it. */
export function passedHeaders(headers: IncomingHttpHeaders): HeaderList {
  const named = namedIn(headers.connection);
  return Object.entries(headers).flatMap(([name, value]): [string, string][] => {
    const isLeft = isOfConnection(name, named) || DONE_WITH.has(name);
    if (isLeft || value === undefined) return [];
    return [value].flat().map((one) => [name, one]);
  });
}

/** The headers of a reply that go on with it, without those that every reply gets. */
export function repliedHeaders({ rawHeaders, headers }: IncomingMessage): HeaderList {
  const named = namedIn(headers.connection);
  const passed: [string, string][] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? '';
    const lower = name.toLowerCase();
    if (isOfConnection(lower, named) || OWN.has(lower)) continue;
    passed.push([name, rawHeaders[at + 1] ?? '']);
  }
  return passed;
}

function namedIn(connection: string | undefined): ReadonlySet<string> {
  return new Set((connection ?? '').split(',').map((name) => name.trim().toLowerCase()));
}

/** A client must not be able to speak as a node does, so those of nodes are left out too. */
function isOfConnection(name: string, named: ReadonlySet<string>): boolean {
  return HOP_BY_HOP.has(name) || named.has(name) || name.startsWith(INTERNAL_PREFIX);
}

/** A request as the head of a call. */
export function requestHead(request: PassedRequest): JsonObject {
  const { method, url, headers, hasBody, caller, shape, database, cover } = request;
  const { name, roles, isServerAdmin, via } = caller;
  return {
    method,
    url,
    headers: headers.flat(),
    hasBody,
    caller: { name: name ?? null, roles: [...roles], isServerAdmin, via: via ?? null },
    shape: { ...shape },
    database: database ?? null,
    cover: cover ?? null,
  };
}

/** Reads the head of a call. Throws `BAD_REQUEST`. */
export function readRequestHead(head: JsonObject): PassedRequest {
  return {
    method: requiredString(head, 'method'),
    url: requiredString(head, 'url'),
    headers: readHeaders(head),
    hasBody: memberOf(head, 'hasBody') === true,
    caller: readCaller(memberOf(head, 'caller')),
    shape: readShape(memberOf(head, 'shape')),
    database: textOrNull(head, 'database'),
    cover: textOrNull(head, 'cover'),
  };
}

function readCaller(value: JsonValue | undefined): Caller {
  if (!isObject(value)) throw new DivanError('BAD_REQUEST', 'a call without its caller');
  const via = textOrNull(value, 'via');
  return {
    name: textOrNull(value, 'name'),
    roles: stringsOf(memberOf(value, 'roles') ?? null, 'the roles', HEADERS_MAX),
    isServerAdmin: memberOf(value, 'isServerAdmin') === true,
    via: via === 'basic' || via === 'cookie' ? via : undefined,
  };
}

function readShape(value: JsonValue | undefined): PartShape {
  if (!isObject(value)) return {};
  const boundary = optionalString(value, 'boundary');
  const feed = optionalString(value, 'feed');
  const limit = optionalInteger(value, 'limit', { min: 0, max: Number.MAX_SAFE_INTEGER });
  return {
    ...(boundary === undefined ? {} : { boundary }),
    ...(feed === 'normal' || feed === 'continuous' ? { feed } : {}),
    ...(limit === undefined ? {} : { limit }),
  };
}

/** What of a reply goes into the head of the answer. */
export function replyHead({ status, headers, code }: Omit<PassedReply, 'body'>): JsonObject {
  return { status, headers: headers.flat(), code: code ?? null };
}

/** Reads the head of an answer. Throws `BAD_REQUEST`. */
export function readReplyHead(head: JsonObject): Omit<PassedReply, 'body'> {
  const status = optionalInteger(head, 'status', { min: 200, max: 599 });
  if (status === undefined) throw new DivanError('BAD_REQUEST', 'a reply without a status');
  return { status, headers: readHeaders(head), code: textOrNull(head, 'code') };
}

function readHeaders(head: JsonObject): HeaderList {
  const list = requiredArray(head, 'headers', HEADERS_MAX);
  const texts = stringsOf(list, 'the headers', HEADERS_MAX);
  const headers: [string, string][] = [];
  for (let at = 0; at + 1 < texts.length; at += 2) {
    headers.push([texts[at] ?? '', texts[at + 1] ?? '']);
  }
  return headers;
}

function textOrNull(object: JsonObject, name: string): string | undefined {
  return memberOf(object, name) === null ? undefined : optionalString(object, name);
}
