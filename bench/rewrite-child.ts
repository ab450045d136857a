/**
 * A program: does one rewrite and prints what it took as JSON. `node rewrite-child.js split|merge|compact OPTIONS`, options as JSON.
 */
import { statSync } from 'node:fs';
import { isDivanError } from '../engine/errors.js';
import { nodeHost } from '../engine/file/node-host.js';
import { nodeStorage } from '../engine/file/node-storage.js';
import { compact } from '../engine/rewrite/compact.js';
import type { JobOptions } from '../engine/rewrite/job.js';
import { merge } from '../engine/rewrite/merge.js';
import type { RewriteOutcome } from '../engine/rewrite/prepare.js';
import { split } from '../engine/rewrite/split.js';
import type { Usage } from './result.js';
import { UsageMeter } from './usage.js';

export interface ChildInput {
  readonly sources: readonly string[];
  readonly out: string;
  readonly parts: number;
  readonly workers: number;
  readonly verify: boolean;
  readonly checkpoints: boolean;
  /** Stops when so much of the work is done, 0 to 1, and keeps what a resumption needs. */
  readonly stopAt?: number;
}

export interface ChildOutput extends Usage {
  readonly seconds: number;
  /** From the first sign of the verify pass to the end; 0 without one. */
  readonly verifySeconds: number;
  readonly madeBytes: number;
  readonly resumed: boolean;
  readonly stopped: boolean;
}

const WORLD = { storage: nodeStorage, host: nodeHost };

function run(command: string, input: ChildInput, options: JobOptions): Promise<RewriteOutcome> {
  const { sources, out, parts } = input;
  const [source = ''] = sources;
  if (command === 'merge') return merge(WORLD, sources, { ...options, out });
  if (command === 'compact') return compact(WORLD, source, options);
  return split(WORLD, source, { ...options, out, into: { parts } });
}

/** The outcome, or undefined if it was stopped as asked for. */
async function outcomeOf(running: Promise<RewriteOutcome>): Promise<RewriteOutcome | undefined> {
  try {
    return await running;
  } catch (error) {
    if (isDivanError(error, 'ABORTED')) return undefined;
    throw error;
  }
}

async function measured(command: string, input: ChildInput): Promise<ChildOutput> {
  const { workers, verify, checkpoints, stopAt = Number.POSITIVE_INFINITY } = input;
  const abort = new AbortController();
  const meter = new UsageMeter();
  const start = performance.now();
  let verifyStart = 0;
  const running = run(command, input, {
    workers,
    verify,
    checkpoints,
    signal: abort.signal,
    keepPartial: true,
    onProgress: ({ phase, share }) => {
      if (share >= stopAt) abort.abort();
      if (phase === 'verify' && verifyStart === 0) verifyStart = performance.now();
    },
  });
  const outcome = await outcomeOf(running);
  const end = performance.now();
  const made = outcome?.targets ?? [];
  return {
    ...meter.read(),
    seconds: (end - start) / 1000,
    verifySeconds: verifyStart === 0 ? 0 : (end - verifyStart) / 1000,
    madeBytes: made.reduce((sum, { path }) => sum + statSync(path).size, 0),
    resumed: outcome?.resumed === true,
    stopped: outcome === undefined,
  };
}

const [, , command = '', text = '{}'] = process.argv;
process.stdout.write(JSON.stringify(await measured(command, JSON.parse(text))));
