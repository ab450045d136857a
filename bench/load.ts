/** `divan load` of synthetic documents with random ids from a file, as a process of its own. */
import { spawn } from 'node:child_process';
import { createWriteStream, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { syntheticLines } from '../fixtures/synthetic.js';
import type { BenchInput, BenchResult } from './result.js';

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

/** Writes the documents to a file and loads it into a shard; returns what the load says of itself. */
export async function loadFile(
  { directory, docs, size }: BenchInput,
  shard: string,
): Promise<{ seconds: number; delayMs: [number, number]; peakMiB: number }> {
  const input = join(directory, 'docs.ndjson');
  const observed = join(directory, 'observed.json');
  const observer = join(directory, 'observer.mjs');
  writeFileSync(observer, observerSource(observed));
  await pipeline(Readable.from(pieces(docs, size)), createWriteStream(input));
  const start = performance.now();
  const args = ['--import', observer, CLI, 'load', shard, input];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  const seconds = (performance.now() - start) / 1000;
  if (code !== 0) throw new Error(`the load ended with ${code}`);
  const { p99, max, peakMiB }: { p99: number; max: number; peakMiB: number } = JSON.parse(
    readFileSync(observed, 'utf8'),
  );
  return { seconds, delayMs: [p99, max], peakMiB };
}

/** Code that watches the process that it is imported into, and writes what it saw at the end. */
function observerSource(path: string): string {
  return `import { monitorEventLoopDelay } from 'node:perf_hooks';
import { writeFileSync } from 'node:fs';
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
process.on('exit', () => writeFileSync(${JSON.stringify(path)}, JSON.stringify({
  p99: delay.percentile(99) / 1e6, max: delay.max / 1e6, peakMiB: process.resourceUsage().maxRSS / 1024 })));
`;
}

export async function load(input: BenchInput): Promise<BenchResult> {
  const shard = join(input.directory, 'load.divan');
  const { seconds, delayMs, peakMiB } = await loadFile(input, shard);
  const fileRatio = statSync(shard).size / (input.docs * (input.size + 1));
  return { seconds, fileRatio, delayMs, peakMiB };
}
