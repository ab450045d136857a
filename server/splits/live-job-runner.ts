/**
 * Does the work of jobs on the shards that the server has open: the move of the documents, and then the removal of the files that they were
 * in. Everything can be done again after a crash at any point; whether the map was written is asked of the map.
 */
import { basename, dirname, join } from 'node:path';
import { DivanError } from '../../engine/errors.js';
import { compactCheckpointPath } from '../../engine/rewrite/compact.js';
import { WORKERS_DEFAULT } from '../../engine/rewrite/crew.js';
import { removeLeftovers } from '../../engine/rewrite/job.js';
import { discardCopies } from '../../engine/rewrite/move-live.js';
import type { Config } from '../config/config.js';
import type { Catalog } from '../databases/catalog.js';
import type { Database } from '../databases/database.js';
import type { ShardPool } from '../databases/shard-pool.js';
import { removeFile } from '../durable-names.js';
import { settledOrAborted } from '../settled-or-aborted.js';
import type { EventLoopWatch, ServerWorld } from '../world.js';
import type { JobContext, JobRunner, SplitJob } from './job.js';
import type { MoveSource } from './move-source.js';
import { Pacer } from './pacer.js';
import { ShardMove } from './shard-move.js';

export interface LiveJobOptions {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly catalog: Catalog;
  readonly pool: ShardPool;
  readonly dataDir: string;
  /** Threads that copy; 0 for the calling one, which a storage that only it can reach needs. Undefined for the usual number. */
  readonly workers: number | undefined;
  /** Undefined to go on at one rate, however late the event loop is. */
  readonly watchEventLoop: (() => EventLoopWatch) | undefined;
  readonly moves: MoveSource;
}

export class LiveJobRunner implements JobRunner {
  readonly #options: LiveJobOptions;
  /** Of the jobs that run, by their ids. */
  readonly #pacers = new Map<string, Pacer>();

  constructor(options: LiveJobOptions) {
    this.#options = options;
  }

  async run(context: JobContext): Promise<void> {
    const job = context.job();
    const database = this.#databaseOf(job);
    // What it copied may never have come into the map: it is for `discard` to remove both that and the sources.
    if (database === undefined) throw new DivanError('NOT_FOUND', 'the database was deleted');
    if (job.type === 'move') await this.#options.moves.run(context, database);
    else if (!hasMoved(database, job)) await this.#move(context, database);
    await this.#removeSources(context, database);
  }

  async discard(job: SplitJob): Promise<void> {
    if (job.type === 'move') await this.#options.moves.discard(job);
    else await this.#discardCopies(job);
    // Of a database that is gone nobody else removes what is not in its map any more.
    if (this.#databaseOf(job) === undefined) await this.#removeFiles(job);
  }

  async #discardCopies(job: SplitJob): Promise<void> {
    const kept = this.#keptAside(job);
    const targets = job.targets
      .filter(({ file }) => !kept.has(file))
      .map(({ range, file }) => ({ range, path: this.#path(file) }));
    const checkpointPath = this.#checkpointPath(job);
    await discardCopies(this.#options.world, { targets, checkpointPath });
  }

  hold(job: SplitJob): void {
    if (job.type === 'move') this.#options.moves.hold(job);
  }

  setRate(job: SplitJob, rate: number | undefined): void {
    this.#options.moves.setRate(job, rate);
    const configured = this.#options.config.get('reshard/rate');
    this.#pacers.get(job.id)?.setLimit(rate ?? (configured === 0 ? undefined : configured));
  }

  async #move(context: JobContext, database: Database): Promise<void> {
    const job = context.job();
    const { watchEventLoop } = this.#options;
    const { host } = this.#options.world;
    const workers = Math.max(1, this.#options.workers ?? WORKERS_DEFAULT);
    const pacer = new Pacer({ host, workers, loop: watchEventLoop?.() });
    this.#pacers.set(job.id, pacer);
    this.setRate(job, job.rate);
    try {
      const { world, catalog, config } = this.#options;
      const move = new ShardMove({
        ...{ world, catalog, database, context, pacer, workers: this.#options.workers },
        capMs: config.get('reshard/max_write_pause'),
        checkpointPath: this.#checkpointPath(job),
        pathOf: (file) => this.#path(file),
      });
      await move.run();
    } finally {
      pacer.close();
      this.#pacers.delete(job.id);
    }
  }

  /** Waits until nobody reads in the files of the sources any more, and removes them. */
  async #removeSources(context: JobContext, { ended }: Database): Promise<void> {
    const { pool } = this.#options;
    const job = context.job();
    if (job.phase !== 'wait_source_close' && job.phase !== 'source_delete') {
      await context.update({ phase: 'wait_source_close' });
    }
    for (const file of job.sources) {
      await settledOrAborted(pool.retire(this.#path(file)), ended);
      // Nobody waits for readers of a database that is gone.
      if (ended.aborted) throw new DivanError('NOT_FOUND', 'Database does not exist.');
    }
    await context.update({ phase: 'source_delete' });
    if (!job.keepSource) await this.#removeFiles(job);
  }

  /** The files of a database that is not served, but has documents that are still to go elsewhere. */
  #keptAside({ incarnation }: SplitJob): ReadonlySet<string> {
    const { aside } = this.#options.catalog;
    const shards = aside.has(incarnation) ? aside.get(incarnation).shards : [];
    return new Set(shards.map(({ file }) => file));
  }

  async #removeFiles(job: SplitJob): Promise<void> {
    const { storage } = this.#options.world;
    const kept = this.#keptAside(job);
    for (const file of job.sources) {
      if (kept.has(file)) continue;
      const path = this.#path(file);
      await removeFile(storage, path);
      await removeLeftovers(storage, {
        checkpointPath: compactCheckpointPath(path),
        name: basename(path),
        directories: [dirname(path)],
      });
    }
  }

  #databaseOf({ database, incarnation }: SplitJob): Database | undefined {
    const found = this.#options.catalog.find(database);
    return found?.map.incarnation === incarnation ? found : undefined;
  }

  /** Beside the first source. */
  #checkpointPath({ sources }: SplitJob): string {
    const path = this.#path(sources[0] ?? '');
    return join(dirname(path), `.${basename(path)}.move`);
  }

  #path(file: string): string {
    return join(this.#options.dataDir, ...file.split('/'));
  }
}

/** True once the map has the targets instead of the sources. A later job may have moved the targets on. */
function hasMoved({ map }: Database, { sources }: SplitJob): boolean {
  return !map.shards.some(({ file }) => sources.includes(file));
}
