/**
 * Goal: the simulated disk is as cruel as a real one may be, and no more: every class of damage occurs, what was synced stays,
 * and a store is blamed exactly if it has a bug.
 * Method: small logs whose legal states are known one by one; random logs against the rule for each byte; a toy store without
 * and with each of its bugs.
 */
import t, { type Test } from 'tap';
import { isDivanError } from '../../../engine/errors.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';
import {
  CRASH_CLASSES,
  CrashError,
  type CrashPoint,
  SimulatedDisk,
} from '../../support/simulated-disk.js';
import { TOY_BUGS, type ToyBug, ToyStore } from '../../support/toy-store.js';

const TRIES = 400;

/** What a file holds in many states at one point; `-` if it is not there. */
function contents(point: CrashPoint, path: string, seed = 1): Set<string> {
  const random = seededRandom(seed);
  const found = new Set<string>();
  for (let i = 0; i < TRIES; i++) {
    found.add(point.random(random).disk.content(path)?.toString('latin1') ?? '-');
  }
  return found;
}

async function placed(content: string): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk();
  disk.place('/dir/file', Buffer.from(content));
  return disk;
}

t.test('a write is uncertain until a sync that was called after it resolves', async (t) => {
  const disk = await placed('aaaa');
  const file = await disk.open('/dir/file', 'write');
  await file.write(Buffer.from('b'), 0);
  t.same([...contents(disk.crashPoint(), '/dir/file')].sort(), ['aaaa', 'baaa']);
  const synced = file.sync();
  t.same(contents(disk.crashPoint(), '/dir/file').size, 2, 'not when the sync is called');
  await synced;
  t.same([...contents(disk.crashPoint(), '/dir/file')], ['baaa'], 'when it has resolved');
  t.same(contents(disk.crashPoint(disk.ops.length - 1), '/dir/file').size, 2, 'and not before');
  t.same([...contents(disk.crashPoint(0), '/dir/file')], ['aaaa'], 'an earlier point');
});

t.test('a sync does not cover what was not awaited before it or came after it', async (t) => {
  const disk = await placed('aaaa');
  const file = await disk.open('/dir/file', 'write');
  const early = file.write(Buffer.from('b'), 0);
  const synced = file.sync();
  const late = file.write(Buffer.from('c'), 1);
  await Promise.all([early, late, synced]);
  t.same(contents(disk.crashPoint(), '/dir/file').size, 4);
  await file.sync();
  t.same([...contents(disk.crashPoint(), '/dir/file')], ['bcaa']);
});

t.test('after a failed sync nothing but writing again makes the bytes durable', async (t) => {
  const disk = await placed('aaaa');
  const file = await disk.open('/dir/file', 'write');
  await file.write(Buffer.from('bb'), 0);
  disk.failNextSync();
  await t.rejects(file.sync(), { code: 'IO' });
  await file.close();
  disk.restart();
  const again = await disk.open('/dir/file', 'write');
  await again.sync();
  t.equal(disk.content('/dir/file')?.toString(), 'bbaa', 'the cache shows them');
  t.same([...contents(disk.crashPoint(), '/dir/file')].sort(), ['aaaa', 'bbaa']);
  await again.write(Buffer.from('bb'), 0);
  await again.sync();
  t.same([...contents(disk.crashPoint(), '/dir/file')], ['bbaa']);
});

t.test('names are made durable by a sync of their directory alone', async (t) => {
  const disk = await placed('old');
  const file = await disk.open('/dir/new', 'create');
  await file.write(Buffer.from('new'), 0);
  await file.sync();
  t.same([...contents(disk.crashPoint(), '/dir/new')].sort(), ['-', 'new']);
  await disk.syncDirectory('/');
  t.same(contents(disk.crashPoint(), '/dir/new').size, 2, 'not of another one');
  await disk.syncDirectory('/dir');
  t.same([...contents(disk.crashPoint(), '/dir/new')], ['new']);
  await disk.rename('/dir/new', '/dir/file');
  t.same([...contents(disk.crashPoint(), '/dir/new')].sort(), ['-', 'new'], 'the old name is back');
  t.same([...contents(disk.crashPoint(), '/dir/file')].sort(), ['new', 'old']);
  await disk.syncDirectory('/dir');
  t.same([...contents(disk.crashPoint(), '/dir/file')], ['new']);
  await disk.remove('/dir/file');
  t.same([...contents(disk.crashPoint(), '/dir/file')].sort(), ['-', 'new']);
  disk.failNextDirectorySync();
  await t.rejects(disk.syncDirectory('/dir'), { code: 'IO' });
  await disk.syncDirectory('/dir');
  t.same(contents(disk.crashPoint(), '/dir/file').size, 2, 'a failed sync of a directory is final');
});

t.test('a rename within a directory is one step, between two it is two', async (t) => {
  const disk = await placed('x');
  await disk.makeDirectory('/other');
  await disk.syncDirectory('/');
  await disk.rename('/dir/file', '/dir/renamed');
  const names = (at = disk.ops.length) => {
    const random = seededRandom(2);
    const point = disk.crashPoint(at);
    const found = Array.from({ length: TRIES }, () => [...point.random(random).disk.names.keys()]);
    return [...new Set(found.map((paths) => paths.sort().join()))].sort();
  };
  t.same(names(), ['/dir/file', '/dir/renamed']);
  await disk.syncDirectory('/dir');
  await disk.rename('/dir/renamed', '/other/file');
  t.same(names(), ['', '/dir/renamed', '/dir/renamed,/other/file', '/other/file']);
  await disk.syncDirectory('/other');
  await disk.syncDirectory('/dir');
  t.same(names(), ['/other/file']);
  await disk.link('/other/file', '/dir/second');
  const both = disk.crashPoint().best().disk;
  t.equal(await both.identity('/dir/second'), await both.identity('/other/file'));
});

t.test('every subset of few operations', async (t) => {
  const disk = await placed('....');
  const file = await disk.open('/dir/file', 'write');
  for (const [index, text] of ['a', 'b', 'c'].entries()) await file.write(Buffer.from(text), index);
  const point = disk.crashPoint();
  const all = [...point.exhaustive()].map((state) => state.disk.content('/dir/file')?.toString());
  t.same(all.sort(), ['....', '..c.', '.b..', '.bc.', 'a...', 'a.c.', 'ab..', 'abc.']);
  t.equal(point.worst().disk.content('/dir/file')?.toString(), '....');
  t.equal(point.best().disk.content('/dir/file')?.toString(), 'abc.');
  await file.truncate(1);
  await file.write(Buffer.alloc(1536, 'd'), 512);
  const states = [...disk.crashPoint().exhaustive()];
  const lengths = new Set(states.map((state) => state.disk.content('/dir/file')?.length));
  t.same([...lengths].sort(), [1, 1024, 1536, 2048, 4].sort());
  t.equal(new Set(states.map(({ fingerprint }) => fingerprint)).size, states.length);
  t.ok(states.length > 30);
  for (let i = 0; i < 8; i++) await file.write(Buffer.from('e'), i);
  t.throws(() => disk.crashPoint().exhaustive().next(), /too many/);
});

t.test('tearing is by sectors of the file', async (t) => {
  const disk = await placed('.'.repeat(2048));
  const file = await disk.open('/dir/file', 'write');
  await file.write(Buffer.alloc(1000, 'x'), 300);
  const found = [...contents(disk.crashPoint(), '/dir/file')];
  const runs = found.map((content) =>
    content.replace(/x+|\.+/g, (run) => `${run[0]}${run.length} `),
  );
  t.same(runs.sort(), [
    '.1024 x276 .748 ',
    '.2048 ',
    '.300 x1000 .748 ',
    '.300 x212 .1536 ',
    '.300 x212 .512 x276 .748 ',
    '.300 x724 .1024 ',
    '.512 x512 .1024 ',
    '.512 x788 .748 ',
  ]);
});

t.test('a file that grew without data shows zeros, garbage, or bytes from elsewhere', async (t) => {
  const disk = await placed('first');
  const file = await disk.open('/dir/file', 'write');
  await file.truncate(0);
  await file.sync();
  await file.write(Buffer.from('again'), 0);
  const found = contents(disk.crashPoint(), '/dir/file');
  t.ok(found.has(''));
  t.ok(found.has('again'));
  t.ok(found.has('\0\0\0\0\0'));
  t.ok(found.size > 10, 'garbage');
  const second = await disk.open('/dir/second', 'create');
  await disk.syncDirectory('/dir');
  await second.write(Buffer.from('stale'), 0);
  await second.sync();
  await second.truncate(0);
  await second.sync();
  await second.write(Buffer.from('fresh'), 0);
  t.ok(contents(disk.crashPoint(), '/dir/second').has('stale'), 'what was cut off is back');
});

t.test('every class of damage occurs, and names what it is', async (t) => {
  const random = seededRandom(seedOf(t));
  const disk = await placed('x');
  const file = await disk.open('/dir/file', 'write');
  const fresh = await disk.open('/dir/fresh', 'create');
  for (let i = 0; i < 5; i++) await file.write(Buffer.alloc(1200, i + 1), i * 1200);
  await fresh.write(Buffer.from('fresh'), 0);
  await disk.rename('/dir/fresh', '/dir/renamed');
  await disk.remove('/dir/file');
  const classes = new Set<string>();
  for (let i = 0; i < TRIES; i++) {
    for (const name of disk.crash(disk.ops.length, random).classes) classes.add(name);
  }
  t.same([...classes].sort(), [...CRASH_CLASSES].sort());
});

t.test('a seed gives the same states, and states share nothing that can be written', async (t) => {
  const disk = await placed('shared');
  const file = await disk.open('/dir/file', 'write');
  for (let i = 0; i < 8; i++) await file.write(Buffer.alloc(3000, i), i * 2000);
  const fingerprints = (seed: number) => {
    const random = seededRandom(seed);
    return Array.from({ length: 50 }, () => disk.crash(disk.ops.length, random).fingerprint);
  };
  t.same(fingerprints(3), fingerprints(3));
  t.not(fingerprints(3).join(), fingerprints(4).join());
  t.ok(new Set(fingerprints(3)).size > 25);
  const state = disk.crashPoint().best();
  const written = await state.disk.open('/dir/file', 'write');
  await written.write(Buffer.from('mine'), 0);
  await written.truncate(4);
  t.equal(state.disk.content('/dir/file')?.toString(), 'mine');
  t.equal(state.open().content('/dir/file')?.length, 17_000);
  t.equal(disk.content('/dir/file')?.length, 17_000);
  t.ok(disk.crashPoint(0).worst().disk.content('/dir/file')?.equals(Buffer.from('shared')));
});

t.test('every byte is what a certain or an uncertain write left there', async (t) => {
  const random = seededRandom(seedOf(t));
  for (let round = 0; round < 20; round++) {
    const disk = await placed('\0'.repeat(4096));
    const file = await disk.open('/dir/file', 'write');
    const writes: { at: number; position: number; length: number; synced: number }[] = [];
    for (let step = 1; step < 30; step++) {
      if (randomInt(random, 4) === 0) {
        await file.sync();
        for (const write of writes) write.synced = Math.min(write.synced, disk.ops.length);
        continue;
      }
      const position = randomInt(random, 3000);
      const length = 1 + randomInt(random, Math.min(1096, 4096 - position));
      writes.push({ at: disk.ops.length, position, length, synced: Number.POSITIVE_INFINITY });
      await file.write(Buffer.alloc(length, step), position);
    }
    const at = randomInt(random, disk.ops.length + 1);
    const before = writes.filter((write) => write.at < at);
    const content = disk.crash(at, random).disk.content('/dir/file') ?? Buffer.alloc(0);
    t.equal(content.length, 4096);
    t.same(illegalBytes(disk, content, before, at), [], `round ${round}`);
  }
});

function illegalBytes(
  disk: SimulatedDisk,
  content: Buffer,
  writes: readonly { at: number; position: number; length: number; synced: number }[],
  at: number,
): number[] {
  const whole = disk.crashPoint(at).best().disk.content('/dir/file') ?? Buffer.alloc(0);
  const illegal: number[] = [];
  for (let byte = 0; byte < content.length; byte++) {
    const over = writes.filter(
      ({ position, length }) => position <= byte && byte < position + length,
    );
    const isCertain = over.every(({ synced }) => synced <= at);
    if (isCertain && content[byte] !== whole[byte]) illegal.push(byte);
  }
  return illegal;
}

t.test('a process is stopped at an operation, and another begins', async (t) => {
  const disk = await placed('x');
  const file = await disk.open('/dir/file', 'write');
  t.ok(file.tryLock());
  disk.haltAfter = 2;
  await file.write(Buffer.from('y'), 0);
  await t.rejects(file.sync(), CrashError);
  t.equal(disk.ops.length, 2);
  await t.rejects(file.read(Buffer.alloc(1), 0), CrashError);
  await t.rejects(disk.list('/'), CrashError);
  t.throws(() => disk.ack('too late'), CrashError);
  t.throws(() => file.tryLock(), CrashError);
  disk.restart();
  await t.rejects(file.write(Buffer.from('z'), 0), CrashError, 'the old handle is dead');
  await file.close();
  const again = await disk.open('/dir/file', 'write');
  t.ok(again.tryLock(), 'the lock is free');
  t.equal(disk.content('/dir/file')?.toString(), 'y', 'the power stayed on');
  t.equal(contents(disk.crashPoint(), '/dir/file').size, 2);
});

t.test('the log says what happened', async (t) => {
  const disk = new SimulatedDisk();
  const seen: string[] = [];
  disk.hook = (index, kind, path) => seen.push(`${index} ${kind} ${path}`);
  const file = await disk.open('/file', 'create');
  await file.write(Buffer.from('abc'), 7);
  disk.ack('told');
  await file.sync();
  const kinds = ['create /file', 'write /file', 'ack told', 'sync /file', 'synced /file'];
  t.same(
    seen,
    kinds.map((kind, index) => `${index} ${kind}`),
  );
  t.equal(disk.describe(1, 3), '1 write /file at 7 length 3\n2 ack told');
  t.same(disk.acked(2), []);
  t.same(disk.crash(3, seededRandom(1)).acked, ['told']);
  t.throws(() => disk.place('/late', Buffer.alloc(1)), /before it is used/);
});

/** Runs a toy store, crashes it everywhere, and returns the first promise that it breaks. */
async function judge(bug: ToyBug | undefined, seed: number): Promise<string | undefined> {
  const random = seededRandom(seed);
  const disk = new SimulatedDisk();
  const submitted = ['born'];
  const fill = async (store: ToyStore, count: number) => {
    for (let i = 0; i < count; i++) {
      const text = `${submitted.length}`.padEnd(5 + randomInt(random, 900), 'x');
      submitted.push(text);
      await store.put(text);
      disk.ack(text);
    }
  };
  const store = await ToyStore.create(disk, bug);
  disk.ack('born');
  await fill(store, 4);
  disk.failNextSync();
  submitted.push('failed');
  try {
    await store.put('failed');
    disk.ack('failed');
  } catch (error) {
    if (!isDivanError(error, 'IO')) throw error;
  }
  disk.failSync = -1;
  disk.restart();
  const again = await ToyStore.open(disk, bug);
  // What a reader of the reopened store was shown must stay.
  for (const text of again?.texts ?? []) if (!disk.acked().includes(text)) disk.ack(text);
  if (again !== undefined) await fill(again, 4);
  for (let at = 0; at <= disk.ops.length; at++) {
    for (let i = 0; i < 40; i++) {
      const state = disk.crash(at, random);
      const broken = await brokenPromise(state.disk, state.acked, submitted, bug);
      if (broken !== undefined) return `${broken}\n${disk.describe(0, at)}`;
    }
  }
  return undefined;
}

async function brokenPromise(
  disk: SimulatedDisk,
  acked: readonly string[],
  submitted: readonly string[],
  bug: ToyBug | undefined,
): Promise<string | undefined> {
  const first = await ToyStore.open(disk, bug);
  const texts = [...(first?.texts ?? [])];
  const lost = acked.filter((text) => !texts.includes(text));
  if (lost.length > 0) return `lost ${lost[0]}`;
  const invented = texts.filter((text) => !submitted.includes(text));
  if (invented.length > 0) return `invented ${invented[0]}`;
  await first?.put('after');
  const found = (await ToyStore.open(disk, bug))?.texts ?? [];
  const isWhole = found.join() === [...texts, ...(first === undefined ? [] : ['after'])].join();
  return isWhole ? undefined : 'lost what was written after recovery';
}

t.test('a toy store without a bug is never blamed', async (t) => {
  const seed = seedOf(t);
  for (let round = 0; round < 5; round++) t.equal(await judge(undefined, seed + round), undefined);
});

async function isFound(t: Test, bug: ToyBug): Promise<boolean> {
  const seed = seedOf(t);
  for (let round = 0; round < 10; round++) {
    if ((await judge(bug, seed + round)) !== undefined) return true;
  }
  return false;
}

t.test('every bug of the toy store is found', async (t) => {
  for (const bug of TOY_BUGS) t.ok(await isFound(t, bug), bug);
});
