/** Splitting a shard file: one source into two or more targets by hash range. The source stays. */
import assert from 'node:assert';
import { basename, join } from 'node:path';
import { DivanError } from '../errors.js';
import { checkTiling, evenRanges, formatRange, PARTS_MAX, type ShardRange } from '../shard/hash.js';
import type { Shard, ShardWorld } from '../shard/shard.js';
import type { JobOptions } from './job.js';
import type { RewritePlan } from './plan.js';
import {
  type Preview,
  preview,
  type RewriteOutcome,
  rewriteFiles,
  type Wanted,
  withSources,
} from './prepare.js';

export interface SplitOptions extends JobOptions {
  /** The directory under which the targets are made, as `<range>/<name of the source>`. */
  readonly out: string;
  /** How many even ranges, or which ranges. */
  readonly into: { readonly parts: number } | { readonly ranges: readonly ShardRange[] };
  readonly plan?: RewritePlan | undefined;
}

/**
 * Splits the shard file at `path`, which stays as it is but for changes that are flushed. If an earlier split of it into the same
 * ranges was interrupted, it is gone on with. Throws `INVALID_RANGE`, `CHECKPOINT`, `INVALID_PLAN`, what opening a shard throws, and
 * what `runJob` throws.
 */
export function split(
  world: ShardWorld,
  path: string,
  options: SplitOptions,
): Promise<RewriteOutcome> {
  return rewriteFiles(world, [path], options, (sources) => wantedSplit(sources, options));
}

/** What `split` would do. */
export function previewSplit(
  world: ShardWorld,
  path: string,
  options: SplitOptions,
): Promise<Preview> {
  return withSources(world, [path], (sources) =>
    preview(world, wantedSplit(sources, options), options),
  );
}

/** What a split of an open source is to do. Throws `INVALID_RANGE`. */
function wantedSplit(sources: readonly Shard[], { out, into, plan }: SplitOptions): Wanted {
  const [source] = sources;
  assert(source !== undefined, 'a split has a source');
  const { range } = source.snapshot().metadata;
  const ranges = 'parts' in into ? evenRanges(range, into.parts) : into.ranges;
  if (ranges.length < 2 || ranges.length > PARTS_MAX) {
    throw new DivanError('INVALID_RANGE', `a split has 2 to ${PARTS_MAX} targets`);
  }
  const name = basename(source.path);
  return {
    kind: 'split',
    sources,
    ranges: checkTiling(range, ranges),
    settingsFrom: 0,
    pathOf: (target) => join(out, formatRange(target), name),
    checkpointPath: splitCheckpointPath(source.path, out),
    ifChanged: 'refuse',
    plan,
  };
}

/** Where a split of `path` into the directory `out` keeps its checkpoint. */
export function splitCheckpointPath(path: string, out: string): string {
  return join(out, `.${basename(path)}.split`);
}
