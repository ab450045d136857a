/** The family resume: a split that is stopped half-way and gone on with in a new process, next to one that is not stopped. */
import { join } from 'node:path';
import type { BenchInput, BenchResult, BenchRun } from './result.js';
import { rewrite, rewriteResult, rewriting } from './rewrite.js';
import type { ChildOutput } from './rewrite-child.js';
import { makeSource } from './sources.js';
import { compared, takeTurnsWithCopies } from './turns.js';

/** The share of the work after which it is stopped. */
const STOP_AT = 0.5;

export async function resume(input: BenchInput): Promise<BenchResult[]> {
  const { workers } = input;
  const sources = [await makeSource(input)];
  const [whole = [], resumed = []] = await takeTurnsWithCopies(input, sources, [
    rewriting('split', { sources, workers }),
    {
      sources,
      run: (place, warm) => {
        const wanted = { sources, workers, out: join(place, 'out') };
        const first = rewrite('split', { ...wanted, stopAt: STOP_AT });
        // A small source may be split before it can be stopped. Then there is nothing to go on with.
        if (!first.stopped) return first;
        warm();
        const second = rewrite('split', wanted);
        if (!second.resumed) throw new Error('the split began anew instead of being resumed');
        return together(first, second);
      },
    },
  ]);
  const runs = compared(resumed, 'of uninterrupted', whole);
  return [
    rewriteResult(input, ['resume', 'split stopped and resumed'], sources, runs),
    rewriteResult(input, ['resume', 'split uninterrupted'], sources, whole),
  ];
}

function together(first: ChildOutput, second: ChildOutput): BenchRun {
  const sum = (name: 'bytesRead' | 'bytesWritten') => (first[name] ?? 0) + (second[name] ?? 0);
  const most = (name: 'peakMiB' | 'delayP99Ms' | 'delayMaxMs') =>
    Math.max(first[name] ?? 0, second[name] ?? 0);
  return {
    seconds: first.seconds + second.seconds,
    madeBytes: second.madeBytes,
    bytesRead: sum('bytesRead'),
    bytesWritten: sum('bytesWritten'),
    peakMiB: most('peakMiB'),
    delayP99Ms: most('delayP99Ms'),
    delayMaxMs: most('delayMaxMs'),
  };
}
