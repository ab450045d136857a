/**
 * Pages of other sites (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol): which of them a browser lets read replies, and send what a
 * plain form could not. Settings as CouchDB's sections `chttpd` and `cors`. Off by default.
 */
import type { Config } from '../config/config.js';
import type { Exchange } from './exchange.js';

const ANY = '*';

/** What clients of CouchDB send. */
const REQUEST_HEADERS: readonly string[] = [
  'accept',
  'accept-language',
  'authorization',
  'content-length',
  'content-range',
  'content-type',
  'destination',
  'expires',
  'if-match',
  'if-none-match',
  'last-modified',
  'origin',
  'pragma',
  'range',
  'referer',
  'x-couch-full-commit',
  'x-requested-with',
];

/** What is in replies beside what every page may read. */
const EXPOSED_HEADERS = [
  'Accept-Ranges',
  'Content-Encoding',
  'Content-Length',
  'Content-MD5',
  'Content-Range',
  'ETag',
  'Location',
  'Server',
].join(', ');

export class Cors {
  readonly #config: Pick<Config, 'get'>;

  constructor(config: Pick<Config, 'get'>) {
    this.#config = config;
  }

  /**
   * Sends along with the reply, whatever it will be, what lets the page that a request comes from read it. True if the request only asked
   * whether it may send another: then it was answered.
   */
  admit(exchange: Exchange): boolean {
    if (!this.#config.get('chttpd/enable_cors')) return false;
    // Whoever keeps replies for others must not give those for one page to another.
    exchange.setHeader('Vary', 'Origin');
    const origin = exchange.header('origin');
    if (origin === undefined || !this.#mayRead(origin)) return false;
    this.#allowOrigin(exchange, origin);
    const method = exchange.header('access-control-request-method');
    if (exchange.request.method !== 'OPTIONS' || method === undefined) {
      exchange.setHeader('Access-Control-Expose-Headers', EXPOSED_HEADERS);
      return false;
    }
    return this.#answer(exchange, method);
  }

  /** True for a site whose pages may use session cookies: one that was named. A `*` trusts nobody so far. */
  isTrusted(origin: string | undefined): boolean {
    return (
      origin !== undefined &&
      this.#config.get('chttpd/enable_cors') &&
      this.#config.get('cors/credentials') &&
      this.#origins().includes(origin.toLowerCase())
    );
  }

  #mayRead(origin: string): boolean {
    const origins = this.#origins();
    return origins.includes(ANY) || origins.includes(origin.toLowerCase());
  }

  #allowOrigin(exchange: Exchange, origin: string): void {
    // A page in a sandbox, or from a file, is of no site: with credentials anybody could pass for it.
    const withCredentials = this.#config.get('cors/credentials') && origin !== 'null';
    const isNamed = this.#origins().includes(origin.toLowerCase());
    const allowed = withCredentials || isNamed ? origin : ANY;
    exchange.setHeader('Access-Control-Allow-Origin', allowed);
    if (withCredentials) exchange.setHeader('Access-Control-Allow-Credentials', 'true');
  }

  /** Answers whether a request of this method and with these headers may be sent; false if it may not. */
  #answer(exchange: Exchange, method: string): boolean {
    const methods = listOf(this.#config.get('cors/methods'));
    const headers = [...REQUEST_HEADERS, ...this.#headers()];
    const asked = exchange.header('access-control-request-headers') ?? '';
    const isAllowed =
      methods.includes(method) &&
      listOf(asked.toLowerCase()).every((name) => headers.includes(name));
    if (!isAllowed) return false;
    exchange.replyBytes(204, '', {
      'Access-Control-Allow-Methods': methods.join(', '),
      'Access-Control-Allow-Headers': headers.join(', '),
      'Access-Control-Max-Age': String(this.#config.get('cors/max_age')),
    });
    return true;
  }

  #origins(): string[] {
    return listOf(this.#config.get('cors/origins').toLowerCase());
  }

  #headers(): string[] {
    return listOf(this.#config.get('cors/headers').toLowerCase());
  }
}

function listOf(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}
