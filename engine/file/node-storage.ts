/**
 * The storage seam over `node:fs`: the only file of the engine that imports it.
 *
 * Plain callback calls on a file descriptor cost less than half of what `FileHandle` does for a read of a tree node.
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { DivanError, type ErrorCode } from '../errors.js';
import type { OpenMode, Storage, StorageFile } from './storage.js';

const FLAGS: Readonly<Record<OpenMode, string>> = { read: 'r', write: 'r+', create: 'wx+' };

const CODES: ReadonlyMap<string, ErrorCode> = new Map<string, ErrorCode>([
  ['ENOENT', 'NOT_FOUND'],
  ['ENOTDIR', 'NOT_FOUND'],
  ['EEXIST', 'EXISTS'],
  ['ENOSPC', 'NO_SPACE'],
  ['EDQUOT', 'NO_SPACE'],
  ['EFBIG', 'NO_SPACE'],
]);

const EXPLANATIONS: Readonly<Partial<Record<ErrorCode, string>>> = {
  NOT_FOUND: 'there is no such file',
  EXISTS: 'it is there already',
  NO_SPACE: 'the disk or the quota is full; free some space and run it again',
};

type Done = (error: NodeJS.ErrnoException | null) => void;

/** Runs a callback call of `node:fs` and maps its error. */
function run(what: string, path: string, call: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error === null ? resolve() : reject(mapped(what, path, error))));
  });
}

function mapped(what: string, path: string, error: NodeJS.ErrnoException): DivanError {
  const errno = error.code ?? 'unknown';
  const code = CODES.get(errno) ?? 'IO';
  const reason = EXPLANATIONS[code] ?? `the system says ${errno}`;
  return new DivanError(code, `can not ${what} ${path}: ${reason}`, { path, errno }, error);
}

class NodeFile implements StorageFile {
  readonly path: string;
  readonly #fd: number;

  constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  read(into: Uint8Array, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#fd, into, 0, into.length, position, (error, count) => {
        if (error === null) resolve(count);
        else reject(mapped('read', this.path, error));
      });
    });
  }

  write(bytes: Uint8Array, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.write(this.#fd, bytes, 0, bytes.length, position, (error, count) => {
        if (error === null) resolve(count);
        else reject(mapped('write', this.path, error));
      });
    });
  }

  sync(): Promise<void> {
    return run('sync', this.path, (done) => fs.fdatasync(this.#fd, done));
  }

  truncate(length: number): Promise<void> {
    return run('truncate', this.path, (done) => fs.ftruncate(this.#fd, length, done));
  }

  async size(): Promise<number> {
    return (await this.#stat()).size;
  }

  async identity(): Promise<string> {
    return identityOf(await this.#stat());
  }

  tryLock(): boolean {
    try {
      flock(this.#fd);
      return true;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK') return false;
      throw mapped('lock', this.path, Object.assign(new Error('flock'), { code: errno }));
    }
  }

  close(): Promise<void> {
    return run('close', this.path, (done) => fs.close(this.#fd, done));
  }

  #stat(): Promise<fs.Stats> {
    return new Promise((resolve, reject) => {
      fs.fstat(this.#fd, (error, stats) => {
        if (error === null) resolve(stats);
        else reject(mapped('examine', this.path, error));
      });
    });
  }
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
  const fsExt: { flockSync(fd: number, flags: 'exnb'): void } = createRequire(import.meta.url)(
    'fs-ext',
  );
  fsExt.flockSync(fd, 'exnb');
}

export const nodeStorage: Storage = {
  open(path, mode) {
    return new Promise((resolve, reject) => {
      fs.open(path, FLAGS[mode], 0o644, (error, fd) => {
        if (error === null) resolve(new NodeFile(path, fd));
        else reject(mapped('open', path, error));
      });
    });
  },
  identity(path) {
    return new Promise((resolve, reject) => {
      fs.stat(path, (error, stats) => {
        if (error === null) resolve(identityOf(stats));
        else if (error.code === 'ENOENT') resolve(undefined);
        else reject(mapped('examine', path, error));
      });
    });
  },
  rename(from, to) {
    return run('rename', from, (done) => fs.rename(from, to, done));
  },
  link(from, to) {
    return run('link', to, (done) => fs.link(from, to, done));
  },
  remove(path) {
    return run('remove', path, (done) => fs.unlink(path, done));
  },
  makeDirectory(path) {
    return new Promise((resolve, reject) => {
      fs.mkdir(path, (error) => {
        if (error === null) resolve(true);
        else if (error.code === 'EEXIST') resolve(false);
        else reject(mapped('make the directory', path, error));
      });
    });
  },
  removeDirectory(path) {
    return run('remove the directory', path, (done) => fs.rmdir(path, done));
  },
  async syncDirectory(path) {
    const fd = await new Promise<number>((resolve, reject) => {
      fs.open(path, 'r', (error, opened) => {
        if (error === null) resolve(opened);
        else reject(mapped('open the directory', path, error));
      });
    });
    try {
      await run('sync the directory', path, (done) => fs.fsync(fd, done));
    } finally {
      await run('close the directory', path, (done) => fs.close(fd, done));
    }
  },
  list(path) {
    return new Promise((resolve, reject) => {
      fs.readdir(path, (error, names) => {
        if (error === null) resolve(names);
        else reject(mapped('list', path, error));
      });
    });
  },
  freeBytes(path) {
    return new Promise((resolve, reject) => {
      fs.statfs(path, (error, stats) => {
        if (error === null) resolve(stats.bavail * stats.bsize);
        else reject(mapped('examine', path, error));
      });
    });
  },
};
