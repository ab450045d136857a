/** `divan load` of synthetic documents with random ids from a file, as a process of its own. */
import { spawn } from 'node:child_process';
import { createWriteStream, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { syntheticLines } from '../fixtures/synthetic.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const CLI = join(HERE, '..', 'tools', 'cli.js');

function* pieces(docs: number, size: number): Generator<string> {
  let piece: string[] = [];
  for (const line of syntheticLines(docs, size)) {
    piece.push(line, '\n');
    if (piece.length < 1000) continue;
    yield piece.join('');
    piece = [];
  }
  yield piece.join('');
}

/** Loads a file of documents into a shard. */
async function loadOnce({ directory, docs, size }: BenchInput, turn: number): Promise<BenchRun> {
  const input = join(directory, 'docs.ndjson');
  const shard = join(directory, `load-${turn}.divan`);
  const observed = join(directory, 'observed.json');
  const observer = join(directory, 'observer.mjs');
  writeFileSync(observer, observerSource(observed));
  const start = performance.now();
  const args = ['--import', observer, CLI, 'load', shard, input];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  const seconds = (performance.now() - start) / 1000;
  if (code !== 0) throw new Error(`the load ended with ${code}`);
  const seen: Pick<BenchRun, 'peakMiB' | 'delayP99Ms' | 'delayMaxMs'> = JSON.parse(
    readFileSync(observed, 'utf8'),
  );
  const fileRatio = statSync(shard).size / (docs * (size + 1));
  rmSync(shard);
  return { seconds, fileRatio, ...seen };
}

/** Code that watches the process that it is imported into, and writes what it saw at the end. */
function observerSource(path: string): string {
  return `import { monitorEventLoopDelay } from 'node:perf_hooks';
import { writeFileSync } from 'node:fs';
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
process.on('exit', () => writeFileSync(${JSON.stringify(path)}, JSON.stringify({
  delayP99Ms: delay.percentile(99) / 1e6, delayMaxMs: delay.max / 1e6,
  peakMiB: process.resourceUsage().maxRSS / 1024 })));
`;
}

export async function load(input: BenchInput): Promise<BenchResult> {
  const { directory, docs, size } = input;
  const lines = createWriteStream(join(directory, 'docs.ndjson'));
  await pipeline(Readable.from(pieces(docs, size)), lines);
  const runs: BenchRun[] = [];
  for (let turn = 0; turn < input.runs; turn++) runs.push(await loadOnce(input, turn));
  return { family: 'load', docs, size, label: 'load', runs };
}
