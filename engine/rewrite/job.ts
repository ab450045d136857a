/**
 * What all rewrites share around the pipeline: checkpoints and resuming, checking, cleaning up.
 *
 * The stages: a checkpoint with the plan -> targets written under temporary names, with checkpoints -> verified -> checkpoint
 * "finishing" -> names -> checkpoint removed. Until the names nothing is visible; from "finishing" on a resumption only goes
 * forward. Every stage can be done again.
 */
import { dirname } from 'node:path';
import { DivanError, type ErrorCode, isDivanError } from '../errors.js';
import type { Storage } from '../file/storage.js';
import type { ShardWorld } from '../shard/shard.js';
import type { Counters } from '../shard/state.js';
import { type Checkpoint, readCheckpoint, writeCheckpoint } from './checkpoint.js';
import { CheckpointWriter } from './checkpoint-writer.js';
import { Throttle } from './control.js';
import {
  afterRemoval,
  assertNoneExists,
  discardFiles,
  giveNames,
  type JobFiles,
  makeDirectories,
} from './job-files.js';
import { JobMeter, type JobProgress } from './job-meter.js';
import type { RewriteResult } from './pipeline.js';
import type { RewritePlan } from './plan.js';
import type { TargetState } from './target.js';
import { makeTasks } from './tasks.js';
import { runTasks } from './workers.js';

export const WORKERS_DEFAULT = 2;

export interface JobOptions {
  /** Worker threads; 0 does the work on the calling thread, through the storage that was given. */
  readonly workers?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Speed, to be changed while it runs. */
  readonly throttle?: Throttle | undefined;
  /** False to do without checkpoints, and so without resuming. */
  readonly checkpoints?: boolean | undefined;
  /** True to leave checkpoint and partial targets for a resumption when it is cancelled. */
  readonly keepPartial?: boolean | undefined;
  readonly onProgress?: ((progress: JobProgress) => void) | undefined;
}

/** A rewrite that is about to run: new, or with the checkpoint of an earlier run. */
export interface Job {
  readonly plan: RewritePlan;
  readonly files: JobFiles;
  readonly checkpoint: Checkpoint | undefined;
  /** Of the sources together. */
  readonly counters: Counters;
}

/** Errors after which a later run can go on: what was done is kept. */
const RESUMABLE: readonly ErrorCode[] = ['NO_SPACE', 'IO'];

/**
 * Runs a rewrite. Throws `ABORTED`, `EXISTS`, `OUT_OF_RANGE`, `VERIFY_FAILED`, `WORKER`, and what reading and writing throw. Nothing is
 * left behind then, but after `NO_SPACE` and `IO`, and if it is asked for, what a resumption needs.
 */
export async function runJob(world: ShardWorld, job: Job, options: JobOptions): Promise<void> {
  const { storage } = world;
  const { plan, files } = job;
  if (job.checkpoint?.finishing !== true) {
    await writeOrDiscard(world, job, options);
    await writeCheckpoint(storage, files.checkpointPath, { plan, finishing: true, states: [] });
  }
  await giveNames(storage, plan, files);
}

async function writeOrDiscard(world: ShardWorld, job: Job, options: JobOptions): Promise<void> {
  const { storage } = world;
  const { files, plan } = job;
  const made: string[] = [];
  let begun = job.checkpoint !== undefined;
  try {
    if (plan.kind !== 'compact') await assertNoneExists(storage, files);
    for (const { path } of files.targets) await makeDirectories(storage, dirname(path), made);
    const states = await usableStates(storage, job);
    const writer = new CheckpointWriter(storage, files.checkpointPath, plan, states);
    // The plan is durable before the first byte of a target.
    await writer.write();
    begun = true;
    await writeTargets(world, job, states, options, writer);
  } catch (error) {
    if (begun && isDivanError(error) && isKept(error.code, options)) throw error;
    throw await afterRemoval(error, () => discardFiles(storage, files, made));
  }
}

/** The states of the targets that are still there; of the others nothing is left, so that they are begun anew. */
async function usableStates(storage: Storage, { files, checkpoint }: Job): Promise<TargetState[]> {
  const states: TargetState[] = [];
  for (const [index, { temporaryPath }] of files.targets.entries()) {
    const state = checkpoint?.states.find((known) => known.index === index);
    const isThere = (await storage.identity(temporaryPath)) !== undefined;
    if (isThere && state !== undefined) states.push(state);
    else if (isThere) await storage.remove(temporaryPath);
  }
  return states;
}

/** The checkpoint of an earlier run. `foreign` says why its plan is not the one that is wanted, if it is not. Throws `CHECKPOINT`. */
export async function findCheckpoint(
  storage: Storage,
  path: string,
  foreign: (plan: RewritePlan) => string | undefined,
): Promise<Checkpoint | undefined> {
  const checkpoint = await readCheckpoint(storage, path);
  if (checkpoint === undefined) return undefined;
  const reason = foreign(checkpoint.plan);
  if (reason === undefined) return checkpoint;
  throw new DivanError(
    'CHECKPOINT',
    `${path} is of another run: ${reason}; repeat that run, or discard what it left (--discard)`,
    { path },
  );
}

function isKept(code: ErrorCode, { keepPartial, checkpoints }: JobOptions): boolean {
  if (checkpoints === false) return false;
  return RESUMABLE.includes(code) || (code === 'ABORTED' && keepPartial === true);
}

/** Writes and checks the targets under their temporary names. */
async function writeTargets(
  world: ShardWorld,
  { plan, files, counters }: Job,
  states: readonly TargetState[],
  options: JobOptions,
  writer: CheckpointWriter,
): Promise<void> {
  const workers = options.workers ?? WORKERS_DEFAULT;
  const tasks = makeTasks(plan, files, states, Math.max(1, workers));
  const meter = new JobMeter(counters, tasks.length, options.onProgress);
  const throttle = options.throttle ?? new Throttle();
  const stop = () => throttle.cancel();
  options.signal?.addEventListener('abort', stop);
  if (options.signal?.aborted === true) stop();
  try {
    const results = await runTasks(world, tasks, {
      workers,
      throttle,
      onProgress: (task, progress) => meter.progress(task, progress),
      onCheckpoint: options.checkpoints === false ? undefined : (newer) => writer.update(newer),
    });
    compareCounts(counters, results);
  } finally {
    options.signal?.removeEventListener('abort', stop);
    await writer.idle();
  }
}

/** The targets together must hold as much as the sources. */
function compareCounts(expected: Counters, targets: readonly RewriteResult[]): void {
  const names = ['liveDocs', 'deletedDocs', 'activeBytes', 'externalBytes', 'purgeInfos'] as const;
  for (const name of names) {
    const actual = targets.reduce((sum, { counters }) => sum + counters[name], 0);
    if (actual === expected[name]) continue;
    throw new DivanError(
      'VERIFY_FAILED',
      `the targets hold ${actual} ${name}, the source ${expected[name]}; none of them was kept`,
      { expected: expected[name], actual },
    );
  }
}
