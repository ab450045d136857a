/**
 * How far a rewrite is: joins what its workers report into one share of the whole work. What is left is reckoned from what it costs
 * and how fast the work has gone so far; a later stage goes as fast as the one before it, waits for writes left out. Where writing is
 * held back to a rate, what is left to write takes as long as the rate demands, and speeds are without the time that was waited.
 */
import type { Host } from '../file/host.js';
import type { Counters } from '../shard/state.js';
import { OVERHEAD } from './estimate.js';
import {
  costOf,
  minus,
  NO_WORK,
  Pace,
  plus,
  type Stage,
  timeOf,
  times,
  type Work,
} from './pace.js';
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

/** Before this share of the first stage is done, no speed is known. */
const SPEED_KNOWN_FROM = 0.02;
/** How many times its cost work takes if nothing is known; with the waits for writes. */
const PACE_GUESS = { documents: 1, ids: undefined };
const WRITTEN_GUESS = 1.2;

/** What a task reported, and when. */
interface Heard {
  readonly ms: number;
  readonly done: Work;
  readonly progress: RewriteProgress;
}

/** A task of the present stage. */
interface MeteredTask {
  readonly first: Heard;
  last: Heard;
  readonly pace: Pace;
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
  /** Undefined for those that were not heard of yet. */
  #tasks: (MeteredTask | undefined)[] = [];
  /** Those of the present stage that have come to their end. */
  readonly #ended = new Set<number>();
  #bytesWritten = 0;
  /** Bytes a second that all tasks together may write, 0 for no limit. */
  #rate = 0;
  /** Of writing, with the waits for writes and without. */
  readonly #written: Pace;
  readonly #worked: Pace;
  /** What an earlier run had done, as far as the first report says. */
  #before: Record<Stage, Work> | undefined;
  #isSpeedKnown = false;
  #share = 0;

  constructor(host: Pick<Host, 'now'>, input: MeterInput) {
    this.#host = host;
    this.#input = input;
    this.#startMs = host.now();
    // How fast this machine works with documents of this source is not known before.
    const whole = { ...this.#whole('write'), documents: 0 };
    this.#written = new Pace(whole);
    this.#worked = new Pace(whole);
  }

  /** Begins a stage of so many tasks. */
  begin(stage: Stage, tasks: number): void {
    this.#stage = stage;
    this.#tasks = Array.from({ length: tasks }, () => undefined);
    this.#ended.clear();
  }

  /** A task has come to its end. What it reported last was somewhat before, and of a short task it is little. */
  done(index: number): void {
    this.#ended.add(index);
    const task = this.#tasks[index];
    if (task === undefined) return;
    const { last } = task;
    const isWriting = this.#stage === 'write';
    const whole = this.#wholeOf(index);
    const done = isWriting ? whole : wholeToRead(last, whole);
    const heard = { ...last, ms: this.#host.now(), done };
    // Writing ends with syncs, and what is held back to a rate has waited.
    if (isWriting || this.#verify.isHeldBack) task.last = heard;
    else this.#measure(task, heard);
  }

  progress(task: number, progress: RewriteProgress): void {
    const { onProgress, bytesTotal } = this.#input;
    if (onProgress === undefined) return;
    this.#hear(task, progress);
    const all = this.#heard;
    const { phase, docsDone } = this.#stage === 'write' ? this.#writing(all) : verifying(all);
    this.#rate = sumOf(all, ({ rate = 0 }) => rate);
    const secondsLeft = this.#reckon();
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
    return this.#tasks.flatMap((task) => task?.last.progress ?? []);
  }

  /** Takes what a task has done since it was last heard of, and how long that took. */
  #hear(index: number, progress: RewriteProgress): void {
    const heard: Heard = { ms: this.#host.now(), done: this.#doneOf(progress), progress };
    const task = this.#tasks[index];
    if (task !== undefined) {
      this.#measure(task, heard);
      return;
    }
    this.#tasks[index] = { first: heard, last: heard, pace: new Pace(this.#wholeOf(index)) };
    this.#before ??=
      this.#stage === 'write'
        ? { write: heard.done, verify: NO_WORK }
        : { write: this.#whole('write'), verify: times(heard.done, 1 / this.#verify.threads) };
  }

  #measure(task: MeteredTask, heard: Heard): void {
    const { last } = task;
    task.last = heard;
    const cost = minus(heard.done, last.done);
    const ms = heard.ms - last.ms - (waited(heard, 'pausedMs') - waited(last, 'pausedMs'));
    const guess = this.#workedPace;
    if (this.#stage === 'verify') task.pace.add(ms, cost, guess);
    else {
      this.#written.add(ms, cost, guess);
      this.#worked.add(ms - (waited(heard, 'drainedMs') - waited(last, 'drainedMs')), cost, guess);
    }
  }

  /** What a task of the present stage costs, about. */
  #wholeOf(index: number): Work {
    const share = this.#stage === 'write' ? 1 : (this.#verify.shares[index] ?? 1);
    return times(this.#whole(this.#stage), share);
  }

  /** Of writing, the waits for writes left out. */
  get #workedPace(): Work {
    return this.#worked.after(PACE_GUESS);
  }

  get #writtenPace(): Work {
    const worked = this.#workedPace;
    const { documents } = this.#written.after({ documents: WRITTEN_GUESS, ids: undefined });
    // As long as nothing is known of ids, they wait as often as documents.
    return this.#written.after({
      documents: WRITTEN_GUESS,
      ids: (worked.ids / worked.documents) * documents,
    });
  }

  /** Brings the share up to date and returns the seconds that are left. */
  #reckon(): number | undefined {
    const { write, verify } = this.#before ?? { write: NO_WORK, verify: NO_WORK };
    const beforeMs = timeOf(write, this.#writtenPace) + timeOf(verify, this.#workedPace);
    const spentMs = this.#host.now() - this.#startMs + beforeMs;
    const writeLeftMs =
      this.#stage === 'write'
        ? Math.max(timeOf(this.#leftToWrite, this.#writtenPace), this.#heldBackMs())
        : 0;
    const verifyLeftMs = Math.max(this.#verifyLeftMs(), this.#readingHeldBackMs());
    const leftMs = writeLeftMs + verifyLeftMs;
    this.#isSpeedKnown ||= this.#gainedShare >= SPEED_KNOWN_FROM;
    this.#share = Math.max(this.#share, spentMs / Math.max(1, spentMs + leftMs));
    return this.#isSpeedKnown ? leftMs / 1000 : undefined;
  }

  /** How much of the present stage was done since its tasks were first heard of. */
  get #gainedShare(): number {
    const gained = this.#tasks.map((task) =>
      task === undefined ? 0 : sumOfWork(minus(task.last.done, task.first.done)),
    );
    const whole = sumOfWork(this.#whole(this.#stage)) * gained.length;
    return gained.reduce((a, b) => a + b, 0) / Math.max(1, whole);
  }

  /** Every task reads all rows, so that the work is done as far as they are on average. */
  get #leftToWrite(): Work {
    const whole = this.#whole('write');
    const lefts = this.#tasks.map((task) => minus(whole, task?.last.done ?? NO_WORK));
    return times(lefts.reduce(plus, NO_WORK), 1 / lefts.length);
  }

  get #verify(): MeteredVerify {
    return this.#input.verify ?? NO_VERIFY;
  }

  /** How long the rate demands for what is still to be read by a verify pass that is held to it: sources and targets, about as much each. */
  #readingHeldBackMs(): number {
    const { isHeldBack, threads } = this.#verify;
    const { length } = this.#tasks;
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
  #verifyLeftMs(): number {
    const { shares, threads } = this.#verify;
    const whole = this.#whole('verify');
    const isBegun = this.#stage === 'verify';
    let pace = this.#workedPace;
    const left = shares.map((share, index) => {
      if (isBegun && this.#ended.has(index)) return 0;
      const task = isBegun ? this.#tasks[index] : undefined;
      // What has not begun will be as fast as the one before it.
      if (task === undefined) return timeOf(times(whole, share), pace);
      pace = task.pace.after(pace);
      return timeOf(minus(wholeToRead(task.last, times(whole, share)), task.last.done), pace);
    });
    return timeOfAll(left, threads);
  }

  /** How long the rate demands for what is still to be written. */
  #heldBackMs(): number {
    if (this.#rate === 0) return 0;
    const bytesLeft = this.#input.bytesTotal / OVERHEAD - this.#bytesWritten;
    return (Math.max(0, bytesLeft) / this.#rate) * 1000;
  }

  #writing(all: readonly RewriteProgress[]) {
    const cost = (one: RewriteProgress) => sumOfWork(this.#doneOf(one));
    const slowest = all.reduce((a, b) => (cost(b) < cost(a) ? b : a));
    this.#bytesWritten = sumOf(all, ({ bytesWritten }) => bytesWritten);
    const phase = WRITE_PHASES[slowest.pass] ?? 'rest';
    return { phase, docsDone: slowest.entriesDone };
  }

  #doneOf({ pass, entriesDone, rowsDone, bodyBytesDone }: RewriteProgress): Work {
    const whole = this.#whole(this.#stage);
    if (rowsDone !== undefined) {
      // A file has as many ids as rows.
      const ids = pass === 0 ? 0 : pass === 1 ? entriesDone : rowsDone;
      return costOf('verify', { rows: rowsDone, bodyBytes: bodyBytesDone, ids });
    }
    if (pass === 0) return costOf('write', { rows: entriesDone, bodyBytes: bodyBytesDone, ids: 0 });
    if (pass > 1) return whole;
    const { ids } = costOf('write', { rows: 0, bodyBytes: 0, ids: entriesDone });
    return { ...whole, ids };
  }

  get #docs(): number {
    return this.#input.counters.liveDocs + this.#input.counters.deletedDocs;
  }

  /** What a task that reads everything costs. */
  #whole(stage: Stage): Work {
    const rows = this.#docs;
    const { activeBytes: bodyBytes } = this.#input.counters;
    return costOf(stage, { rows, bodyBytes, ids: rows });
  }
}
/** The sources are read once, and so are the targets together. */
function verifying(all: readonly RewriteProgress[]) {
  const rows = sumOf(all, ({ rowsDone = 0 }) => rowsDone);
  return { phase: 'verify' as const, docsDone: Math.floor(rows / 2) };
}

/** What all of a task of the verify pass costs: once it has read the rows, no guess any more. */
function wholeToRead({ progress: { pass, rowsDone = 0 }, done }: Heard, guess: Work): Work {
  if (pass === 0) return guess;
  const { ids } = costOf('verify', { rows: 0, bodyBytes: 0, ids: rowsDone });
  return { ...done, ids };
}

function waited({ progress }: Heard, what: 'pausedMs' | 'drainedMs'): number {
  return progress[what] ?? 0;
}

function sumOfWork({ documents, ids }: Work): number {
  return documents + ids;
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
