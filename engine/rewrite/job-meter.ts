/**
 * How far a rewrite is: joins what its workers report into one share of the whole work. What is left is reckoned from the speed of the
 * present stage so far, and for a later stage from what it costs for the cost of this one. Where writing is held back to a rate, what
 * is left to write takes as long as the rate demands, and speeds are without the time that was waited.
 */
import type { Host } from '../file/host.js';
import type { Counters } from '../shard/state.js';
import { OVERHEAD } from './estimate.js';
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
  verify: { row: 370, bodyByte: 0.44, id: 215 },
} as const;

type Stage = keyof typeof COSTS;

/** The speed of a stage counts in full once this share of it is done, and until then together with that of the stage before. */
const SPEED_FROM = 0.2;
/** Before this share of the first stage is done, no speed is known. */
const SPEED_KNOWN_FROM = 0.02;

/** A task of the verify pass when it was first heard of. */
interface Begun {
  readonly ms: number;
  readonly cost: number;
}

/** How a verify pass goes. */
interface MeteredVerify {
  /** How much of all documents each task reads. */
  readonly shares: readonly number[];
  /** How many are performed at a time. */
  readonly threads: number;
  /** The rate holds for reading, too. */
  readonly isHeldBack: boolean;
}

const NO_VERIFY: MeteredVerify = { shares: [], threads: 1, isHeldBack: false };

/** What a job is, as far as its progress is concerned. */
export interface MeterInput {
  /** Of the sources. */
  readonly counters: Counters;
  /** Of all targets, about. */
  readonly bytesTotal: number;
  /** Undefined without a verify pass. */
  readonly verify: MeteredVerify | undefined;
  readonly onProgress: ((progress: JobProgress) => void) | undefined;
}

export class JobMeter {
  readonly #host: Pick<Host, 'now'>;
  readonly #input: MeterInput;
  readonly #startMs: number;
  #stage: Stage = 'write';
  #latest: (RewriteProgress | undefined)[] = [];
  #begun: (Begun | undefined)[] = [];
  #bytesWritten = 0;
  /** Of the stage: how long tasks have waited because of the rate, on average; and the rate, 0 for none. */
  #pausedMs = 0;
  #rate = 0;
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
    this.#begun = Array.from({ length: tasks }, () => undefined);
    this.#stageStart = undefined;
    this.#paceBefore = this.#pace;
  }

  progress(task: number, progress: RewriteProgress): void {
    this.#latest[task] = progress;
    const { onProgress, bytesTotal } = this.#input;
    if (onProgress === undefined) return;
    const all = this.#heard;
    const { phase, docsDone, cost } =
      this.#stage === 'write' ? this.#writing(all) : this.#verifying(all);
    this.#pausedMs = sumOf(all, ({ pausedMs = 0 }) => pausedMs) / all.length;
    this.#rate = sumOf(all, ({ rate = 0 }) => rate);
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

  /** What was heard last of each task that was heard of. */
  get #heard(): RewriteProgress[] {
    return this.#latest.flatMap((latest) => latest ?? []);
  }

  /** Takes how much of the stage is done, brings the share up to date and returns the seconds that are left. */
  #reckon(cost: number): number | undefined {
    const ms = this.#host.now();
    this.#stageStart ??= { ms, cost };
    this.#costBefore ??= this.#stage === 'write' ? cost : this.#wholeCost('write') + cost;
    const gained = cost - this.#stageStart.cost;
    const stageCost = this.#wholeCost(this.#stage);
    const workedMs = ms - this.#stageStart.ms - this.#pausedMs;
    this.#pace = this.#paceAfter(workedMs, gained, gained / stageCost, this.#paceBefore);
    if (this.#pace === undefined) {
      const left = Math.max(0, stageCost - cost) + (this.#stage === 'write' ? this.#later : 0);
      this.#share = Math.max(this.#share, this.#costBefore / (this.#costBefore + left));
      return undefined;
    }
    const spentMs = ms - this.#startMs + this.#costBefore * this.#pace;
    const leftMs =
      this.#stage === 'write'
        ? Math.max((stageCost - cost) * this.#pace, this.#heldBackMs()) + this.#laterMs(this.#pace)
        : Math.max(this.#verifyLeftMs(ms, this.#pace), this.#readingHeldBackMs());
    this.#share = Math.max(this.#share, spentMs / Math.max(1, spentMs + leftMs));
    return leftMs / 1000;
  }

  /** What the verify pass will cost. */
  get #later(): number {
    const { shares, threads } = this.#verify;
    const costs = shares.map((share) => share * this.#wholeCost('verify'));
    return timeOfAll(costs, threads);
  }

  #laterMs(pace: number): number {
    return Math.max(this.#later * pace, this.#readingHeldBackMs());
  }

  get #verify(): MeteredVerify {
    return this.#input.verify ?? NO_VERIFY;
  }

  /** How long the rate demands for what is still to be read by a verify pass that is held to it: sources and targets, about as much each. */
  #readingHeldBackMs(): number {
    const { isHeldBack, threads } = this.#verify;
    const { length } = this.#latest;
    if (!isHeldBack || this.#rate === 0) return 0;
    const isVerifying = this.#stage === 'verify';
    const read = isVerifying ? sumOf(this.#heard, ({ bytesRead = 0 }) => bytesRead) : 0;
    const left = (2 * this.#input.bytesTotal) / OVERHEAD - read;
    // Tasks that wait for their turn have no share of the rate yet, those that are done have none any more.
    const rate = isVerifying
      ? (this.#rate / this.#heard.length) * Math.min(threads, length)
      : this.#rate;
    return (Math.max(0, left) / rate) * 1000;
  }

  /** Tasks have speeds of their own: what lived is slower to read than what was made of it. */
  #verifyLeftMs(ms: number, paceOfAll: number): number {
    const { shares, threads } = this.#verify;
    let pace = paceOfAll;
    const left = shares.map((share, task) => {
      const latest = this.#latest[task];
      const whole = share * this.#wholeCost('verify');
      // What has not begun will be as fast as the one before it.
      if (latest === undefined) return whole * pace;
      const cost = 2 * this.#verifyCost(latest);
      this.#begun[task] ??= { ms, cost };
      const { ms: sinceMs, cost: sinceCost } = this.#begun[task] ?? { ms, cost };
      const gained = cost - sinceCost;
      pace = this.#paceAfter(ms - sinceMs, gained, gained / whole, pace) ?? pace;
      return Math.max(0, whole - cost) * pace;
    });
    return timeOfAll(left, threads);
  }

  /** How long the rate demands for what is still to be written. */
  #heldBackMs(): number {
    if (this.#stage !== 'write' || this.#rate === 0) return 0;
    const bytesLeft = this.#input.bytesTotal / OVERHEAD - this.#bytesWritten;
    return (Math.max(0, bytesLeft) / this.#rate) * 1000;
  }

  /** The speed after a share of what it is measured with, together with the one that was known before. */
  #paceAfter(
    tookMs: number,
    gained: number,
    share: number,
    before: number | undefined,
  ): number | undefined {
    if (share < SPEED_KNOWN_FROM) return before;
    const now = tookMs / gained;
    const weight = before === undefined ? 1 : Math.min(1, share / SPEED_FROM);
    return weight * now + (1 - weight) * (before ?? 0);
  }

  /** Every task reads all rows, so that the work is done as far as they are on average. */
  #writing(all: readonly RewriteProgress[]) {
    const slowest = all.reduce((a, b) => (this.#cost(b) < this.#cost(a) ? b : a));
    const cost = all.reduce((sum, one) => sum + this.#cost(one), 0) / this.#latest.length;
    this.#bytesWritten = sumOf(all, ({ bytesWritten }) => bytesWritten);
    const phase = WRITE_PHASES[slowest.pass] ?? 'rest';
    return { phase, docsDone: slowest.entriesDone, cost };
  }

  /** The sources are read once, and so are the targets together. Tasks are of different sizes. */
  #verifying(all: readonly RewriteProgress[]) {
    const rows = sumOf(all, ({ rowsDone = 0 }) => rowsDone);
    const cost = sumOf(all, (one) => this.#verifyCost(one));
    return { phase: 'verify' as const, docsDone: Math.floor(rows / 2), cost };
  }

  #verifyCost({ pass, entriesDone, rowsDone = 0, bodyBytesDone }: RewriteProgress): number {
    const { row, bodyByte, id } = COSTS.verify;
    // A file has as many ids as rows.
    const ids = pass === 0 ? 0 : pass === 1 ? entriesDone : rowsDone;
    return rowsDone * row + bodyBytesDone * bodyByte + ids * id;
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

function sumOf(all: readonly RewriteProgress[], of: (one: RewriteProgress) => number): number {
  return all.reduce((sum, one) => sum + of(one), 0);
}

/** How long a number of tasks take if so many are performed at a time, each as soon as there is room for it. */
function timeOfAll(tasks: readonly number[], threads: number): number {
  const ends = Array.from({ length: threads }, () => 0);
  for (const task of tasks) {
    const next = ends.indexOf(Math.min(...ends));
    ends[next] = (ends[next] ?? 0) + task;
  }
  return Math.max(...ends);
}
