/** The family load: `divan load` of a file of synthetic documents with random ids, as a process of its own. */
import { spawnSync } from 'node:child_process';
import { createWriteStream, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { syntheticLines } from '../fixtures/synthetic.js';
import { program } from './child.js';
import type { BenchInput, BenchResult, BenchRun, Usage } from './result.js';
import { bytesOf } from './rewrite.js';
import { batches } from './sources.js';
import { takeTurnsWithCopies } from './turns.js';

const CLI = program('../tools/cli.js');
const OBSERVER = pathToFileURL(program('load-observer.js')).href;

export async function load(input: BenchInput): Promise<BenchResult[]> {
  const { directory, docs, size } = input;
  const source = join(directory, 'docs.ndjson');
  await pipeline(Readable.from(pieces(docs, size)), createWriteStream(source));
  const [runs = []] = await takeTurnsWithCopies(
    input,
    [source],
    [{ sources: [source], run: (place) => loadOnce(source, place) }],
  );
  return [{ family: 'load', docs, size, label: 'load', sourceBytes: bytesOf([source]), runs }];
}

function* pieces(docs: number, size: number): Generator<string> {
  for (const lines of batches(syntheticLines(docs, size))) yield `${lines.join('\n')}\n`;
}

function loadOnce(source: string, place: string): BenchRun {
  const shard = join(place, 'load.divan');
  const usagePath = join(place, 'usage.json');
  const start = performance.now();
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--import', OBSERVER, CLI, 'load', shard, source],
    { encoding: 'utf8', env: { ...process.env, DIVAN_BENCH_USAGE: usagePath } },
  );
  const seconds = (performance.now() - start) / 1000;
  if (status !== 0) throw new Error(`the load ended with ${status}: ${stderr}`);
  const usage: Usage = JSON.parse(readFileSync(usagePath, 'utf8'));
  return { ...usage, seconds, madeBytes: statSync(shard).size };
}
