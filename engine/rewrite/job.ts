/**
 * What all rewrites share around the pipeline: checkpoints and resuming, checking, cleaning up.
 *
 * The stages: a checkpoint with the plan -> targets written under temporary names, with checkpoints -> verified -> checkpoint
 * "finishing" -> names -> checkpoint removed. Until the names nothing is visible; from "finishing" on a resumption only goes
 * forward. Every stage can be done again.
 */
import { join } from 'node:path';
import { DivanError, type ErrorCode, isDivanError } from '../errors.js';
import type { Storage, StorageFile } from '../file/storage.js';
import type { ShardWorld } from '../shard/shard.js';
import type { Counters, Metadata, Seqs } from '../shard/state.js';
import { allDone } from './all-done.js';
import {
  type Checkpoint,
  hasCheckpoint,
  readCheckpoint,
  removeCheckpoint,
  type VerifyState,
  writeCheckpoint,
} from './checkpoint.js';
import { CheckpointWriter } from './checkpoint-writer.js';
import { closeAll } from './close-all.js';
import type { Crew, CrewOptions } from './crew.js';
import { assertFits, estimate } from './estimate.js';
import {
  afterRemoval,
  assertNoneExists,
  discardFiles,
  giveNames,
  isTemporaryName,
  type JobFiles,
  makeDirectories,
  removeTemporaries,
  syncDirectories,
} from './job-files.js';
import { JobMeter, type JobProgress } from './job-meter.js';
import type { RewriteResult } from './pipeline.js';
import type { RewritePlan } from './plan.js';
import type { TargetState } from './target.js';
import { rewriteTasks } from './task.js';
import { compareCounts, newVerifyState, verify, verifyOpening, verifyShares } from './verify.js';

export interface JobOptions extends CrewOptions {
  readonly signal?: AbortSignal | undefined;
  /** False to do without checkpoints, and so without resuming. */
  readonly checkpoints?: boolean | undefined;
  /** True to leave checkpoint and partial targets for a resumption when it is cancelled. */
  readonly keepPartial?: boolean | undefined;
  /** Called before anything is written, with the plan and whether an earlier run is gone on with; may refuse by throwing. */
  readonly onBegin?: ((plan: RewritePlan, resumed: boolean) => Promise<void>) | undefined;
  readonly onProgress?: ((progress: JobProgress) => void) | undefined;
}

/** A rewrite that is about to run: new, or with the checkpoint of an earlier run. */
export interface Job {
  readonly plan: RewritePlan;
  readonly files: JobFiles;
  readonly checkpoint: Checkpoint | undefined;
  /** Of the sources together. */
  readonly counters: Counters;
  /** Of each source, as of the state that is copied. */
  readonly seqs: readonly Seqs[];
  /** Of the source whose settings the targets take. */
  readonly settings: Metadata;
  /** Revision trees are stemmed to so many revisions; infinite where they stay. */
  readonly revsLimit: number;
}

/** Errors after which a later run can go on: what was done is kept. */
const RESUMABLE: readonly ErrorCode[] = ['NO_SPACE', 'IO', 'CLOSED'];

/**
 * Runs a rewrite, and returns what its targets hold where it wrote them itself. Throws `ABORTED`, `EXISTS`, `OUT_OF_RANGE`,
 * `VERIFY_FAILED`, `WORKER`, and what reading and writing throw. Nothing is left behind then, but after `NO_SPACE` and `IO`, and if it is
 * asked for, what a resumption needs.
 */
export async function runJob(
  world: ShardWorld,
  job: Job,
  options: JobOptions,
  crew: Crew,
): Promise<readonly RewriteResult[]> {
  const { storage } = world;
  const { plan, files } = job;
  let results: readonly RewriteResult[] = [];
  await options.onBegin?.(plan, job.checkpoint !== undefined);
  if (job.checkpoint?.finishing !== true) {
    results = await writeOrDiscard(world, job, options, crew);
    // A resumption from here on writes no target again: it must find each of them under one of its names.
    await syncDirectories(storage, files.targets);
    await writeCheckpoint(storage, files.checkpointPath, { plan, finishing: true, states: [] });
  }
  await giveNames(storage, plan, files);
  return results;
}

/** The part of `runJob` before "finishing": targets that are complete, durable and checked, under their temporary names. */
export async function writeOrDiscard(
  world: ShardWorld,
  job: Job,
  options: JobOptions,
  crew: Crew,
): Promise<readonly RewriteResult[]> {
  const { storage } = world;
  const { files, plan } = job;
  const made: string[] = [];
  let begun = job.checkpoint !== undefined;
  try {
    if (plan.kind !== 'compact') await assertNoneExists(storage, files);
    await makeDirectories(storage, files, made);
    const estimated = await estimate(storage, job);
    assertFits(estimated, files.checkpointPath);
    const states = await usableStates(storage, job);
    const writer = new CheckpointWriter(storage, files.checkpointPath, plan, states);
    const meter = new JobMeter(world.host, {
      counters: job.counters,
      bytesTotal: estimated.bytes,
      verify:
        options.verify === false
          ? undefined
          : {
              shares: verifyShares(plan),
              threads: crew.verifiers,
              isHeldBack: crew.background,
            },
      onProgress: options.onProgress,
    });
    const verifying = states.length === plan.targets.length ? job.checkpoint?.verifying : undefined;
    // The plan is durable before the first byte of a target.
    if (verifying === undefined) await writer.write();
    begun = true;
    const run = { crew, writer, meter };
    return await writeAndVerify(world, job, { states, verifying }, options, run);
  } catch (error) {
    if (begun && isDivanError(error) && isKept(error.code, options)) throw error;
    throw await afterRemoval(error, () => discardFiles(storage, files, made));
  }
}

/** The states of the targets that are still there; of the others nothing is left, so that they are begun anew. */
async function usableStates(storage: Storage, { files, checkpoint }: Job): Promise<TargetState[]> {
  const identities = await allDone(
    files.targets.map(({ temporaryPath }) => storage.identity(temporaryPath)),
  );
  const states: TargetState[] = [];
  for (const [index, target] of files.targets.entries()) {
    const state = checkpoint?.states.find((known) => known.index === index);
    const isThere = identities[index] !== undefined;
    if (isThere && state !== undefined) states.push(state);
    // For good: its name must not come back in the place of the file that is begun anew.
    else if (isThere) await removeTemporaries(storage, [target]);
  }
  return states;
}

/**
 * The checkpoint of an earlier run; undefined also for one that `isVoid` says to pass over. `foreign` says why its plan is not the one
 * that is wanted, if it is not. Throws `CHECKPOINT`.
 */
export async function findCheckpoint(
  storage: Storage,
  path: string,
  isVoid: (plan: RewritePlan) => boolean,
  foreign: (plan: RewritePlan) => string | undefined,
): Promise<Checkpoint | undefined> {
  const checkpoint = await readCheckpoint(storage, path);
  if (checkpoint === undefined || isVoid(checkpoint.plan)) return undefined;
  const reason = foreign(checkpoint.plan);
  if (reason === undefined) return checkpoint;
  throw new DivanError(
    'CHECKPOINT',
    `${path} is of another run: ${reason}; repeat that run, or discard what it left (--discard)`,
    { path },
  );
}

/** Where an interrupted run may have left something. */
export interface DiscardPlace {
  /** They are locked meanwhile, so that no run is under way. */
  readonly sourcePaths: readonly string[];
  readonly checkpointPath: string;
  /** Of the targets. */
  readonly name: string;
  /** The directories that targets may stand in. */
  readonly directories: readonly string[];
}

/**
 * Removes what an interrupted run left: checkpoint and partial targets. A target that has its name stays. Returns whether there
 * was anything. Throws `LOCKED` while a run is under way.
 */
export async function discardJob(storage: Storage, place: DiscardPlace): Promise<boolean> {
  const locked: StorageFile[] = [];
  try {
    for (const path of place.sourcePaths) {
      const file = await storage.open(path, 'write');
      locked.push(file);
      if (file.tryLock()) continue;
      throw new DivanError('LOCKED', `${path} is open for writing elsewhere`, { path });
    }
    return await removeLeftovers(storage, place);
  } finally {
    await closeAll(locked);
  }
}

/** As `discardJob`, for those who hold the locks. */
export async function removeLeftovers(
  storage: Storage,
  { checkpointPath, name, directories }: Omit<DiscardPlace, 'sourcePaths'>,
): Promise<boolean> {
  let found = await hasCheckpoint(storage, checkpointPath);
  await undoFinishing(storage, checkpointPath);
  for (const directory of directories) {
    if ((await storage.identity(directory)) === undefined) continue;
    const entries = await storage.list(directory);
    const temporary = entries.filter((entry) => isTemporaryName(entry, name));
    for (const entry of temporary) await storage.remove(join(directory, entry));
    if (temporary.length === 0) continue;
    await storage.syncDirectory(directory);
    found = true;
  }
  if (found) await removeCheckpoint(storage, checkpointPath);
  return found;
}

/** A run after a crash of this discarding is not to look for targets that are gone: it begins anew. */
async function undoFinishing(storage: Storage, checkpointPath: string): Promise<void> {
  const checkpoint = await readCheckpoint(storage, checkpointPath).catch((error: unknown) => {
    if (isDivanError(error, 'CHECKPOINT')) return undefined;
    throw error;
  });
  if (checkpoint?.finishing !== true) return;
  await writeCheckpoint(storage, checkpointPath, { ...checkpoint, finishing: false, states: [] });
}

/** Whether an interrupted run leaves what a later one can go on with. */
export function isKept(code: ErrorCode, { keepPartial, checkpoints }: JobOptions): boolean {
  if (checkpoints === false) return false;
  return RESUMABLE.includes(code) || (code === 'ABORTED' && keepPartial === true);
}

/** What takes part in a run. */
interface Run {
  readonly crew: Crew;
  readonly writer: CheckpointWriter;
  readonly meter: JobMeter;
}

/** Writes and checks the targets under their temporary names, from where an earlier run came to. */
async function writeAndVerify(
  { host, storage }: ShardWorld,
  job: Job,
  { states, verifying }: Pick<Checkpoint, 'states' | 'verifying'>,
  options: JobOptions,
  run: Run,
): Promise<readonly RewriteResult[]> {
  const { crew, writer, meter } = run;
  const stop = () => crew.stop.set();
  options.signal?.addEventListener('abort', stop);
  if (options.signal?.aborted === true) stop();
  const resumable = options.checkpoints !== false;
  try {
    const results = verifying === undefined ? await writeTargets(job, states, resumable, run) : [];
    if (options.verify === false) return results;
    const begun = verifying ?? newVerifyState(host, job, results);
    const onState = resumable ? (state: VerifyState) => writer.updateVerify(state) : undefined;
    onState?.(begun);
    await verifyOpening(storage, job, begun);
    await verify(job, begun, crew, meter, onState);
    return results;
  } finally {
    options.signal?.removeEventListener('abort', stop);
    await writer.idle();
  }
}

async function writeTargets(
  job: Job,
  states: readonly TargetState[],
  resumable: boolean,
  { crew, writer, meter }: Run,
): Promise<RewriteResult[]> {
  const tasks = rewriteTasks(job.plan, job.files, states, Math.max(1, crew.workers));
  meter.begin('write', tasks.length);
  const outcomes = await crew.perform(tasks, {
    onProgress: (task, progress) => meter.progress(task, progress),
    onDone: (task) => meter.done(task),
    onCheckpoint: resumable ? (newer) => writer.update(newer) : undefined,
  });
  const results = outcomes.flatMap(({ rewritten }) => rewritten);
  compareCounts(job.counters, results);
  return results;
}
