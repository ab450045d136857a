/** The shard files that the bench reads. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { nodeHost } from '../engine/file/node-host.js';
import { nodeStorage } from '../engine/file/node-storage.js';
import { DocumentScanner } from '../engine/shard/document.js';
import type { DocumentEdit } from '../engine/shard/edit.js';
import { Shard } from '../engine/shard/shard.js';
import { syntheticLines } from '../fixtures/synthetic.js';
import type { BenchInput } from './result.js';
import { wornShard } from './worn.js';

export const WORLD = { storage: nodeStorage, host: nodeHost };
export const BATCH = 2000;

/** Makes the source of a family, unless one before it did, and returns its path. */
export async function makeSource(
  input: Pick<BenchInput, 'sourceDirectory' | 'docs' | 'size' | 'worn'>,
): Promise<string> {
  const { sourceDirectory, docs, size, worn } = input;
  const path = join(sourceDirectory, 'source.divan');
  if (existsSync(path)) return path;
  const shard = await Shard.create(WORLD, path);
  if (worn) await wornShard(shard, docs, size);
  else {
    for (const batch of batches(syntheticEdits(docs, size, 1))) await updateAll(shard, batch);
  }
  await shard.close();
  return path;
}

/** Edits that create synthetic documents. */
export function* syntheticEdits(docs: number, size: number, seed: number): Generator<DocumentEdit> {
  const scanner = new DocumentScanner();
  for (const line of syntheticLines(docs, size, seed)) {
    const bytes = Buffer.from(line);
    const { id, body } = scanner.scan(bytes, 0, bytes.length);
    yield { id: Buffer.from(id ?? []), body: Buffer.from(body), deleted: false };
  }
}

export function* batches<T>(all: Iterable<T>): Generator<T[]> {
  let batch: T[] = [];
  for (const one of all) {
    batch.push(one);
    if (batch.length < BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** Applies edits, none of which may be refused. */
export async function updateAll(shard: Shard, edits: readonly DocumentEdit[]) {
  const outcomes = await shard.update(edits);
  return outcomes.map((outcome) => {
    if (outcome.ok) return outcome.rev;
    throw outcome.error;
  });
}
