/**
 * Gives jobs their turn: the oldest that want to run, so many at once. What a run ends with is made of it here: the job is completed, is
 * tried again later, or has failed and what it copied is removed.
 */
import type { Logger } from 'pino';
import { DivanError } from '../../engine/errors.js';
import type { ActiveTask, ActiveTasks } from '../active-tasks.js';
import type { Config } from '../config/config.js';
import { namesOfShardFile } from '../databases/shard-map.js';
import type { ServerHost } from '../world.js';
import type { JobRunner, SplitJob } from './job.js';
import { describeError, isMendable, retryDelayMs } from './job-failure.js';
import { JobRun } from './job-run.js';
import type { ManagedJob } from './managed-job.js';

export interface SchedulerOptions {
  readonly host: ServerHost;
  readonly config: Config;
  readonly tasks: ActiveTasks;
  readonly log: Logger;
  readonly runner: JobRunner;
}

export class JobScheduler {
  /** By id. */
  readonly jobs = new Map<string, ManagedJob>();
  /** Since the start of the server. */
  readonly counts = { completed: 0, failed: 0, retries: 0 };
  /** Why no job is begun; undefined while they are. */
  stopReason: string | undefined;
  readonly #options: SchedulerOptions;
  #isOpen = false;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    options.config.onChange('reshard/max_running', () => this.schedule());
  }

  /** From now on jobs are run. */
  open(): void {
    this.#isOpen = true;
    this.schedule();
  }

  /** Ends all runs, keeping what was done. */
  async close(): Promise<void> {
    this.#isOpen = false;
    const jobs = [...this.jobs.values()];
    for (const { cancelRetry } of jobs) cancelRetry?.();
    for (const { run } of jobs) run?.interrupt(true);
    await Promise.all(jobs.map(({ run }) => run?.ended));
  }

  /** In the order in which they were made. */
  inOrder(): ManagedJob[] {
    return [...this.jobs.values()].sort(
      ({ job: a }, { job: b }) => a.created - b.created || (a.id < b.id ? -1 : 1),
    );
  }

  get working(): ManagedJob[] {
    return [...this.jobs.values()].filter(({ run }) => run !== undefined);
  }

  get unfinished(): ManagedJob[] {
    return [...this.jobs.values()].filter(({ isUnfinished }) => isUnfinished);
  }

  /** True if a job that comes now need not wait. */
  get hasFreeTurn(): boolean {
    const isStopped = this.stopReason !== undefined;
    return !isStopped && this.#freeTurns > this.#waiting().length;
  }

  get #freeTurns(): number {
    return this.#options.config.get('reshard/max_running') - this.working.length;
  }

  #waiting(): ManagedJob[] {
    return this.inOrder().filter(
      (job) =>
        job.wantsToRun &&
        job.run === undefined &&
        job.cancelRetry === undefined &&
        job.holds === 0 &&
        (this.stopReason === undefined || job.isForward),
    );
  }

  /** Begins what has its turn now. */
  schedule(): void {
    if (!this.#isOpen) return;
    for (const job of this.#waiting().slice(0, Math.max(0, this.#freeTurns))) this.#begin(job);
  }

  /**
   * A database serves that was perhaps set aside before, which ended its jobs: a shard of it that may be on another node takes no writes until
   * its move, which goes on, has come to its end.
   */
  databaseBack(incarnation: string): void {
    for (const job of this.jobs.values()) {
      const { type, state, incarnation: own } = job.job;
      if (own !== incarnation || type !== 'move' || state !== 'failed' || !job.isForward) continue;
      this.#options.runner.hold?.(job.job);
      job.setState('running', undefined).then(
        () => this.schedule(),
        (err) => this.#options.log.error({ err, id: job.job.id }, 'a move can not go on'),
      );
    }
  }

  #begin(job: ManagedJob): void {
    const run = new JobRun();
    job.run = run;
    if (job.isForward) run.passedMap();
    const task = this.#taskOf(job.job);
    this.#run(job, run, task).finally(() => {
      job.run = undefined;
      task.end();
      run.end();
      this.schedule();
    });
  }

  #taskOf({ type, database, sources, phase }: SplitJob): ActiveTask {
    const { shard } = namesOfShardFile(sources[0] ?? '');
    return this.#options.tasks.begin({ type: `shard_${type}`, database, shard }, phase);
  }

  /** Never rejects. */
  async #run(job: ManagedJob, run: JobRun, task: ActiveTask): Promise<void> {
    try {
      await this.#started(job);
      if (run.signal.aborted && !job.isForward) return;
      const context = job.contextOf(run, ({ percent, docsDone, docsTotal }) => {
        const progress = { share: percent / 100, changesDone: docsDone, changesTotal: docsTotal };
        task.update({ phase: job.job.phase, ...progress });
      });
      await this.#options.runner.run(context);
      await job.change(() => ({
        state: 'completed',
        phase: 'completed',
        reason: undefined,
        error: undefined,
        event: { type: 'completed', detail: undefined },
      }));
      this.counts.completed++;
    } catch (error) {
      await this.#ended(job, run, error);
    }
    if (job.isToGo && job.job.state === 'completed') await this.#removeCompleted(job);
  }

  async #started(job: ManagedJob): Promise<void> {
    await job.change(({ phase, started }, time) => ({
      state: 'running',
      phase: phase === 'new' ? 'initial_copy' : phase,
      reason: undefined,
      started: started ?? time,
      event: { type: 'running', detail: phase === 'new' ? 'initial_copy' : phase },
    }));
  }

  /** What a run that was interrupted means is said by who interrupted it. */
  async #ended(job: ManagedJob, run: JobRun, error: unknown): Promise<void> {
    if (!this.#isOpen || (run.signal.aborted && !job.isForward)) return;
    const { log, config } = this.#options;
    const { id, retries } = job.job;
    log.warn({ err: error, id }, 'a job that splits or merges shards was interrupted');
    try {
      if (isMendable(error) && retries < config.get('reshard/max_retries')) {
        await this.#tryAgain(job, error);
      } else await this.#fail(job, error);
    } catch (err) {
      // What can not be written down can not be acted upon: it is tried as if nothing had happened.
      log.error({ err, id }, 'the state of a job could not be kept');
      this.#wait(job, retries + 1);
    }
  }

  async #tryAgain(job: ManagedJob, error: unknown): Promise<void> {
    const text = describeError(error);
    await job.change(({ retries }) => ({
      error: text,
      retries: retries + 1,
      event: { type: 'running', detail: text },
    }));
    this.counts.retries++;
    this.#wait(job, job.job.retries);
  }

  #wait(job: ManagedJob, retry: number): void {
    const { host, config } = this.#options;
    const waitMs = retryDelayMs(config.get('reshard/retry_interval'), retry);
    const cancel = host.setTimer(() => {
      job.cancelRetry = undefined;
      this.schedule();
    }, waitMs);
    job.cancelRetry = () => {
      job.cancelRetry = undefined;
      cancel();
    };
  }

  async #fail(job: ManagedJob, error: unknown): Promise<void> {
    const text = describeError(error);
    await job.change(() => ({
      state: 'failed',
      reason: text,
      error: text,
      event: { type: 'failed', detail: text },
    }));
    this.counts.failed++;
    job.isToGo = false;
    if (!job.isForward) await this.discard(job);
  }

  /** Removes what a job left on the disk. That it could not be is no reason to do anything else: the next start tries it again. */
  async discard(job: ManagedJob): Promise<void> {
    try {
      await this.#options.runner.discard(job.job);
    } catch (err) {
      const { id } = job.job;
      this.#options.log.error({ err, id }, 'what a job copied could not be removed');
    }
  }

  async #removeCompleted(job: ManagedJob): Promise<void> {
    try {
      await this.remove(job);
    } catch (err) {
      this.#options.log.error({ err, id: job.job.id }, 'a completed job could not be removed');
    }
  }

  /** Removes a job from the list, for good when it resolves. */
  async remove(job: ManagedJob): Promise<void> {
    await job.remove();
    this.jobs.delete(job.job.id);
  }

  /** The job of an id. Throws `NOT_FOUND`. */
  get(id: string): ManagedJob {
    const job = this.jobs.get(id);
    if (job !== undefined) return job;
    throw new DivanError('NOT_FOUND', 'missing');
  }
}
