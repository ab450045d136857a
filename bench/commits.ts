/** The family commits: single documents, each synced before the next. Reports how long opening takes after a kill, too. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { Shard } from '../engine/shard/shard.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';
import { syntheticEdits, WORLD } from './sources.js';
import { takeTurns } from './turns.js';
import { UsageMeter } from './usage.js';

export async function commits(input: BenchInput): Promise<BenchResult[]> {
  const { docs, size } = input;
  const [runs = []] = await takeTurns(input, [
    { sources: [], run: (place) => commitAll(place, input) },
  ]);
  return [{ family: 'commits', docs, size, label: 'single commits', sourceBytes: 0, runs }];
}

async function commitAll(place: string, { docs, size }: BenchInput): Promise<BenchRun> {
  const path = join(place, 'commits.divan');
  const shard = await Shard.create(WORLD, path);
  const meter = new UsageMeter();
  const start = performance.now();
  for (const edit of syntheticEdits(docs, size, 1)) await shard.put(edit);
  const seconds = (performance.now() - start) / 1000;
  const usage = meter.read();
  // The lock goes and nothing is flushed, as when the process is killed.
  await shard.file.close();
  const opening = performance.now();
  const again = await Shard.open(WORLD, path);
  const openSeconds = (performance.now() - opening) / 1000;
  await again.close();
  return { ...usage, seconds, openSeconds, madeBytes: statSync(path).size };
}
