/**
 * Whether it is worth while to call a node that did not answer lately. After some failures in a row all calls fail at once, for a pause that
 * doubles as long as a call that is let through after it, one at a time, fails too.
 */
import type { Host } from '../../engine/file/host.js';

/** What a call was let through with; its outcome is told with it. */
export interface Pass {
  /** True for the only call that is let through. */
  readonly isProbe: boolean;
}

const FAILURES_MAX = 3;
const PAUSE_MS_MIN = 1000;
const PAUSE_MS_MAX = 15_000;

const ORDINARY: Pass = { isProbe: false };
const PROBE: Pass = { isProbe: true };

export class Breaker {
  readonly #host: Host;
  /** In a row. */
  #failures = 0;
  #pauseMs = 0;
  #pausedUntilMs = 0;
  #isProbing = false;

  constructor(host: Host) {
    this.#host = host;
  }

  /** True while calls fail at once, but for a probe. */
  get isOpen(): boolean {
    return this.#failures >= FAILURES_MAX;
  }

  /** Undefined if the call is to fail at once. */
  admit(): Pass | undefined {
    if (!this.isOpen) return ORDINARY;
    if (this.#isProbing || this.#host.now() < this.#pausedUntilMs) return undefined;
    this.#isProbing = true;
    return PROBE;
  }

  succeeded({ isProbe }: Pass): void {
    if (isProbe) this.#isProbing = false;
    this.#failures = 0;
    this.#pauseMs = 0;
  }

  /** The node was not reached. A call that began before the others failed says nothing new. */
  failed({ isProbe }: Pass): void {
    if (isProbe) this.#isProbing = false;
    else if (this.isOpen) return;
    else this.#failures++;
    if (!this.isOpen) return;
    this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, PAUSE_MS_MIN), PAUSE_MS_MAX);
    this.#pausedUntilMs = this.#host.now() + this.#pauseMs;
  }

  /** The call was given up before it was known. */
  abandoned({ isProbe }: Pass): void {
    if (isProbe) this.#isProbing = false;
  }
}
