/**
 * Wrong passwords, by user and address: after some of them a user at an address has to wait, twice as long each time. It makes no difference
 * whether there is such a user, nor, while it lasts, whether the password is right.
 *
 * An attempt counts as wrong from its start until it proves right, so that many at once are no way around.
 */
import { DivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';
import type { Config } from '../config/config.js';

const FIRST_WAIT_MS = 1000;

interface Attempts {
  readonly count: number;
  /** Of `host.now`: until then nothing is tried. */
  readonly untilMs: number;
  /** Of `host.now`: when they are forgotten. */
  readonly forgottenMs: number;
}

export class Backoff {
  readonly #host: Host;
  readonly #config: Pick<Config, 'get'>;
  /** By user and address, those with the oldest last attempt first. */
  readonly #attempts = new Map<string, Attempts>();

  constructor(host: Host, config: Pick<Config, 'get'>) {
    this.#host = host;
    this.#config = config;
  }

  get size(): number {
    return this.#attempts.size;
  }

  /** Counts an attempt. Throws `FORBIDDEN`, with CouchDB's words, if it comes too soon. */
  begin(name: string, address: string): void {
    const key = keyOf(name, address);
    const now = this.#host.now();
    const known = this.#attempts.get(key);
    const before = known === undefined || known.forgottenMs <= now ? undefined : known;
    if (before !== undefined && before.untilMs > now) {
      throw new DivanError(
        'FORBIDDEN',
        'Account is temporarily locked due to multiple authentication failures',
      );
    }
    this.#put(key, (before?.count ?? 0) + 1);
  }

  /** The attempt was right: all is forgotten. */
  succeed(name: string, address: string): void {
    this.#attempts.delete(keyOf(name, address));
  }

  /** The attempt could not be judged: it does not count. */
  cancel(name: string, address: string): void {
    const key = keyOf(name, address);
    const count = (this.#attempts.get(key)?.count ?? 0) - 1;
    if (count > 0) this.#put(key, count);
    else this.#attempts.delete(key);
  }

  #put(key: string, count: number): void {
    const now = this.#host.now();
    const lifetimeMs = this.#config.get('chttpd_auth_lockout/max_lifetime');
    const excess = count - this.#config.get('chttpd_auth_lockout/threshold');
    const waitMs = excess < 0 ? 0 : Math.min(FIRST_WAIT_MS * 2 ** excess, lifetimeMs);
    this.#attempts.delete(key);
    this.#attempts.set(key, {
      count,
      untilMs: now + waitMs,
      forgottenMs: now + waitMs + lifetimeMs,
    });
    const [oldest] = this.#attempts.keys();
    const isFull = this.#attempts.size > this.#config.get('chttpd_auth_lockout/max_objects');
    if (isFull && oldest !== undefined) this.#attempts.delete(oldest);
  }
}

function keyOf(name: string, address: string): string {
  return `${networkOf(address)} ${name}`;
}

/** Whoever has one IPv6 address has 2^64 of them, which share the first half. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !address.includes(':')) return mapped ?? address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  const missing = tail === undefined ? 0 : 8 - groups.length - tail.split(':').length;
  const all = [
    ...groups,
    ...Array<string>(Math.max(missing, 0)).fill('0'),
    ...(tail ?? '').split(':'),
  ];
  return all.slice(0, 4).join(':');
}
