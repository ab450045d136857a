/**
 * Goal: a shard keeps CouchDB's rules, shares syncs, keeps snapshots, bounds what it is given, and fails cleanly.
 * Method: the engine in memory; a storage that counts and fails calls; a sweep that fails each call of a workload in turn;
 * every bit of a small file turned over.
 */
import t, { type Test } from 'tap';
import { DivanError, isDivanError } from '../../../engine/errors.js';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import type { Storage } from '../../../engine/file/storage.js';
import { split } from '../../../engine/rewrite/split.js';
import { CacheSpace } from '../../../engine/shard/cache-space.js';
import { checkShard } from '../../../engine/shard/check.js';
import { ReadOnlyShard } from '../../../engine/shard/read-only-shard.js';
import { formatRev, parseRev } from '../../../engine/shard/revision.js';
import { Shard, type ShardOptions } from '../../../engine/shard/shard.js';
import { describeDocuments } from '../../support/describe.js';
import { type CallKind, FailingStorage } from '../../support/failing-storage.js';
import { VirtualHost } from '../../support/virtual-host.js';

const PATH = '/shard.divan';

function edit(id: string, body: string, more: object = {}) {
  return { id: Buffer.from(id), body: Buffer.from(body), deleted: false, ...more };
}

function newShard(
  storage: Storage = new MemoryStorage(),
  options: ShardOptions = {},
): Promise<Shard> {
  return Shard.create({ storage, host: new VirtualHost(1) }, PATH, options);
}

async function code(promise: Promise<unknown>): Promise<string> {
  const outcome = await promise.catch((error: unknown) => error);
  return outcome instanceof DivanError ? outcome.code : `no error but ${String(outcome)}`;
}

t.test('revisions are the same on every machine', async (t) => {
  await using shard = await newShard();
  const first = await shard.put(edit('a', '{"n":1.0}'));
  t.equal(formatRev(first.rev), '1-16d880601c26584d1612fdf234658b7e');
  const second = await shard.put(edit('a', '{"n":2}', { parent: first.rev }));
  t.equal(formatRev(second.rev).slice(0, 2), '2-');
  await using other = await newShard();
  t.equal(formatRev((await other.put(edit('another id', '{"n":1.0}'))).rev), formatRev(first.rev));
});

t.test('edit conflicts, tombstones and coming back', async (t) => {
  await using shard = await newShard();
  const { rev } = await shard.put(edit('a', '{"n":1}'));
  t.equal(await code(shard.put(edit('a', '{"n":2}'))), 'CONFLICT');
  t.equal(await code(shard.put(edit('a', '{"n":2}', { parent: parseRev('1-abc') }))), 'CONFLICT');
  t.equal(await code(shard.put(edit('new', '{}', { parent: rev }))), 'CONFLICT');
  const gone = await shard.put(edit('a', '{}', { parent: rev, deleted: true }));
  t.equal(shard.snapshot().counters.deletedDocs, 1);
  t.equal(await code(shard.put(edit('a', '{"n":3}', { parent: rev }))), 'CONFLICT');
  const back = await shard.put(edit('a', '{"n":4}'));
  t.equal(back.rev.gen, 3, 'it extends the tombstone');
  t.equal(gone.rev.gen, 2);
  t.strictSame([shard.snapshot().counters.liveDocs, shard.snapshot().counters.deletedDocs], [1, 0]);
});

t.test('replicated revisions', async (t) => {
  await using shard = await newShard();
  const path = (...revs: string[]) => ({ path: revs.map(parseRev) });
  await shard.put(edit('a', '{"v":"3-a"}', path('3-a', '2-a', '1-a')));
  await shard.put(edit('a', '{"v":"3-b"}', path('3-b', '2-b', '1-a')));
  await shard.put(edit('a', '{"v":"2-z"}', path('2-z', '1-z')));
  const winner = async () => {
    const leaves = (await describeDocuments(shard.snapshot()))['a'] ?? [];
    return leaves.map(({ rev, body }) => `${rev} ${body}`);
  };
  t.strictSame(await winner(), ['3-b {"v":"3-b"}', '3-a {"v":"3-a"}', '2-z {"v":"2-z"}']);
  const { updateSeq } = shard.snapshot().counters;
  await shard.put(edit('a', '{"v":"again"}', path('3-a', '2-a', '1-a')));
  await shard.put(edit('a', '{"v":"inside"}', path('2-a', '1-a')));
  t.equal(shard.snapshot().counters.updateSeq, updateSeq, 'what is known changes nothing');
  await shard.put(edit('a', '{}', { ...path('4-b', '3-b'), deleted: true }));
  t.equal((await winner())[0], '3-a {"v":"3-a"}', 'a living leaf wins over a tombstone');
});

t.test('stemming keeps the newest revisions of a branch', async (t) => {
  await using shard = await newShard();
  await shard.setMetadata({ revsLimit: 5 });
  let parent = (await shard.put(edit('a', '{}'))).rev;
  for (let index = 0; index < 20; index++)
    parent = (await shard.put(edit('a', `{"n":${index}}`, { parent }))).rev;
  const document = await shard.snapshot().document(Buffer.from('a'));
  t.equal(document?.tree.length, 5);
  t.equal(document?.leaves[0]?.revision.gen, 21);
});

t.test('attachments are shared by the revisions that keep them', async (t) => {
  const storage = new MemoryStorage();
  const shard = await newShard(storage);
  const content = Buffer.alloc(2_500_000, 'abc');
  const stored = await shard.store([content.subarray(0, 10), content.subarray(10)]);
  t.equal(stored.refs.length, 3, 'in pieces of at most 1 MiB');
  const file = { contentType: 'text/plain', revpos: undefined };
  const { rev } = await shard.put(
    edit('a', '{}', { attachments: new Map([['f', { ...file, stored }]]) }),
  );
  const kept = new Map([['f', { ...file, stored: undefined }]]);
  await shard.put(edit('a', '{"n":2}', { parent: rev, attachments: kept }));
  t.equal(await code(shard.put(edit('b', '{}', { attachments: kept }))), 'ATTACHMENT_MISSING');
  const leaf = (await shard.snapshot().document(Buffer.from('a')))?.leaves[0];
  t.equal(leaf?.attachments[0]?.revpos, 1);
  const pieces: Uint8Array[] = [];
  for await (const piece of shard.snapshot().attachment(leaf?.attachments[0] ?? { refs: [] }))
    pieces.push(piece);
  t.ok(Buffer.concat(pieces).equals(content), 'byte for byte');
  await shard.close();
  const file_ = await storage.open(PATH, 'read');
  t.ok((await file_.size()) < 2_600_000, 'the bytes are in the file once');
});

t.test('a snapshot stays as it was', async (t) => {
  await using shard = await newShard(new MemoryStorage(), { overlayBytes: 2000, nodeBytes: 256 });
  for (let index = 0; index < 50; index++) await shard.put(edit(`doc ${index}`, '{"old":true}'));
  const snapshot = shard.snapshot();
  const before = await describeDocuments(snapshot);
  for (let index = 0; index < 50; index++) {
    const parent = (await shard.snapshot().document(Buffer.from(`doc ${index}`)))?.leaves[0]
      ?.revision;
    await shard.put(edit(`doc ${index}`, '{"new":true}', { parent }));
    if (index % 20 === 0) await shard.flush();
  }
  t.strictSame(await describeDocuments(snapshot), before);
  t.equal(snapshot.counters.updateSeq, 50);
  t.notSame(await describeDocuments(shard.snapshot()), before);
});

t.test('changes both ways, documents by range', async (t) => {
  await using shard = await newShard(new MemoryStorage(), { overlayBytes: 700, nodeBytes: 256 });
  for (let index = 0; index < 30; index++)
    await shard.put(edit(`d${String(index).padStart(2, '0')}`, '{"n":1}'));
  const { rev } = await shard
    .put(edit('d05', '{"n":2}', { parent: parseRev('1-55a58c5d9a0ed9fd4b1f1a4d6b2d1a5d') }))
    .catch(async () => ({
      rev: (await shard.snapshot().document(Buffer.from('d05')))?.leaves[0]?.revision,
    }));
  await shard.put(edit('d05', '{"n":3}', { parent: rev }));
  const seqs = async (range: object) => {
    const list: number[] = [];
    for await (const { seq } of shard.snapshot().changes(range)) list.push(seq);
    return list;
  };
  t.strictSame(await seqs({ since: 27 }), [28, 29, 30, 31]);
  t.strictSame(
    await seqs({ since: 4, until: 8 }),
    [5, 7, 8],
    'the old seq of an edited document is gone',
  );
  t.strictSame((await seqs({ reverse: true })).slice(0, 3), [31, 30, 29]);
  const ids: string[] = [];
  const range = { gt: Buffer.from('d10'), lte: Buffer.from('d13'), reverse: true };
  for await (const { id } of shard.snapshot().documents(range))
    ids.push(Buffer.from(id).toString());
  t.strictSame(ids, ['d13', 'd12', 'd11']);
});

t.test('purging', async (t) => {
  await using shard = await newShard();
  await shard.setMetadata({ purgeInfosLimit: 2 });
  const { rev } = await shard.put(edit('a', '{"n":1}'));
  await shard.put(edit('a', '{"c":1}', { path: [parseRev('2-x'), parseRev('1-x')] }));
  const purge = (uuid: string, ...revs: string[]) =>
    shard.purge({ uuid: Buffer.from(uuid), id: Buffer.from('a'), revs: revs.map(parseRev) });
  t.strictSame((await purge('u1', '2-x', '9-nothing')).map(formatRev), ['2-x']);
  t.equal((await shard.snapshot().document(Buffer.from('a')))?.leaves.length, 1);
  t.strictSame(await purge('u1', formatRev(rev)), [], 'a known uuid does nothing');
  t.strictSame((await purge('u2', formatRev(rev))).map(formatRev), [formatRev(rev)]);
  t.equal(await shard.snapshot().document(Buffer.from('a')), undefined);
  await purge('u3', '1-none');
  const infos: string[] = [];
  for await (const { uuid, seq } of shard.snapshot().purges())
    infos.push(`${seq} ${Buffer.from(uuid).toString()}`);
  t.strictSame(infos, ['2 u2', '3 u3'], 'the oldest is dropped beyond the limit');
  t.equal(shard.snapshot().counters.liveDocs, 0);
});

t.test('local docs', async (t) => {
  await using shard = await newShard();
  const put = (body: string | undefined, revision: number | undefined) =>
    shard.putLocal({
      id: Buffer.from('l'),
      body: body === undefined ? body : Buffer.from(body),
      revision,
    });
  t.equal(await put('{"n":1}', undefined), 1);
  t.equal(await code(put('{"n":2}', undefined)), 'CONFLICT');
  t.equal(await put('{"n":2}', 1), 2);
  t.equal(await put(undefined, 2), 0);
  t.equal(await shard.snapshot().localDoc(Buffer.from('l')), undefined);
  t.equal(await put('{"n":3}', undefined), 1, 'it begins anew');
});

t.test('limits and ranges', async (t) => {
  const range = { start: 0, end: 0x7fff_ffff };
  const world = { storage: new MemoryStorage(), host: new VirtualHost(1) };
  await using shard = await Shard.create(world, PATH, { range });
  t.equal(await code(shard.put(edit('joan', '{}'))), 'OUT_OF_RANGE', 'CRC-32 of joan is e0b852df');
  await shard.put(edit('robert', '{}'));
  t.equal(await code(shard.setMetadata({ revsLimit: 0 })), 'LIMIT');
  t.equal(await code(shard.setMetadata({ security: Buffer.alloc(2 ** 21) })), 'LIMIT');
  const large = `{"x":"${'y'.repeat(3_000_000)}"}`;
  await shard.put(
    edit('robert', large, {
      parent: (await shard.snapshot().document(Buffer.from('robert')))?.leaves[0]?.revision,
    }),
  );
  const [leaf] = (await shard.snapshot().document(Buffer.from('robert')))?.leaves ?? [];
  t.ok(
    leaf !== undefined && (await shard.snapshot().body(leaf)).length === large.length,
    'a body larger than a small commit',
  );
});

t.test('writers share syncs', async (t) => {
  const storage = new FailingStorage(new MemoryStorage());
  const shard = await newShard(storage);
  const before = storage.calls.sync;
  await Promise.all(
    Array.from({ length: 200 }, (_, index) => shard.put(edit(`d${index}`, '{"n":1}'))),
  );
  t.ok(storage.calls.sync - before <= 4, `${storage.calls.sync - before} syncs for 200 writers`);
  await shard.close();
});

/** Does a bit of everything. */
async function workload(storage: Storage): Promise<string[]> {
  const acknowledged: string[] = [];
  const world = { storage, host: new VirtualHost(1) };
  const options = { overlayBytes: 1500, nodeBytes: 256, cache: new CacheSpace(1000) };
  let shard = await Shard.create(world, PATH, options);
  try {
    for (let index = 0; index < 12; index++) {
      await shard.put(edit(`d${index}`, `{"n":${index}}`));
      acknowledged.push(`d${index}`);
      if (index === 4) {
        const stored = await shard.store([Buffer.alloc(5000, 1)]);
        const attachments = new Map([['f', { contentType: 'a/b', revpos: undefined, stored }]]);
        await shard.put(edit('att', '{}', { attachments }));
        acknowledged.push('att');
      }
      if (index === 7) {
        await shard.close();
        shard = await Shard.open(world, PATH, options);
      }
    }
    await shard.close();
    const { targets } = await split(world, PATH, { out: '/out', into: { parts: 2 }, workers: 0 });
    for (const { path } of targets) {
      const target = await ReadOnlyShard.open(world, path);
      await describeDocuments(target.snapshot);
      await target.close();
    }
  } catch (error) {
    await shard.close().catch(() => undefined);
    throw Object.assign(new Error('the workload failed', { cause: error }), { acknowledged });
  }
  return acknowledged;
}

async function assertIntact(
  t: Test,
  storage: Storage,
  acknowledged: readonly string[],
  what: string,
): Promise<void> {
  if ((await storage.identity(PATH)) === undefined) {
    if (acknowledged.length > 0) t.fail(`${what}: the file is gone`);
    return;
  }
  const shard = await Shard.open({ storage, host: new VirtualHost(2) }, PATH);
  await shard.close();
  const reader = await ReadOnlyShard.open({ storage }, PATH);
  const { problems } = await checkShard(reader);
  const documents = await describeDocuments(reader.snapshot);
  const missing = acknowledged.filter((id) => documents[id] === undefined);
  await reader.close();
  if (problems.length > 0 || missing.length > 0)
    t.fail(`${what}: ${JSON.stringify({ problems, missing })}`);
}

/** Whatever an interrupted split left, the next one completes it and leaves nothing but the targets. */
async function assertSplits(t: Test, storage: MemoryStorage, what: string): Promise<void> {
  if ((await storage.identity(PATH)) === undefined) return;
  const world = { storage, host: new VirtualHost(3) };
  const source = await ReadOnlyShard.open(world, PATH);
  const expected = await describeDocuments(source.snapshot);
  await source.close();
  try {
    await split(world, PATH, { out: '/out', into: { parts: 2 }, workers: 0 });
  } catch (error) {
    // It had been completed but for what came after the names.
    if (!isDivanError(error, 'EXISTS')) t.fail(`${what}, and then a split: ${String(error)}`);
  }
  const found: Record<string, unknown> = {};
  const names: string[] = [];
  for (const range of ['00000000-7fffffff', '80000000-ffffffff']) {
    names.push(...(await storage.list(`/out/${range}`)));
    const target = await ReadOnlyShard.open(world, `/out/${range}/shard.divan`);
    Object.assign(found, await describeDocuments(target.snapshot));
    await target.close();
  }
  names.push(...(await storage.list('/out')));
  const left = names.filter((name) => name.startsWith('.'));
  if (left.length > 0) t.fail(`${what}: ${left} is left`);
  const same = Object.keys(expected).every(
    (id) => JSON.stringify(found[id]) === JSON.stringify(expected[id]),
  );
  if (!same || Object.keys(found).length !== Object.keys(expected).length) {
    t.fail(`${what}: the targets differ from the source`);
  }
}

t.test('every call fails once, in turn', async (t) => {
  const kinds: CallKind[] = [
    'open',
    'read',
    'write',
    'sync',
    'truncate',
    'size',
    'link',
    'remove',
    'syncDirectory',
    'identity',
    'makeDirectory',
  ];
  let failures = 0;
  for (const kind of kinds) {
    for (const failure of ['IO', 'NO_SPACE'] as const) {
      for (let call = 0; ; call++) {
        const memory = new MemoryStorage();
        const storage = new FailingStorage(memory, {
          shortWrite: (length) => Math.ceil(length / 2),
          shortRead: (length) => Math.ceil(length / 3),
        });
        storage.plan({ kind, call, code: failure });
        const what = `${kind} ${call} fails with ${failure}`;
        const outcome = await workload(storage).catch((error: unknown) => error);
        if (Array.isArray(outcome)) break;
        failures++;
        if (
          !(outcome instanceof Error) ||
          !('acknowledged' in outcome) ||
          !Array.isArray(outcome.acknowledged)
        ) {
          if (!isDivanError(outcome, failure)) t.fail(`${what}: ${String(outcome)}`);
          continue;
        }
        const { cause } = outcome;
        if (!isDivanError(cause, failure) && !isDivanError(cause, 'FAILED'))
          t.fail(`${what}: ${String(cause)}`);
        await assertIntact(t, memory, outcome.acknowledged, what);
        await assertSplits(t, memory, what);
      }
    }
  }
  t.ok(failures > 150, `${failures} failures`);
});

t.test('every bit of a small file turned over: detected, or harmless', async (t) => {
  const memory = new MemoryStorage();
  const shard = await newShard(memory, { overlayBytes: 400, nodeBytes: 200 });
  for (let index = 0; index < 6; index++) await shard.put(edit(`d${index}`, `{"n":${index}}`));
  await shard.purge({ uuid: Buffer.from('u'), id: Buffer.from('d1'), revs: [] });
  await shard.putLocal({ id: Buffer.from('l'), body: Buffer.from('{"l":1}'), revision: undefined });
  await shard.flush();
  await shard.put(edit('last', '{"after":"the flush"}'));
  await shard.file.seal();
  await shard.file.close();
  const file = await memory.open(PATH, 'write');
  const bytes = Buffer.alloc(await file.size());
  for (let at = 0; at < bytes.length; ) at += await file.read(bytes.subarray(at), at);
  const wanted = await readAll(memory);
  const outcomes = { detected: 0, harmless: 0 };
  for (let at = 0; at < bytes.length; at++) {
    // Of the padding between first block and witnesses a sample is enough: it is never read.
    if (bytes[at] === 0 && at > 512 && at < 12_288 && at % 64 !== 0) continue;
    for (let bit = 0; bit < 8; bit++) {
      await file.write(Buffer.from([(bytes[at] ?? 0) ^ (1 << bit)]), at);
      const found = await readAll(memory).catch((error: unknown) => error);
      if (isDivanError(found)) outcomes.detected++;
      else if (found === wanted) outcomes.harmless++;
      else t.fail(`bit ${bit} of byte ${at}: ${String(found)}`);
    }
    await file.write(bytes.subarray(at, at + 1), at);
  }
  t.ok(outcomes.detected > 5000 && outcomes.harmless > 0, JSON.stringify(outcomes));
});

/** Everything a reader can get, as one text. */
async function readAll(storage: Storage): Promise<string> {
  const shard = await ReadOnlyShard.open({ storage }, PATH);
  const changes: number[] = [];
  for await (const { seq } of shard.snapshot.changes()) changes.push(seq);
  const locals: string[] = [];
  for await (const { id, body } of shard.snapshot.localDocs({}))
    locals.push(`${Buffer.from(id)} ${Buffer.from(body)}`);
  const documents = await describeDocuments(shard.snapshot);
  await shard.close();
  return JSON.stringify([documents, changes, locals, shard.snapshot.counters]);
}
