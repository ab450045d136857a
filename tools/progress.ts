/**
 * Progress of long work on standard error: a bar on a terminal, lines with `--json`, silence in a pipe.
 */
import { type Options, Presets, SingleBar } from 'cli-progress';
import type { Host } from '../engine/file/host.js';

/** What is known of work under way. */
export interface ProgressReport {
  readonly phase: string;
  readonly docsDone: number;
  readonly docsTotal: number;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** How much of the whole work is done, 0 to 1; by bytes, if it is not given. */
  readonly share?: number;
  /** Reckoned from the share, if it is not given. */
  readonly secondsLeft?: number | undefined;
}

/** Rates are those of about so long. */
const RATE_WINDOW_MS = 2000;

/** A report and when it came. */
interface Moment {
  readonly report: ProgressReport;
  readonly ms: number;
}

const LINE_INTERVAL_MS = 500;

/** Shows the reports that it is given, as often as a person or a program wants to see them. */
export class Progress {
  readonly #host: Host;
  readonly #json: boolean;
  /** The first report: work that was gone on with began with a part of it done. */
  #first: Moment | undefined;
  /** Reports of the present phase, as far back as rates go. */
  #recent: Moment[] = [];
  #bar: SingleBar | undefined;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(host: Host, json: boolean) {
    this.#host = host;
    this.#json = json;
    if (!json && process.stderr.isTTY)
      this.#bar = new SingleBar(BAR_OPTIONS, Presets.shades_classic);
  }

  show(report: ProgressReport): void {
    const ms = this.#host.now();
    this.#first ??= { report, ms };
    this.#remember({ report, ms });
    if (ms - this.#lastMs < LINE_INTERVAL_MS && shareOf(report) < 1) return;
    this.#lastMs = ms;
    if (this.#json) process.stderr.write(`${JSON.stringify(this.#describe({ report, ms }))}\n`);
    else this.#draw({ report, ms });
  }

  #remember(moment: Moment): void {
    if (this.#recent[0]?.report.phase !== moment.report.phase) this.#recent = [];
    const last = this.#recent.at(-1);
    if (last !== undefined && moment.ms - last.ms < LINE_INTERVAL_MS / 2) return;
    this.#recent.push(moment);
    while (moment.ms - (this.#recent[1]?.ms ?? moment.ms) >= RATE_WINDOW_MS) this.#recent.shift();
  }

  /** Ends the bar, so that what follows stands on a line of its own. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  #draw({ report, ms }: Moment): void {
    const bar = this.#bar;
    if (bar === undefined) return;
    const { docsPerSecond, etaSeconds } = this.#describe({ report, ms });
    const payload = {
      phase: report.phase.padEnd(PHASE_CHARS),
      docs: report.docsDone,
      rate: Math.round(docsPerSecond),
      left: etaSeconds === null ? '?' : `${Math.ceil(etaSeconds)}s`,
    };
    const done = shareOf(report) * BAR_STEPS;
    if (!bar.isActive) bar.start(BAR_STEPS, done, payload);
    bar.update(done, payload);
  }

  #describe({ report, ms }: Moment) {
    const { report: first, ms: firstMs } = this.#first ?? { report, ms };
    const seconds = (ms - firstMs) / 1000;
    const share = shareOf(report);
    const gained = share - shareOf(first);
    const reckoned = gained > 0 ? ((1 - share) / gained) * seconds : undefined;
    const secondsLeft = report.share === undefined ? reckoned : report.secondsLeft;
    const rate = (of: (report: ProgressReport) => number) => this.#rate({ report, ms }, of);
    const { secondsLeft: _, ...known } = report;
    return {
      ...known,
      percent: Math.round(share * 1000) / 10,
      seconds: Math.round(seconds * 10) / 10,
      docsPerSecond: rate(({ docsDone }) => docsDone),
      bytesPerSecond: rate(({ bytesDone }) => bytesDone),
      etaSeconds: secondsLeft === undefined ? null : Math.round(secondsLeft * 10) / 10,
    };
  }

  #rate({ report, ms }: Moment, of: (report: ProgressReport) => number): number {
    const [oldest] = this.#recent;
    if (oldest === undefined || ms === oldest.ms) return 0;
    return Math.round(((of(report) - of(oldest.report)) / (ms - oldest.ms)) * 1000);
  }
}

function shareOf({ share, bytesDone, bytesTotal }: ProgressReport): number {
  return share ?? (bytesTotal === 0 ? 1 : bytesDone / bytesTotal);
}

const BAR_STEPS = 1000;
/** Of the longest name of a phase. */
const PHASE_CHARS = 9;

const BAR_OPTIONS: Options = {
  format: '{phase} [{bar}] {percentage}% | {docs} docs, {rate} docs/s | {left} left',
  stream: process.stderr,
  hideCursor: true,
  clearOnComplete: false,
};
