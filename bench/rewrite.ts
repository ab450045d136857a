/** Splitting, merging, compacting and verifying, each run next to copying the source. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { copySeconds } from './copy.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';
import type { ChildInput, ChildOutput } from './rewrite-child.js';
import { makeSource } from './sources.js';

const CHILD = join(dirname(fileURLToPath(import.meta.url)), 'rewrite-child.js');

type Command = 'split' | 'merge' | 'compact';

export interface RewriteFamily {
  readonly command: Command;
  /** What is measured: the rewrite without the verify pass, that pass alone, or the rewrite without checkpoints. */
  readonly measures: 'write' | 'verify' | 'write without checkpoints';
}

/** Runs one rewrite in a process of its own. */
function child(command: Command, input: ChildInput): ChildOutput {
  const args = [CHILD, command, JSON.stringify(input)];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the ${command} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

export async function rewriteFamily(
  name: string,
  { command, measures }: RewriteFamily,
  input: BenchInput,
): Promise<BenchResult> {
  const original = await makeSource(input);
  const place = join(input.directory, 'run');
  const sources = command === 'merge' ? mergeSources(original, input) : [original];
  const bytes = sources.reduce((sum, path) => sum + statSync(path).size, 0);
  const runs: BenchRun[] = [];
  // One more than is counted: the first brings the source into the cache.
  for (let turn = 0; turn <= input.runs; turn++) {
    rmSync(place, { recursive: true, force: true });
    mkdirSync(place);
    const copies = [false, true].map((checked) => {
      settle();
      return sources.reduce(
        (sum, path) => sum + copySeconds(path, join(place, 'copy'), checked),
        0,
      );
    });
    settle();
    const run = rewriteOnce(command, measures, sources, place, input);
    if (turn === 0) continue;
    runs.push({
      seconds: measures === 'verify' ? run.verifySeconds : run.seconds,
      copySeconds: copies[0] ?? 0,
      checkedCopySeconds: copies[1] ?? 0,
      peakMiB: run.peakMiB,
      readRatio: run.bytesRead / bytes,
      writeRatio: run.bytesWritten / bytes,
      delayP99Ms: run.delayP99Ms,
      delayMaxMs: run.delayMaxMs,
    });
  }
  const into = command === 'split' ? `into ${input.parts}` : '';
  const label = [name, into, input.worn ? 'worn' : ''].filter((word) => word !== '').join(' ');
  return { family: name, docs: input.docs, size: input.size, label, runs };
}

/** Lets the system finish what was removed and written before, so that nothing of it is paid for by what is measured next. */
function settle(): void {
  spawnSync('sync');
}

function rewriteOnce(
  command: Command,
  measures: RewriteFamily['measures'],
  sources: readonly string[],
  place: string,
  { parts, workers }: BenchInput,
): ChildOutput {
  const [source = ''] = sources;
  const compacted = join(place, 'compacted.divan');
  if (command === 'compact') copyFileSync(source, compacted);
  return child(command, {
    sources: command === 'compact' ? [compacted] : sources,
    out: join(place, command === 'split' ? 'out' : 'merged.divan'),
    parts,
    workers,
    verify: measures === 'verify',
    checkpoints: measures !== 'write without checkpoints',
  });
}

/** The halves of the source. */
function mergeSources(original: string, { directory, workers }: BenchInput): string[] {
  const out = join(directory, 'halves');
  const checks = { verify: false, checkpoints: false };
  child('split', { sources: [original], out, parts: 2, workers, ...checks });
  return readdirSync(out).map((range) => join(out, range, 'source.divan'));
}
