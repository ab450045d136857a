/** How far a rewrite is: joins what its workers report into one share of the whole work. */
import type { Counters } from '../shard/state.js';
import type { RewriteProgress } from './pipeline.js';

export interface JobProgress {
  readonly phase: 'documents' | 'ids' | 'rest';
  readonly docsDone: number;
  readonly docsTotal: number;
  readonly bytesWritten: number;
  /** How much of the whole work is done, 0 to 1. */
  readonly share: number;
}

const PHASES = ['documents', 'ids', 'rest'] as const;

/** What things cost, measured, in nanoseconds; only their relations matter. */
const ROW_COST = 600;
const BODY_BYTE_COST = 0.8;
const ID_COST = 200;

export class JobMeter {
  readonly #counters: Counters;
  readonly #onProgress: ((progress: JobProgress) => void) | undefined;
  readonly #latest: (RewriteProgress | undefined)[];

  constructor(
    counters: Counters,
    tasks: number,
    onProgress: ((progress: JobProgress) => void) | undefined,
  ) {
    this.#counters = counters;
    this.#onProgress = onProgress;
    this.#latest = Array.from({ length: tasks }, () => undefined);
  }

  progress(task: number, progress: RewriteProgress): void {
    this.#latest[task] = progress;
    const all = this.#latest.flatMap((latest) => latest ?? []);
    const slowest = all.reduce((a, b) => (this.#cost(b) < this.#cost(a) ? b : a));
    const done = all.reduce((sum, one) => sum + this.#cost(one), 0) / this.#latest.length;
    this.#onProgress?.({
      phase: PHASES[slowest.pass] ?? 'rest',
      docsDone: slowest.entriesDone,
      docsTotal: this.#docs,
      bytesWritten: all.reduce((sum, { bytesWritten }) => sum + bytesWritten, 0),
      share: done / this.#total,
    });
  }

  get #docs(): number {
    return this.#counters.liveDocs + this.#counters.deletedDocs;
  }

  get #documentsCost(): number {
    return this.#docs * ROW_COST + this.#counters.activeBytes * BODY_BYTE_COST;
  }

  get #total(): number {
    return this.#documentsCost + this.#docs * ID_COST;
  }

  /** The cost of what a task has done. */
  #cost({ pass, entriesDone, bodyBytesDone }: RewriteProgress): number {
    if (pass === 0) return entriesDone * ROW_COST + bodyBytesDone * BODY_BYTE_COST;
    if (pass === 1) return this.#documentsCost + entriesDone * ID_COST;
    return this.#total;
  }
}
