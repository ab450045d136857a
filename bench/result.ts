/** What a family of the bench is given and gives back, and the statistics of several runs. */

export interface BenchInput {
  /** An empty directory. */
  readonly directory: string;
  readonly docs: number;
  /** Bytes of a document's line of JSON. */
  readonly size: number;
  /** How often the measured part is done. */
  readonly runs: number;
  /** Of a rewrite. */
  readonly parts: number;
  readonly workers: number;
  /** A source worn by updates, conflicts and attachments instead of a fresh one. */
  readonly worn: boolean;
}

/** One run. Times in seconds; members that a family does not know are left out. */
export interface BenchRun {
  readonly seconds: number;
  /** Copying the source in blocks of 1 MiB and syncing the copy, right before. */
  readonly copySeconds?: number;
  /** The same with a CRC-32 of every block. */
  readonly checkedCopySeconds?: number;
  readonly peakMiB?: number;
  /** Bytes that the process read and wrote, for each byte of the source. */
  readonly readRatio?: number;
  readonly writeRatio?: number;
  /** Delay of the event loop of the process that serves, in milliseconds. */
  readonly delayP99Ms?: number;
  readonly delayMaxMs?: number;
  /** Bytes of the file that was made for each byte of JSON. */
  readonly fileRatio?: number;
  readonly openSeconds?: number;
}

export interface BenchResult {
  readonly family: string;
  readonly docs: number;
  readonly size: number;
  readonly label: string;
  readonly runs: readonly BenchRun[];
}

export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** Of the values that the runs have; undefined if none has it. */
export function spread(
  runs: readonly BenchRun[],
  value: (run: BenchRun) => number | undefined,
): Spread | undefined {
  const values = runs.flatMap((run) => value(run) ?? []).sort((a, b) => a - b);
  const [min] = values;
  const median = values[values.length >> 1];
  const max = values.at(-1);
  if (min === undefined || median === undefined || max === undefined) return undefined;
  return { min, median, max };
}

/** What copying took for what the run took: 1 is as fast as copying. */
export function ratioToCopy(run: BenchRun): number | undefined {
  return run.copySeconds === undefined ? undefined : run.copySeconds / run.seconds;
}

export function ratioToCheckedCopy(run: BenchRun): number | undefined {
  return run.checkedCopySeconds === undefined ? undefined : run.checkedCopySeconds / run.seconds;
}
