/** The family read: documents by id in random order, all documents by id, and the changes, each in a process of its own. */
import { program, runChild } from './child.js';
import { type BenchInput, type BenchResult, isBenchRun } from './result.js';
import { rewriteResult } from './rewrite.js';
import { makeSource } from './sources.js';
import { type Contender, takeTurnsWithCopies } from './turns.js';

const WAYS = [
  ['get', 'get by id'],
  ['all', 'all docs'],
  ['changes', 'changes'],
] as const;

export async function read(input: BenchInput): Promise<BenchResult[]> {
  const source = await makeSource(input);
  const contenders = WAYS.map(
    ([way]): Contender => ({
      sources: [source],
      run: () => {
        const run: unknown = runChild(program('read-child.js'), [way, source]);
        if (isBenchRun(run)) return run;
        throw new TypeError(`reading printed ${JSON.stringify(run)}`);
      },
    }),
  );
  const measured = await takeTurnsWithCopies(input, [source], contenders);
  return WAYS.map(([, label], index) =>
    rewriteResult(input, ['read', label], [source], measured[index] ?? []),
  );
}
