/** Making the plan of a rewrite, or finding the one of an interrupted run, and saying what came of it. */
import assert from 'node:assert';
import { DivanError } from '../errors.js';
import { FILE_ID_BYTES, SALT_BYTES } from '../file/first-block.js';
import type { Host } from '../file/host.js';
import type { Storage } from '../file/storage.js';
import { formatRange, type ShardRange } from '../shard/hash.js';
import { ReadOnlyShard } from '../shard/read-only-shard.js';
import { Shard, type ShardWorld } from '../shard/shard.js';
import { type Counters, type State, UUID_BYTES, ZERO_COUNTERS } from '../shard/state.js';
import { readCheckpoint } from './checkpoint.js';
import { closeAll } from './close-all.js';
import { Crew } from './crew.js';
import { type Estimate, estimate, estimateSeconds } from './estimate.js';
import { findCheckpoint, type Job, type JobOptions, runJob } from './job.js';
import { assertNoneExists, discardFiles, jobFile } from './job-files.js';
import {
  encodePlan,
  type RewriteKind,
  type RewritePlan,
  type SourcePlan,
  type TargetPlan,
} from './plan.js';
import { Source } from './source.js';
import { COUNTED } from './verify.js';

/** What a rewrite is to do. */
export interface Wanted {
  readonly kind: RewriteKind;
  /** Flushed and sealed, in the order of their ranges. */
  readonly sources: readonly Shard[];
  /** Adjacent, in order. */
  readonly ranges: readonly ShardRange[];
  readonly settingsFrom: number;
  /** The target of a range. */
  readonly pathOf: (range: ShardRange) => string;
  readonly checkpointPath: string;
  /** What becomes of an interrupted run whose source was changed since. */
  readonly ifChanged: 'refuse' | 'begin anew' | 'go on';
  /** A plan to be used instead of a new one, as for a second run that is compared with the first. */
  readonly plan?: RewritePlan | undefined;
}

export interface RewriteOutcome {
  readonly sources: readonly { readonly path: string; readonly counters: Counters }[];
  readonly targets: readonly {
    readonly path: string;
    readonly range: ShardRange;
    readonly counters: Counters;
  }[];
  /** True if an earlier run was gone on with. */
  readonly resumed: boolean;
  readonly plan: RewritePlan;
}

/** Throws `CHECKPOINT` if an interrupted run left a checkpoint of something else, and `INVALID_PLAN` for a plan of something else. */
export async function prepare(world: ShardWorld, wanted: Wanted): Promise<Job> {
  const fresh = newPlan(world.host, wanted);
  const given = wanted.plan;
  const wrong = given === undefined ? undefined : difference(given, fresh, false);
  if (wrong !== undefined)
    throw new DivanError('INVALID_PLAN', `the plan is of another run: ${wrong}`);
  const checkpoint = await findCheckpoint(
    world.storage,
    wanted.checkpointPath,
    (plan) => isVoid(plan, fresh, wanted),
    (plan) =>
      given !== undefined && encodePlan(plan) !== encodePlan(given)
        ? 'it has another plan'
        : difference(plan, fresh, wanted.ifChanged === 'go on'),
  );
  const plan = checkpoint?.plan ?? given ?? fresh;
  const states = await sourceStates(world.storage, wanted, plan);
  const settings = states[plan.settingsFrom]?.metadata ?? assert.fail('a plan names its settings');
  return {
    plan,
    files: {
      sourcePaths: wanted.sources.map(({ path }) => path),
      checkpointPath: wanted.checkpointPath,
      targets: plan.targets.map((target) => jobFile(wanted.pathOf(target.range), target)),
    },
    checkpoint,
    counters: sumCounters(states),
    seqs: states.map(({ counters }) => counters),
    settings,
    revsLimit: wanted.kind === 'compact' ? settings.revsLimit : Number.POSITIVE_INFINITY,
  };
}

/** Opens sources, does what is wanted of them, and describes what came of it. Throws what opening a shard and `runJob` throw. */
export async function rewriteFiles(
  world: ShardWorld,
  paths: readonly string[],
  options: JobOptions,
  want: (sources: readonly Shard[]) => Wanted | Promise<Wanted>,
): Promise<RewriteOutcome> {
  const crew = new Crew(world, options);
  try {
    return await withSources(world, paths, async (sources) =>
      perform(world, await want(sources), options, crew),
    );
  } finally {
    await crew.close();
  }
}

async function perform(
  world: ShardWorld,
  wanted: Wanted,
  options: JobOptions,
  crew: Crew,
): Promise<RewriteOutcome> {
  const sources = wanted.sources.map((source) => ({
    path: source.path,
    counters: source.snapshot().counters,
  }));
  const job = await prepare(world, wanted);
  const results = await runJob(world, job, options, crew);
  const targets: RewriteOutcome['targets'][number][] = [];
  for (const [index, { range }] of job.plan.targets.entries()) {
    const path = job.files.targets[index]?.path ?? '';
    const written = results.find((result) => result.index === index);
    targets.push({ path, range, counters: written?.counters ?? (await readCounters(world, path)) });
  }
  return { sources, targets, resumed: job.checkpoint !== undefined, plan: job.plan };
}

async function readCounters(world: ShardWorld, path: string): Promise<Counters> {
  await using shard = await ReadOnlyShard.open(world, path);
  return shard.snapshot.counters;
}

/** What a run would do, without doing it. */
export interface Preview extends Estimate {
  readonly sources: RewriteOutcome['sources'];
  readonly resumes: boolean;
  readonly seconds: number;
}

/** Throws `EXISTS`, and what `prepare` and reading throw. */
export async function preview(
  world: ShardWorld,
  wanted: Wanted,
  options: JobOptions,
): Promise<Preview> {
  const job = await prepare(world, wanted);
  if (wanted.kind !== 'compact') await assertNoneExists(world.storage, job.files);
  const estimated = await estimate(world.storage, job);
  const seconds = await estimateSeconds(world, job, estimated, options.verify !== false);
  const sources = wanted.sources.map((source) => ({
    path: source.path,
    counters: source.snapshot().counters,
  }));
  return { ...estimated, sources, seconds, resumes: job.checkpoint !== undefined };
}

/** Opens sources, does something with them, and closes them. Throws what opening a shard throws. */
export async function withSources<T>(
  world: ShardWorld,
  paths: readonly string[],
  use: (sources: readonly Shard[]) => Promise<T>,
): Promise<T> {
  await assertDifferent(world.storage, paths);
  const sources: Shard[] = [];
  try {
    for (const path of paths) sources.push(await openSource(world, path));
    return await use(sources);
  } finally {
    await closeAll(sources);
  }
}

/** Opening one a second time would only say that it is open elsewhere. */
async function assertDifferent(storage: Storage, paths: readonly string[]): Promise<void> {
  const seen = new Map<string, string>();
  for (const path of paths) {
    const identity = await storage.identity(path);
    const before = identity === undefined ? undefined : seen.get(identity);
    if (before !== undefined) {
      throw new DivanError('INVALID_RANGE', `${before} and ${path} are the same file`, { path });
    }
    if (identity !== undefined) seen.set(identity, path);
  }
}

/** Opens a source for writing, so that nobody else changes it, and flushes it. Throws what opening a shard throws. */
async function openSource(world: ShardWorld, path: string): Promise<Shard> {
  const source = await Shard.open(world, path);
  try {
    await source.flush();
    await source.file.seal();
    return source;
  } catch (error) {
    await source.close();
    throw error;
  }
}

function newPlan(host: Pick<Host, 'randomBytes'>, wanted: Wanted): RewritePlan {
  const { kind, sources, ranges, settingsFrom } = wanted;
  const kept = kind === 'compact' ? sources[0]?.snapshot().metadata.uuid : undefined;
  return {
    kind,
    sources: sources.map(
      ({ file }): SourcePlan => ({ fileId: file.block.fileId, state: file.newest.state }),
    ),
    targets: ranges.map(
      (range): TargetPlan => ({
        range,
        fileId: host.randomBytes(FILE_ID_BYTES),
        salt: host.randomBytes(SALT_BYTES),
        uuid: kept ?? host.randomBytes(UUID_BYTES),
      }),
    ),
    settingsFrom,
  };
}

/** Removes what is left of an interrupted run that `prepare` passes over. Throws `CHECKPOINT` if its checkpoint is damaged. */
export async function discardVoid({ storage, host }: ShardWorld, wanted: Wanted): Promise<void> {
  const { checkpointPath, pathOf } = wanted;
  const checkpoint = await readCheckpoint(storage, checkpointPath);
  if (checkpoint === undefined) return;
  if (!isVoid(checkpoint.plan, newPlan(host, wanted), wanted)) return;
  const targets = checkpoint.plan.targets.map((target) => jobFile(pathOf(target.range), target));
  await discardFiles(storage, { sourcePaths: [], checkpointPath, targets }, []);
}

/**
 * True for an interrupted compaction that nobody needs any more: its file has taken the place of the source, or the source was
 * changed since and the next run is to begin anew.
 */
function isVoid(plan: RewritePlan, fresh: RewritePlan, { kind, ifChanged }: Wanted): boolean {
  if (kind !== 'compact' || plan.kind !== 'compact') return false;
  const made = plan.targets[0]?.fileId ?? new Uint8Array(0);
  const source = fresh.sources[0]?.fileId ?? new Uint8Array(0);
  if (Buffer.compare(made, source) === 0) return true;
  const isOfSource = difference(plan, fresh, true) === undefined;
  return ifChanged === 'begin anew' && isOfSource && difference(plan, fresh, false) !== undefined;
}

/** In what a plan differs from the one that is wanted, besides what was drawn at random. */
function difference(plan: RewritePlan, wanted: RewritePlan, anyState: boolean): string | undefined {
  if (plan.kind !== wanted.kind) return `it is a ${plan.kind}`;
  if (plan.sources.length !== wanted.sources.length) return 'it has other sources';
  for (const [index, { fileId, state }] of plan.sources.entries()) {
    const source = wanted.sources[index];
    if (source === undefined || Buffer.compare(source.fileId, fileId) !== 0) {
      return 'it has another source file';
    }
    if (!anyState && (source.state.pos !== state.pos || source.state.crc !== state.crc)) {
      return 'its source was changed since';
    }
  }
  const ranges = (of: RewritePlan) => of.targets.map(({ range }) => formatRange(range)).join(' ');
  if (ranges(plan) !== ranges(wanted)) return `it makes ${ranges(plan)}`;
  return plan.settingsFrom === wanted.settingsFrom ? undefined : 'it takes other settings';
}

/** The states that a plan copies. Throws what reading throws. */
async function sourceStates(
  storage: Storage,
  { sources }: Wanted,
  plan: RewritePlan,
): Promise<State[]> {
  const states: State[] = [];
  for (const [index, sourcePlan] of plan.sources.entries()) {
    const source = await Source.open(storage, sources[index]?.path ?? '', sourcePlan);
    states.push(source.state);
    await source.close();
  }
  return states;
}

function sumCounters(states: readonly State[]): Counters {
  const sum = { ...ZERO_COUNTERS };
  for (const { counters } of states) {
    for (const name of COUNTED) sum[name] += counters[name];
  }
  return sum;
}
