/**
 * Goal: a rewrite keeps everything; its files depend on sources and plan alone, whatever interrupts it; a damaged checkpoint or
 * target never becomes a wrong result.
 * Method: a worn shard in memory; a clock that makes a checkpoint due at every step; cancelling after every step in turn; damaged
 * bytes.
 */
import t, { type Test } from 'tap';
import { isDivanError } from '../../../engine/errors.js';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import type { Storage } from '../../../engine/file/storage.js';
import { compact } from '../../../engine/rewrite/compact.js';
import { discardJob } from '../../../engine/rewrite/job.js';
import type { JobProgress } from '../../../engine/rewrite/job-meter.js';
import { merge } from '../../../engine/rewrite/merge.js';
import { decodePlan, encodePlan } from '../../../engine/rewrite/plan.js';
import { previewSplit, split } from '../../../engine/rewrite/split.js';
import { checkShard } from '../../../engine/shard/check.js';
import { formatRange, isRangeName } from '../../../engine/shard/hash.js';
import { ReadOnlyShard } from '../../../engine/shard/read-only-shard.js';
import { Shard } from '../../../engine/shard/shard.js';
import { HastyHost } from '../../support/hasty-host.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';
import { contentOf, wornShard } from '../../support/worn-shard.js';

const SOURCE = '/worn.divan';
const OPTIONS = { nodeBytes: 512, overlayBytes: 20_000 };
const DOCUMENTS = 400;

async function newWorn(): Promise<{ storage: MemoryStorage; host: HastyHost }> {
  const world = { storage: new MemoryStorage(), host: new HastyHost(1) };
  await wornShard(world, SOURCE, DOCUMENTS, OPTIONS);
  return world;
}

async function bytesOf(storage: Storage, path: string): Promise<Buffer> {
  const file = await storage.open(path, 'read');
  const bytes = Buffer.alloc(await file.size());
  for (let at = 0; at < bytes.length; ) at += await file.read(bytes.subarray(at), at);
  await file.close();
  return bytes;
}

async function readAll(storage: Storage, paths: readonly string[]) {
  const shards: ReadOnlyShard[] = [];
  for (const path of paths) shards.push(await ReadOnlyShard.open({ storage }, path));
  const content = await contentOf(shards.map(({ snapshot }) => snapshot));
  for (const shard of shards) await shard.close();
  return content;
}

async function assertSound(t: Test, storage: Storage, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await using shard = await ReadOnlyShard.open({ storage }, path);
    t.strictSame((await checkShard(shard)).problems, [], path);
  }
}

/** Names in the tree of directories that an interrupted run could have left. */
async function leftovers(storage: MemoryStorage): Promise<string[]> {
  const names = await storage.list('/');
  for (const name of await storage.list('/out').catch(() => [])) {
    names.push(name, ...(await storage.list(`/out/${name}`).catch(() => [])));
  }
  return names.filter((name) => name.startsWith('.'));
}

t.test('split and merge keep everything, and merging siblings keeps their seqs', async (t) => {
  const world = await newWorn();
  const { storage } = world;
  const expected = await readAll(storage, [SOURCE]);
  t.ok(Object.keys(expected.documents).length > DOCUMENTS && expected.purges.length > 10);
  for (const parts of [2, 3, 64]) {
    const out = `/out-${parts}`;
    const { targets } = await split(world, SOURCE, { out, into: { parts }, workers: 0 });
    const paths = targets.map(({ path }) => path);
    t.strictSame(await readAll(storage, paths), expected, `${parts} parts`);
    await assertSound(t, storage, paths);
    const merged = `/merged-${parts}.divan`;
    const reversed = [...paths].reverse();
    const outcome = await merge(world, reversed, { out: merged, workers: 0 });
    t.equal(outcome.targets[0] && formatRange(outcome.targets[0].range), '00000000-ffffffff');
    t.strictSame(await readAll(storage, [merged]), expected, `${parts} parts merged`);
    await assertSound(t, storage, [merged]);
    t.strictSame(await seqsOf(storage, merged), await seqsOf(storage, SOURCE), 'and their seqs');
  }
});

async function seqsOf(storage: Storage, path: string): Promise<string[]> {
  await using shard = await ReadOnlyShard.open({ storage }, path);
  const seqs: string[] = [];
  for await (const { seq, id } of shard.snapshot.changes()) seqs.push(`${seq} ${Buffer.from(id)}`);
  return seqs;
}

t.test('halves that were written to are merged in the order of each', async (t) => {
  const world = await newWorn();
  const { storage } = world;
  const into = { parts: 2 };
  const { targets } = await split(world, SOURCE, { out: '/out', into, workers: 0 });
  const cut = targets[0]?.counters.updateSeq ?? 0;
  const added: string[][] = [];
  for (const { path } of targets) {
    const shard = await Shard.open(world, path);
    const ids: string[] = [];
    for (let n = 0; n < 200; n++) {
      const id = `later ${n}`;
      const put = shard.put({ id: Buffer.from(id), body: Buffer.from('{}'), deleted: false });
      await put.then(
        () => ids.push(id),
        () => undefined,
      );
    }
    await shard.close();
    added.push(ids);
  }
  const paths = targets.map(({ path }) => path);
  const expected = await readAll(storage, paths);
  const { targets: merged } = await merge(world, paths, { out: '/merged.divan', workers: 0 });
  t.strictSame(await readAll(storage, ['/merged.divan']), expected);
  await assertSound(t, storage, ['/merged.divan']);
  const later = (await seqsOf(storage, '/merged.divan')).filter((row) => row.includes('later'));
  for (const [index, ids] of added.entries()) {
    const own = later.filter((row) => ids.includes(row.slice(row.indexOf(' ') + 1)));
    t.strictSame(
      own.map((row) => row.slice(row.indexOf(' ') + 1)),
      ids,
      'in their order',
    );
    const seqs = own.map((row) => Number.parseInt(row, 10));
    t.ok(
      seqs.every((seq) => (seq - cut) % 2 === index),
      'each in its own places',
    );
  }
  const shard = await Shard.open(world, '/merged.divan');
  const { seq } = await shard.put({
    id: Buffer.from('new'),
    body: Buffer.from('{}'),
    deleted: false,
  });
  t.equal(seq, (merged[0]?.counters.updateSeq ?? 0) + 1, 'and goes on');
  await shard.close();
});

t.test('a merge that can not be is refused before anything is written', async (t) => {
  const world = await newWorn();
  const { storage } = world;
  const into = { parts: 3 };
  const { targets } = await split(world, SOURCE, { out: '/out', into, workers: 0 });
  const [first = '', second = '', third = ''] = targets.map(({ path }) => path);
  const options = { out: '/merged.divan', workers: 0 };
  await t.rejects(merge(world, [first, third], options), { code: 'INVALID_RANGE' });
  await t.rejects(merge(world, [first], options), { code: 'INVALID_RANGE' });
  const shard = await Shard.open(world, second);
  await shard.setMetadata({ revsLimit: 7 });
  await shard.close();
  await t.rejects(merge(world, [first, second], options), { code: 'SETTINGS_DIFFER' });
  t.equal(await storage.identity('/merged.divan'), undefined);
  t.strictSame(await leftovers(storage), []);
  await merge(world, [first, second], { ...options, settingsFrom: second });
  await using merged = await ReadOnlyShard.open(world, '/merged.divan');
  t.equal(merged.snapshot.metadata.revsLimit, 7);
});

t.test('compacting drops what is dead, stems, and keeps the shard', async (t) => {
  const world = await newWorn();
  const { storage } = world;
  const expected = await readAll(storage, [SOURCE]);
  const before = (await bytesOf(storage, SOURCE)).length;
  const seqs = await seqsOf(storage, SOURCE);
  await using old = await ReadOnlyShard.open(world, SOURCE);
  await compact(world, SOURCE, { workers: 0 });
  t.strictSame(await readAll(storage, [SOURCE]), expected);
  t.strictSame(await seqsOf(storage, SOURCE), seqs);
  await assertSound(t, storage, [SOURCE]);
  t.ok((await bytesOf(storage, SOURCE)).length < before * 0.7);
  t.strictSame(await contentOf([old.snapshot]), expected, 'an earlier reader goes on');

  const shard = await Shard.open(world, SOURCE);
  let { rev } = await shard.put({
    id: Buffer.from('long'),
    body: Buffer.from('{}'),
    deleted: false,
  });
  for (let n = 0; n < 30; n++) {
    const body = Buffer.from(`{"n":${n}}`);
    rev = (await shard.put({ id: Buffer.from('long'), body, deleted: false, parent: rev })).rev;
  }
  await shard.setMetadata({ revsLimit: 5 });
  await shard.close();
  await compact(world, SOURCE, { workers: 0 });
  await using stemmed = await ReadOnlyShard.open(world, SOURCE);
  const document = await stemmed.snapshot.document(Buffer.from('long'));
  t.equal(document?.tree.length, 5);
  t.same(stemmed.snapshot.metadata.uuid, old.snapshot.metadata.uuid);
  t.notSame(stemmed.recovered.block.fileId, old.recovered.block.fileId);
});

/** A host and options that cancel a run after so many steps; undefined once it got to its end before. */
async function cancelledAfter(
  steps: number,
  run: (options: object) => Promise<unknown>,
): Promise<boolean> {
  const abort = new AbortController();
  let left = steps;
  const onProgress = () => {
    if (--left <= 0) abort.abort();
  };
  try {
    await run({ signal: abort.signal, onProgress, keepPartial: true });
    return false;
  } catch (error) {
    if (isDivanError(error, 'ABORTED')) return true;
    throw error;
  }
}

t.test('however often it is interrupted, a plan gives the same bytes', async (t) => {
  const world = await newWorn();
  const { storage } = world;
  const into = { parts: 3 };
  const whole = await split(world, SOURCE, { out: '/whole', into, workers: 0 });
  const plan = decodePlan(encodePlan(whole.plan));
  const expected: Buffer[] = [];
  for (const { path } of whole.targets) expected.push(await bytesOf(storage, path));
  let interrupted = 0;
  for (let steps = 1, wasCancelled = true; wasCancelled; steps++) {
    const out = `/out-${steps}`;
    const run = (options: object) => {
      const again = { storage, host: new HastyHost(2) };
      return split(again, SOURCE, { out, into, plan, ...options, workers: 0 });
    };
    wasCancelled = await cancelledAfter(steps, run);
    for (let more = steps + 1, on = wasCancelled; on; more *= 2) {
      interrupted++;
      on = await cancelledAfter(more, run);
    }
    for (const [index, { range }] of plan.targets.entries()) {
      const bytes = await bytesOf(storage, `${out}/${formatRange(range)}/worn.divan`);
      if (!bytes.equals(expected[index] ?? Buffer.alloc(0))) {
        t.fail(`cancelled after ${steps} steps: target ${index} differs`);
      }
    }
  }
  t.ok(interrupted > 20, `${interrupted} interruptions`);
  t.strictSame(await leftovers(storage), []);
});

/** A disk with little room. */
class SmallStorage extends MemoryStorage {
  override async freeBytes(): Promise<number> {
    return 10_000;
  }
}

t.test('what would not fit is refused with the arithmetic, before it writes', async (t) => {
  const world = { storage: new SmallStorage(), host: new HastyHost(1) };
  await wornShard(world, SOURCE, 100, OPTIONS);
  const options = { out: '/out', into: { parts: 2 }, workers: 0 };
  const ahead = await previewSplit(world, SOURCE, options);
  t.ok(ahead.bytes > ahead.freeBytes);
  await t.rejects(split(world, SOURCE, options), {
    code: 'NO_SPACE',
    message: /needs about 0\.\d MB, and 0\.0 MB are free; make room for 0\.\d MB more/,
  });
  t.equal(await world.storage.identity('/out'), undefined);
});

t.test('what is estimated comes true', async (t) => {
  const world = await newWorn();
  const options = { out: '/out', into: { parts: 2 }, workers: 0 };
  const ahead = await previewSplit(world, SOURCE, options);
  t.equal(await world.storage.identity('/out'), undefined, 'looking ahead makes nothing');
  t.strictSame(await leftovers(world.storage), []);
  const { targets } = await split(world, SOURCE, options);
  let bytes = 0;
  for (const { path } of targets) bytes += (await bytesOf(world.storage, path)).length;
  t.ok(Math.abs(ahead.bytes / bytes - 1) < 0.2, `${ahead.bytes} bytes estimated, ${bytes} made`);
});

/** Interrupts a split in the middle and returns where its checkpoint stands. */
async function interrupt(world: { storage: Storage; host: HastyHost }): Promise<string> {
  const into = { parts: 2 };
  const run = (options: object) =>
    split(world, SOURCE, { out: '/out', into, ...options, workers: 0 });
  if (!(await cancelledAfter(3, run))) throw new Error('the split ended before it was cancelled');
  return '/out/.worn.divan.split';
}

/** As `interrupt`, once the targets are complete. */
async function interruptVerify(world: { storage: Storage; host: HastyHost }): Promise<string> {
  const abort = new AbortController();
  const onProgress = ({ phase }: JobProgress) => {
    if (phase === 'verify') abort.abort();
  };
  const options = { out: '/out', into: { parts: 2 }, keepPartial: true, workers: 0 };
  const running = split(world, SOURCE, { ...options, onProgress, signal: abort.signal });
  const error: unknown = await running.catch((reason: unknown) => reason);
  if (!isDivanError(error, 'ABORTED')) throw new Error('the split was not cancelled');
  return '/out/.worn.divan.split';
}

t.test(
  'a checkpoint that belongs to something else is refused, and can be discarded',
  async (t) => {
    const world = await newWorn();
    const { storage } = world;
    const checkpointPath = await interrupt(world);
    const options = { out: '/out', workers: 0 };
    await t.rejects(split(world, SOURCE, { ...options, into: { parts: 3 } }), {
      code: 'CHECKPOINT',
      message: /00000000-7fffffff/,
    });
    const shard = await Shard.open(world, SOURCE);
    await shard.put({ id: Buffer.from('later'), body: Buffer.from('{}'), deleted: false });
    await shard.close();
    const again = { ...options, into: { parts: 2 } };
    await t.rejects(split(world, SOURCE, again), { code: 'CHECKPOINT', message: /changed since/ });
    const directories = (await storage.list('/out'))
      .filter(isRangeName)
      .map((name) => `/out/${name}`);
    const place = { sourcePaths: [SOURCE], checkpointPath, name: 'worn.divan', directories };
    t.equal(await discardJob(storage, place), true);
    t.equal(await discardJob(storage, place), false);
    t.strictSame(await leftovers(storage), []);
    await split(world, SOURCE, again);
  },
);

/** Makes other bytes of those of a file. */
type Damage = (bytes: Buffer, random: () => number, turn: number) => Buffer;

/** `turn` goes from 0 to `TURNS` - 1. */
const TURNS = 30;
const BLOCK_BYTES = 512;

function noise(length: number, random: () => number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, () => randomInt(random, 256)));
}

function withBlock(bytes: Buffer, block: Buffer, random: () => number): Buffer {
  const blocks = Math.ceil(bytes.length / BLOCK_BYTES);
  block.copy(bytes, randomInt(random, blocks) * BLOCK_BYTES);
  return bytes;
}

const turnOver: Damage = (bytes, _random, turn) => {
  const at = Math.floor(((turn + 0.5) / TURNS) * bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  return bytes;
};

const TARGET_DAMAGES: Record<string, Damage> = {
  'a byte turned over': turnOver,
  'a random block': (bytes, random) => withBlock(bytes, noise(BLOCK_BYTES, random), random),
  'a zeroed block': (bytes, random) => withBlock(bytes, Buffer.alloc(BLOCK_BYTES), random),
  'cut off': (bytes, random) => bytes.subarray(0, randomInt(random, bytes.length)),
};

const DAMAGES: Record<'checkpoint' | 'target' | 'complete target', Record<string, Damage>> = {
  checkpoint: {
    'a byte turned over': turnOver,
    'random bytes': ({ length }, random) => noise(length, random),
    'random bytes after the magic': (bytes, random) => {
      return Buffer.concat([bytes.subarray(0, 8), noise(bytes.length - 8, random)]);
    },
    zeros: ({ length }) => Buffer.alloc(length),
    'cut off': (bytes, random) => bytes.subarray(0, randomInt(random, bytes.length)),
    'more after its end': (bytes, random) => Buffer.concat([bytes, noise(40, random)]),
  },
  target: TARGET_DAMAGES,
  // Being compared when the run was interrupted.
  'complete target': TARGET_DAMAGES,
};

async function replace(storage: Storage, path: string, bytes: Buffer): Promise<void> {
  const file = await storage.open(path, 'write');
  await file.truncate(0);
  for (let at = 0; at < bytes.length; ) at += await file.write(bytes.subarray(at), at);
  await file.close();
}

for (const [what, damages] of Object.entries(DAMAGES)) {
  for (const [name, damage] of Object.entries(damages)) {
    t.test(`${what} damaged, ${name}: refused, or harmless`, async (t) => {
      const random = seededRandom(seedOf(t));
      const world = await newWorn();
      const expected = await readAll(world.storage, [SOURCE]);
      let refused = 0;
      for (let turn = 0; turn < TURNS; turn++) {
        const checkpointPath =
          what === 'complete target' ? await interruptVerify(world) : await interrupt(world);
        const partial = await partialTarget(world.storage);
        const path = what === 'checkpoint' ? checkpointPath : partial;
        const bytes = await bytesOf(world.storage, path);
        await replace(world.storage, path, damage(bytes, random, turn));
        if (await splitAfterDamage(t, world, expected)) refused++;
      }
      t.comment(`${refused} of ${TURNS} were refused`);
      t.ok(refused > (what === 'checkpoint' ? TURNS - 1 : 3));
    });
  }
}

async function partialTarget(storage: Storage): Promise<string> {
  const [half = ''] = (await storage.list('/out')).filter((name) => isRangeName(name));
  const [partial = ''] = await storage.list(`/out/${half}`);
  return `/out/${half}/${partial}`;
}

/** Goes on with a split of which something was damaged; true if that is refused. Then it can be discarded, and nothing is left. */
async function splitAfterDamage(
  t: Test,
  world: { storage: MemoryStorage; host: HastyHost },
  expected: Awaited<ReturnType<typeof readAll>>,
): Promise<boolean> {
  const { storage } = world;
  const into = { parts: 2 };
  const result = await split(world, SOURCE, { out: '/out', into, workers: 0 }).catch((e) => e);
  if (result instanceof Error) {
    if (!isDivanError(result)) t.fail(`refused with ${result.stack}`);
    const directories = (await storage.list('/out').catch(() => []))
      .filter(isRangeName)
      .map((name) => `/out/${name}`);
    const checkpointPath = '/out/.worn.divan.split';
    await discardJob(storage, {
      sourcePaths: [SOURCE],
      checkpointPath,
      name: 'worn.divan',
      directories,
    });
  } else {
    const paths = (await storage.list('/out')).map((name) => `/out/${name}/worn.divan`);
    t.strictSame(await readAll(storage, paths), expected, 'a harmless damage');
    await assertSound(t, storage, paths);
  }
  t.strictSame(await leftovers(storage), []);
  for (const name of await storage.list('/out').catch(() => [])) {
    for (const file of await storage.list(`/out/${name}`)) {
      await storage.remove(`/out/${name}/${file}`);
    }
  }
  return result instanceof Error;
}
