/**
 * Has a job give way to the requests that the server answers meanwhile, by its rate: how much it copies and verifies in a second.
 *
 * The rule: it begins at a quarter of the limit. Ten times a second it looks how late the event loop was on average since the look before. If
 * that was more than `LATE_MS`, the rate falls to half of what it was, but not below that quarter: from there down requests gain next to
 * nothing, and beside a server that is never idle a job would take many times as long. Otherwise it rises by a sixty-fourth of the limit.
 * The limit is that of the job, or `reshard/rate`; where there is none, nothing is held back.
 *
 * The threads that copy also leave the processors to the thread that serves (see the engine's `Crew`), and what runs on that thread itself,
 * catching up, goes on in short slices. So what the rate still decides is how much of the disk and the memory is left to others.
 */
import type { Host } from '../../engine/file/host.js';
import { Throttle } from '../../engine/rewrite/control.js';
import { RATE_MIN } from '../../engine/rewrite/rate.js';
import type { EventLoopWatch } from '../world.js';

export const LOOK_MS = 100;
/** One that serves as many requests as it can is late by a few tenths of a millisecond by itself. */
export const LATE_MS = 1;
const FALL = 0.5;
const RISE_SHARE = 1 / 64;
const LEAST_SHARE = 1 / 4;

export interface PacerOptions {
  readonly host: Host;
  /** How many threads share the rate. */
  readonly workers: number;
  /** Undefined to stay at the limit. It is closed with the pacer. */
  readonly loop: EventLoopWatch | undefined;
}

export class Pacer {
  readonly throttle = new Throttle();
  readonly #options: PacerOptions;
  #limit: number | undefined;
  /** Of the limit: what is taken at present. */
  #share: number;
  #cancel = () => {};

  constructor(options: PacerOptions) {
    this.#options = options;
    this.#share = options.loop === undefined ? 1 : LEAST_SHARE;
    if (options.loop !== undefined) this.#lookLater(options.loop);
  }

  /** Bytes a second that the job may take at most, from now on; undefined for no limit. */
  setLimit(bytesPerSecond: number | undefined): void {
    this.#limit = bytesPerSecond;
    this.#apply();
  }

  /** Bytes a second that the job may take at present; undefined where nothing is held back. */
  get rate(): number | undefined {
    const { workers } = this.#options;
    return this.#limit && Math.max(RATE_MIN * workers, Math.round(this.#limit * this.#share));
  }

  close(): void {
    this.#cancel();
    this.#options.loop?.close();
  }

  #lookLater(loop: EventLoopWatch): void {
    this.#cancel = this.#options.host.setTimer(() => {
      this.#share =
        loop.lateness() > LATE_MS
          ? Math.max(LEAST_SHARE, this.#share * FALL)
          : Math.min(1, this.#share + RISE_SHARE);
      this.#apply();
      this.#lookLater(loop);
    }, LOOK_MS);
  }

  #apply(): void {
    this.throttle.setRate(this.rate, this.#options.workers);
  }
}
