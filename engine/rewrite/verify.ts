/** Comparing what a rewrite made with what it was made from. */
import { DivanError } from '../errors.js';
import type { Host } from '../file/host.js';
import type { Storage } from '../file/storage.js';
import { formatRange } from '../shard/hash.js';
import { ReadOnlyShard } from '../shard/read-only-shard.js';
import type { Counters } from '../shard/state.js';
import type { VerifyState } from './checkpoint.js';
import type { Crew } from './crew.js';
import type { DigestState } from './digest.js';
import type { Job } from './job.js';
import type { JobMeter } from './job-meter.js';
import type { RewriteResult } from './pipeline.js';
import type { RewritePlan } from './plan.js';
import { EMPTY_SET, HASH_KEY_BYTES, type SetHash, sumText } from './set-hash.js';
import type { Task } from './task.js';

/** What a set of shards holds is the sum of what each of them does. */
export const COUNTED = [
  'liveDocs',
  'deletedDocs',
  'activeBytes',
  'externalBytes',
  'purgeInfos',
] as const;

/** The targets together must hold as much as the sources. Throws `VERIFY_FAILED`. */
export function compareCounts(
  expected: Counters,
  targets: readonly Pick<RewriteResult, 'counters'>[],
): void {
  for (const name of COUNTED) {
    const actual = targets.reduce((sum, { counters }) => sum + counters[name], 0);
    if (actual !== expected[name]) throw different(name, expected[name], actual);
  }
}

/** How much of all documents each task of `verify` reads, about. */
export function verifyShares({ sources, targets }: RewritePlan): number[] {
  const spans = targets.map(({ range: { start, end } }) => end - start + 1);
  const whole = spans.reduce((sum, span) => sum + span, 0);
  return [...sources.map(() => 1 / sources.length), ...spans.map((span) => span / whole)];
}

/** A comparison that begins. */
export function newVerifyState(
  host: Pick<Host, 'randomBytes'>,
  { plan }: Job,
  results: readonly RewriteResult[],
): VerifyState {
  const inOrder = [...results].sort((a, b) => a.index - b.index);
  return {
    key: host.randomBytes(HASH_KEY_BYTES),
    targets: inOrder.map(({ state }) => state),
    sources: plan.sources.map(() => undefined),
  };
}

/**
 * Opens the targets under their temporary names as anybody will, and looks at what they say of themselves. Throws `VERIFY_FAILED`, and
 * what opening throws.
 */
export async function verifyOpening(
  storage: Storage,
  { plan, files, settings }: Job,
  { targets }: VerifyState,
): Promise<void> {
  for (const [index, state] of targets.entries()) {
    const target = plan.targets[index];
    const path = files.targets[index]?.temporaryPath ?? '';
    await using shard = await ReadOnlyShard.open({ storage }, path);
    const { newest } = shard.recovered;
    // A copy that had begun to catch up with a live shard when it was interrupted holds more.
    if (newest.state.pos > state.pos) continue;
    const { uuid, range, security, revsLimit, purgeInfosLimit, hashRule } = shard.snapshot.metadata;
    const same =
      newest.state.pos === state.pos &&
      newest.state.crc === state.crc &&
      target !== undefined &&
      Buffer.compare(uuid, target.uuid) === 0 &&
      formatRange(range) === formatRange(target.range) &&
      Buffer.compare(security, settings.security) === 0 &&
      revsLimit === settings.revsLimit &&
      purgeInfosLimit === settings.purgeInfosLimit &&
      hashRule === settings.hashRule;
    if (!same) throw different('metadata', 'settings', `others in ${path}`);
  }
}

/**
 * Reads the sources and the targets under their temporary names, and compares the hashes of all that they hold. `onState` hears
 * how far it is. Throws `VERIFY_FAILED`, and what reading throws.
 */
export async function verify(
  { plan, files, revsLimit }: Job,
  begun: VerifyState,
  crew: Crew,
  meter: JobMeter,
  onState: ((state: VerifyState) => void) | undefined,
): Promise<void> {
  const { key } = begun;
  const sources = [...begun.sources];
  const sourceTasks = plan.sources.map((source, index): Task => {
    const path = files.sourcePaths[index] ?? '';
    return { digest: { path, plan: source, key, revsLimit, from: sources[index] } };
  });
  const targetTasks = begun.targets.map((state, index): Task => {
    const fileId = plan.targets[index]?.fileId ?? new Uint8Array(0);
    const path = files.targets[index]?.temporaryPath ?? '';
    return { digest: { path, plan: { fileId, state }, key, revsLimit, from: undefined } };
  });
  const tasks = [...sourceTasks, ...targetTasks];
  meter.begin('verify', tasks.length);
  const outcomes = await crew.perform(tasks, {
    onProgress: (task, progress) => meter.progress(task, progress),
    onDone: (task) => meter.done(task),
    onDigest:
      onState &&
      ((task, state) => {
        if (task >= sources.length) return;
        sources[task] = state;
        onState({ ...begun, sources: [...sources] });
      }),
  });
  const done = outcomes.flatMap(({ digest }) => digest ?? []);
  compare(done.slice(0, sourceTasks.length), done.slice(sourceTasks.length));
}

/** Of the sets of a digest, in the order of its passes. The other passes only compare seqs. */
const SET_NAMES = ['rows', 'documents', 'local docs', '', 'purges'] as const;

function compare(sources: readonly DigestState[], targets: readonly DigestState[]): void {
  for (const [pass, name] of SET_NAMES.entries()) {
    const setsOf = (digests: readonly DigestState[]) =>
      digests.map(({ sets }) => sets[pass] ?? EMPTY_SET);
    const count = (sets: readonly SetHash[]) => sets.reduce((sum, set) => sum + set.count, 0);
    const expected = setsOf(sources);
    const actual = setsOf(targets);
    if (count(actual) !== count(expected)) throw different(name, count(expected), count(actual));
    if (sumText(actual) === sumText(expected)) continue;
    throw different(`digest of ${name}`, sumText(expected), sumText(actual));
  }
}

function different(what: string, expected: string | number, actual: string | number): DivanError {
  return new DivanError(
    'VERIFY_FAILED',
    `the targets together have the ${what} ${actual}, the sources ${expected}; none of them was kept`,
    { expected, actual },
  );
}
