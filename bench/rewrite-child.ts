/**
 * A program: does one rewrite and prints what it took as JSON. A process of its own for each run, so that memory and I/O are those of
 * the rewrite alone. `node rewrite-child.js split|merge|compact|verify|resume OPTIONS`, options as JSON.
 */
import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { nodeHost } from '../engine/file/node-host.js';
import { nodeStorage } from '../engine/file/node-storage.js';
import { compact } from '../engine/rewrite/compact.js';
import type { JobOptions } from '../engine/rewrite/job.js';
import { merge } from '../engine/rewrite/merge.js';
import { split } from '../engine/rewrite/split.js';

export interface ChildInput {
  readonly sources: readonly string[];
  readonly out: string;
  readonly parts: number;
  readonly workers: number;
  readonly verify: boolean;
  readonly checkpoints: boolean;
}

export interface ChildOutput {
  readonly seconds: number;
  /** From the first sign of the verify pass to the end; 0 without one. */
  readonly verifySeconds: number;
  readonly peakMiB: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly delayP99Ms: number;
  readonly delayMaxMs: number;
}

const WORLD = { storage: nodeStorage, host: nodeHost };

function run(command: string, input: ChildInput, options: JobOptions): Promise<unknown> {
  const { sources, out, parts } = input;
  const [source = ''] = sources;
  if (command === 'merge') return merge(WORLD, sources, { ...options, out });
  if (command === 'compact') return compact(WORLD, source, options);
  return split(WORLD, source, { ...options, out, into: { parts } });
}

/** What the process has read and written so far, whatever cache it came from. Zeros where the system does not say. */
function transferred(): { read: number; written: number } {
  try {
    const text = readFileSync('/proc/self/io', 'latin1');
    const field = (name: string) =>
      Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
    return { read: field('rchar'), written: field('wchar') };
  } catch {
    return { read: 0, written: 0 };
  }
}

/** The most memory that the process has had, in MiB. Not `maxRSS`, which a process inherits from the one that started it. */
function peakMiB(): number {
  try {
    const status = readFileSync('/proc/self/status', 'latin1');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024;
  } catch {
    return process.resourceUsage().maxRSS / 1024;
  }
}

const [, , command = '', text = '{}'] = process.argv;
const input: ChildInput = JSON.parse(text);
const delay = monitorEventLoopDelay({ resolution: 1 });
const before = transferred();
delay.enable();
const start = performance.now();
let verifyStart = 0;
await run(command, input, {
  workers: input.workers,
  verify: input.verify,
  checkpoints: input.checkpoints,
  onProgress: ({ phase }) => {
    if (phase === 'verify' && verifyStart === 0) verifyStart = performance.now();
  },
});
const end = performance.now();
const after = transferred();
const output: ChildOutput = {
  seconds: (end - start) / 1000,
  verifySeconds: verifyStart === 0 ? 0 : (end - verifyStart) / 1000,
  peakMiB: peakMiB(),
  bytesRead: after.read - before.read,
  bytesWritten: after.written - before.written,
  delayP99Ms: delay.percentile(99) / 1e6,
  delayMaxMs: delay.max / 1e6,
};
process.stdout.write(JSON.stringify(output));
