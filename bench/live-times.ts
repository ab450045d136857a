/** What the client of the families live-split and live-move took down of its requests, and what it tells of stretches of time. */

/** A stretch of time, in milliseconds since 1970. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
}

/** How requests went that ended in some stretches. */
export interface Latencies {
  readonly seconds: number;
  readonly requests: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** How writes fared around a cutover. */
export interface Cutover {
  /** The longest time that one took which was under way in the stretch. */
  readonly longestMs: number;
  /** How many were under way when it ended. */
  readonly waiting: number;
  /** Documents acknowledged in the second before. */
  readonly acknowledged: number;
}

const SECOND_MS = 1000;

/** The time of day, finer than `Date.now`, so that it can be compared with that of another process. */
export function timeOfDay(): number {
  return performance.timeOrigin + performance.now();
}

/** Requests of one kind, in the order in which they ended. */
export class Times {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #documents: number[] = [];

  add(start: number, documents: number): void {
    this.#starts.push(start);
    this.#ends.push(timeOfDay());
    this.#documents.push(documents);
  }

  latenciesIn(stretches: readonly Stretch[]): Latencies {
    const taken: number[] = [];
    for (const [index, end] of this.#ends.entries()) {
      if (!stretches.some(({ from, to }) => from <= end && end < to)) continue;
      taken.push(end - (this.#starts[index] ?? end));
    }
    taken.sort((a, b) => a - b);
    const at = (share: number) => taken[Math.floor((taken.length - 1) * share)] ?? 0;
    const ms = stretches.reduce((sum, { from, to }) => sum + to - from, 0);
    const shares = { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
    return { seconds: ms / SECOND_MS, requests: taken.length, ...shares };
  }

  cutoverIn({ from, to }: Stretch): Cutover {
    let [longestMs, waiting, acknowledged] = [0, 0, 0];
    for (const [index, end] of this.#ends.entries()) {
      const start = this.#starts[index] ?? end;
      if (start < to && end > from) longestMs = Math.max(longestMs, end - start);
      if (start < to && end >= to) waiting++;
      if (end <= from && end > from - SECOND_MS) acknowledged += this.#documents[index] ?? 0;
    }
    return { longestMs, waiting, acknowledged };
  }
}
