/**
 * The storage seam over `node:fs`: the only file of the engine that imports it.
 *
 * Plain callback calls on a file descriptor: for cached reads of 8 KiB they cost 3 us each and `FileHandle` 7 us, sixteen at
 * a time (one at a time 32 and 44). Nothing here is synchronous but `flock`, which does not wait.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { DivanError, type ErrorCode, isDivanError } from '../errors.js';
import type { OpenMode, Storage, StorageFile } from './storage.js';

const PERMISSION_BITS = 0o777;

const FLAGS: Readonly<Record<OpenMode, string>> = { read: 'r', write: 'r+', create: 'wx+' };

const CODES: ReadonlyMap<string, ErrorCode> = new Map<string, ErrorCode>([
  ['ENOENT', 'NOT_FOUND'],
  ['ENOTDIR', 'NOT_FOUND'],
  ['EEXIST', 'EXISTS'],
  ['ENOSPC', 'NO_SPACE'],
  ['EDQUOT', 'NO_SPACE'],
  ['EFBIG', 'NO_SPACE'],
]);

/** What to do about an error, by the system's code or by ours. */
const EXPLANATIONS: ReadonlyMap<string, string> = new Map([
  ['NOT_FOUND', 'there is no such file'],
  ['EXISTS', 'it is there already'],
  [
    'EFBIG',
    'it would be larger than the file system or the limit of the process (ulimit -f) allows',
  ],
  ['NO_SPACE', 'the disk or the quota is full; free some space and run it again'],
  ['EACCES', 'permission denied (EACCES); give this user the right to it'],
  ['EPERM', 'not permitted (EPERM); give this user the right to it'],
  ['EROFS', 'the file system is read-only (EROFS); mount it for writing'],
  ['EMFILE', 'this process has too many files open (EMFILE); raise its limit (ulimit -n)'],
  ['ENFILE', 'the system has too many files open (ENFILE); close some or raise its limit'],
  ['EISDIR', 'it is a directory (EISDIR); name a file'],
  ['ENOTEMPTY', 'the directory is not empty (ENOTEMPTY); remove what is in it first'],
  ['EIO', 'the disk failed (EIO); look at the system log, and copy what can still be read'],
  ['ENOTBUILT', 'the native part of fs-ext is not built; run `npm rebuild fs-ext`'],
]);

type Answer<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

/** Runs a callback call of `node:fs` and maps its error. */
function run<T>(what: string, path: string, call: (done: Answer<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => {
      if (error === null) resolve(value);
      else reject(mapped(what, path, errnoOf(error), error));
    });
  });
}

function mapped(what: string, path: string, errno: string, cause: unknown): DivanError {
  const code = CODES.get(errno) ?? 'IO';
  const reason = EXPLANATIONS.get(errno) ?? EXPLANATIONS.get(code) ?? `the system says ${errno}`;
  return new DivanError(code, `can not ${what} ${path}: ${reason}`, { path, errno }, cause);
}

/**
 * What is written in the background is synced in pieces of this size. One sync of much would keep those of others waiting meanwhile: the
 * disk serves them one after the other, and file systems with a journal make what was written to one file durable with another.
 */
const BACKGROUND_SYNC_BYTES = 1024 * 1024;

/** What blocks the thread. */
type Blocking = 'nothing' | 'reading' | 'all';

/**
 * States: open -> closing (`close` was called; calls under way go on) -> closed. Nothing may reach the system with the
 * descriptor once it is closed, because the system hands its number to the next file that is opened.
 */
class NodeFile implements StorageFile {
  #path: string;
  readonly #fd: number;
  readonly #blocks: Blocking;
  #calls = 0;
  #unsyncedBytes = 0;
  #closing: Promise<void> | undefined;
  #drained: (() => void) | undefined;

  constructor(path: string, fd: number, blocks: Blocking) {
    this.#path = path;
    this.#fd = fd;
    this.#blocks = blocks;
  }

  get path(): string {
    return this.#path;
  }

  renamed(path: string): void {
    this.#path = path;
  }

  read(into: Uint8Array, position: number): Promise<number> {
    if (this.#blocks !== 'nothing') {
      return this.#block('read', () => fs.readSync(this.#fd, into, 0, into.length, position));
    }
    return this.#call('read', (done: Answer<number>) => {
      fs.read(this.#fd, into, 0, into.length, position, done);
    });
  }

  write(bytes: Uint8Array, position: number): Promise<number> {
    if (this.#blocks === 'all') {
      return this.#block('write', () => {
        const count = fs.writeSync(this.#fd, bytes, 0, bytes.length, position);
        if (count === 0 && bytes.length > 0) throw nothingWritten();
        this.#syncIfMuch(count);
        return count;
      });
    }
    return this.#call('write', (done: Answer<number>) => {
      fs.write(this.#fd, bytes, 0, bytes.length, position, (error, count) => {
        const stuck = error === null && count === 0 && bytes.length > 0;
        done(stuck ? nothingWritten() : error, count);
      });
    });
  }

  sync(): Promise<void> {
    if (this.#blocks === 'all') return this.#block('sync', () => fs.fdatasyncSync(this.#fd));
    return this.#call('sync', (done: Answer<void>) => fs.fdatasync(this.#fd, done));
  }

  #syncIfMuch(written: number): void {
    this.#unsyncedBytes += written;
    if (this.#unsyncedBytes < BACKGROUND_SYNC_BYTES) return;
    this.#unsyncedBytes = 0;
    fs.fdatasyncSync(this.#fd);
  }

  truncate(length: number): Promise<void> {
    return this.#call('truncate', (done: Answer<void>) => fs.ftruncate(this.#fd, length, done));
  }

  async size(): Promise<number> {
    return (await this.#stat()).size;
  }

  async identity(): Promise<string> {
    return identityOf(await this.#stat());
  }

  /** Takes permissions and owner from another file. Who may not give files away keeps it. */
  async resemble({ mode, uid, gid }: fs.Stats): Promise<void> {
    const own = await this.#stat();
    if (own.uid !== uid || own.gid !== gid) {
      const give = (done: Answer<void>) => fs.fchown(this.#fd, uid, gid, done);
      await this.#call('give away', give).catch((error: unknown) => {
        if (!isDivanError(error) || error.facts['errno'] !== 'EPERM') throw error;
      });
    }
    await this.#call('set the permissions of', (done: Answer<void>) =>
      fs.fchmod(this.#fd, mode & PERMISSION_BITS, done),
    );
  }

  tryLock(): boolean {
    this.#assertOpen();
    try {
      flock(this.#fd);
      return true;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK') return false;
      throw mapped('lock', this.path, errno, error);
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#calls > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
    await run('close', this.path, (done: Answer<void>) => fs.close(this.#fd, done));
  }

  #stat(): Promise<fs.Stats> {
    return this.#call('examine', (done: Answer<fs.Stats>) => fs.fstat(this.#fd, done));
  }

  /** Makes a call on this thread. */
  async #block<T>(what: string, call: () => T): Promise<T> {
    this.#assertOpen();
    try {
      return call();
    } catch (error) {
      throw mapped(what, this.path, errnoOf(error), error);
    }
  }

  /** As `run`, and counts the calls under way. */
  #call<T>(what: string, call: (done: Answer<T>) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#assertOpen();
      call((error, value) => {
        if (--this.#calls === 0) this.#drained?.();
        if (error === null) resolve(value);
        else reject(mapped(what, this.path, errnoOf(error), error));
      });
      this.#calls++;
    });
  }

  #assertOpen(): void {
    if (this.#closing === undefined) return;
    throw new DivanError('CLOSED', `${this.path} was closed before this call`, { path: this.path });
  }
}

function nothingWritten(): NodeJS.ErrnoException {
  return Object.assign(new Error('nothing was written'), { code: 'ENOSPC' });
}

function identityOf(stats: fs.Stats): string {
  return `${stats.dev}:${stats.ino}`;
}

function errnoOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string')
    return error.code;
  return 'unknown';
}

/** Loaded when the first lock is taken: worker threads never lock, and need no native addon. */
function flock(fd: number): void {
  loadFsExt().flockSync(fd, 'exnb');
}

function loadFsExt(): { flockSync(fd: number, flags: 'exnb'): void } {
  try {
    return createRequire(import.meta.url)('fs-ext');
  } catch (cause) {
    throw Object.assign(new Error('fs-ext can not be loaded', { cause }), { code: 'ENOTBUILT' });
  }
}

async function openFile(
  path: string,
  mode: OpenMode,
  like: string | undefined,
  blocks: Blocking,
): Promise<StorageFile> {
  // What is put beside the file or in its place must not end beside a link to it or in the place of that.
  const place = mode === 'write' ? await withoutLink(path) : path;
  const open = (done: Answer<number>) => fs.open(place, FLAGS[mode], 0o644, done);
  const file = new NodeFile(place, await run('open', place, open), blocks);
  try {
    if (like !== undefined) await file.resemble(await stat(like));
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function withoutLink(path: string): Promise<string> {
  const examine = (done: Answer<fs.Stats>) => fs.lstat(path, done);
  if (!(await run('examine', path, examine)).isSymbolicLink()) return path;
  return run('follow the link', path, (done: Answer<string>) => fs.realpath(path, done));
}

export const nodeStorage: Storage = {
  open: (path, mode, like) => openFile(path, mode, like, 'nothing'),
  async identity(path) {
    try {
      return identityOf(await stat(path));
    } catch (error) {
      if (isDivanError(error, 'NOT_FOUND')) return undefined;
      throw error;
    }
  },
  rename(from, to) {
    return run('rename', from, (done: Answer<void>) => fs.rename(from, to, done));
  },
  link(from, to) {
    return run('link', to, (done: Answer<void>) => fs.link(from, to, done));
  },
  remove(path) {
    return run('remove', path, (done: Answer<void>) => fs.unlink(path, done));
  },
  async makeDirectory(path) {
    const what = 'make the directory';
    try {
      await run(what, path, (done: Answer<void>) => fs.mkdir(path, 0o755, done));
      return true;
    } catch (error) {
      if (isDivanError(error, 'EXISTS') && (await stat(path)).isDirectory()) return false;
      throw error;
    }
  },
  removeDirectory(path) {
    return run('remove the directory', path, (done: Answer<void>) => fs.rmdir(path, done));
  },
  async syncDirectory(path) {
    const open = (done: Answer<number>) => fs.open(path, 'r', done);
    const fd = await run('open the directory', path, open);
    try {
      await run('sync the directory', path, (done: Answer<void>) => fs.fsync(fd, done));
    } finally {
      await run('close the directory', path, (done: Answer<void>) => fs.close(fd, done));
    }
  },
  list(path) {
    return run('list', path, (done: Answer<string[]>) => fs.readdir(path, done));
  },
  async freeBytes(path) {
    const examine = (done: Answer<fs.StatsFs>) => fs.statfs(path, done);
    const { bavail, bsize } = await run('examine', path, examine);
    return bavail * bsize;
  },
};

/**
 * For worker threads that do nothing but copy: reading blocks the thread, and only writing and syncing go on beside it. What is
 * in the system's cache is read a seventh faster than with a hand-over to another thread and back.
 */
export const blockingStorage: Storage = {
  ...nodeStorage,
  open: (path, mode, like) => openFile(path, mode, like, 'reading'),
};

/**
 * For worker threads that copy while the process serves others: writing and syncing block the thread as well. The process has few threads
 * for the calls of all that do not block, and a sync of much that was written would keep those waiting that requests wait for.
 */
export const backgroundStorage: Storage = {
  ...nodeStorage,
  open: (path, mode, like) => openFile(path, mode, like, 'all'),
};

function stat(path: string): Promise<fs.Stats> {
  return run('examine', path, (done: Answer<fs.Stats>) => fs.stat(path, done));
}
