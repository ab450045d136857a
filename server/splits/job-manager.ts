/**
 * The jobs that split and merge shards of this node: made, listed, stopped, resumed, removed. They are records of the node, so that they
 * survive its restarts: those that ran go on by themselves, those that were stopped stay so.
 *
 * Three things stop a job: the switch, which stops all of them and of which the records of the jobs know nothing; a stop of that one job,
 * which survives the start of all; the stop of the server. Each keeps what was copied. A job that may have written the map is only ever
 * finished.
 */
import type { Logger } from 'pino';
import { DivanError } from '../../engine/errors.js';
import type { ActiveTasks } from '../active-tasks.js';
import type { ClusterSeams } from '../cluster/parts.js';
import type { Node } from '../cluster/peers.js';
import type { Config } from '../config/config.js';
import type { Catalog } from '../databases/catalog.js';
import type { Compactions } from '../databases/compaction.js';
import type { Database } from '../databases/database.js';
import { namesOfShardFile } from '../databases/shard-map.js';
import { settledOrAborted } from '../settled-or-aborted.js';
import { Turns } from '../turns.js';
import type { ServerWorld } from '../world.js';
import type { JobRunner, SplitJob } from './job.js';
import { jobIdOf } from './job-id.js';
import { JobScheduler } from './job-scheduler.js';
import { type JobStatus, statusOf } from './job-status.js';
import { type JobRecords, JobStore } from './job-store.js';
import { JobSwitch } from './job-switch.js';
import { ManagedJob } from './managed-job.js';
import { newJob } from './new-job.js';
import {
  assertRoom,
  type JobPlan,
  type JobRequest,
  type MovePlanning,
  planJob,
} from './plan-job.js';

export interface JobManagerOptions {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly records: JobRecords;
  readonly tasks: ActiveTasks;
  readonly log: Logger;
  readonly catalog: Catalog;
  readonly compactions: Pick<Compactions, 'isRequested'>;
  readonly runner: JobRunner;
  readonly moves: MovePlanning;
  /** Has the switch. */
  readonly cluster: Pick<ClusterSeams, 'records' | 'membership'>;
}

/** How long the removal of a job that is past the map waits for its end; it happens in any case. */
const REMOVE_WAIT_MS = 2000;
const DATABASE_DELETED = 'the database was deleted';

export class JobManager {
  readonly #options: JobManagerOptions;
  readonly #store: JobStore;
  readonly #scheduler: JobScheduler;
  /** What decides which jobs there may be. */
  readonly #admission = new Turns();
  readonly #switching = new Turns();
  readonly #switch: JobSwitch;
  readonly #closing = new AbortController();
  /** What was begun at the start of the server. */
  readonly #settling = new Set<Promise<void>>();
  #lastTime = 0;

  private constructor(options: JobManagerOptions) {
    const { world, records, cluster } = options;
    this.#options = options;
    this.#store = new JobStore(records);
    this.#scheduler = new JobScheduler({ ...options, host: world.host });
    this.#switch = new JobSwitch(cluster.records, cluster.membership);
  }

  /** Finds the jobs that there are; none is run before `begin`. Throws `CORRUPT`. */
  static open(options: JobManagerOptions): JobManager {
    const manager = new JobManager(options);
    manager.#scheduler.stopReason = manager.#switch.reason;
    for (const job of manager.#store.jobs()) {
      manager.#add(job);
      options.runner.hold?.(job);
    }
    return manager;
  }

  /** Settles what happened while the server did not run, and has the jobs go on, once it is known whether other nodes have stopped them. */
  begin(): void {
    const { catalog } = this.#options;
    catalog.onChange((_name, what, database) => {
      if (what === 'deleted') this.#databaseDeleted(database);
      if (what === 'created') this.#scheduler.databaseBack(database.map.incarnation);
    });
    for (const managed of this.#scheduler.jobs.values()) {
      if (this.#databaseOf(managed.job) === undefined) this.#settle(this.#endDeleted(managed));
      else if (managed.job.state === 'failed' && !managed.isForward) {
        this.#settle(managed.turns.run(() => this.#scheduler.discard(managed)));
      }
    }
    this.#switch.onChange(() => this.#follow());
    const heard = settledOrAborted(this.#switch.heard(), this.#closing.signal);
    this.#settle(heard.then(() => this.#openScheduler()));
  }

  #openScheduler(): void {
    if (this.#closing.signal.aborted) return;
    this.#scheduler.stopReason = this.#switch.reason;
    this.#scheduler.open();
  }

  /** Does what the switch says, which another node may have set. */
  #follow(): void {
    if (this.#closing.signal.aborted) return;
    this.#scheduler.stopReason = this.#switch.reason;
    this.#settle(this.#switching.run(() => this.#obey()));
  }

  async #obey(): Promise<void> {
    const { reason } = this.#switch;
    this.#scheduler.stopReason = reason;
    if (reason === undefined) this.#scheduler.schedule();
    else await Promise.all(this.#scheduler.working.map((job) => this.#halt(job, true)));
  }

  /** Ends all runs; they go on at the next start. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#scheduler.close();
    await Promise.all(this.#settling);
  }

  /** Why all jobs are stopped; undefined while they are not. */
  get stopReason(): string | undefined {
    return this.#scheduler.stopReason;
  }

  /** Since the start of the server. */
  get counts(): Readonly<JobScheduler['counts']> {
    return this.#scheduler.counts;
  }

  /** How many work, and how many would like to. */
  get load(): { readonly working: number; readonly waiting: number } {
    const working = this.#scheduler.working.length;
    return { working, waiting: this.#scheduler.unfinished.length - working };
  }

  /** Of those that work: what they copied, and what they have to. */
  get bytes(): { readonly done: number; readonly total: number } {
    const reports = this.#scheduler.working.map(({ report }) => report);
    const sumOf = (of: 'bytesDone' | 'bytesTotal') =>
      reports.reduce((sum, report) => sum + (report?.[of] ?? 0), 0);
    return { done: sumOf('bytesDone'), total: sumOf('bytesTotal') };
  }

  /** By their ids, as they are at any time. */
  get all(): ReadonlyMap<string, Pick<ManagedJob, 'job'>> {
    return this.#scheduler.jobs;
  }

  /** In the order in which they were made. */
  list(): JobStatus[] {
    return this.#scheduler.inOrder().map((job) => statusOf(job, this.stopReason));
  }

  /** Throws `NOT_FOUND`. */
  get(id: string): JobStatus {
    return statusOf(this.#scheduler.get(id), this.stopReason);
  }

  /** What `create` would do. Throws what it throws, but for a lack of room and of turns. */
  plan(request: JobRequest): Promise<JobPlan> {
    const { world, config, catalog, compactions } = this.#options;
    return planJob(
      {
        world,
        dataDir: config.get('couchdb/database_dir'),
        catalog,
        jobs: [...this.#scheduler.jobs.values()].map(({ job }) => job),
        bytesDone: ({ id }) => this.#scheduler.jobs.get(id)?.report?.bytesDone ?? 0,
        isCompacting: (database) => compactions.isRequested(database),
        moves: this.#options.moves,
      },
      request,
    );
  }

  /**
   * Makes a job, durable when it resolves; it waits for its turn. Throws what `planJob` throws, `NO_SPACE`, `MAX_JOBS`, and `STOPPED` while
   * all jobs are stopped, unless it may be made even so.
   */
  create(request: JobRequest, options: { readonly whileStopped: boolean }): Promise<SplitJob> {
    return this.#admission.run(async () => {
      if (!options.whileStopped) this.#assertStarted();
      const plan = await this.plan(request);
      this.#assertAdmitted();
      assertRoom(plan.space);
      const job = this.#newJob(request, plan);
      await this.#store.put(job);
      if (plan.database.ended.aborted) {
        // It was not there yet when those of the database were ended.
        await this.#store.remove(job.id);
        throw new DivanError('NOT_FOUND', 'Database does not exist.');
      }
      this.#add(job);
      this.#scheduler.schedule();
      return job;
    });
  }

  /** Stops all jobs and says why; resolves when each of this node keeps what it did, or is past the map, where it goes on. */
  stop(reason: string): Promise<void> {
    return this.#switching.run(async () => {
      await this.#switch.stop(reason);
      await this.#obey();
    });
  }

  /** Has all jobs go on but those that were stopped one by one. */
  start(): Promise<void> {
    return this.#switching.run(async () => {
      await this.#switch.start();
      await this.#obey();
    });
  }

  /** Resolves when what the switch says now is done on this node. */
  obeyed(): Promise<void> {
    return this.#switching.run(async () => undefined);
  }

  /** As `JobSwitch.toMembers`. */
  tellSwitch(): Promise<readonly Node[]> {
    return this.#switch.toMembers();
  }

  /** Stops a job until it is resumed; one that is past the map, or finished, is left alone. Throws `NOT_FOUND`. */
  stopJob(id: string, reason: string): Promise<void> {
    const job = this.#scheduler.get(id);
    return this.#held(job, async () => {
      if (!job.isUnfinished || job.isForward) return;
      await this.#halt(job, true);
      if (!job.isUnfinished || job.isForward) return;
      await job.setState('stopped', reason);
    });
  }

  /** Changes how much a job may copy in a second; undefined for the rate of the configuration. At once if it works. Throws `NOT_FOUND`. */
  setRate(id: string, rate: number | undefined): Promise<void> {
    const job = this.#scheduler.get(id);
    return job.turns.run(async () => {
      if (job.isGone) throw new DivanError('NOT_FOUND', 'missing');
      await job.change(() => ({ rate }));
      this.#options.runner.setRate(job.job, rate);
    });
  }

  /**
   * Has a job go on that was stopped or has failed: one that copied nothing that is left begins anew. Throws `NOT_FOUND`, also for a shard
   * that is not there any more, `BUSY`, `MAX_JOBS`, and `STOPPED` while all jobs are stopped.
   */
  resumeJob(id: string): Promise<void> {
    const job = this.#scheduler.get(id);
    return this.#held(job, () =>
      this.#admission.run(async () => {
        if (job.job.state === 'completed') return;
        this.#assertStarted();
        await this.#failing(job);
        if (job.wantsToRun) return;
        if (job.job.state === 'failed') this.#assertRepeatable(job);
        await job.change(({ state, phase }) => ({
          ...(state === 'failed' && !job.isForward
            ? { phase: 'new', copied: undefined }
            : { phase }),
          state: 'new',
          reason: undefined,
          error: undefined,
          retries: 0,
          event: { type: 'new', detail: undefined },
        }));
      }),
    );
  }

  /**
   * Removes a job. One that is not past the map is ended first, and what it copied is removed; one that is past it gets to its end, and this
   * waits for it a moment only. Durable when it resolves, but for the latter. Throws `NOT_FOUND`.
   */
  async remove(id: string): Promise<void> {
    const job = this.#scheduler.get(id);
    await this.#held(job, async () => {
      if (job.isGone) throw new DivanError('NOT_FOUND', 'missing');
      if (!this.#mustFinish(job)) await this.#halt(job, false);
      if (this.#mustFinish(job)) return;
      if (job.job.state !== 'completed') await this.#undo(job, 'it was being removed');
      await this.#scheduler.remove(job);
    });
    if (!job.isGone) await this.#finish(job);
  }

  /** It is past the map of a database that is there, and not at its end. */
  #mustFinish(job: ManagedJob): boolean {
    const isThere = this.#databaseOf(job.job) !== undefined;
    return job.isForward && job.job.state !== 'completed' && isThere;
  }

  /** Removes a job that is past the map as soon as it is completed. */
  async #finish(job: ManagedJob): Promise<void> {
    job.isToGo = true;
    if (!job.wantsToRun && job.job.state !== 'completed') await job.setState('running', undefined);
    job.cancelRetry?.();
    this.#scheduler.schedule();
    if (job.job.state === 'completed' && job.run === undefined) {
      await this.#scheduler.remove(job);
      return;
    }
    const { host } = this.#options.world;
    await new Promise<void>((resolve) => {
      const cancel = host.setTimer(resolve, REMOVE_WAIT_MS);
      job.run?.ended.then(() => {
        cancel();
        resolve();
      });
    });
    if (job.isGone) return;
    if (job.job.state === 'completed') await this.#scheduler.remove(job);
    if (job.job.state === 'failed') {
      const reason = `the job could not be finished, which must be before it is removed: ${job.job.reason}`;
      throw new DivanError('UNAVAILABLE', reason);
    }
  }

  /** Has the run of a job end, if there is one, unless it is past the map. */
  async #halt(job: ManagedJob, keepPartial: boolean): Promise<void> {
    job.cancelRetry?.();
    job.run?.interrupt(keepPartial);
    await job.run?.halted;
  }

  /** What was copied is only removed when it is durable that the job does not go on with it. REQUIRES: it does not run. */
  async #undo(job: ManagedJob, reason: string): Promise<void> {
    if (job.isUnfinished) await job.setState('failed', reason);
    await this.#options.runner.discard(job.job);
  }

  /** Resolves when what a job that fails leaves is removed. */
  async #failing(job: ManagedJob): Promise<void> {
    if (job.job.state === 'failed') await job.run?.ended;
  }

  /** Calls `work` when nothing else is done with a job, which is not begun meanwhile. */
  async #held<T>(job: ManagedJob, work: () => Promise<T>): Promise<T> {
    job.holds++;
    try {
      return await job.turns.run(work);
    } finally {
      job.holds--;
      this.#scheduler.schedule();
    }
  }

  /** The deletion waits for what is begun here before it removes the files. */
  #databaseDeleted(database: Database): void {
    for (const job of this.#scheduler.jobs.values()) {
      const { incarnation } = job.job;
      if (incarnation === database.map.incarnation) database.run(this.#endDeleted(job));
    }
  }

  /** Ends a job whose database is not there any more. Never rejects. */
  async #endDeleted(job: ManagedJob): Promise<void> {
    try {
      await this.#held(job, async () => {
        if (job.isGone) return;
        job.cancelRetry?.();
        job.run?.interrupt(false);
        await job.run?.ended;
        if (job.job.state === 'completed') await this.#scheduler.remove(job);
        else await this.#undo(job, DATABASE_DELETED);
      });
    } catch (err) {
      this.#options.log.error({ err, id: job.job.id }, 'a job of a deleted database is left');
    }
  }

  #settle(work: Promise<void>): void {
    this.#settling.add(work);
    work.finally(() => this.#settling.delete(work));
  }

  #databaseOf({ database, incarnation }: SplitJob): Database | undefined {
    const found = this.#options.catalog.find(database);
    return found?.map.incarnation === incarnation ? found : undefined;
  }

  #assertStarted(): void {
    if (this.stopReason !== undefined) throw new DivanError('STOPPED', this.stopReason);
  }

  #assertAdmitted(): void {
    const { config } = this.#options;
    const { waiting, working } = this.load;
    if (this.#scheduler.hasFreeTurn || waiting < config.get('reshard/max_jobs')) return;
    throw new DivanError('MAX_JOBS', `There are ${waiting + working} jobs currently running`);
  }

  /** A failed job held no shard, and another may have taken it. */
  #assertRepeatable(failed: ManagedJob): void {
    const database = this.#databaseOf(failed.job);
    if (database === undefined) throw new DivanError('NOT_FOUND', DATABASE_DELETED);
    this.#assertAdmitted();
    if (failed.isForward) return;
    for (const file of failed.job.sources) {
      const name = namesOfShardFile(file).shard;
      if (!database.map.shards.some((place) => place.file === file)) {
        throw new DivanError('NOT_FOUND', `the shard ${name} is not on this node any more`);
      }
      const other = this.#scheduler.unfinished.find(({ job }) => job.sources.includes(file));
      if (other !== undefined) {
        throw new DivanError('BUSY', `the shard ${name} is in the job ${other.job.id} already`);
      }
    }
  }

  #add(job: SplitJob): void {
    this.#lastTime = Math.max(this.#lastTime, job.updated);
    this.#scheduler.jobs.set(job.id, new ManagedJob(job, this.#store, () => this.#now()));
  }

  #newJob(request: JobRequest, plan: JobPlan): SplitJob {
    const node = this.#options.config.get('node/name');
    const names = plan.sources.map((file) => namesOfShardFile(file).shard);
    const id = jobIdOf(names, node, (id) => this.#scheduler.jobs.has(id));
    return newJob(request, plan, { id, node, time: this.#now() });
  }

  /** Microseconds since 1970. What happens within one millisecond, the finest that the clock tells, is told apart by counting. */
  #now(): number {
    const now = Math.floor(this.#options.world.host.timeOfDay() * 1000);
    const isSameTick = now <= this.#lastTime && this.#lastTime - now < 1000;
    this.#lastTime = isSameTick ? this.#lastTime + 1 : now;
    return this.#lastTime;
  }
}
