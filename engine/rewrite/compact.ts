/** Compacting a shard file: what no tree points to is dropped, and the new file takes the place of the old one. */
import { basename, dirname, join } from 'node:path';
import type { Shard, ShardWorld } from '../shard/shard.js';
import { readCheckpoint, removeCheckpoint } from './checkpoint.js';
import type { JobOptions } from './job.js';
import type { RewritePlan } from './plan.js';
import { openSource, perform, type RewriteOutcome, type Wanted } from './prepare.js';

export interface CompactOptions extends JobOptions {
  readonly plan?: RewritePlan | undefined;
}

/**
 * Compacts the shard file at `path`, which nobody else may have open for writing. Tombstones stay, revisions are stemmed to the
 * limit. Readers that have the old file open go on reading it. Throws `CHECKPOINT`, `INVALID_PLAN`, what opening a shard throws, and
 * what `runJob` throws.
 */
export async function compact(
  world: ShardWorld,
  path: string,
  options: CompactOptions,
): Promise<RewriteOutcome> {
  const source = await openSource(world, path);
  try {
    await completeEarlier(world, source);
    return await perform(world, wantedCompaction(source, options.plan), options);
  } finally {
    await source.close();
  }
}

/** A crash may have come between the swap of an earlier compaction and the removal of its checkpoint. */
async function completeEarlier({ storage }: ShardWorld, source: Shard): Promise<void> {
  const checkpointPath = compactCheckpointPath(source.path);
  const checkpoint = await readCheckpoint(storage, checkpointPath);
  const [made] = checkpoint?.plan.targets ?? [];
  if (made === undefined || checkpoint?.finishing !== true) return;
  if (Buffer.compare(made.fileId, source.file.block.fileId) !== 0) return;
  await removeCheckpoint(storage, checkpointPath);
}

/** What a compaction of an open source is to do. */
export function wantedCompaction(source: Shard, plan: RewritePlan | undefined): Wanted {
  const { path } = source;
  return {
    kind: 'compact',
    sources: [source],
    ranges: [source.snapshot().metadata.range],
    settingsFrom: 0,
    pathOf: () => path,
    checkpointPath: compactCheckpointPath(path),
    plan,
  };
}

/** Where a compaction of `path` keeps its checkpoint. */
export function compactCheckpointPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.compact`);
}
