/**
 * How a call proves who sent it, to whom, when, and that it was not sent before: the header `Divan-Call`, whose MAC is where the chain of the
 * frames begins. It is checked before anything of the body is read, so whoever does not have the cookie makes a node hold nothing.
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { MAC_BYTES } from './call-frames.js';

/** Of the calls that this program makes. What the header and the frames look like is the same in all versions. */
export const PROTOCOL = 1;

/** A cluster can be brought to the next version node by node. */
export function isNeighbour(protocol: number, own: number = PROTOCOL): boolean {
  return Math.abs(protocol - own) <= 1;
}

export const CALL_HEADER = 'divan-call';
export const CALL_TYPE = 'application/vnd.divan.call';
/** A boot id that no node has, for who does not know it. */
export const NO_BOOT = '0'.repeat(32);

/** Clocks may differ so much. */
export const CLOCK_MS_MAX = 60_000;

export interface CallContext {
  readonly protocol: number;
  /** Of the call. */
  readonly name: string;
  /** Identities of nodes. */
  readonly from: string;
  readonly to: string;
  /** Of the receiver, as far as the sender knows. */
  readonly boot: string;
  /** Since 1970, by the clock of the sender. */
  readonly timeMs: number;
  /** Random, made by each client when it begins; its calls are numbered from 1 on. */
  readonly series: string;
  readonly number: number;
}

/** One for each direction: what was sent can not be sent back. */
export interface CallKeys {
  readonly request: Uint8Array;
  readonly reply: Uint8Array;
}

export interface SignedContext {
  readonly context: CallContext;
  readonly mac: Uint8Array;
}

/** The keys of a cookie, which are derived once. */
export class KeyRing {
  #cookie: string | undefined;
  #keys: CallKeys | undefined;

  /** Undefined if there is no cookie. */
  of(cookie: string | undefined): CallKeys | undefined {
    if (cookie !== this.#cookie) {
      this.#cookie = cookie;
      this.#keys = cookie === undefined ? undefined : keysOf(cookie);
    }
    return this.#keys;
  }
}

function keysOf(cookie: string): CallKeys {
  const derive = (use: string) =>
    new Uint8Array(hkdfSync('sha256', cookie, '', `divan call ${use}`, MAC_BYTES));
  return { request: derive('request'), reply: derive('reply') };
}

/** The value of the header, and the MAC in it. */
export function signContext(
  context: CallContext,
  keys: CallKeys,
): { readonly header: string; readonly mac: Uint8Array } {
  const mac = macOf(context, keys);
  const { protocol, from, to, boot, timeMs, series, number } = context;
  const words = [protocol, from, to, boot, timeMs, series, number, mac.toString('hex')];
  return { header: words.join(' '), mac };
}

const HEADER =
  /^(\d{1,9}) ([0-9a-f]{32}) ([0-9a-f]{32}) ([0-9a-f]{32}) (\d{1,15}) ([0-9a-f]{32}) (\d{1,15}) ([0-9a-f]{64})$/;

/** What a header says, if it is signed; undefined for any other. */
export function verifyContext(
  header: string | undefined,
  name: string,
  keys: CallKeys,
): SignedContext | undefined {
  const words = HEADER.exec(header ?? '');
  if (words === null) return undefined;
  const [, protocol, from = '', to = '', boot = '', timeMs, series = '', number, hex = ''] = words;
  const context: CallContext = {
    protocol: Number(protocol),
    name,
    from,
    to,
    boot,
    timeMs: Number(timeMs),
    series,
    number: Number(number),
  };
  const mac = Buffer.from(hex, 'hex');
  return timingSafeEqual(macOf(context, keys), mac) ? { context, mac } : undefined;
}

function macOf(context: CallContext, { request }: CallKeys): Buffer {
  const { protocol, name, from, to, boot, timeMs, series, number } = context;
  // No word has a line end in it, so no two contexts have one text; the name stands last because only it comes from a path.
  const lines = ['POST', protocol, from, to, boot, timeMs, series, number, name];
  return createHmac('sha256', request).update(lines.join('\n')).digest();
}

/** Where the chain of a reply begins: at the request that it answers, and its own status. */
export function replyStart(
  requestMac: Uint8Array,
  status: number,
  { reply }: CallKeys,
): Uint8Array {
  return createHmac('sha256', reply).update(requestMac).update(`status ${status}`).digest();
}
