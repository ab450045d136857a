/** Measuring several things in turns, each treated alike, so that what the machine does meanwhile meets all of them. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { copySeconds, warmUp } from './copy.js';
import type { BenchInput, BenchRun } from './result.js';

/** Something that is measured once in each turn. */
export interface Contender {
  /** What it reads; `warmUp` copies it right before. */
  readonly sources: readonly string[];
  /** What must be there first and is not measured. `place` is an empty directory. */
  readonly prepare?: (place: string) => void;
  /** Runs it and says what it took. `warm` warms up again, between the parts of what has several. */
  readonly run: (place: string, warm: () => void) => BenchRun | Promise<BenchRun>;
}

export type TurnsInput = Pick<BenchInput, 'directory' | 'runs' | 'discarded'>;

/** The runs of each contender, in their order. */
export async function takeTurns(
  { directory, runs, discarded }: TurnsInput,
  contenders: readonly Contender[],
): Promise<BenchRun[][]> {
  const measured = contenders.map((): BenchRun[] => []);
  for (let turn = -discarded; turn < runs; turn++) {
    for (const [index, contender] of contenders.entries()) {
      const run = await measureOne(join(directory, 'run'), contender);
      if (turn >= 0) measured[index]?.push(run);
    }
  }
  return measured;
}

async function measureOne(place: string, { sources, prepare, run }: Contender): Promise<BenchRun> {
  mkdirSync(place);
  try {
    prepare?.(place);
    const warm = () => warmUp(sources, place);
    warm();
    return await run(place, warm);
  } finally {
    rmSync(place, { recursive: true });
  }
}

/** As `takeTurns`, with the two copies of `sources` in every turn; each run gets those of its turn. */
export async function takeTurnsWithCopies(
  input: TurnsInput,
  sources: readonly string[],
  contenders: readonly Contender[],
): Promise<BenchRun[][]> {
  const copying = (checked: boolean): Contender => ({
    sources,
    run: (place) => ({ seconds: copySeconds(sources, place, checked) }),
  });
  const [copies = [], checkedCopies = [], ...others] = await takeTurns(input, [
    copying(false),
    copying(true),
    ...contenders,
  ]);
  return others.map((runs) =>
    runs.map((run, turn) => ({
      ...run,
      copySeconds: copies[turn]?.seconds,
      checkedCopySeconds: checkedCopies[turn]?.seconds,
    })),
  );
}

/** Runs with one ratio more: how fast each was, for how fast another was in the same turn. */
export function compared(
  runs: readonly BenchRun[],
  name: string,
  others: readonly BenchRun[],
  speed: (run: BenchRun) => number = ({ seconds }) => 1 / seconds,
): BenchRun[] {
  return runs.map((run, turn) => {
    const other = others[turn];
    if (other === undefined) return run;
    return { ...run, ratios: { ...run.ratios, [name]: speed(run) / speed(other) } };
  });
}
