/**
 * Goal: shards are split and merged while they are used; nothing is lost or doubled, and no writer sees an error but `MOVED`, upon which it
 * goes to the new shards.
 * Method: the same writes go to shards that are split, split again and merged meanwhile, and to one that is left alone; all must hold the
 * same. Then what can go wrong: cancelling, a publication that fails or takes too long, an interrupted run, purges that were dropped.
 */
import t, { type Test } from 'tap';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import { nodeHost } from '../../../engine/file/node-host.js';
import {
  copyShards,
  discardCopies,
  Followers,
  type Move,
  nameCopies,
} from '../../../engine/rewrite/move-live.js';
import { checkShard } from '../../../engine/shard/check.js';
import { evenRanges, formatRange } from '../../../engine/shard/hash.js';
import { ReadOnlyShard } from '../../../engine/shard/read-only-shard.js';
import { Shard, type ShardWorld } from '../../../engine/shard/shard.js';
import { Placed, Writer } from '../../support/placed-shards.js';
import { seedOf } from '../../support/seed.js';
import { contentOf, wornShard } from '../../support/worn-shard.js';

const OPTIONS = { nodeBytes: 512, overlayBytes: 20_000 };
const HERE = { workers: 0 };
const CAP_MS = 10_000;

interface World extends ShardWorld {
  readonly storage: MemoryStorage;
}

function newWorld(): World {
  return { storage: new MemoryStorage(), host: nodeHost };
}

/** What a move needs: the shards that are placed with `from` become `parts` each, or all of them one. */
function moveOf(from: readonly Shard[], parts: number, generation: number): Move {
  const start = from[0]?.snapshot().metadata.range.start ?? 0;
  const end = from.at(-1)?.snapshot().metadata.range.end ?? 0;
  const ranges = parts === 1 ? [{ start, end }] : evenRanges({ start, end }, parts);
  const targets = ranges.map((range) => ({
    range,
    path: `/${formatRange(range)}.${generation}.divan`,
  }));
  const kind = parts === 1 ? 'merge' : 'split';
  return { kind, sources: from, targets, checkpointPath: `/.${generation}.move` };
}

/** The whole of a move, as the server does it. */
async function perform(world: World, placed: Placed, move: Move): Promise<void> {
  const seqs = await copyShards(world, move, HERE);
  await nameCopies(world, move);
  const followers = await Followers.open(world, move, seqs);
  await followers.topOff(
    () => undefined,
    () => undefined,
  );
  const cut = await followers.cutOver({
    capMs: CAP_MS,
    publish: async () => {
      const kept = placed.shards.filter((shard) => !move.sources.includes(shard));
      const start = (shard: Shard) => shard.snapshot().metadata.range.start;
      placed.shards = [...kept, ...followers.shards].sort((a, b) => start(a) - start(b));
    },
  });
  if (cut === undefined) throw new RangeError('the cut took too long');
  for (const source of move.sources) {
    source.keepPurgesAfter(undefined);
    await source.close();
    await world.storage.remove(source.path);
  }
}

async function assertSound(t: Test, world: World, placed: Placed): Promise<void> {
  for (const { path } of placed.shards) {
    await using shard = await ReadOnlyShard.open(world, path);
    t.strictSame((await checkShard(shard)).problems, [], `${path} is sound`);
  }
}

async function openPair(world: World): Promise<{ placed: Placed; twin: Placed }> {
  for (const path of ['/a.divan', '/b.divan']) await wornShard(world, path, 150, OPTIONS);
  const [a, b] = [
    await Shard.open(world, '/a.divan', OPTIONS),
    await Shard.open(world, '/b.divan', OPTIONS),
  ];
  return { placed: new Placed([a]), twin: new Placed([b]) };
}

t.test('split, split again and merged, under writes of every kind', async (t) => {
  const seed = seedOf(t);
  let moved = 0;
  for (let round = 0; round < 4; round++) {
    const world = newWorld();
    const { placed, twin } = await openPair(world);
    const writers = [placed, twin].map((one) => new Writer(one, seed + round));
    let moving = true;
    const moves = (async () => {
      await perform(world, placed, moveOf(placed.shards, 3, 1));
      await perform(world, placed, moveOf(placed.shards.slice(1, 2), 2, 2));
      await perform(world, placed, moveOf(placed.shards.slice(1, 3), 1, 3));
      await perform(world, placed, moveOf(placed.shards, 1, 4));
      await perform(world, placed, moveOf(placed.shards, 2, 5));
    })().finally(() => {
      moving = false;
    });
    const unawaited: Promise<unknown>[] = [];
    let writes = 0;
    for (let more = 20; more > 0; more -= moving ? 0 : 1) {
      const id = Buffer.from(`unawaited ${writes++}`);
      for (const one of [placed, twin]) {
        const edit = { id, body: Buffer.from('{}'), deleted: false };
        unawaited.push(one.with(id, (shard) => shard.put(edit)));
      }
      for (const writer of writers) await writer.write();
    }
    await moves;
    await Promise.all(unawaited);
    moved += placed.moved;
    t.ok(writes > 20, `${writes} writes`);
    t.equal(placed.shards.length, 2);
    t.strictSame(await placed.content(), await twin.content());
    const expected = await twin.content();
    const paths = placed.shards.map(({ path }) => path);
    for (const shard of [...placed.shards, ...twin.shards]) await shard.close();
    await assertSound(t, world, placed);
    const again = await Promise.all(paths.map((path) => Shard.open(world, path, OPTIONS)));
    t.strictSame(await new Placed(again).content(), expected, 'after opening them again');
    for (const shard of again) await shard.close();
    const names = (await world.storage.list('/')).map((name) => `/${name}`);
    t.strictSame(names.sort(), ['/b.divan', ...paths].sort(), 'nothing is left over');
  }
  t.ok(moved > 0, `${moved} writes came too late and were sent again`);
});

t.test('a publication that takes too long or fails', async (t) => {
  const world = newWorld();
  const { placed } = await openPair(world);
  const [source] = placed.shards;
  if (source === undefined) return;
  const before = await placed.content();
  const move = moveOf(placed.shards, 2, 1);
  const seqs = await copyShards(world, move, HERE);
  await nameCopies(world, move);
  const followers = await Followers.open(world, move, seqs);
  const never = async () => {
    t.fail('it is not published');
  };
  t.equal(await followers.cutOver({ capMs: -1, publish: never }), undefined);
  const late = { id: Buffer.from('late'), body: Buffer.from('{}'), deleted: false };
  await source.put(late);
  t.equal(followers.behind, 1, 'writes went to the source');
  const broken = async () => {
    throw new Error('the disk does not answer');
  };
  await t.rejects(followers.cutOver({ capMs: CAP_MS, publish: broken }), /does not answer/);
  await t.rejects(source.put({ ...late, id: Buffer.from('later') }), { code: 'FAILED' });
  await followers.close();
  await discardCopies(world, move);
  await source.close();
  const again = await Shard.open(world, '/a.divan', OPTIONS);
  const after = await contentOf([again.snapshot()]);
  t.strictSame(
    Object.keys(after.documents).sort(),
    [...Object.keys(before.documents), 'late'].sort(),
  );
  await again.close();
  const names = await world.storage.list('/');
  t.strictSame(names.sort(), ['a.divan', 'b.divan'], 'nothing is left over');
});

t.test('interrupted at any place, and gone on with', async (t) => {
  const world = newWorld();
  const { placed, twin } = await openPair(world);
  const writers = [placed, twin].map((one) => new Writer(one, 1));
  const write = async (count: number) => {
    for (let n = 0; n < count; n++) for (const writer of writers) await writer.write();
  };
  const move = moveOf(placed.shards, 2, 1);
  const abort = new AbortController();
  const stopped = copyShards(world, move, {
    ...HERE,
    signal: abort.signal,
    keepPartial: true,
    onProgress: () => abort.abort(),
  });
  await t.rejects(stopped, { code: 'ABORTED' });
  await write(30);
  const seqs = await copyShards(world, move, HERE);
  await write(30);
  t.strictSame(
    await copyShards(world, move, HERE),
    seqs,
    'a copy that is complete is not made again',
  );
  await nameCopies(world, move);
  await nameCopies(world, move);
  await write(30);
  for (let time = 0; time < 2; time++) {
    const followers = await Followers.open(world, move, seqs);
    await followers.topOff(
      () => undefined,
      () => undefined,
    );
    t.equal(await followers.cutOver({ capMs: -1, publish: async () => undefined }), undefined);
    await followers.close();
    await write(10);
  }
  const followers = await Followers.open(world, move, seqs);
  const publish = async () => {
    placed.shards = followers.shards;
  };
  const [source] = move.sources;
  t.type(await followers.cutOver({ capMs: CAP_MS, publish }), 'number');
  for (const copy of followers.shards) {
    const { cut } = copy.snapshot().metadata.lineage.at(-1) ?? {};
    t.match(source?.snapshot().counters, cut ?? t.fail('a copy has a parent'), 'the whole cut');
  }
  await write(30);
  t.strictSame(await placed.content(), await twin.content());
  for (const shard of [...placed.shards, ...twin.shards]) await shard.close();
  await assertSound(t, world, placed);
});

t.test('a copy that lacks purges which were dropped can not follow', async (t) => {
  const world = newWorld();
  const shard = await Shard.create(world, '/a.divan', OPTIONS);
  const move = moveOf([shard], 2, 1);
  const purge = async (n: number) => {
    const id = Buffer.from(`document ${n}`);
    const { rev } = await shard.put({ id, body: Buffer.from('{}'), deleted: false });
    await shard.purge({ uuid: Buffer.from(`purge ${n}`), id, revs: [rev] });
  };
  await purge(0);
  const seqs = await copyShards(world, move, HERE);
  await nameCopies(world, move);
  shard.keepPurgesAfter(undefined);
  await shard.setMetadata({ purgeInfosLimit: 1 });
  for (let n = 1; n < 5; n++) await purge(n);
  await t.rejects(Followers.open(world, move, seqs), { code: 'CHECKPOINT' });
  await shard.close();
});
