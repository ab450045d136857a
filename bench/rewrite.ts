/** Splitting, merging and compacting as contenders of the bench, each in a process of its own. */
import { copyFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { program, runChild } from './child.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';
import type { ChildInput, ChildOutput } from './rewrite-child.js';
import type { Contender } from './turns.js';

export type Command = 'split' | 'merge' | 'compact';

/** Of a split into two without the verify pass. */
const DEFAULTS = { parts: 2, verify: false, checkpoints: true } as const;

type Wanted = Pick<ChildInput, 'sources' | 'out' | 'workers'> & Partial<ChildInput>;

/** Runs one rewrite. */
export function rewrite(command: Command, wanted: Wanted): ChildOutput {
  const input: ChildInput = { ...DEFAULTS, ...wanted };
  const output: unknown = runChild(program('rewrite-child.js'), [command, JSON.stringify(input)]);
  if (isChildOutput(output)) return output;
  throw new TypeError(`a ${command} printed ${JSON.stringify(output)}`);
}

function isChildOutput(value: unknown): value is ChildOutput {
  return typeof value === 'object' && value !== null && 'seconds' in value && 'stopped' in value;
}

/** A rewrite that is measured. What compaction takes the place of is a copy of its source. */
export function rewriting(
  command: Command,
  wanted: Omit<Wanted, 'out'>,
  runOf: (output: ChildOutput) => BenchRun = (output) => output,
): Contender {
  const { sources } = wanted;
  if (command !== 'compact') {
    const name = command === 'split' ? 'out' : 'merged.divan';
    return {
      sources,
      run: (place) => runOf(rewrite(command, { ...wanted, out: join(place, name) })),
    };
  }
  const copy = (place: string) => join(place, 'compacted.divan');
  const [source = ''] = sources;
  return {
    sources,
    prepare: (place) => copyFileSync(source, copy(place)),
    run: (place) => runOf(rewrite(command, { ...wanted, sources: [copy(place)], out: '' })),
  };
}

export function bytesOf(paths: readonly string[]): number {
  return paths.reduce((sum, path) => sum + statSync(path).size, 0);
}

/** A result of a family of rewrites. */
export function rewriteResult(
  { docs, size, worn }: BenchInput,
  [family, label]: readonly [family: string, label: string],
  sources: readonly string[],
  runs: readonly BenchRun[],
): BenchResult {
  const sourceBytes = bytesOf(sources);
  return { family, docs, size, label: worn ? `${label}, worn` : label, sourceBytes, runs };
}

/** Splits a shard file in two, and returns the halves. */
export function halvesOf(source: string, directory: string, workers: number): string[] {
  const out = join(directory, 'halves');
  rewrite('split', { sources: [source], out, workers });
  return readdirSync(out).map((range) => join(out, range, 'source.divan'));
}
