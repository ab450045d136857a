/** How fast something went lately. */

/** The speed is that of so long before, or a little longer. */
const SPAN_MS = 2000;

interface Mark {
  readonly ms: number;
  readonly bytes: number;
}

export class RateMeter {
  /** The newest at the end; the first is the newest one that is older than the span. */
  #marks: Mark[] = [];

  /** Bytes a second when so many are done at a time, which never goes back. */
  rateAt(ms: number, bytes: number): number {
    while ((this.#marks[1]?.ms ?? ms) <= ms - SPAN_MS) this.#marks.shift();
    const first = this.#marks[0];
    const last = this.#marks.at(-1);
    if (last === undefined || ms - last.ms >= SPAN_MS / 20) this.#marks.push({ ms, bytes });
    if (first === undefined || ms <= first.ms) return 0;
    return Math.round(((bytes - first.bytes) / (ms - first.ms)) * 1000);
  }
}
