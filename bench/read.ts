/** Reading from a shard in one process: documents by id in random order, all documents by id, and the changes. */
import { nodeHost } from '../engine/file/node-host.js';
import { nodeStorage } from '../engine/file/node-storage.js';
import { Shard } from '../engine/shard/shard.js';
import type { BenchInput, BenchResult, BenchRun } from './result.js';
import { makeSource } from './sources.js';

const WORLD = { storage: nodeStorage, host: nodeHost };

/** One run gets every document by its id, with its body. */
export async function read(input: BenchInput): Promise<BenchResult> {
  const shard = await Shard.open(WORLD, await makeSource(input));
  const snapshot = shard.snapshot();
  const ids: Uint8Array[] = [];
  // By seq, which is no order of ids.
  for await (const { id } of snapshot.changes()) ids.push(Buffer.from(id));
  const runs: BenchRun[] = [];
  for (let turn = 0; turn < input.runs; turn++) {
    const start = performance.now();
    for (const id of ids) {
      const document = await snapshot.document(id);
      const [leaf] = document?.leaves ?? [];
      if (leaf === undefined) throw new Error(`${Buffer.from(id)} is not there`);
      await snapshot.body(leaf);
    }
    runs.push({ seconds: (performance.now() - start) / 1000 });
  }
  await shard.close();
  return { family: 'read', docs: input.docs, size: input.size, label: 'get by id', runs };
}
