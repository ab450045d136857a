/**
 * Goal: compacting a shard that is being used loses nothing, changes nothing, and nobody notices.
 * Method: two shards get the same writes, one of them is compacted meanwhile; both must hold the same, seqs included. Then what
 * spans the exchange of the file: snapshots, uploads, purge infos beyond their limit, failures at every call, interrupted runs.
 */
import t, { type Test } from 'tap';
import { isDivanError } from '../../../engine/errors.js';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import type { OpenMode, StorageFile } from '../../../engine/file/storage.js';
import { AutoCompaction } from '../../../engine/rewrite/auto-compact.js';
import { compact } from '../../../engine/rewrite/compact.js';
import { compactLive } from '../../../engine/rewrite/compact-live.js';
import { checkShard } from '../../../engine/shard/check.js';
import { ReadOnlyShard } from '../../../engine/shard/read-only-shard.js';
import type { Revision } from '../../../engine/shard/revision.js';
import { Shard, type ShardWorld } from '../../../engine/shard/shard.js';
import type { Snapshot } from '../../../engine/shard/snapshot.js';
import { FailingStorage } from '../../support/failing-storage.js';
import { Placed, Writer } from '../../support/placed-shards.js';
import { seedOf } from '../../support/seed.js';
import { VirtualHost } from '../../support/virtual-host.js';
import { contentOf, wornShard } from '../../support/worn-shard.js';

const OPTIONS = { nodeBytes: 512, overlayBytes: 20_000 };
const HERE = { workers: 0 };

function newWorld(): { storage: MemoryStorage; host: VirtualHost } {
  return { storage: new MemoryStorage(), host: new VirtualHost(1) };
}

async function openWorn(world: ShardWorld, path: string, documents: number): Promise<Shard> {
  await wornShard(world, path, documents, OPTIONS);
  return Shard.open(world, path, OPTIONS);
}

async function assertSound(t: Test, world: ShardWorld, path: string): Promise<void> {
  await using shard = await ReadOnlyShard.open(world, path);
  t.strictSame((await checkShard(shard)).problems, [], `${path} is sound`);
}

async function seqsOf(snapshot: Snapshot): Promise<string[]> {
  const seqs: string[] = [];
  for await (const { seq, id } of snapshot.changes()) seqs.push(`${seq} ${Buffer.from(id)}`);
  return seqs;
}

t.test('under writes of every kind', async (t) => {
  const seed = seedOf(t);
  for (let round = 0; round < 6; round++) {
    const world = newWorld();
    const shard = await openWorn(world, '/a.divan', 150);
    const twin = await openWorn(world, '/b.divan', 150);
    const before = shard.file.end;
    const writers = [shard, twin].map((one) => new Writer(new Placed([one]), seed + round, true));
    let compacting = true;
    const compacted = compactLive(world, shard, HERE).finally(() => {
      compacting = false;
    });
    let writes = 0;
    const unawaited: Promise<unknown>[] = [];
    for (let more = 20; more > 0; more -= compacting ? 0 : 1) {
      const id = Buffer.from(`unawaited ${writes++}`);
      for (const one of [shard, twin]) {
        unawaited.push(one.put({ id, body: Buffer.from('{}'), deleted: false }));
      }
      for (const writer of writers) await writer.write();
    }
    const { bytesAfter } = await compacted;
    await Promise.all(unawaited);
    t.ok(writes > 20, `${writes} writes`);
    t.ok(bytesAfter < before, 'it became smaller');
    t.strictSame(await contentOf([shard.snapshot()]), await contentOf([twin.snapshot()]));
    t.strictSame(await seqsOf(shard.snapshot()), await seqsOf(twin.snapshot()), 'and their seqs');
    t.same(shard.snapshot().counters, twin.snapshot().counters);
    t.same(shard.snapshot().metadata.revsLimit, twin.snapshot().metadata.revsLimit);
    const expected = await contentOf([twin.snapshot()]);
    await shard.close();
    await twin.close();
    await assertSound(t, world, '/a.divan');
    const again = await Shard.open(world, '/a.divan', OPTIONS);
    t.strictSame(await contentOf([again.snapshot()]), expected, 'after opening it again');
    await again.close();
    const names = await world.storage.list('/');
    t.strictSame(names.sort(), ['a.divan', 'b.divan'], 'nothing is left over');
  }
});

t.test('snapshots and uploads that span the exchange', async (t) => {
  const world = newWorld();
  const shard = await openWorn(world, '/a.divan', 100);
  const snapshot = shard.snapshot();
  const expected = await contentOf([snapshot]);
  const changes = snapshot.changes();
  await changes.next();
  const stored = await shard.store([Buffer.alloc(3_000_000, 7)]);
  let goOn: () => void = () => undefined;
  const half = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const slowly = async function* () {
    yield Buffer.alloc(2_000_000, 1);
    await half;
    yield Buffer.alloc(2_000_000, 2);
  };
  const uploading = shard.store(slowly());
  const { fileId } = shard.file.block;
  await compactLive(world, shard, HERE);
  t.notSame(shard.file.block.fileId, fileId, 'the file is another one');
  goOn();
  t.strictSame(await contentOf([snapshot]), expected, 'the old snapshot reads as before');
  let rest = 1;
  for await (const _ of changes) rest++;
  t.equal(rest, (await seqsOf(snapshot)).length, 'and so does who was in the middle of it');
  const kept = { contentType: 'x/y', revpos: undefined };
  const attachments = new Map([
    ['stored before', { ...kept, stored }],
    ['stored meanwhile', { ...kept, stored: await uploading }],
  ]);
  const edit = { id: Buffer.from('up'), body: Buffer.from('{}'), deleted: false, attachments };
  await shard.put(edit);
  const document = await shard.snapshot().document(Buffer.from('up'));
  const lengths: number[] = [];
  for (const attachment of document?.leaves[0]?.attachments ?? []) {
    let length = 0;
    for await (const piece of shard.snapshot().attachment(attachment)) length += piece.length;
    lengths.push(length);
  }
  t.strictSame(lengths, [3_000_000, 4_000_000]);
  await shard.close();
  await assertSound(t, world, '/a.divan');
});

t.test('purge infos beyond their limit wait until they were read', async (t) => {
  const world = newWorld();
  const shard = await openWorn(world, '/a.divan', 60);
  await shard.setMetadata({ purgeInfosLimit: 3 });
  const ids = Array.from({ length: 20 }, (_, n) => `purged ${n}`);
  const revs = new Map<string, Revision>();
  for (const id of ids) {
    const edit = { id: Buffer.from(id), body: Buffer.from('{}'), deleted: false };
    revs.set(id, (await shard.put(edit)).rev);
  }
  let onProgress: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => {
    onProgress = resolve;
  });
  const compacted = compactLive(world, shard, { ...HERE, onProgress });
  await begun;
  const purged = ids.map((id) => {
    const rev = revs.get(id);
    const request = { uuid: Buffer.from(id), id: Buffer.from(id), revs: rev ? [rev] : [] };
    return shard.purge(request);
  });
  await compacted;
  await Promise.all(purged);
  for (const id of ids) t.equal(await shard.snapshot().stored(Buffer.from(id)), undefined, id);
  await shard.purge({ uuid: Buffer.from('last'), id: Buffer.from('nobody'), revs: [] });
  t.equal(shard.snapshot().counters.purgeInfos, 3, 'and go at the next purge');
  await shard.close();
  await assertSound(t, world, '/a.divan');
});

t.test('a failure at any call leaves the shard as it was, or failed', async (t) => {
  let failures = 0;
  for (let call = 0; ; call++) {
    const memory = new MemoryStorage();
    const storage = new FailingStorage(memory);
    const world = { storage, host: new VirtualHost(1) };
    const shard = await openWorn(world, '/a.divan', 20);
    const expected = await contentOf([shard.snapshot()]);
    storage.plan({ kind: 'any', call, code: 'IO' });
    const failed = await compactLive(world, shard, HERE).then(
      () => false,
      () => true,
    );
    storage.plan();
    if (failed) failures++;
    if (!shard.file.failed) {
      const id = Buffer.from('later');
      await shard.put({ id, body: Buffer.from('{}'), deleted: false });
      t.ok(await shard.snapshot().stored(id), `after a failure of call ${call}`);
      await shard.purge({
        uuid: Buffer.from('undo'),
        id,
        revs: [(await shard.snapshot().document(id))?.leaves[0]?.revision ?? { gen: 1, code: id }],
      });
    }
    await shard.close().catch(() => undefined);
    const again = await Shard.open(world, '/a.divan', OPTIONS);
    const { documents } = await contentOf([again.snapshot()]);
    t.strictSame(documents, expected.documents, `call ${call}`);
    await compactLive(world, again, HERE);
    await again.close();
    await assertSound(t, world, '/a.divan');
    t.strictSame(await memory.list('/'), ['a.divan'], 'nothing is left over');
    if (!failed) break;
  }
  t.ok(failures > 30, `${failures} failures`);
});

/** Interrupts a compaction soon after it has begun, and keeps what it has done. */
async function interrupt(t: Test, world: ShardWorld, shard: Shard): Promise<void> {
  const abort = new AbortController();
  const options = {
    ...HERE,
    signal: abort.signal,
    keepPartial: true,
    onProgress: () => abort.abort(),
  };
  const hasty = { ...world, host: new HastyHost(2) };
  await t.rejects(compactLive(hasty, shard, options), { code: 'ABORTED' });
}

t.test('an interrupted run is gone on with, though the shard was written since', async (t) => {
  const world = newWorld();
  const shard = await openWorn(world, '/a.divan', 200);
  await interrupt(t, world, shard);
  for (let n = 0; n < 50; n++) {
    await shard.put({ id: Buffer.from(`since ${n}`), body: Buffer.from('{}'), deleted: false });
  }
  const expected = await contentOf([shard.snapshot()]);
  await shard.close();
  const again = await Shard.open(world, '/a.divan', OPTIONS);
  t.equal((await compactLive(world, again, HERE)).resumed, true);
  t.strictSame(await contentOf([again.snapshot()]), expected);
  await again.close();
  await assertSound(t, world, '/a.divan');
  t.strictSame(await world.storage.list('/'), ['a.divan']);
});

/** Its clock moves on by more than the time between checkpoints whenever it is looked at. */
class HastyHost extends VirtualHost {
  #looks = 0;

  override now(): number {
    return ++this.#looks * 1001;
  }
}

/** A memory storage whose syncs take some turns, so that flushes and closings last. */
class SlowStorage extends MemoryStorage {
  override async open(path: string, mode: OpenMode): Promise<StorageFile> {
    const file = await super.open(path, mode);
    const sync = file.sync.bind(file);
    file.sync = async () => {
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      await sync();
    };
    return file;
  }
}

t.test('flushing and closing while it is compacted', async (t) => {
  for (let delay = 0; delay < 40; delay++) {
    const world = { storage: new SlowStorage(), host: new VirtualHost(1) };
    const shard = await openWorn(world, '/a.divan', 10);
    const acknowledged: string[] = [];
    const put = async (id: string) => {
      await shard.put({ id: Buffer.from(id), body: Buffer.from('{}'), deleted: false });
      acknowledged.push(id);
    };
    const compacted = compactLive(world, shard, HERE).catch((error: unknown) => error);
    const flushes: Promise<void>[] = [];
    for (let turn = 0; turn < delay; turn++) {
      await put(`during ${turn}`);
      flushes.push(shard.flush());
    }
    if (delay % 2 === 0) {
      await compacted;
      await put('after');
    }
    await shard.close();
    await Promise.allSettled(flushes);
    const outcome = await compacted;
    if (
      outcome instanceof Error &&
      !isDivanError(outcome, 'ABORTED') &&
      !isDivanError(outcome, 'CLOSED')
    ) {
      t.fail(`${delay}: ${outcome.stack}`);
    }
    const again = await Shard.open(world, '/a.divan', OPTIONS);
    for (const id of acknowledged) {
      if ((await again.snapshot().stored(Buffer.from(id))) === undefined) t.fail(`${id} is lost`);
    }
    await compactLive(world, again, HERE);
    await again.close();
    await assertSound(t, world, '/a.divan');
    t.strictSame(await world.storage.list('/'), ['a.divan']);
  }
});

t.test('a run whose copy or checkpoint is damaged is begun anew', async (t) => {
  const world = newWorld();
  const shard = await openWorn(world, '/a.divan', 60);
  await interrupt(t, world, shard);
  const checkpoint = await world.storage.open('/.a.divan.compact', 'write');
  await checkpoint.write(Buffer.from('damaged'), 20);
  await checkpoint.close();
  t.equal((await compactLive(world, shard, HERE)).resumed, false);
  t.strictSame(await world.storage.list('/'), ['a.divan']);
  await shard.close();
  await assertSound(t, world, '/a.divan');
});

t.test('offline, what a live run left of an earlier state is passed over', async (t) => {
  const world = newWorld();
  const shard = await openWorn(world, '/a.divan', 60);
  await interrupt(t, world, shard);
  await shard.put({ id: Buffer.from('since'), body: Buffer.from('{}'), deleted: false });
  const expected = await contentOf([shard.snapshot()]);
  await shard.close();
  t.equal((await compact(world, '/a.divan', HERE)).resumed, false);
  await using again = await ReadOnlyShard.open(world, '/a.divan');
  t.strictSame(await contentOf([again.snapshot]), expected);
  t.strictSame(await world.storage.list('/'), ['a.divan']);
});

t.test('a shard compacts itself', async (t) => {
  const world = newWorld();
  const shard = await openWorn(world, '/a.divan', 50);
  const errors: unknown[] = [];
  let compactions = 0;
  const automatic = new AutoCompaction(world, shard, {
    ...HERE,
    deadShareMax: 0.6,
    fileBytesMin: 200_000,
    onCompacted: () => compactions++,
    onError: (error) => errors.push(error),
  });
  const id = Buffer.from('again');
  let parent: Revision | undefined;
  for (let n = 0; n < 400; n++) {
    const body = Buffer.from(`{"n":${n},"text":"${'x'.repeat(5000)}"}`);
    parent = (await shard.put({ id, body, deleted: false, parent })).rev;
  }
  await automatic.stop();
  t.strictSame(errors, []);
  t.ok(compactions > 1, `${compactions} compactions`);
  t.ok(shard.file.end < 1_000_000, `${shard.file.end} bytes of the 2 MB that were written`);
  t.throws(
    () =>
      new AutoCompaction(world, shard, { ...HERE, deadShareMax: 2, fileBytesMin: 0, onError() {} }),
    { code: 'LIMIT' },
  );
  await shard.close();
  await assertSound(t, world, '/a.divan');
});
