/** The families split, merge, compact, verify and checkpoints. */
import { peerContenders, peerResults } from './peers.js';
import type { BenchInput, BenchResult } from './result.js';
import { halvesOf, rewriteResult, rewriting } from './rewrite.js';
import { makeSource } from './sources.js';
import { compared, takeTurnsWithCopies } from './turns.js';

/** Into each number of parts, and peers that split in two. */
export async function split(input: BenchInput): Promise<BenchResult[]> {
  const { parts, workers } = input;
  const sources = [await makeSource(input)];
  const peers = peerContenders(input);
  const splits = parts.map((count) => rewriting('split', { sources, workers, parts: count }));
  const measured = await takeTurnsWithCopies(input, sources, [...splits, ...peers]);
  const results = parts.map((count, index) =>
    rewriteResult(input, ['split', `split into ${count}`], sources, measured[index] ?? []),
  );
  const inTwo = measured[parts.indexOf(2)];
  return [...results, ...peerResults(input, measured.slice(parts.length), inTwo)];
}

/** Two halves, next to the split that makes such halves. */
export async function merge(input: BenchInput): Promise<BenchResult[]> {
  const { directory, workers } = input;
  const source = await makeSource(input);
  const sources = halvesOf(source, directory, workers);
  const [merges = [], splits = []] = await takeTurnsWithCopies(input, sources, [
    rewriting('merge', { sources, workers }),
    rewriting('split', { sources: [source], workers }),
  ]);
  const runs = compared(merges, 'of split', splits);
  return [rewriteResult(input, ['merge', 'merge of 2'], sources, runs)];
}

export async function compact(input: BenchInput): Promise<BenchResult[]> {
  const { workers } = input;
  const sources = [await makeSource(input)];
  const [compactions = [], splits = []] = await takeTurnsWithCopies(input, sources, [
    rewriting('compact', { sources, workers }),
    rewriting('split', { sources, workers }),
  ]);
  const runs = compared(compactions, 'of split', splits);
  return [rewriteResult(input, ['compact', 'compact'], sources, runs)];
}

/** The verify pass of a split alone. */
export async function verify(input: BenchInput): Promise<BenchResult[]> {
  const { workers } = input;
  const sources = [await makeSource(input)];
  const [runs = []] = await takeTurnsWithCopies(input, sources, [
    rewriting('split', { sources, workers, verify: true }, (output) => ({
      ...output,
      seconds: output.verifySeconds,
      // These are of the whole split.
      bytesRead: undefined,
      bytesWritten: undefined,
    })),
  ]);
  return [rewriteResult(input, ['verify', 'verify a split'], sources, runs)];
}

/** What being resumable costs: splits with and without checkpoints. */
export async function checkpoints(input: BenchInput): Promise<BenchResult[]> {
  const { workers } = input;
  const sources = [await makeSource(input)];
  const [resumable = [], others = []] = await takeTurnsWithCopies(input, sources, [
    rewriting('split', { sources, workers }),
    rewriting('split', { sources, workers, checkpoints: false }),
  ]);
  const runs = compared(resumable, 'of one without checkpoints', others);
  return [
    rewriteResult(input, ['checkpoints', 'split with checkpoints'], sources, runs),
    rewriteResult(input, ['checkpoints', 'split without checkpoints'], sources, others),
  ];
}
