/** Speaks to a node as an admin. */
import { DivanError } from '../../engine/errors.js';

/** Longer than a node takes to call those that it names. */
const ANSWER_MS = 60_000;

export interface AdminReply {
  readonly status: number;
  readonly body: unknown;
}

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

export class AdminClient {
  /** Without a path. */
  readonly url: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #signal: AbortSignal;

  /** `credentials`: undefined for nobody's. Throws `INVALID_SETTING` for what is no URL of a node. */
  constructor(url: string, credentials: Credentials | undefined, signal: AbortSignal) {
    this.url = originOf(url);
    this.#headers = { 'Content-Type': 'application/json', ...authorizationOf(credentials) };
    this.#signal = signal;
  }

  /** The same node, asked by nobody: before it has an admin it answers nobody else, on its own machine. */
  get anonymous(): AdminClient {
    return new AdminClient(this.url, undefined, this.#signal);
  }

  /** Whatever the node answers. Throws `UNREACHABLE`, `ABORTED`, and `PEER` for an answer that is no JSON. */
  async ask(method: string, path: string, body?: object): Promise<AdminReply> {
    const init: RequestInit = {
      method,
      headers: this.#headers,
      signal: AbortSignal.any([this.#signal, AbortSignal.timeout(ANSWER_MS)]),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
    try {
      const reply = await fetch(this.url + path, init);
      return { status: reply.status, body: parsed(await reply.text(), this.url) };
    } catch (error) {
      if (error instanceof DivanError) throw error;
      if (this.#signal.aborted) throw new DivanError('ABORTED', 'cancelled');
      throw new DivanError('UNREACHABLE', unreachable(this.url, error), {}, error);
    }
  }

  /** The body of an answer that says that it was done. Throws also what `failure` makes of another one. */
  async call(method: string, path: string, body?: object): Promise<unknown> {
    const reply = await this.ask(method, path, body);
    if (reply.status >= 200 && reply.status < 300) return reply.body;
    throw this.failure(`${method} ${path}`, reply);
  }

  /** Says what a node refused, and why. */
  failure(what: string, { status, body }: AdminReply): DivanError {
    const reason = String(memberOf(body, 'reason') ?? status);
    if (status === 401) {
      return new DivanError(
        'UNAUTHORIZED',
        `${this.url}: ${reason} Give the name and password of an admin`,
      );
    }
    return new DivanError(
      status >= 500 ? 'UNAVAILABLE' : 'BAD_REQUEST',
      `${this.url}: ${what}: ${reason}`,
    );
  }
}

/** A member of a JSON value; undefined where there is none. */
export function memberOf(value: unknown, name: string): unknown {
  return new Map<string, unknown>(Object.entries(Object(value))).get(name);
}

/** The texts of a member that is a list. */
export function textsOf(value: unknown, name: string): string[] {
  const list = memberOf(value, name);
  return Array.isArray(list) ? list.map(String) : [];
}

function authorizationOf(credentials: Credentials | undefined): Record<string, string> {
  if (credentials === undefined) return {};
  const { user, password } = credentials;
  return { Authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

function originOf(text: string): string {
  const url = text.includes('://') ? text : `http://${text}`;
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const isPlain = parsed !== undefined && parsed.pathname === '/' && parsed.username === '';
  if (parsed !== undefined && isPlain && /^https?:$/.test(parsed.protocol)) return parsed.origin;
  throw new DivanError(
    'INVALID_SETTING',
    `${text.replace(/\/\/[^@]*@/, '//')} is no URL of a node; give one such as http://10.0.0.1:5984`,
  );
}

function parsed(text: string, url: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DivanError('PEER', `${url} answers, but not as a node of Divan does`, {}, error);
  }
}

function unreachable(url: string, error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  const why = cause instanceof Error ? cause.message : error instanceof Error ? error.message : '';
  return `${url} can not be reached${why === '' ? '' : ` (${why})`}; a node that is not set up yet answers on its own machine alone`;
}
