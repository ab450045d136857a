/** The parts of a server that keep something, with the manager of jobs among them, on a storage that loses power. */
import pino from 'pino';
import { ActiveTasks } from '../../server/active-tasks.js';
import type { Catalog } from '../../server/databases/catalog.js';
import type { ShardPool } from '../../server/databases/shard-pool.js';
import { openJobs } from '../../server/node-jobs.js';
import type { NodeRecords } from '../../server/node-records.js';
import type { JobManager } from '../../server/splits/job-manager.js';
import { EagerHost } from './eager-host.js';
import { DATA_DIR, openKeptParts } from './kept-parts.js';
import { loneSeams } from './lone-seams.js';
import { configOf } from './server-world.js';
import type { SimulatedDisk } from './simulated-disk.js';

/** A job that has not ended after so many turns of the event loop never will. */
const TURNS_MAX = 50_000;

export class JobNode {
  readonly host: EagerHost;
  readonly records: NodeRecords;
  readonly pool: ShardPool;
  readonly catalog: Catalog;
  readonly jobs: JobManager;

  private constructor(
    host: EagerHost,
    parts: Pick<JobNode, 'records' | 'pool' | 'catalog' | 'jobs'>,
  ) {
    this.host = host;
    this.records = parts.records;
    this.pool = parts.pool;
    this.catalog = parts.catalog;
    this.jobs = parts.jobs;
  }

  /** Starts as `DivanServer.build` does. */
  static async start(disk: SimulatedDisk, seed: number): Promise<JobNode> {
    const host = new EagerHost(seed);
    const world = { storage: disk.ofProcess(), host };
    const { records, pool, catalog } = await openKeptParts(world);
    const config = configOf(
      '[couchdb]',
      `database_dir = ${DATA_DIR}`,
      '[reshard]',
      'rate = 0',
      'max_write_pause = 60000',
      'retry_interval = 100',
    );
    const jobs = openJobs(
      { world, config, log: pino({ level: 'silent' }), rewriteWorkers: 0 },
      await loneSeams(records),
      {
        ...{ records, pool, catalog },
        tasks: new ActiveTasks(host),
        compactions: { isRequested: () => false },
      },
    );
    // What fails here is tried again by whoever settles next.
    catalog.settle(() => undefined);
    jobs.begin();
    return new JobNode(host, { records, pool, catalog, jobs });
  }

  /** Resolves when no job works, or would like to; false if that does not come. */
  async idle(): Promise<boolean> {
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      const { working, waiting } = this.jobs.load;
      if (working === 0 && waiting === 0) return true;
      await this.host.yieldTurn();
    }
    return false;
  }

  async close(): Promise<void> {
    await this.jobs.close();
    await this.pool.close();
    await this.records.close();
    this.host.die();
  }
}
