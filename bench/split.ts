/** Splitting a freshly loaded shard in two. */
import { join } from 'node:path';
import { nodeHost } from '../engine/file/node-host.js';
import { nodeStorage } from '../engine/file/node-storage.js';
import { split } from '../engine/rewrite/split.js';
import { loadFile } from './load.js';
import type { BenchInput, BenchResult } from './result.js';

const WORLD = { storage: nodeStorage, host: nodeHost };

export async function splitFamily(input: BenchInput): Promise<BenchResult> {
  const shard = join(input.directory, 'split.divan');
  await loadFile(input, shard);
  const start = performance.now();
  await split(WORLD, shard, { out: join(input.directory, 'out'), into: { parts: 2 } });
  const seconds = (performance.now() - start) / 1000;
  return { seconds, peakMiB: process.resourceUsage().maxRSS / 1024 };
}
