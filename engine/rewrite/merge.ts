/** Merging shard files of adjacent ranges into one. The sources stay. */
import { basename, dirname, join } from 'node:path';
import { DivanError } from '../errors.js';
import type { Storage } from '../file/storage.js';
import { formatRange, PARTS_MAX } from '../shard/hash.js';
import type { Shard, ShardWorld } from '../shard/shard.js';
import type { Metadata } from '../shard/state.js';
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

export interface MergeOptions extends JobOptions {
  /** The file that is made. */
  readonly out: string;
  /** The source whose security and limits the target takes; they must be the same if it is not given. */
  readonly settingsFrom?: string | undefined;
  readonly plan?: RewritePlan | undefined;
}

/**
 * Merges shard files into one whose range is that of all of them. Documents, tombstones, conflicts, attachments, local docs and
 * purge infos are kept, and so is the order of the updates of each. Throws `INVALID_RANGE` if the ranges are not adjacent,
 * `SETTINGS_DIFFER`, `LIMIT` for seqs beyond 2^53 - 1, `CHECKPOINT`, `INVALID_PLAN`, what opening shards throws, and what `runJob` throws.
 */
export function merge(
  world: ShardWorld,
  paths: readonly string[],
  options: MergeOptions,
): Promise<RewriteOutcome> {
  return rewriteFiles(world, paths, options, (sources) => wantedMerge(world, sources, options));
}

/** What `merge` would do. */
export function previewMerge(
  world: ShardWorld,
  paths: readonly string[],
  options: MergeOptions,
): Promise<Preview> {
  return withSources(world, paths, async (sources) =>
    preview(world, await wantedMerge(world, sources, options), options),
  );
}

/** What a merge of open sources is to do. Throws `INVALID_RANGE` and `SETTINGS_DIFFER`. */
async function wantedMerge(
  { storage }: ShardWorld,
  sources: readonly Shard[],
  options: MergeOptions,
): Promise<Wanted> {
  const { out, settingsFrom, plan } = options;
  if (sources.length < 2 || sources.length > PARTS_MAX) {
    throw new DivanError('INVALID_RANGE', `a merge has 2 to ${PARTS_MAX} sources`);
  }
  const sorted = [...sources].sort((a, b) => rangeOf(a).start - rangeOf(b).start);
  for (const [index, source] of sorted.entries()) {
    const next = sorted[index + 1];
    if (next === undefined || rangeOf(next).start === rangeOf(source).end + 1) continue;
    throw new DivanError(
      'INVALID_RANGE',
      `${source.path} and ${next.path} are not adjacent: ${formatRange(rangeOf(source))} and ${formatRange(rangeOf(next))}`,
    );
  }
  return {
    kind: 'merge',
    sources: sorted,
    ranges: [{ start: rangeOf(sorted[0]).start, end: rangeOf(sorted.at(-1)).end }],
    settingsFrom: await settingsSource(storage, sorted, settingsFrom),
    pathOf: () => out,
    checkpointPath: mergeCheckpointPath(out),
    ifChanged: 'refuse',
    plan,
  };
}

/** Where a merge into the file `out` keeps its checkpoint. */
export function mergeCheckpointPath(out: string): string {
  return join(dirname(out), `.${basename(out)}.merge`);
}

function rangeOf(shard: Shard | undefined): Metadata['range'] {
  return shard?.snapshot().metadata.range ?? { start: 0, end: 0 };
}

async function settingsSource(
  storage: Storage,
  sources: readonly Shard[],
  path: string | undefined,
): Promise<number> {
  const settings = sources.map((source) => source.snapshot().metadata);
  const [first] = settings;
  if (settings.some(({ hashRule }) => hashRule !== first?.hashRule)) {
    throw new DivanError('SETTINGS_DIFFER', 'partitioned and other shards can not be merged');
  }
  if (path !== undefined) {
    const wanted = await storage.identity(path);
    for (const [index, source] of sources.entries()) {
      if ((await storage.identity(source.path)) === wanted) return index;
    }
    throw new DivanError('SETTINGS_DIFFER', `${path} is none of the sources`, { path });
  }
  const other = settings.find(
    (one) =>
      first !== undefined &&
      (Buffer.compare(one.security, first.security) !== 0 ||
        one.revsLimit !== first.revsLimit ||
        one.purgeInfosLimit !== first.purgeInfosLimit),
  );
  if (other === undefined) return 0;
  throw new DivanError(
    'SETTINGS_DIFFER',
    'the sources have different security or limits; say whose the target takes (--settings-from)',
  );
}
