/** A deterministic `Host`: its clock stands still until it is moved, its random bytes come from a seed. */
import type { Host } from '../../engine/file/host.js';
import { seededRandom } from './seed.js';

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

export class VirtualHost implements Host {
  readonly #random: () => number;
  #now = 0;
  #timers: Timer[] = [];

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  now(): number {
    return this.#now;
  }

  randomBytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => Math.floor(this.#random() * 256));
  }

  setTimer(run: () => void, delayMs: number): () => void {
    const timer = { at: this.#now + delayMs, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  yieldTurn(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** Moves the clock, and runs every timer at its time, those that others set meanwhile included. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (let next = this.#nextBy(end); next !== undefined; next = this.#nextBy(end)) {
      const { at, run } = next;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#now = Math.max(this.#now, at);
      run();
    }
    this.#now = end;
  }

  /** How many timers wait. */
  get timers(): number {
    return this.#timers.length;
  }

  /** The first timer that is due by `end`; of those due at once, the one that was set first. */
  #nextBy(end: number): Timer | undefined {
    return this.#timers
      .filter(({ at }) => at <= end)
      .reduce<Timer | undefined>((a, b) => (a !== undefined && a.at <= b.at ? a : b), undefined);
  }
}
