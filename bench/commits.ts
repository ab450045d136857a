/** Single-document commits, each synced before the next: the cost of durability. Reports how long opening takes after a kill, too. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { nodeHost } from '../engine/file/node-host.js';
import { nodeStorage } from '../engine/file/node-storage.js';
import { DocumentScanner } from '../engine/shard/document.js';
import { Shard } from '../engine/shard/shard.js';
import { syntheticLines } from '../fixtures/synthetic.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';

const WORLD = { storage: nodeStorage, host: nodeHost };

export async function commits(input: BenchInput): Promise<BenchResult> {
  const { docs, size } = input;
  const runs: BenchRun[] = [];
  for (let turn = 0; turn < input.runs; turn++) runs.push(await commitAll(input, turn));
  return { family: 'commits', docs, size, label: 'single commits', runs };
}

async function commitAll({ directory, docs, size }: BenchInput, turn: number): Promise<BenchRun> {
  const path = join(directory, `commits-${turn}.divan`);
  const shard = await Shard.create(WORLD, path);
  const scanner = new DocumentScanner();
  const start = performance.now();
  for (const line of syntheticLines(docs, size)) {
    const bytes = Buffer.from(line);
    const { id, body } = scanner.scan(bytes, 0, bytes.length);
    await shard.put({ id: Buffer.from(id ?? []), body, deleted: false });
  }
  const seconds = (performance.now() - start) / 1000;
  // The lock goes and nothing is flushed, as when the process is killed.
  await shard.file.close();
  const opening = performance.now();
  const again = await Shard.open(WORLD, path);
  const openSeconds = (performance.now() - opening) / 1000;
  await again.close();
  return { seconds, openSeconds, fileRatio: statSync(path).size / (docs * size) };
}
