/** What the bench reports of each result. */
import {
  type BenchResult,
  type BenchRun,
  docsPerSecond,
  ratioToCheckedCopy,
  ratioToCopy,
} from './result.js';

/** A figure that each run has, or does not. */
export interface Column {
  readonly title: string;
  readonly value: (run: BenchRun, result: BenchResult) => number | undefined;
  readonly format: (value: number) => string;
}

const fixed = (digits: number) => (value: number) => value.toFixed(digits);
export const rounded = (value: number) => Math.round(value).toLocaleString('en-US');

/** `bytes` for each byte of the source. */
function perSourceByte(bytes: number | undefined, { sourceBytes }: BenchResult) {
  return bytes === undefined || sourceBytes === 0 ? undefined : bytes / sourceBytes;
}

/** Bytes of JSON a second, in millions. */
function megabytesPerSecond(run: BenchRun, result: BenchResult): number {
  return (docsPerSecond(result, run) * result.size) / 1e6;
}

const SPEED: readonly Column[] = [
  { title: 'seconds', value: ({ seconds }) => seconds, format: fixed(2) },
  { title: 'docs/s', value: (run, result) => docsPerSecond(result, run), format: rounded },
  { title: 'MB/s', value: megabytesPerSecond, format: rounded },
  { title: 'copy s', value: ({ copySeconds }) => copySeconds, format: fixed(2) },
  { title: 'of copying', value: ratioToCopy, format: fixed(2) },
  { title: 'of a checked copy', value: ratioToCheckedCopy, format: fixed(2) },
];

const USAGE: readonly Column[] = [
  { title: 'p50 ms', value: ({ p50Ms }) => p50Ms, format: fixed(2) },
  { title: 'p99 ms', value: ({ p99Ms }) => p99Ms, format: fixed(2) },
  { title: 'max ms', value: ({ maxMs }) => maxMs, format: fixed(2) },
  { title: 'write pause ms', value: ({ pauseMs }) => pauseMs, format: fixed(2) },
  { title: 'writes before', value: ({ acknowledged }) => acknowledged, format: rounded },
  { title: 'failures', value: ({ failures }) => failures, format: rounded },
  {
    title: 'CPU us/doc',
    value: (run, result) => run.cpuSeconds && (1e6 * run.cpuSeconds) / (run.docs ?? result.docs),
    format: fixed(1),
  },
  { title: 'peak MiB', value: ({ peakMiB }) => peakMiB, format: fixed(0) },
  { title: 'grown MiB', value: ({ grownMiB }) => grownMiB, format: fixed(0) },
  {
    title: 'read / source',
    value: ({ bytesRead }, result) => perSourceByte(bytesRead, result),
    format: fixed(2),
  },
  {
    title: 'written / source',
    value: ({ bytesWritten }, result) => perSourceByte(bytesWritten, result),
    format: fixed(2),
  },
  { title: 'event loop p99 ms', value: ({ delayP99Ms }) => delayP99Ms, format: fixed(1) },
  { title: 'event loop max ms', value: ({ delayMaxMs }) => delayMaxMs, format: fixed(0) },
  {
    title: 'made / JSON',
    value: ({ madeBytes }, { docs, size }) => madeBytes && madeBytes / (docs * size),
    format: fixed(2),
  },
  { title: 'dead', value: deadShare, format: (value) => `${(100 * value).toFixed(0)} %` },
  { title: 'open s', value: ({ openSeconds }) => openSeconds, format: fixed(2) },
];

const REWRITES = ['split', 'merge', 'compact', 'verify', 'resume', 'checkpoints'];

/** How much of the source is not in what a rewrite made of it. */
export function deadShare({ madeBytes }: BenchRun, result: BenchResult): number | undefined {
  if (!REWRITES.includes(result.family) || result.isPeer === true) return undefined;
  const kept = perSourceByte(madeBytes, result);
  return kept === undefined ? undefined : Math.max(0, 1 - kept);
}

/** The columns that some of the results have a figure for. */
export function columnsOf(results: readonly BenchResult[]): Column[] {
  const names = new Set(
    results.flatMap(({ runs }) => runs.flatMap(({ ratios }) => Object.keys(ratios ?? {}))),
  );
  const ratios = [...names].map(
    (name): Column => ({ title: name, value: (run) => run.ratios?.[name], format: fixed(2) }),
  );
  return [...SPEED, ...ratios, ...USAGE].filter(({ value }) =>
    results.some((result) => result.runs.some((run) => value(run, result) !== undefined)),
  );
}
