/**
 * A job as the manager holds it: its record, and what is only true while the server runs.
 *
 * What the manager does with one job happens in its `turns`; what changes its record, in the order of the calls of `change`, since a run
 * changes it too.
 */
import { Turns } from '../turns.js';
import type { JobContext, JobEvent, JobReport, JobState, SplitJob } from './job.js';
import { withEvent } from './job-events.js';
import type { JobRun } from './job-run.js';
import type { JobStore } from './job-store.js';
import { isForward } from './phases.js';

/** What of a job can change, and what is to be told of the change. */
export interface JobChange
  extends Partial<
    Pick<
      SplitJob,
      | 'state'
      | 'phase'
      | 'rate'
      | 'reason'
      | 'error'
      | 'retries'
      | 'copied'
      | 'targets'
      | 'handover'
      | 'writePauseMs'
      | 'started'
    >
  > {
  readonly event?: Omit<JobEvent, 'time'>;
}

export class ManagedJob {
  /** What is done with it from outside of its run. */
  readonly turns = new Turns();
  /** While it works. */
  run: JobRun | undefined;
  /** How far the last run came. */
  report: JobReport | undefined;
  /** While it waits before it is tried again: ends that. */
  cancelRetry: (() => void) | undefined;
  /** While this is not 0 it is not run: something is done with it. */
  holds = 0;
  /** It is removed as soon as it is completed. */
  isToGo = false;
  /** Its record is removed. */
  isGone = false;
  readonly #store: JobStore;
  readonly #now: () => number;
  readonly #changes = new Turns();
  #job: SplitJob;

  /** `now` gives microseconds since 1970. */
  constructor(job: SplitJob, store: JobStore, now: () => number) {
    this.#job = job;
    this.#store = store;
    this.#now = now;
  }

  /** As it is kept. */
  get job(): SplitJob {
    return this.#job;
  }

  get isForward(): boolean {
    return isForward(this.#job.phase);
  }

  /** It is neither completed nor failed. */
  get isUnfinished(): boolean {
    return this.#job.state !== 'completed' && this.#job.state !== 'failed';
  }

  /** It would go on if it were its turn. */
  get wantsToRun(): boolean {
    const { state } = this.#job;
    return state === 'new' || state === 'running';
  }

  /** Changes the record, durable when it resolves. What `change` says is decided when all changes before it are made. */
  change(change: (job: SplitJob, time: number) => JobChange): Promise<void> {
    return this.#changes.run(async () => {
      if (this.isGone) return;
      const time = this.#now();
      const { event, ...members } = change(this.#job, time);
      const job = { ...this.#job, ...members, updated: time };
      const events = event === undefined ? job.events : withEvent(job.events, { time, ...event });
      const changed = { ...job, events };
      await this.#store.put(changed);
      this.#job = changed;
    });
  }

  /** Removes the record, for good when it resolves. */
  remove(): Promise<void> {
    return this.#changes.run(async () => {
      await this.#store.remove(this.#job.id);
      this.isGone = true;
    });
  }

  /** A change of its state, with the event that tells of it. */
  setState(state: JobState, reason: string | undefined): Promise<void> {
    return this.change(() => ({ state, reason, event: { type: state, detail: reason } }));
  }

  /** What a run is given. */
  contextOf(run: JobRun, onReport: (report: JobReport) => void): JobContext {
    return {
      signal: run.signal,
      keepPartial: () => run.keepPartial,
      update: (changes) => this.#update(run, changes),
      report: (report) => {
        this.report = report;
        onReport(report);
      },
      job: () => this.#job,
    };
  }

  async #update(run: JobRun, changes: Parameters<JobContext['update']>[0]): Promise<void> {
    const { phase } = changes;
    await this.change((job) => {
      if (phase === undefined || phase === job.phase) return changes;
      const event = { type: 'running' as const, detail: phase };
      return { ...changes, retries: 0, error: undefined, event };
    });
    if (this.isForward) run.passedMap();
  }
}
