/** The families of the bench, with the sizes that they have unless others are asked for. */
import { commits } from './commits.js';
import { http } from './http.js';
import { liveMove } from './live-move.js';
import { liveSplit } from './live-split.js';
import { load } from './load.js';
import { read } from './read.js';
import type { BenchInput, BenchResult } from './result.js';
import { resume } from './resume.js';
import { checkpoints, compact, merge, split, verify } from './rewrites.js';

export interface Family {
  readonly run: (input: BenchInput) => Promise<BenchResult[]>;
  readonly docs: number;
  readonly size: number;
  readonly smokeDocs: number;
}

const MILLION = { docs: 1_000_000, size: 200, smokeDocs: 500 } as const;

export const FAMILIES: ReadonlyMap<string, Family> = new Map<string, Family>([
  ['load', { ...MILLION, run: load }],
  ['commits', { run: commits, docs: 20_000, size: 1024, smokeDocs: 100 }],
  ['read', { ...MILLION, run: read, docs: 200_000 }],
  ['split', { ...MILLION, run: split }],
  ['merge', { ...MILLION, run: merge }],
  ['compact', { ...MILLION, run: compact }],
  ['verify', { ...MILLION, run: verify }],
  ['resume', { ...MILLION, run: resume }],
  ['http', { ...MILLION, run: http, docs: 500_000 }],
  ['live-split', { ...MILLION, run: liveSplit, smokeDocs: 2000 }],
  ['live-move', { ...MILLION, run: liveMove, smokeDocs: 2000 }],
  ['checkpoints', { ...MILLION, run: checkpoints }],
]);
