/** What a family of the bench is given and gives back. */

export interface BenchInput {
  /** An empty directory. */
  readonly directory: string;
  readonly docs: number;
  /** Bytes of a document's line of JSON. */
  readonly size: number;
}

export interface BenchResult {
  readonly seconds: number;
  /** Size of the file that was made, in bytes for each byte of JSON. */
  readonly fileRatio?: number;
  /** Delay of the event loop, 99th percentile and longest, in milliseconds. */
  readonly delayMs?: readonly [p99: number, max: number];
  /** Peak memory of the process that did the work. */
  readonly peakMiB?: number;
  readonly extra?: Readonly<Record<string, number>>;
}

export function formatResult(name: string, input: BenchInput, result: BenchResult): string {
  const { docs, size } = input;
  const parts = [
    `${name.padEnd(8)} ${docs} x ${size} B`,
    `${result.seconds.toFixed(2)} s`,
    `${Math.round(docs / result.seconds)} docs/s`,
    `${Math.round((docs * size) / result.seconds / 1e6)} MB/s`,
  ];
  if (result.fileRatio !== undefined) parts.push(`file ${result.fileRatio.toFixed(2)} x JSON`);
  if (result.delayMs !== undefined) {
    parts.push(
      `event loop p99 ${result.delayMs[0].toFixed(1)} ms, max ${result.delayMs[1].toFixed(1)} ms`,
    );
  }
  if (result.peakMiB !== undefined) parts.push(`peak ${Math.round(result.peakMiB)} MiB`);
  for (const [label, value] of Object.entries(result.extra ?? {}))
    parts.push(`${label} ${value.toFixed(2)}`);
  return parts.join(' | ');
}
