/** The storage of one process on a machine that can lose power: what the process awaits when it dies never comes. */
import type { Storage, StorageFile } from '../../engine/file/storage.js';
import { CrashError } from './simulated-disk.js';

/** The process. */
export interface Mortal {
  readonly isDead: boolean;
  die(): void;
}

export function storageOf(storage: Storage, process: Mortal): Storage {
  const alive = aliveIn(process);
  const open: Storage['open'] = (path, mode) =>
    alive(async () => fileOf(await storage.open(path, mode), process));
  return {
    open,
    identity: (path) => alive(() => storage.identity(path)),
    rename: (from, to) => alive(() => storage.rename(from, to)),
    link: (from, to) => alive(() => storage.link(from, to)),
    remove: (path) => alive(() => storage.remove(path)),
    makeDirectory: (path) => alive(() => storage.makeDirectory(path)),
    removeDirectory: (path) => alive(() => storage.removeDirectory(path)),
    syncDirectory: (path) => alive(() => storage.syncDirectory(path)),
    list: (path) => alive(() => storage.list(path)),
    freeBytes: (path) => alive(() => storage.freeBytes(path)),
  };
}

function fileOf(file: StorageFile, process: Mortal): StorageFile {
  const alive = aliveIn(process);
  return {
    path: file.path,
    read: (into, position) => alive(() => file.read(into, position)),
    write: (bytes, position) => alive(() => file.write(bytes, position)),
    sync: () => alive(() => file.sync()),
    truncate: (length) => alive(() => file.truncate(length)),
    size: () => alive(() => file.size()),
    identity: () => alive(() => file.identity()),
    tryLock: () => !process.isDead && file.tryLock(),
    renamed: (path) => file.renamed(path),
    close: () => alive(() => file.close()),
  };
}

/** Where the power fails in the middle of a call, that is when the process dies. */
function aliveIn(process: Mortal): <T>(call: () => Promise<T>) => Promise<T> {
  return async (call) => {
    if (process.isDead) return never();
    try {
      const result = await call();
      return process.isDead ? never() : result;
    } catch (error) {
      if (error instanceof CrashError) process.die();
      if (process.isDead) return never();
      throw error;
    }
  };
}

export function never<T>(): Promise<T> {
  return new Promise(() => {});
}
