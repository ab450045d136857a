/**
 * Splitting a shard file: one source into two or more targets by hash range.
 *
 * The stages, in order: lock and flush the source; plan; make the directories; write all targets under temporary names, in
 * workers; compare the counts; give the targets their names. Until the last stage nothing is visible, and any failure
 * removes what was made.
 */
import { basename, dirname, join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { DivanError, isDivanError } from '../errors.js';
import { FILE_ID_BYTES, SALT_BYTES } from '../file/first-block.js';
import type { Storage } from '../file/storage.js';
import { checkTiling, evenRanges, formatRange, PARTS_MAX, type ShardRange } from '../shard/hash.js';
import { Shard, type ShardWorld } from '../shard/shard.js';
import type { Snapshot } from '../shard/snapshot.js';
import { type Counters, UUID_BYTES } from '../shard/state.js';
import { type RewriteProgress, type RewriteTask, rewrite } from './pipeline.js';
import type { TargetPlan } from './target.js';
import type { WorkerInput, WorkerOutput } from './worker.js';

export const WORKERS_DEFAULT = 2;

export interface SplitOptions {
  /** The directory under which the targets are made, as `<range>/<name of the source>`. */
  readonly out: string;
  /** How many even ranges, or which ranges. */
  readonly into: { readonly parts: number } | { readonly ranges: readonly ShardRange[] };
  /** Worker threads; 0 does the work on the calling thread, through the storage that was given. */
  readonly workers?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: SplitProgress) => void;
}

export interface SplitProgress {
  readonly phase: RewriteProgress['phase'];
  readonly docsDone: number;
  readonly docsTotal: number;
  readonly bytesDone: number;
}

export interface SplitTarget {
  readonly path: string;
  readonly range: ShardRange;
  readonly counters: Counters;
}

export interface SplitResult {
  readonly source: { readonly path: string; readonly counters: Counters };
  readonly targets: readonly SplitTarget[];
}

/**
 * Splits the shard file at `path`, which stays as it is but for changes that are flushed.
 * Throws `INVALID_RANGE`, `EXISTS`, `OUT_OF_RANGE`, `ABORTED`, `VERIFY_FAILED`, `WORKER`, what opening a shard throws, and I/O errors;
 * no target is left behind then.
 */
export async function split(
  world: ShardWorld,
  path: string,
  options: SplitOptions,
): Promise<SplitResult> {
  const source = await Shard.open(world, path);
  try {
    const { range } = source.snapshot().metadata;
    const ranges = targetRanges(range, options);
    await source.flush();
    await source.file.seal();
    return await splitFlushed(world, source, ranges, options);
  } finally {
    await source.close();
  }
}

function targetRanges(range: ShardRange, options: SplitOptions): ShardRange[] {
  const ranges =
    'parts' in options.into ? evenRanges(range, options.into.parts) : options.into.ranges;
  if (ranges.length < 2 || ranges.length > PARTS_MAX) {
    throw new DivanError('INVALID_RANGE', `a split has 2 to ${PARTS_MAX} targets`);
  }
  return checkTiling(range, ranges);
}

async function splitFlushed(
  world: ShardWorld,
  source: Shard,
  ranges: readonly ShardRange[],
  options: SplitOptions,
): Promise<SplitResult> {
  const { storage } = world;
  const snapshot = source.snapshot();
  const plans = ranges.map((range) => planTarget(world, source.path, range, options.out));
  await assertNoneExists(storage, plans);
  const made: string[] = [];
  const linked: string[] = [];
  try {
    for (const { path } of plans) await makeDirectories(storage, dirname(path), made);
    const counters = await writeTargets(world, source, plans, ranges, options);
    compareCounts(snapshot, counters);
    for (const { temporaryPath, path } of plans) {
      await storage.link(temporaryPath, path);
      linked.push(path);
    }
    for (const { temporaryPath } of plans) await storage.remove(temporaryPath);
    for (const { path } of plans) await storage.syncDirectory(dirname(path));
    const targets = plans.flatMap(({ path, range }, index): SplitTarget[] => {
      const counted = counters[index];
      return counted === undefined ? [] : [{ path, range, counters: counted }];
    });
    return { source: { path: source.path, counters: snapshot.counters }, targets };
  } catch (error) {
    const files = [...linked, ...plans.map(({ temporaryPath }) => temporaryPath)];
    throw await afterRemoval(error, () => removeAll(storage, files, made));
  }
}

function planTarget(
  { host }: ShardWorld,
  sourcePath: string,
  range: ShardRange,
  out: string,
): TargetPlan {
  const directory = join(out, formatRange(range));
  const name = basename(sourcePath);
  const suffix = Buffer.from(host.randomBytes(6)).toString('hex');
  return {
    path: join(directory, name),
    temporaryPath: join(directory, `.${name}.${suffix}.new`),
    range,
    fileId: host.randomBytes(FILE_ID_BYTES),
    salt: host.randomBytes(SALT_BYTES),
    uuid: host.randomBytes(UUID_BYTES),
  };
}

async function assertNoneExists(storage: Storage, plans: readonly TargetPlan[]): Promise<void> {
  for (const { path } of plans) {
    if ((await storage.identity(path)) === undefined) continue;
    throw new DivanError('EXISTS', `${path} is there already; remove it or choose another place`, {
      path,
    });
  }
}

/** Makes a directory and those above it, each made durable in its parent; `made` gathers what was new. */
async function makeDirectories(storage: Storage, path: string, made: string[]): Promise<void> {
  if ((await storage.identity(path)) !== undefined) return;
  const parent = dirname(path);
  if (parent !== path) await makeDirectories(storage, parent, made);
  if (!(await storage.makeDirectory(path))) return;
  made.push(path);
  await storage.syncDirectory(parent);
}

/** Runs `remove` and returns the error that was its reason, with what went wrong in it, if anything did. */
async function afterRemoval(error: unknown, remove: () => Promise<void>): Promise<unknown> {
  try {
    await remove();
    return error;
  } catch (failure) {
    if (!isDivanError(error) || !isDivanError(failure)) return failure;
    const message = `${error.message}; and what was made could not be removed: ${failure.message}`;
    return new DivanError(error.code, message, error.facts, error);
  }
}

/** Removes files that may be there, and directories that this split made if they are empty. */
async function removeAll(
  storage: Storage,
  files: readonly string[],
  directories: readonly string[],
): Promise<void> {
  for (const file of files) {
    if ((await storage.identity(file)) !== undefined) await storage.remove(file);
  }
  for (const directory of [...directories].reverse()) await storage.removeDirectory(directory);
}

/** Writes all targets; returns their counters in the order of the plans. */
async function writeTargets(
  world: ShardWorld,
  source: Shard,
  plans: readonly TargetPlan[],
  ranges: readonly ShardRange[],
  options: SplitOptions,
): Promise<Counters[]> {
  const workers = Math.min(options.workers ?? WORKERS_DEFAULT, plans.length);
  const task = (targets: readonly TargetPlan[]): RewriteTask => ({
    sourcePath: source.path,
    sourceFileId: source.file.block.fileId,
    sourceCommitPos: source.file.newest.pos,
    ranges,
    targets,
  });
  const report = reporter(source.snapshot(), Math.max(workers, 1), options);
  if (workers === 0) {
    return rewrite(world.storage, task(plans), (progress) => {
      if (options.signal?.aborted === true) throw new DivanError('ABORTED', 'cancelled');
      report(0, progress);
    });
  }
  const tasks = Array.from({ length: workers }, (_, worker) =>
    task(plans.filter((_plan, index) => index % workers === worker)),
  );
  const results = await runInWorkers(tasks, options.signal, report);
  return plans.flatMap((_, index) => results[index % workers]?.[Math.floor(index / workers)] ?? []);
}

/** Joins the progress of several workers: the slowest says which phase it is. */
function reporter(
  snapshot: Snapshot,
  workers: number,
  options: SplitOptions,
): (worker: number, progress: RewriteProgress) => void {
  const docsTotal = snapshot.counters.liveDocs + snapshot.counters.deletedDocs;
  const latest = new Map<number, RewriteProgress>();
  return (worker, progress) => {
    latest.set(worker, progress);
    if (options.onProgress === undefined || latest.size < workers) return;
    const all = [...latest.values()];
    const slowest = all.reduce((a, b) => (isBehind(b, a) ? b : a));
    const bytesDone = all.reduce((sum, { bytesDone }) => sum + bytesDone, 0);
    options.onProgress({ phase: slowest.phase, docsDone: slowest.docsDone, docsTotal, bytesDone });
  };
}

const PHASES: readonly RewriteProgress['phase'][] = ['documents', 'ids', 'finish'];

function isBehind(a: RewriteProgress, b: RewriteProgress): boolean {
  return (
    PHASES.indexOf(a.phase) - PHASES.indexOf(b.phase) < 0 ||
    (a.phase === b.phase && a.docsDone < b.docsDone)
  );
}

/** Runs one task on each of as many workers. When one fails, the others are stopped, and its error is thrown. */
async function runInWorkers(
  tasks: readonly RewriteTask[],
  signal: AbortSignal | undefined,
  report: (worker: number, progress: RewriteProgress) => void,
): Promise<(readonly Counters[])[]> {
  const pool = new Piscina<WorkerInput, WorkerOutput>({
    filename: new URL('./worker.js', import.meta.url).href,
    minThreads: tasks.length,
    maxThreads: tasks.length,
    atomics: 'disabled',
  });
  const cancel = new Int32Array(new SharedArrayBuffer(4));
  const stop = () => Atomics.store(cancel, 0, 1);
  signal?.addEventListener('abort', stop);
  if (signal?.aborted === true) stop();
  try {
    const outputs = await Promise.all(
      tasks.map(async (task, worker) => {
        const output = await runTask(pool, task, cancel, (progress) => report(worker, progress));
        if (!output.ok) stop();
        return output;
      }),
    );
    return countersOf(outputs);
  } finally {
    signal?.removeEventListener('abort', stop);
    await pool.close();
  }
}

async function runTask(
  pool: Piscina<WorkerInput, WorkerOutput>,
  task: RewriteTask,
  cancel: Int32Array,
  onProgress: (progress: RewriteProgress) => void,
): Promise<WorkerOutput> {
  const { port1, port2 } = new MessageChannel();
  port1.on('message', onProgress);
  try {
    return await pool.run({ task, port: port2, cancel }, { transferList: [port2] });
  } catch (error) {
    return { ok: false, code: 'WORKER', message: `a worker failed: ${String(error)}`, facts: {} };
  } finally {
    port1.close();
  }
}

/** The counters of all tasks, or the error of the one that failed first by itself. */
function countersOf(outputs: readonly WorkerOutput[]): (readonly Counters[])[] {
  const failures = outputs.flatMap((output) => (output.ok ? [] : [output]));
  const failure = failures.find(({ code }) => code !== 'ABORTED') ?? failures[0];
  if (failure !== undefined) throw new DivanError(failure.code, failure.message, failure.facts);
  return outputs.flatMap((output) => (output.ok ? [output.counters] : []));
}

/** The targets together must hold as much as the source. */
function compareCounts(source: Snapshot, targets: readonly Counters[]): void {
  const names = ['liveDocs', 'deletedDocs', 'activeBytes', 'externalBytes', 'purgeInfos'] as const;
  for (const name of names) {
    const expected = source.counters[name];
    const actual = targets.reduce((sum, counters) => sum + counters[name], 0);
    if (actual === expected) continue;
    throw new DivanError(
      'VERIFY_FAILED',
      `the targets hold ${actual} ${name}, the source ${expected}; none of them was kept`,
      { expected, actual },
    );
  }
}
