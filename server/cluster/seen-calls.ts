/**
 * Which calls a node has taken already, so that none is taken twice.
 *
 * Each client numbers its calls in a random series. Of each series the highest number that came is kept, and which of those shortly before it
 * came, as in RFC 4303, section 3.4.3: so memory does not grow with the calls. A series is forgotten when the clock alone refuses all that
 * was ever sent in it. What was sent before a start is refused by the boot id; since the clock counts for as much, there is a new one also
 * when the clock was set back.
 */
import type { ServerHost } from '../world.js';
import { CLOCK_MS_MAX } from './call-signature.js';

/** Calls overtake one another by far less. */
const WINDOW = 64 * 1024;
/** A client has one; those of members that were started often are the only others. */
const SERIES_MAX = 1000;
/** A call is from `CLOCK_MS_MAX` in the future at most, and it is as long until it is refused; and the clock may fall as far unnoticed. */
const FORGOTTEN_MS = 3 * CLOCK_MS_MAX;
const BOOT_BYTES = 16;

interface Series {
  highest: number;
  /** One bit for each of the last numbers, at its remainder. */
  readonly bits: Uint32Array;
  /** By `host.now`. */
  lastMs: number;
}

export class SeenCalls {
  readonly #host: ServerHost;
  readonly #series = new Map<string, Series>();
  #boot: string;
  /** By how much the time of day was ahead of the clock that never falls, at most. */
  #aheadMs: number;

  constructor(host: ServerHost) {
    this.#host = host;
    this.#boot = newBoot(host);
    this.#aheadMs = host.timeOfDay() - host.now();
  }

  /** Of this node, since it was started or its clock was set back. */
  get boot(): string {
    const aheadMs = this.#host.timeOfDay() - this.#host.now();
    if (aheadMs < this.#aheadMs - CLOCK_MS_MAX) {
      this.#boot = newBoot(this.#host);
      this.#series.clear();
      this.#aheadMs = aheadMs;
    } else if (aheadMs > this.#aheadMs) this.#aheadMs = aheadMs;
    return this.#boot;
  }

  /** Takes a call: `repeated` if that can not be told from one that came before, `full` if no more series can be kept. */
  take(name: string, number: number): 'new' | 'repeated' | 'full' {
    const nowMs = this.#host.now();
    let series = this.#series.get(name);
    if (series === undefined) {
      this.#forget(nowMs);
      if (this.#series.size >= SERIES_MAX) return 'full';
      series = { highest: 0, bits: new Uint32Array(WINDOW / 32), lastMs: nowMs };
      this.#series.set(name, series);
    }
    if (!isNew(series, number)) return 'repeated';
    series.lastMs = nowMs;
    return 'new';
  }

  #forget(nowMs: number): void {
    for (const [name, { lastMs }] of this.#series) {
      if (nowMs - lastMs > FORGOTTEN_MS) this.#series.delete(name);
    }
  }
}

function newBoot(host: ServerHost): string {
  return Buffer.from(host.randomBytes(BOOT_BYTES)).toString('hex');
}

/** Whether the number was not seen before; it is now. */
function isNew(series: Series, number: number): boolean {
  const { bits, highest } = series;
  if (number > highest) {
    if (number - highest >= WINDOW) bits.fill(0);
    else for (let passed = highest + 1; passed < number; passed++) setBit(bits, passed, false);
    series.highest = number;
  } else if (number <= highest - WINDOW || number < 1 || hasBit(bits, number)) {
    return false;
  }
  setBit(bits, number, true);
  return true;
}

function hasBit(bits: Uint32Array, number: number): boolean {
  const at = number % WINDOW;
  return ((bits[at >>> 5] ?? 0) & (1 << (at & 31))) !== 0;
}

function setBit(bits: Uint32Array, number: number, isSet: boolean): void {
  const at = number % WINDOW;
  const mask = 1 << (at & 31);
  const word = bits[at >>> 5] ?? 0;
  bits[at >>> 5] = isSet ? word | mask : word & ~mask;
}
