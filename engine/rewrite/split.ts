/** Splitting a shard file: one source into two or more targets by hash range. The source stays. */
import { basename, join } from 'node:path';
import { DivanError } from '../errors.js';
import { FILE_ID_BYTES, SALT_BYTES } from '../file/first-block.js';
import { checkTiling, evenRanges, formatRange, PARTS_MAX, type ShardRange } from '../shard/hash.js';
import { ReadOnlyShard } from '../shard/read-only-shard.js';
import { Shard, type ShardWorld } from '../shard/shard.js';
import { type Counters, UUID_BYTES } from '../shard/state.js';
import { findCheckpoint, type Job, type JobOptions, runJob } from './job.js';
import { jobFile } from './job-files.js';
import type { RewritePlan } from './plan.js';

export interface SplitOptions extends JobOptions {
  /** The directory under which the targets are made, as `<range>/<name of the source>`. */
  readonly out: string;
  /** How many even ranges, or which ranges. */
  readonly into: { readonly parts: number } | { readonly ranges: readonly ShardRange[] };
}

export interface SplitTarget {
  readonly path: string;
  readonly range: ShardRange;
  readonly counters: Counters;
}

export interface SplitResult {
  readonly source: { readonly path: string; readonly counters: Counters };
  readonly targets: readonly SplitTarget[];
  /** True if an earlier run was gone on with. */
  readonly resumed: boolean;
}

/**
 * Splits the shard file at `path`, which stays as it is but for changes that are flushed. If an earlier split of it into the same
 * ranges was interrupted, it is gone on with. Throws `INVALID_RANGE`, `CHECKPOINT`, what opening a shard throws, and what `runJob` throws.
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
    const job = await prepare(world, source, ranges, options);
    await runJob(world, job, options);
    return {
      source: { path, counters: source.snapshot().counters },
      targets: await describeTargets(world, job),
      resumed: job.checkpoint !== undefined,
    };
  } finally {
    await source.close();
  }
}

function targetRanges(range: ShardRange, { into }: SplitOptions): ShardRange[] {
  const ranges = 'parts' in into ? evenRanges(range, into.parts) : into.ranges;
  if (ranges.length < 2 || ranges.length > PARTS_MAX) {
    throw new DivanError('INVALID_RANGE', `a split has 2 to ${PARTS_MAX} targets`);
  }
  return checkTiling(range, ranges);
}

async function prepare(
  world: ShardWorld,
  source: Shard,
  ranges: readonly ShardRange[],
  { out }: SplitOptions,
): Promise<Job> {
  const name = basename(source.path);
  const fresh = planSplit(world, source, ranges);
  const checkpointPath = join(out, `.${name}.split`);
  const checkpoint = await findCheckpoint(world.storage, checkpointPath, (plan) =>
    difference(plan, fresh),
  );
  const plan = checkpoint?.plan ?? fresh;
  const targets = plan.targets.map((target) =>
    jobFile(join(out, formatRange(target.range), name), target),
  );
  const files = { sourcePaths: [source.path], checkpointPath, targets };
  return { plan, files, checkpoint, counters: source.snapshot().counters };
}

function planSplit(
  { host }: ShardWorld,
  { file }: Shard,
  ranges: readonly ShardRange[],
): RewritePlan {
  return {
    kind: 'split',
    sources: [{ fileId: file.block.fileId, state: file.newest.state }],
    targets: ranges.map((range) => ({
      range,
      fileId: host.randomBytes(FILE_ID_BYTES),
      salt: host.randomBytes(SALT_BYTES),
      uuid: host.randomBytes(UUID_BYTES),
    })),
    settingsFrom: 0,
  };
}

/** In what a plan differs from the one that is wanted, besides what was drawn at random. */
function difference(plan: RewritePlan, wanted: RewritePlan): string | undefined {
  const [source] = plan.sources;
  const [wantedSource] = wanted.sources;
  if (source === undefined || wantedSource === undefined) return 'it has no source';
  if (Buffer.compare(source.fileId, wantedSource.fileId) !== 0) return 'of another source file';
  if (source.state.pos !== wantedSource.state.pos || source.state.crc !== wantedSource.state.crc) {
    return 'the source was changed since';
  }
  const ranges = (of: RewritePlan) => of.targets.map(({ range }) => formatRange(range)).join(' ');
  if (plan.kind !== wanted.kind || ranges(plan) !== ranges(wanted)) {
    return `into the ranges ${ranges(plan)}`;
  }
  return undefined;
}

async function describeTargets(world: ShardWorld, { plan, files }: Job): Promise<SplitTarget[]> {
  const described: SplitTarget[] = [];
  for (const [index, { range }] of plan.targets.entries()) {
    const path = files.targets[index]?.path ?? '';
    await using target = await ReadOnlyShard.open(world, path);
    described.push({ path, range, counters: target.snapshot.counters });
  }
  return described;
}
