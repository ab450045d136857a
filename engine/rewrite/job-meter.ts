/** How far a rewrite is: joins what its workers report into one share of the whole work. */
import type { Counters } from '../shard/state.js';
import type { RewriteProgress } from './pipeline.js';

export interface JobProgress {
  readonly phase: 'documents' | 'ids' | 'rest' | 'verify';
  /** Of the phase. */
  readonly docsDone: number;
  readonly docsTotal: number;
  /** Written to the targets, of about so many. */
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** How much of the whole work is done, 0 to 1. */
  readonly share: number;
}

const WRITE_PHASES = ['documents', 'ids', 'rest'] as const;

/** What things cost, measured, in nanoseconds; only their relations matter. */
const COSTS = {
  write: { row: 600, bodyByte: 1.3, id: 200 },
  verify: { row: 420, bodyByte: 0.7, id: 210 },
} as const;

type Stage = keyof typeof COSTS;

export class JobMeter {
  readonly #counters: Counters;
  /** Of all targets, about. */
  readonly #bytesTotal: number;
  readonly #verifies: boolean;
  readonly #onProgress: ((progress: JobProgress) => void) | undefined;
  #stage: Stage = 'write';
  #latest: (RewriteProgress | undefined)[] = [];
  #bytesWritten = 0;

  constructor(
    counters: Counters,
    bytesTotal: number,
    verifies: boolean,
    onProgress: ((progress: JobProgress) => void) | undefined,
  ) {
    this.#counters = counters;
    this.#bytesTotal = bytesTotal;
    this.#verifies = verifies;
    this.#onProgress = onProgress;
  }

  /** Begins a stage of so many tasks. */
  begin(stage: Stage, tasks: number): void {
    this.#stage = stage;
    this.#latest = Array.from({ length: tasks }, () => undefined);
  }

  progress(task: number, progress: RewriteProgress): void {
    this.#latest[task] = progress;
    if (this.#onProgress === undefined) return;
    const all = this.#latest.flatMap((latest) => latest ?? []);
    const report = this.#stage === 'write' ? this.#writing(all) : this.#verifying(all);
    this.#onProgress({
      ...report,
      docsTotal: this.#docs,
      bytesDone: this.#bytesWritten,
      bytesTotal: Math.max(this.#bytesTotal, this.#bytesWritten),
    });
  }

  /** Every task reads all rows, so that the work is done as far as they are on average. */
  #writing(all: readonly RewriteProgress[]): Pick<JobProgress, 'phase' | 'docsDone' | 'share'> {
    const slowest = all.reduce((a, b) => (this.#cost(b) < this.#cost(a) ? b : a));
    const cost = all.reduce((sum, one) => sum + this.#cost(one), 0) / this.#latest.length;
    this.#bytesWritten = all.reduce((sum, { bytesWritten }) => sum + bytesWritten, 0);
    const phase = WRITE_PHASES[slowest.pass] ?? 'rest';
    return { phase, docsDone: slowest.entriesDone, share: cost / this.#whole };
  }

  /** The sources are read once, and so are the targets together. Tasks are of different sizes. */
  #verifying(all: readonly RewriteProgress[]): Pick<JobProgress, 'phase' | 'docsDone' | 'share'> {
    const { row, bodyByte, id } = COSTS.verify;
    let rows = 0;
    let cost = 0;
    for (const { pass, entriesDone, rowsDone = 0, bodyBytesDone } of all) {
      // A file has as many ids as rows.
      const ids = pass === 0 ? 0 : pass === 1 ? entriesDone : rowsDone;
      rows += rowsDone;
      cost += rowsDone * row + bodyBytesDone * bodyByte + ids * id;
    }
    const share = (this.#costOf('write') + cost) / this.#whole;
    return { phase: 'verify', docsDone: Math.floor(rows / 2), share };
  }

  get #docs(): number {
    return this.#counters.liveDocs + this.#counters.deletedDocs;
  }

  get #whole(): number {
    return this.#costOf('write') + (this.#verifies ? 2 * this.#costOf('verify') : 0);
  }

  #rowsCost(stage: Stage): number {
    const { row, bodyByte } = COSTS[stage];
    return this.#docs * row + this.#counters.activeBytes * bodyByte;
  }

  #costOf(stage: Stage): number {
    return this.#rowsCost(stage) + this.#docs * COSTS[stage].id;
  }

  /** The cost of what a task has done. */
  #cost({ pass, entriesDone, bodyBytesDone }: RewriteProgress): number {
    const { row, bodyByte, id } = COSTS[this.#stage];
    if (pass === 0) return entriesDone * row + bodyBytesDone * bodyByte;
    if (pass === 1) return this.#rowsCost(this.#stage) + entriesDone * id;
    return this.#costOf(this.#stage);
  }
}
