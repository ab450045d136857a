/** A program: reads all of a shard in one way and prints what it took as JSON. `node read-child.js get|all|changes SHARD`. */
import { ReadOnlyShard } from '../engine/shard/read-only-shard.js';
import type { Snapshot } from '../engine/shard/snapshot.js';
import { seededRandom } from '../fixtures/random.js';
import type { BenchRun } from './result.js';
import { WORLD } from './sources.js';
import { UsageMeter } from './usage.js';

/** Every document by its id, with its body. */
async function getAll(snapshot: Snapshot, ids: readonly Uint8Array[]): Promise<number> {
  let found = 0;
  for (const id of ids) {
    const document = await snapshot.document(id);
    const [leaf] = document?.leaves ?? [];
    if (leaf !== undefined && (await snapshot.body(leaf)).length > 0) found++;
  }
  return found;
}

async function count(rows: AsyncIterable<unknown>): Promise<number> {
  let found = 0;
  for await (const _ of rows) found++;
  return found;
}

/** The ids in random order. */
async function shuffledIds(snapshot: Snapshot): Promise<Uint8Array[]> {
  const ids: Uint8Array[] = [];
  for await (const { id } of snapshot.changes()) ids.push(Buffer.from(id));
  const random = seededRandom(1);
  const keyed = ids.map((id) => ({ id, key: random() }));
  return keyed.sort((a, b) => a.key - b.key).map(({ id }) => id);
}

const [, , way = '', path = ''] = process.argv;
await using shard = await ReadOnlyShard.open(WORLD, path);
const { snapshot } = shard;
const ids = way === 'get' ? await shuffledIds(snapshot) : [];
const meter = new UsageMeter();
const start = performance.now();
const reading = {
  get: () => getAll(snapshot, ids),
  all: () => count(snapshot.documents({})),
  changes: () => count(snapshot.changes()),
};
const found = way === 'get' || way === 'all' || way === 'changes' ? await reading[way]() : 0;
const seconds = (performance.now() - start) / 1000;
const expected = snapshot.counters.liveDocs;
if (found !== expected) throw new Error(`${found} documents instead of ${expected}`);
process.stdout.write(JSON.stringify({ seconds, ...meter.read() } satisfies BenchRun));
