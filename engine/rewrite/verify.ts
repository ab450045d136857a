/** Comparing what a rewrite made with what it was made from. */
import { DivanError } from '../errors.js';
import type { Host } from '../file/host.js';
import type { Counters } from '../shard/state.js';
import type { Crew } from './crew.js';
import type { Digest } from './digest.js';
import type { Job } from './job.js';
import type { JobMeter } from './job-meter.js';
import type { RewriteResult } from './pipeline.js';
import { addSums, HASH_KEY_BYTES } from './set-hash.js';
import type { Task } from './task.js';

/** The targets together must hold as much as the sources. Throws `VERIFY_FAILED`. */
export function compareCounts(expected: Counters, targets: readonly RewriteResult[]): void {
  const names = ['liveDocs', 'deletedDocs', 'activeBytes', 'externalBytes', 'purgeInfos'] as const;
  for (const name of names) {
    const actual = targets.reduce((sum, { counters }) => sum + counters[name], 0);
    if (actual !== expected[name]) throw different(name, expected[name], actual);
  }
}

/**
 * Reads the sources and the targets under their temporary names, and compares the hashes of all that they hold. Throws
 * `VERIFY_FAILED`, and what reading throws.
 */
export async function verify(
  host: Pick<Host, 'randomBytes'>,
  { plan, files, revsLimit }: Job,
  targets: readonly RewriteResult[],
  crew: Crew,
  meter: JobMeter,
): Promise<void> {
  const key = host.randomBytes(HASH_KEY_BYTES);
  const sourceTasks = plan.sources.map(
    (source, index): Task => ({
      digest: { path: files.sourcePaths[index] ?? '', plan: source, key, revsLimit },
    }),
  );
  const targetTasks = targets.map(({ index, state }): Task => {
    const fileId = plan.targets[index]?.fileId ?? new Uint8Array(0);
    const path = files.targets[index]?.temporaryPath ?? '';
    return { digest: { path, plan: { fileId, state }, key, revsLimit } };
  });
  const tasks = [...sourceTasks, ...targetTasks];
  meter.begin('verify', tasks.length);
  const outcomes = await crew.perform(tasks, {
    onProgress: (task, progress) => meter.progress(task, progress),
  });
  const digests = outcomes.flatMap(({ digest }) => digest ?? []);
  compare(digests.slice(0, sourceTasks.length), digests.slice(sourceTasks.length));
}

function compare(sources: readonly Digest[], targets: readonly Digest[]): void {
  for (const name of ['documents', 'rows', 'localDocs', 'purges'] as const) {
    const expected = sources.reduce((sum, digest) => sum + digest[name], 0);
    const actual = targets.reduce((sum, digest) => sum + digest[name], 0);
    if (actual !== expected) throw different(name, expected, actual);
  }
  const expected = addSums(sources.map(({ sum }) => sum));
  const actual = addSums(targets.map(({ sum }) => sum));
  if (actual === expected) return;
  throw different('digest', expected.toString(16), actual.toString(16));
}

function different(what: string, expected: string | number, actual: string | number): DivanError {
  return new DivanError(
    'VERIFY_FAILED',
    `the targets together have the ${what} ${actual}, the sources ${expected}; none of them was kept`,
    { expected, actual },
  );
}
