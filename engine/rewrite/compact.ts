/** Compacting a shard file: what no tree points to is dropped, and the new file takes the place of the old one. */
import assert from 'node:assert';
import { basename, dirname, join } from 'node:path';
import type { Shard, ShardWorld } from '../shard/shard.js';
import type { JobOptions } from './job.js';
import type { RewritePlan } from './plan.js';
import {
  discardVoid,
  type Preview,
  preview,
  type RewriteOutcome,
  rewriteFiles,
  type Wanted,
  withSources,
} from './prepare.js';

export interface CompactOptions extends JobOptions {
  readonly plan?: RewritePlan | undefined;
}

/**
 * Compacts the shard file at `path`, which nobody else may have open for writing. Tombstones stay, revisions are stemmed to the
 * limit. Readers that have the old file open go on reading it. Throws `CHECKPOINT`, `INVALID_PLAN`, what opening a shard throws, and
 * what `runJob` throws.
 */
export function compact(
  world: ShardWorld,
  path: string,
  options: CompactOptions,
): Promise<RewriteOutcome> {
  return rewriteFiles(world, [path], options, async (sources) => {
    const wanted = wantedCompaction(sources, options.plan, 'begin anew');
    await discardVoid(world, wanted);
    return wanted;
  });
}

/** What `compact` would do. */
export function previewCompaction(
  world: ShardWorld,
  path: string,
  options: CompactOptions,
): Promise<Preview> {
  return withSources(world, [path], (sources) =>
    preview(world, wantedCompaction(sources, options.plan, 'begin anew'), options),
  );
}

/** What a compaction of an open source is to do. */
export function wantedCompaction(
  sources: readonly Shard[],
  plan: RewritePlan | undefined,
  ifChanged: Wanted['ifChanged'],
): Wanted {
  const [source] = sources;
  assert(source !== undefined, 'a compaction has a source');
  const { path } = source;
  return {
    kind: 'compact',
    sources,
    ranges: [source.snapshot().metadata.range],
    settingsFrom: 0,
    pathOf: () => path,
    checkpointPath: compactCheckpointPath(path),
    ifChanged,
    plan,
  };
}

/** Where a compaction of `path` keeps its checkpoint. */
export function compactCheckpointPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.compact`);
}
