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
}

const LINE_INTERVAL_MS = 500;

/** Shows the reports that it is given, as often as a person or a program wants to see them. */
export class Progress {
  readonly #host: Host;
  readonly #json: boolean;
  readonly #startMs: number;
  #bar: SingleBar | undefined;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(host: Host, json: boolean) {
    this.#host = host;
    this.#json = json;
    this.#startMs = host.now();
    if (!json && process.stderr.isTTY)
      this.#bar = new SingleBar(BAR_OPTIONS, Presets.shades_classic);
  }

  show(report: ProgressReport): void {
    const now = this.#host.now();
    if (now - this.#lastMs < LINE_INTERVAL_MS && report.bytesDone < report.bytesTotal) return;
    this.#lastMs = now;
    if (this.#json) process.stderr.write(`${JSON.stringify(this.#describe(report, now))}\n`);
    else this.#draw(report, now);
  }

  /** Ends the bar, so that what follows stands on a line of its own. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  #draw(report: ProgressReport, now: number): void {
    const bar = this.#bar;
    if (bar === undefined) return;
    const { docsPerSecond } = this.#describe(report, now);
    const payload = { phase: report.phase, docs: report.docsDone, rate: Math.round(docsPerSecond) };
    if (!bar.isActive) bar.start(report.bytesTotal, report.bytesDone, payload);
    bar.setTotal(report.bytesTotal);
    bar.update(report.bytesDone, payload);
  }

  #describe(report: ProgressReport, now: number) {
    const seconds = (now - this.#startMs) / 1000;
    const share = report.bytesTotal === 0 ? 1 : report.bytesDone / report.bytesTotal;
    return {
      ...report,
      percent: Math.round(share * 1000) / 10,
      seconds: Math.round(seconds * 10) / 10,
      docsPerSecond: seconds === 0 ? 0 : report.docsDone / seconds,
      etaSeconds: share === 0 ? null : Math.round((seconds / share - seconds) * 10) / 10,
    };
  }
}

const BAR_OPTIONS: Options = {
  format: '{phase} [{bar}] {percentage}% | {docs} docs, {rate} docs/s | ETA {eta_formatted}',
  stream: process.stderr,
  hideCursor: true,
  clearOnComplete: false,
  etaBuffer: 50,
};
