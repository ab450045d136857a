/** Requests to nodes with which this one has no cookie yet: JSON over plain HTTP, with a name and password. */
import { Agent, request } from 'undici';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { type JsonObject, type JsonValue, parseJson } from '../http/json-value.js';

export interface SetupRequest {
  /** Without a path. */
  readonly origin: string;
  readonly path: '/_setup' | '/_cluster_setup';
  /** Undefined to say nothing of who asks. */
  readonly as: { readonly user: string; readonly password: string } | undefined;
  readonly body: JsonObject;
}

export interface SetupReply {
  readonly status: number;
  /** Undefined if it is no JSON. */
  readonly body: JsonValue | undefined;
}

export interface SetupHttp {
  /**
   * Throws `UNREACHABLE` if there is no answer. `errno` says so if no connection was made; otherwise it is not known whether the request
   * was served. `PEER` for an answer that is none.
   */
  post(request: SetupRequest): Promise<SetupReply>;
  close(): Promise<void>;
}

const CONNECT_MS = 5000;
/** The other node calls back before it answers. */
const ANSWER_MS = 30_000;
const REPLY_BYTES_MAX = 64 * 1024;

/** Codes of failures after which the request was surely not served. */
const NOT_CONNECTED = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EADDRNOTAVAIL',
  'EINVAL',
  'UND_ERR_CONNECT_TIMEOUT',
]);

export class UndiciSetupHttp implements SetupHttp {
  readonly #agent: Agent;

  /** `ca`: the authorities whose certificates are taken, in PEM; undefined for those that Node.js trusts. */
  constructor(ca: string | undefined) {
    this.#agent = new Agent({
      connect: { timeout: CONNECT_MS, ...(ca === undefined ? {} : { ca }) },
      connections: 4,
      pipelining: 0,
      headersTimeout: ANSWER_MS,
      bodyTimeout: ANSWER_MS,
      maxResponseSize: REPLY_BYTES_MAX,
    });
  }

  async post({ origin, path, as, body }: SetupRequest): Promise<SetupReply> {
    const headers = new Map([['content-type', 'application/json']]);
    if (as !== undefined) {
      const credentials = Buffer.from(`${as.user}:${as.password}`).toString('base64');
      headers.set('authorization', `Basic ${credentials}`);
    }
    try {
      // Redirects are not followed: the password is for this node alone.
      const reply = await request(origin + path, {
        method: 'POST',
        headers: Object.fromEntries(headers),
        body: JSON.stringify(body),
        dispatcher: this.#agent,
      });
      return replyOf(origin, reply.statusCode, await reply.body.text());
    } catch (error) {
      throw isDivanError(error) ? error : unreachable(origin, error);
    }
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }
}

/** Throws `PEER` for a success that is no JSON; of a failure the status says enough. */
function replyOf(origin: string, status: number, text: string): SetupReply {
  const body = jsonOf(text);
  if (body !== undefined || status < 200 || status >= 300) return { status, body };
  throw new DivanError('PEER', `${origin} answers with something that is no JSON`);
}

function jsonOf(text: string): JsonValue | undefined {
  try {
    return parseJson(Buffer.from(text));
  } catch {
    return undefined;
  }
}

function unreachable(origin: string, error: unknown): DivanError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const why = error instanceof Error && error.message !== '' ? error.message : code;
  const facts = NOT_CONNECTED.has(code) ? { errno: code } : {};
  return new DivanError('UNREACHABLE', `${origin} does not answer: ${why}`, facts, error);
}
