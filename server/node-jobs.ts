/** The jobs of a server, of this node and of all others, put together. */
import type { Services } from './api/services.js';
import type { ClusterSeams } from './cluster/parts.js';
import type { Catalog } from './databases/catalog.js';
import { ShardHandover } from './databases/shard-handover.js';
import type { ServerOptions } from './server.js';
import { ClusterJobs } from './splits/cluster-jobs.js';
import { JobManager } from './splits/job-manager.js';
import { LiveJobRunner } from './splits/live-job-runner.js';
import { MoveSource } from './splits/move-source.js';
import { MoveTarget } from './splits/move-target.js';
import { OwnJobs } from './splits/own-jobs.js';
import { filesOf } from './splits/plan-job.js';

type JobOptions = Pick<
  ServerOptions,
  'world' | 'config' | 'log' | 'runner' | 'rewriteWorkers' | 'watchEventLoop'
>;
type JobParts = Pick<Services, 'records' | 'tasks' | 'pool' | 'catalog'> & {
  readonly compactions: Pick<Services['compactions'], 'isRequested'>;
};

/** The jobs of this node. Throws `CORRUPT` for records of theirs that are malformed. */
export function openJobs(
  { world, config, log, runner, rewriteWorkers: workers, watchEventLoop }: JobOptions,
  cluster: ClusterSeams,
  parts: JobParts,
): JobManager {
  const { catalog, pool } = parts;
  const dataDir = config.get('couchdb/database_dir');
  const common = { world, config, pool, dataDir, watchEventLoop };
  const handover = new ShardHandover(catalog);
  const moves = new MoveSource({ ...common, ...cluster, handover }, cluster.handlers);
  const jobs = JobManager.open({
    ...{ ...parts, world, config, log, cluster, moves },
    runner: runner ?? new LiveJobRunner({ ...common, catalog, workers, moves }),
  });
  moves.attach(jobs.all);
  return jobs;
}

/** Takes shards that other nodes move to this one. */
export function openMoveTarget(
  { world, config, log, rewriteWorkers: workers }: JobOptions,
  { membership, calls, handlers }: ClusterSeams,
  parts: Pick<Services, 'records' | 'pool' | 'catalog' | 'jobs'>,
): MoveTarget {
  const { records, pool, catalog, jobs } = parts;
  return new MoveTarget(
    {
      ...{ world, records, pool, catalog, membership, calls, workers },
      dataDir: config.get('couchdb/database_dir'),
      handover: new ShardHandover(catalog),
      isInJob: (file) => [...jobs.all.values()].some(({ job }) => filesOf(job).includes(file)),
      onError: (err) => log.warn({ err }, 'what became of a shard is asked again later'),
    },
    handlers,
  );
}

/** The jobs of all nodes. */
export function openClusterJobs(
  cluster: ClusterSeams,
  jobs: JobManager,
  catalog: Catalog,
): ClusterJobs {
  return new ClusterJobs(new OwnJobs(jobs, catalog), cluster);
}
