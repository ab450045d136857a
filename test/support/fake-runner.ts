/** Does the work of jobs by name only: each run stands still until the test says what it does. */
import { DivanError } from '../../engine/errors.js';
import type { JobContext, JobReport, JobRunner, Phase, SplitJob } from '../../server/splits/job.js';
import { isForward } from '../../server/splits/phases.js';

export const REPORT: JobReport = {
  docsDone: 1,
  docsTotal: 4,
  bytesDone: 100,
  bytesTotal: 400,
  percent: 25,
  bytesPerSecond: 50,
  throttle: 60,
  etaSeconds: 6,
  behind: 3,
};

export class FakeRun {
  readonly context: JobContext;
  readonly ended: Promise<void>;
  /** What it was told of what it copied when it was interrupted. */
  keptPartial: boolean | undefined;
  #resolve: () => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor(context: JobContext) {
    this.context = context;
    this.ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    context.signal.addEventListener('abort', () => this.#aborted());
  }

  get job(): SplitJob {
    return this.context.job();
  }

  async to(phase: Phase): Promise<void> {
    await this.context.update({ phase });
  }

  report(report: JobReport = REPORT): void {
    this.context.report(report);
  }

  finish(): void {
    this.#resolve();
  }

  fail(error: unknown): void {
    this.#reject(error);
  }

  #aborted(): void {
    this.keptPartial = this.context.keepPartial();
    if (!isForward(this.job.phase)) this.#reject(new DivanError('ABORTED', 'cancelled'));
  }
}

export class FakeRunner implements JobRunner {
  readonly runs: FakeRun[] = [];
  /** The ids of the jobs whose traces were to be removed. */
  readonly discarded: string[] = [];
  readonly rates: { readonly id: string; readonly rate: number | undefined }[] = [];
  #awaited: (() => void)[] = [];

  run(context: JobContext): Promise<void> {
    const run = new FakeRun(context);
    this.runs.push(run);
    for (const tell of this.#awaited.splice(0)) tell();
    return run.ended;
  }

  async discard({ id }: SplitJob): Promise<void> {
    this.discarded.push(id);
  }

  setRate({ id }: SplitJob, rate: number | undefined): void {
    this.rates.push({ id, rate });
  }

  /** The run of that number, from 0 on, once it has begun. */
  async begun(index: number): Promise<FakeRun> {
    for (;;) {
      const run = this.runs[index];
      if (run !== undefined) return run;
      await new Promise<void>((resolve) => this.#awaited.push(resolve));
    }
  }
}
