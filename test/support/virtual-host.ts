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

  /** Moves the clock and runs the timers that are due. */
  advance(ms: number): void {
    this.#now += ms;
    const due = this.#timers.filter(({ at }) => at <= this.#now);
    this.#timers = this.#timers.filter(({ at }) => at > this.#now);
    for (const { run } of due) run();
  }
}
