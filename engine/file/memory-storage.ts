/**
 * The storage seam in memory: for tests and for shards that need not outlive the process. `sync` does nothing.
 */
import { dirname } from 'node:path';
import { DivanError } from '../errors.js';
import type { OpenMode, Storage, StorageFile } from './storage.js';

/** The bytes of a file, kept alive by names and handles. */
interface Inode {
  readonly id: number;
  bytes: Buffer;
  length: number;
  lockedBy: MemoryFile | undefined;
}

class MemoryFile implements StorageFile {
  readonly path: string;
  readonly #inode: Inode;

  constructor(path: string, inode: Inode) {
    this.path = path;
    this.#inode = inode;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    const inode = this.#inode;
    const count = Math.max(0, Math.min(into.length, inode.length - position));
    into.set(inode.bytes.subarray(position, position + count));
    return count;
  }

  async write(bytes: Uint8Array, position: number): Promise<number> {
    const inode = this.#inode;
    const end = position + bytes.length;
    if (end > inode.bytes.length) {
      const larger = Buffer.alloc(Math.max(end, inode.bytes.length * 2));
      larger.set(inode.bytes.subarray(0, inode.length));
      inode.bytes = larger;
    }
    inode.bytes.set(bytes, position);
    inode.length = Math.max(inode.length, end);
    return bytes.length;
  }

  async sync(): Promise<void> {}

  async truncate(length: number): Promise<void> {
    this.#inode.bytes.fill(0, Math.min(length, this.#inode.length));
    this.#inode.length = length;
  }

  async size(): Promise<number> {
    return this.#inode.length;
  }

  async identity(): Promise<string> {
    return String(this.#inode.id);
  }

  tryLock(): boolean {
    this.#inode.lockedBy ??= this;
    return this.#inode.lockedBy === this;
  }

  async close(): Promise<void> {
    if (this.#inode.lockedBy === this) this.#inode.lockedBy = undefined;
  }
}

export class MemoryStorage implements Storage {
  readonly #files = new Map<string, Inode>();
  readonly #directories = new Set<string>(['.', '/']);
  #inodes = 0;

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    const existing = this.#files.get(path);
    if (mode !== 'create') return new MemoryFile(path, existing ?? missing(path));
    this.#assertFree(path);
    const inode: Inode = {
      id: ++this.#inodes,
      bytes: Buffer.alloc(0),
      length: 0,
      lockedBy: undefined,
    };
    this.#files.set(path, inode);
    return new MemoryFile(path, inode);
  }

  async identity(path: string): Promise<string | undefined> {
    const inode = this.#files.get(path);
    return inode === undefined ? undefined : String(inode.id);
  }

  async rename(from: string, to: string): Promise<void> {
    const inode = this.#files.get(from) ?? missing(from);
    this.#files.delete(from);
    this.#files.set(to, inode);
  }

  async link(from: string, to: string): Promise<void> {
    const inode = this.#files.get(from) ?? missing(from);
    this.#assertFree(to);
    this.#files.set(to, inode);
  }

  async remove(path: string): Promise<void> {
    if (!this.#files.delete(path)) missing(path);
  }

  async makeDirectory(path: string): Promise<boolean> {
    if (this.#directories.has(path)) return false;
    if (!this.#directories.has(dirname(path))) missing(dirname(path));
    this.#directories.add(path);
    return true;
  }

  async removeDirectory(path: string): Promise<void> {
    if (!this.#directories.delete(path)) missing(path);
  }

  async syncDirectory(_path: string): Promise<void> {}

  async list(path: string): Promise<string[]> {
    const prefix = path === '/' ? '/' : `${path}/`;
    return [...this.#files.keys(), ...this.#directories]
      .filter((name) => name.startsWith(prefix) && !name.slice(prefix.length).includes('/'))
      .map((name) => name.slice(prefix.length))
      .filter((name) => name !== '');
  }

  async freeBytes(_path: string): Promise<number> {
    return Number.MAX_SAFE_INTEGER;
  }

  #assertFree(path: string): void {
    if (!this.#files.has(path)) return;
    throw new DivanError('EXISTS', `can not make ${path}: it is there already`, { path });
  }
}

function missing(path: string): never {
  throw new DivanError('NOT_FOUND', `can not open ${path}: there is no such file`, { path });
}
