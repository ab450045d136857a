/**
 * Goal: every `Storage` keeps the contract of `engine/file/storage.ts`: methods, error codes, short reads, locks.
 * Method: one suite over the real file system, memory, a healthy simulated disk and a healthy `FailingStorage`; then what only
 * one of them can show: locks between processes, a full device, handles whose calls are still under way; then failures.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { DivanError, type ErrorCode } from '../../../engine/errors.js';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import type { Storage, StorageFile } from '../../../engine/file/storage.js';
import { CALL_KINDS, FailingStorage, sweepFailures } from '../../support/failing-storage.js';
import { SimulatedDisk } from '../../support/simulated-disk.js';

/** The code and the system's code of the error that a call ends with; undefined if it ends without one. */
async function failure(
  call: Promise<unknown>,
): Promise<[ErrorCode, string | undefined] | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (!(error instanceof DivanError)) throw error;
    if (error.message.includes('\n')) throw new Error('the message has more than one line');
    return [error.code, error.facts.errno];
  }
}

async function contentOf(file: StorageFile): Promise<string> {
  const bytes = Buffer.alloc((await file.size()) + 10);
  return bytes.subarray(0, await file.read(bytes, 0)).toString('latin1');
}

async function create(storage: Storage, path: string, content: string): Promise<void> {
  const file = await storage.open(path, 'create');
  await file.write(Buffer.from(content), 0);
  await file.close();
}

async function readAll(storage: Storage, path: string): Promise<string> {
  const file = await storage.open(path, 'read');
  const content = await contentOf(file);
  await file.close();
  return content;
}

async function testFile(t: Test, storage: Storage, root: string): Promise<void> {
  const file = await storage.open(join(root, 'file'), 'create');
  t.equal(file.path, join(root, 'file'));
  t.equal(await file.size(), 0);
  t.equal(await file.read(Buffer.alloc(4), 0), 0, 'an empty file has nothing to read');
  t.equal(await file.write(Buffer.from('hello world'), 0), 11);
  t.equal(await file.write(Buffer.from('J'), 0), 1);
  t.equal(await file.size(), 11);
  const into = Buffer.alloc(8, '.');
  t.equal(await file.read(into, 6), 5, 'fewer only at the end');
  t.equal(into.toString(), 'world...', 'the rest of the buffer is left alone');
  t.equal(await file.read(into, 11), 0, 'nothing at the end');
  t.equal(await file.read(into, 5000), 0, 'nothing beyond the end');
  await file.sync();
  await file.truncate(5);
  t.equal(await contentOf(file), 'Jello');
  await file.truncate(8);
  t.equal(await contentOf(file), 'Jello\0\0\0', 'growing shows zeros, not what was cut off');
  await file.write(Buffer.from('x'), 10);
  t.equal(await contentOf(file), 'Jello\0\0\0\0\0x', 'a gap shows zeros');
  await file.close();
  await file.close();
  t.equal(await readAll(storage, file.path), 'Jello\0\0\0\0\0x', 'closing twice is safe');
}

/** Writes across every boundary that an implementation may have inside. */
async function testLarge(t: Test, storage: Storage, root: string): Promise<void> {
  const file = await storage.open(join(root, 'large'), 'create');
  const bytes = Buffer.alloc(300_000);
  for (let index = 0; index < bytes.length; index++) bytes[index] = index * 7 + (index >> 8);
  for (let done = 0; done < bytes.length; )
    done += await file.write(bytes.subarray(done, done + 77_777), done);
  const into = Buffer.alloc(bytes.length);
  for (let done = 0; done < into.length; )
    done += await file.read(into.subarray(done, done + 50_001), done);
  t.ok(into.equals(bytes));
  await file.truncate(65_536);
  await file.truncate(200_000);
  await file.read(into, 0);
  t.ok(into.subarray(0, 65_536).equals(bytes.subarray(0, 65_536)));
  t.ok(into.subarray(65_536, 200_000).every((byte) => byte === 0));
  await file.close();
}

async function testReadOnlyAndClosed(t: Test, storage: Storage, root: string): Promise<void> {
  await create(storage, join(root, 'file'), 'abc');
  const file = await storage.open(join(root, 'file'), 'read');
  t.match(await failure(file.write(Buffer.from('x'), 0)), ['IO', 'EBADF']);
  t.match(await failure(file.truncate(0)), ['IO']);
  await file.close();
  t.match(await failure(file.read(Buffer.alloc(1), 0)), ['CLOSED']);
  t.match(await failure(file.write(Buffer.from('x'), 0)), ['CLOSED']);
  t.match(await failure(file.sync()), ['CLOSED']);
  t.match(await failure(file.truncate(1)), ['CLOSED']);
  t.match(await failure(file.size()), ['CLOSED']);
  t.match(await failure(file.identity()), ['CLOSED']);
  t.throws(() => file.tryLock(), { code: 'CLOSED' });
  t.equal(await readAll(storage, file.path), 'abc');
}

async function testLocks(t: Test, storage: Storage, root: string): Promise<void> {
  const path = join(root, 'file');
  await create(storage, path, 'abc');
  const first = await storage.open(path, 'write');
  const second = await storage.open(path, 'write');
  const third = await storage.open(path, 'read');
  t.ok(first.tryLock());
  t.ok(first.tryLock(), 'the holder may ask again');
  t.notOk(second.tryLock());
  t.notOk(third.tryLock());
  t.equal(await second.read(Buffer.alloc(3), 0), 3, 'the lock is advisory');
  await second.close();
  t.notOk(third.tryLock(), 'closing a handle that does not have the lock does not free it');
  await storage.rename(path, join(root, 'renamed'));
  await create(storage, path, 'def');
  const other = await storage.open(path, 'write');
  t.ok(other.tryLock(), 'the lock is on the file, not on its name');
  await other.close();
  await first.close();
  t.ok(third.tryLock(), 'closing frees the lock');
  await third.close();
}

async function testNames(t: Test, storage: Storage, root: string): Promise<void> {
  const [a, b, c] = [join(root, 'a'), join(root, 'b'), join(root, 'c')];
  await create(storage, a, 'A');
  await create(storage, b, 'B');
  t.same((await storage.list(root)).sort(), ['a', 'b']);
  const old = await storage.open(b, 'write');
  const identity = await storage.identity(a);
  t.not(identity, await storage.identity(b));
  await storage.rename(a, b);
  t.equal(await storage.identity(b), identity, 'a file keeps its identity under a new name');
  t.equal(await storage.identity(a), undefined);
  t.equal(await readAll(storage, b), 'A', 'a rename replaces');
  t.equal(await contentOf(old), 'B', 'a handle keeps a replaced file alive');
  await old.write(Buffer.from('BB'), 0);
  t.equal(await readAll(storage, b), 'A');
  t.not(await old.identity(), await storage.identity(b));
  await old.close();
  await storage.link(b, c);
  t.equal(await storage.identity(c), identity, 'a link is a second name of the same file');
  const file = await storage.open(c, 'write');
  t.equal(await file.identity(), identity);
  await storage.remove(b);
  await storage.remove(c);
  t.same(await storage.list(root), []);
  t.equal(await contentOf(file), 'A', 'a handle keeps a removed file alive');
  await file.close();
  await create(storage, a, 'new');
  await storage.rename(a, a);
  t.equal(await readAll(storage, a), 'new', 'a rename to the same name does nothing');
}

async function testNameErrors(t: Test, storage: Storage, root: string): Promise<void> {
  const [a, b, none] = [join(root, 'a'), join(root, 'b'), join(root, 'none')];
  await create(storage, a, 'A');
  await create(storage, b, 'B');
  for (const mode of ['read', 'write'] as const)
    t.match(await failure(storage.open(none, mode)), ['NOT_FOUND']);
  t.match(await failure(storage.open(a, 'create')), ['EXISTS']);
  t.match(await failure(storage.open(join(none, 'x'), 'create')), ['NOT_FOUND']);
  t.match(await failure(storage.open(join(a, 'x'), 'create')), ['NOT_FOUND']);
  t.match(await failure(storage.rename(none, b)), ['NOT_FOUND']);
  t.match(await failure(storage.rename(a, join(none, 'x'))), ['NOT_FOUND']);
  t.match(await failure(storage.link(none, join(root, 'c'))), ['NOT_FOUND']);
  t.match(await failure(storage.link(a, b)), ['EXISTS']);
  t.match(await failure(storage.remove(none)), ['NOT_FOUND']);
  t.match(await failure(storage.list(none)), ['NOT_FOUND']);
  t.match(await failure(storage.syncDirectory(none)), ['NOT_FOUND']);
  t.match(await failure(storage.freeBytes(none)), ['NOT_FOUND']);
  t.equal(await storage.identity(none), undefined);
  t.equal(await storage.identity(join(a, 'x')), undefined);
  t.equal((await readAll(storage, a)) + (await readAll(storage, b)), 'AB', 'nothing has changed');
}

async function testDirectories(t: Test, storage: Storage, root: string): Promise<void> {
  const directory = join(root, 'directory');
  t.equal(await storage.makeDirectory(directory), true);
  t.equal(await storage.makeDirectory(directory), false, 'it is there already');
  t.match(await failure(storage.makeDirectory(join(root, 'no', 'parent'))), ['NOT_FOUND']);
  await create(storage, join(directory, 'file'), 'x');
  t.match(await failure(storage.makeDirectory(join(directory, 'file'))), ['EXISTS']);
  await storage.syncDirectory(directory);
  await storage.syncDirectory(root);
  t.same(await storage.list(root), ['directory']);
  t.same(await storage.list(directory), ['file']);
  t.ok((await storage.freeBytes(directory)) > 1e6);
  t.ok((await storage.identity(directory)) !== undefined);
  t.match(await failure(storage.removeDirectory(directory)), ['IO', 'ENOTEMPTY']);
  t.match(await failure(storage.open(directory, 'write')), ['IO', 'EISDIR']);
  await storage.rename(join(directory, 'file'), join(root, 'file'));
  t.same(await storage.list(directory), []);
  t.equal(await readAll(storage, join(root, 'file')), 'x', 'a name can move between directories');
  await storage.removeDirectory(directory);
  t.match(await failure(storage.removeDirectory(directory)), ['NOT_FOUND']);
  t.same(await storage.list(root), ['file']);
}

async function testStorage(t: Test, make: (t: Test) => Promise<[Storage, string]>): Promise<void> {
  const parts = {
    'a file': testFile,
    'a large file': testLarge,
    'a handle for reading, and a closed one': testReadOnlyAndClosed,
    locks: testLocks,
    names: testNames,
    'errors with names': testNameErrors,
    directories: testDirectories,
  };
  for (const [name, part] of Object.entries(parts)) {
    await t.test(name, async (t) => {
      const [storage, root] = await make(t);
      await part(t, storage, root);
    });
  }
}

function temporary(t: Test): string {
  const root = mkdtempSync(join(tmpdir(), 'divan-storage-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  return root;
}

t.test('the file system', (t) => testStorage(t, async (t) => [nodeStorage, temporary(t)]));

t.test('memory', (t) =>
  testStorage(t, async () => {
    const storage = new MemoryStorage();
    await storage.makeDirectory('/data');
    return [storage, '/data'];
  }),
);

t.test('a simulated disk', (t) =>
  testStorage(t, async () => {
    const storage = new SimulatedDisk();
    storage.writeTurns = 1;
    await storage.makeDirectory('/data');
    return [storage, '/data'];
  }),
);

t.test('a failing storage without a plan, with short reads and writes', async (t) => {
  const storage = new FailingStorage(new MemoryStorage(), {
    slow: () => new Promise((resolve) => setImmediate(resolve)),
  });
  await testNames(t, storage, '/');
  await testDirectories(t, new FailingStorage(new MemoryStorage()), '/');
  storage.weaknesses.shortWrite = () => 1;
  storage.weaknesses.shortRead = (length) => Math.ceil(length / 2);
  const file = await storage.open('/file', 'create');
  t.equal(await file.write(Buffer.from('abcd'), 0), 1);
  t.equal(await file.write(Buffer.from('bcd'), 1), 1);
  t.equal(await file.read(Buffer.alloc(4), 0), 2);
  t.equal(storage.calls.write, 6);
});

t.test('memory takes relative paths and several spellings', async (t) => {
  const storage = new MemoryStorage();
  await create(storage, 'file', 'x');
  t.same(await storage.list('.'), ['file']);
  t.equal(await storage.makeDirectory('a/'), true);
  await create(storage, 'a//b', 'y');
  t.equal(await readAll(storage, './a/./b'), 'y');
});

t.test('a process has the lock that another asks for, until it is killed', async (t) => {
  const path = join(temporary(t), 'file');
  await create(nodeStorage, path, 'x');
  const file = await nodeStorage.open(path, 'write');
  t.ok(file.tryLock());
  const script = `
    const { nodeStorage } = await import(process.argv[1]);
    const file = await nodeStorage.open(process.argv[2], 'write');
    process.stdout.write(String(file.tryLock()));
    if (process.argv[3] === 'die') process.kill(process.pid, 'SIGKILL');`;
  const module = new URL('../../../engine/file/node-storage.js', import.meta.url).href;
  const args = ['--input-type=module', '--eval', script, module, path];
  const ask = promisify(execFile);
  t.equal((await ask(process.execPath, args)).stdout, 'false');
  await file.close();
  t.equal((await ask(process.execPath, args)).stdout, 'true');
  const killed: unknown = await ask(process.execPath, [...args, 'die']).catch((error) => error);
  t.match(killed, { stdout: 'true', signal: 'SIGKILL' });
  const again = await nodeStorage.open(path, 'write');
  t.ok(again.tryLock(), 'the lock of a killed process is free');
  await again.close();
});

t.test(
  'a full device',
  { skip: !existsSync('/dev/full') && 'there is no /dev/full' },
  async (t) => {
    const file = await nodeStorage.open('/dev/full', 'write');
    t.match(await failure(file.write(Buffer.alloc(4096), 0)), ['NO_SPACE', 'ENOSPC']);
    await file.close();
  },
);

t.test('closing waits for the calls under way', async (t) => {
  const root = temporary(t);
  const file = await nodeStorage.open(join(root, 'file'), 'create');
  const bytes = Buffer.alloc(100_000, 'x');
  const calls = Array.from({ length: 50 }, (_, index) => file.write(bytes, index * bytes.length));
  await file.close();
  for (const call of calls) t.equal(await call, bytes.length);
  t.equal((await readAll(nodeStorage, file.path)).length, 50 * bytes.length);
});

t.test('planned failures', async (t) => {
  const run = async (storage: FailingStorage) => {
    const file = await storage.open('/a', 'create');
    try {
      await file.write(Buffer.from('x'), 0);
      await file.sync();
      await file.sync();
    } finally {
      await file.close();
    }
    await storage.rename('/a', '/b');
    await storage.syncDirectory('/');
  };
  const sweep = (kind: 'sync' | 'rename' | 'any' | 'list', times: 'once' | 'for ever') =>
    sweepFailures({ kind, code: 'IO', times }, async (plan) => {
      const storage = new FailingStorage(new MemoryStorage());
      storage.plan(plan);
      const error = await failure(run(storage));
      t.equal(error?.[0], storage.fired > 0 ? 'IO' : undefined);
      return storage;
    });
  t.equal(await sweep('sync', 'once'), 2);
  t.equal(await sweep('rename', 'once'), 1);
  t.equal(await sweep('list', 'once'), 0);
  t.equal(await sweep('any', 'once'), 7);
  t.equal(await sweep('any', 'for ever'), 7);
  const storage = new FailingStorage(new MemoryStorage());
  storage.plan({ kind: 'rename', call: 0, code: 'IO', afterwards: true });
  t.match(await failure(run(storage)), ['IO', 'EIO']);
  t.same(await storage.list('/'), ['b'], 'the call was done before it failed');
  storage.plan({ kind: 'any', call: 0, code: 'NO_SPACE', onlyPath: (path) => path === '/c' });
  await create(storage, '/a', 'x');
  t.match(await failure(storage.open('/c', 'create')), ['NO_SPACE', 'ENOSPC']);
  storage.plan();
  await create(storage, '/c', 'x');
  t.same(Object.keys(storage.calls), [...CALL_KINDS]);
  t.equal(storage.calls.open, 1, 'a new plan counts anew');
});
