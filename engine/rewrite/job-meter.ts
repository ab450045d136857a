/**
 * How far a rewrite is: joins what its workers report into one share of the whole work. What is left is reckoned from the speed of the
 * present stage so far, and for a later stage from what it costs for the cost of this one.
 */
import type { Host } from '../file/host.js';
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
  /** How much of the whole work is done, 0 to 1: the time it took for the time that all of it takes. Never falls. */
  readonly share: number;
  /** Undefined before there is a speed to reckon with. */
  readonly secondsLeft: number | undefined;
}

const WRITE_PHASES = ['documents', 'ids', 'rest'] as const;

/** What things cost, measured, in nanoseconds; only their relations matter. */
const COSTS = {
  write: { row: 450, bodyByte: 1.15, id: 240 },
  verify: { row: 570, bodyByte: 0.68, id: 330 },
} as const;

type Stage = keyof typeof COSTS;

/** The speed of a stage counts in full once this share of it is done, and until then together with that of the stage before. */
const SPEED_FROM = 0.2;
/** Before this share of the first stage is done, no speed is known. */
const SPEED_KNOWN_FROM = 0.02;

/** What a job is, as far as its progress is concerned. */
export interface MeterInput {
  /** Of the sources. */
  readonly counters: Counters;
  /** Of all targets, about. */
  readonly bytesTotal: number;
  readonly verifies: boolean;
  readonly onProgress: ((progress: JobProgress) => void) | undefined;
}

export class JobMeter {
  readonly #host: Pick<Host, 'now'>;
  readonly #input: MeterInput;
  readonly #startMs: number;
  #stage: Stage = 'write';
  #latest: (RewriteProgress | undefined)[] = [];
  #bytesWritten = 0;
  /** When the stage was first heard of, and how much was done then. */
  #stageStart: { readonly ms: number; readonly cost: number } | undefined;
  /** Milliseconds for each unit of cost: as far as is known, and as it was when the stage began. */
  #pace: number | undefined;
  #paceBefore: number | undefined;
  /** What an earlier run had done. */
  #costBefore: number | undefined;
  #share = 0;

  constructor(host: Pick<Host, 'now'>, input: MeterInput) {
    this.#host = host;
    this.#input = input;
    this.#startMs = host.now();
  }

  /** Begins a stage of so many tasks. */
  begin(stage: Stage, tasks: number): void {
    this.#stage = stage;
    this.#latest = Array.from({ length: tasks }, () => undefined);
    this.#stageStart = undefined;
    this.#paceBefore = this.#pace;
  }

  progress(task: number, progress: RewriteProgress): void {
    this.#latest[task] = progress;
    const { onProgress, bytesTotal } = this.#input;
    if (onProgress === undefined) return;
    const all = this.#latest.flatMap((latest) => latest ?? []);
    const { phase, docsDone, cost } =
      this.#stage === 'write' ? this.#writing(all) : this.#verifying(all);
    const secondsLeft = this.#reckon(cost);
    const bytesAll = Math.max(bytesTotal, this.#bytesWritten);
    onProgress({
      phase,
      docsDone,
      docsTotal: this.#docs,
      bytesDone: phase === 'verify' ? bytesAll : this.#bytesWritten,
      bytesTotal: bytesAll,
      share: this.#share,
      secondsLeft,
    });
  }

  /** Takes how much of the stage is done, brings the share up to date and returns the seconds that are left. */
  #reckon(cost: number): number | undefined {
    const ms = this.#host.now();
    this.#stageStart ??= { ms, cost };
    this.#costBefore ??= this.#stage === 'write' ? cost : this.#wholeCost('write') + cost;
    const gained = cost - this.#stageStart.cost;
    const stageCost = this.#wholeCost(this.#stage);
    this.#pace = this.#paceAfter(ms - this.#stageStart.ms, gained, gained / stageCost);
    const later = this.#stage === 'write' && this.#input.verifies ? this.#wholeCost('verify') : 0;
    const left = Math.max(0, stageCost - cost) + later;
    if (this.#pace === undefined) {
      this.#share = Math.max(this.#share, this.#costBefore / (this.#costBefore + left));
      return undefined;
    }
    const spentMs = ms - this.#startMs + this.#costBefore * this.#pace;
    const leftMs = left * this.#pace;
    this.#share = Math.max(this.#share, spentMs / Math.max(1, spentMs + leftMs));
    return leftMs / 1000;
  }

  #paceAfter(tookMs: number, gained: number, share: number): number | undefined {
    if (share < SPEED_KNOWN_FROM) return this.#paceBefore;
    const now = tookMs / gained;
    const weight = this.#paceBefore === undefined ? 1 : Math.min(1, share / SPEED_FROM);
    return weight * now + (1 - weight) * (this.#paceBefore ?? 0);
  }

  /** Every task reads all rows, so that the work is done as far as they are on average. */
  #writing(all: readonly RewriteProgress[]) {
    const slowest = all.reduce((a, b) => (this.#cost(b) < this.#cost(a) ? b : a));
    const cost = all.reduce((sum, one) => sum + this.#cost(one), 0) / this.#latest.length;
    this.#bytesWritten = all.reduce((sum, { bytesWritten }) => sum + bytesWritten, 0);
    const phase = WRITE_PHASES[slowest.pass] ?? 'rest';
    return { phase, docsDone: slowest.entriesDone, cost };
  }

  /** The sources are read once, and so are the targets together. Tasks are of different sizes. */
  #verifying(all: readonly RewriteProgress[]) {
    const { row, bodyByte, id } = COSTS.verify;
    let rows = 0;
    let cost = 0;
    for (const { pass, entriesDone, rowsDone = 0, bodyBytesDone } of all) {
      // A file has as many ids as rows.
      const ids = pass === 0 ? 0 : pass === 1 ? entriesDone : rowsDone;
      rows += rowsDone;
      cost += rowsDone * row + bodyBytesDone * bodyByte + ids * id;
    }
    return { phase: 'verify' as const, docsDone: Math.floor(rows / 2), cost };
  }

  get #docs(): number {
    return this.#input.counters.liveDocs + this.#input.counters.deletedDocs;
  }

  #wholeCost(stage: Stage): number {
    const once = this.#rowsCost(stage) + this.#docs * COSTS[stage].id;
    return stage === 'write' ? once : 2 * once;
  }

  #rowsCost(stage: Stage): number {
    const { row, bodyByte } = COSTS[stage];
    return this.#docs * row + this.#input.counters.activeBytes * bodyByte;
  }

  /** The cost of what a task has written. */
  #cost({ pass, entriesDone, bodyBytesDone }: RewriteProgress): number {
    const { row, bodyByte, id } = COSTS.write;
    if (pass === 0) return entriesDone * row + bodyBytesDone * bodyByte;
    if (pass === 1) return this.#rowsCost('write') + entriesDone * id;
    return this.#wholeCost('write');
  }
}
