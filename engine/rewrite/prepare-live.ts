/** Preparing a copy of shards that go on being written, which is to catch up with them. */
import { isDivanError } from '../errors.js';
import type { Shard, ShardWorld } from '../shard/shard.js';
import { knowPurges } from './catch-up.js';
import type { Job } from './job.js';
import { discardVoid, prepare, type Wanted } from './prepare.js';

/** What is copied, and what becomes of an earlier run that can not be gone on with. */
export interface WantedLive {
  readonly sources: readonly Shard[];
  readonly wanted: Wanted;
  /** Removes what there is of it. */
  readonly discard: () => Promise<void>;
}

/**
 * Flushes the shards and prepares a copy of them. An interrupted run is gone on with if the shards still know the purges that it lacks. From now
 * on they keep those that the copy lacks: the caller ends that with `keepPurgesAfter(undefined)`. Throws what `prepare` throws, but for
 * `CHECKPOINT`.
 */
export async function prepareLive(
  world: ShardWorld,
  { sources, wanted, discard }: WantedLive,
): Promise<Job> {
  for (const source of sources) {
    // No purge info is dropped that the catching up has not read.
    source.keepPurgesAfter(0);
    await source.flush();
  }
  const job = (await resumable(world, sources, wanted)) ?? (await anew(world, wanted, discard));
  for (const [index, source] of sources.entries()) {
    source.keepPurgesAfter(job.seqs[index]?.purgeSeq ?? 0);
  }
  return job;
}

/** Undefined if there is a run that can not be gone on with. */
async function resumable(
  world: ShardWorld,
  sources: readonly Shard[],
  wanted: Wanted,
): Promise<Job | undefined> {
  try {
    await discardVoid(world, wanted);
    const job = await prepare(world, wanted);
    const canFollow = job.checkpoint === undefined || (await knowPurges(sources, job.seqs));
    return canFollow ? job : undefined;
  } catch (error) {
    // A checkpoint that is damaged, or of a file that is another one since, is of no use to anybody.
    if (isDivanError(error, 'CHECKPOINT')) return undefined;
    throw error;
  }
}

async function anew(world: ShardWorld, wanted: Wanted, discard: () => Promise<void>): Promise<Job> {
  await discard();
  return prepare(world, wanted);
}
