/** What a family of the bench is given and gives back, and the statistics of several runs. */

export interface BenchInput {
  /** Of the family and size alone; empty at first. */
  readonly directory: string;
  /** Where families of the same documents find or make their source. */
  readonly sourceDirectory: string;
  readonly docs: number;
  /** Bytes of a document's line of JSON. */
  readonly size: number;
  /** How often the measured part is done. */
  readonly runs: number;
  /** How often before that without being counted: the first time brings sources into the cache. */
  readonly discarded: number;
  /** Of a split: each of these numbers of targets. */
  readonly parts: readonly number[];
  readonly workers: number;
  /** A source worn by updates, conflicts and attachments instead of a fresh one. */
  readonly worn: boolean;
  /** Other stores that do what a split into two does. */
  readonly peers: readonly string[];
  /** How long requests are sent where it is not a number of documents that is measured. */
  readonly seconds: number;
  /** Of the family live-split: how many local docs the shard has besides. */
  readonly localDocs: number;
  /** It only has to be shown that it works. */
  readonly smoke: boolean;
}

/** What a process was seen to use while something was measured. Members that the system does not tell are left out. */
export interface Usage {
  readonly peakMiB?: number | undefined;
  /** By how much that is more than what it had before. */
  readonly grownMiB?: number | undefined;
  /** Time of the processors, over all threads. */
  readonly cpuSeconds?: number | undefined;
  readonly bytesRead?: number | undefined;
  readonly bytesWritten?: number | undefined;
  /** Delay of the event loop of the process that serves, in milliseconds. */
  readonly delayP99Ms?: number | undefined;
  readonly delayMaxMs?: number | undefined;
}

/** One run. Times in seconds; members that a family does not know are left out. */
export interface BenchRun extends Usage {
  readonly seconds: number;
  /** How many documents it were, where that differs from run to run. */
  readonly docs?: number | undefined;
  /** How long a request took. */
  readonly p50Ms?: number | undefined;
  readonly p99Ms?: number | undefined;
  readonly maxMs?: number | undefined;
  /** The longest time for which the server held writes for a cutover, as it says itself. */
  readonly pauseMs?: number | undefined;
  /** The fewest documents that were acknowledged in the second before a cutover. */
  readonly acknowledged?: number | undefined;
  /** Requests that were not answered as they should be. */
  readonly failures?: number | undefined;
  /** Copying the source in blocks of 1 MiB and syncing the copy, in the same turn. */
  readonly copySeconds?: number | undefined;
  /** The same with a CRC-32 of every block. */
  readonly checkedCopySeconds?: number | undefined;
  /** Of the file or files that were made. */
  readonly madeBytes?: number | undefined;
  readonly openSeconds?: number | undefined;
  /** How fast it was for other things that were measured in the same turn, by what the column is called. */
  readonly ratios?: { readonly [name: string]: number } | undefined;
}

export interface BenchResult {
  readonly family: string;
  readonly docs: number;
  readonly size: number;
  readonly label: string;
  /** True for another store. */
  readonly isPeer?: boolean;
  /** Of what is read. 0 where nothing is. */
  readonly sourceBytes: number;
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
  const max = values.at(-1);
  const below = values[(values.length - 1) >> 1];
  const above = values[values.length >> 1];
  if (min === undefined || below === undefined || above === undefined || max === undefined) {
    return undefined;
  }
  return { min, median: (below + above) / 2, max };
}

/** What copying took for what the run took: 1 is as fast as copying. */
export function ratioToCopy({ copySeconds, seconds }: BenchRun): number | undefined {
  return copySeconds === undefined ? undefined : copySeconds / seconds;
}

export function ratioToCheckedCopy({ checkedCopySeconds, seconds }: BenchRun): number | undefined {
  return checkedCopySeconds === undefined ? undefined : checkedCopySeconds / seconds;
}

/** Documents a second. */
export function docsPerSecond(result: Pick<BenchResult, 'docs'>, run: BenchRun): number {
  return (run.docs ?? result.docs) / run.seconds;
}

export function isBenchRun(value: unknown): value is BenchRun {
  return typeof value === 'object' && value !== null && 'seconds' in value;
}
