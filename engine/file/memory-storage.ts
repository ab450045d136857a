/**
 * The storage seam in memory: for tests and for shards that need not outlive the process. `sync` does nothing.
 *
 * As on a disk, a file lives as long as it has a name or an open handle, and a directory must be there before a name can be
 * made in it. The directories `.` and `/` are always there.
 */
import { basename, dirname, normalize } from 'node:path';
import { DivanError, type ErrorCode } from '../errors.js';
import type { OpenMode, Storage, StorageFile } from './storage.js';

const CHUNK_BYTES = 64 * 1024;

/** The bytes of a file, in chunks, so that growth copies nothing. A chunk that is missing holds zeros. */
class Content {
  length = 0;
  #chunks: (Uint8Array | undefined)[] = [];

  read(into: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(into.length, this.length - position));
    for (let done = 0; done < count; ) {
      const { index, offset } = placeOf(position + done);
      const step = Math.min(count - done, CHUNK_BYTES - offset);
      const chunk = this.#chunks[index];
      if (chunk === undefined) into.fill(0, done, done + step);
      else into.set(chunk.subarray(offset, offset + step), done);
      done += step;
    }
    return count;
  }

  write(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length; ) {
      const { index, offset } = placeOf(position + done);
      const step = Math.min(bytes.length - done, CHUNK_BYTES - offset);
      this.#chunkAt(index).set(bytes.subarray(done, done + step), offset);
      done += step;
    }
    if (bytes.length > 0) this.length = Math.max(this.length, position + bytes.length);
  }

  truncate(length: number): void {
    const { index, offset } = placeOf(length);
    this.#chunks[index]?.fill(0, offset);
    if (this.#chunks.length > index + 1) this.#chunks.length = index + 1;
    this.length = length;
  }

  #chunkAt(index: number): Uint8Array {
    const present = this.#chunks[index];
    if (present !== undefined) return present;
    while (this.#chunks.length < index) this.#chunks.push(undefined);
    const chunk = new Uint8Array(CHUNK_BYTES);
    this.#chunks[index] = chunk;
    return chunk;
  }
}

function placeOf(position: number): { index: number; offset: number } {
  const index = Math.floor(position / CHUNK_BYTES);
  return { index, offset: position - index * CHUNK_BYTES };
}

/** A file: kept alive by its names and handles. */
interface Inode {
  readonly id: number;
  readonly content: Content;
  lockedBy: MemoryFile | undefined;
}

class MemoryFile implements StorageFile {
  path: string;
  readonly #inode: Inode;
  readonly #writable: boolean;
  #closed = false;

  constructor(path: string, inode: Inode, writable: boolean) {
    this.path = path;
    this.#inode = inode;
    this.#writable = writable;
  }

  renamed(path: string): void {
    this.path = path;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    this.#assertOpen();
    return this.#inode.content.read(into, position);
  }

  async write(bytes: Uint8Array, position: number): Promise<number> {
    this.#assertWritable();
    this.#inode.content.write(bytes, position);
    return bytes.length;
  }

  async sync(): Promise<void> {
    this.#assertOpen();
  }

  async truncate(length: number): Promise<void> {
    this.#assertWritable();
    this.#inode.content.truncate(length);
  }

  async size(): Promise<number> {
    this.#assertOpen();
    return this.#inode.content.length;
  }

  async identity(): Promise<string> {
    this.#assertOpen();
    return String(this.#inode.id);
  }

  tryLock(): boolean {
    this.#assertOpen();
    this.#inode.lockedBy ??= this;
    return this.#inode.lockedBy === this;
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#inode.lockedBy === this) this.#inode.lockedBy = undefined;
  }

  #assertOpen(): void {
    if (!this.#closed) return;
    throw new DivanError('CLOSED', `${this.path} was closed before this call`, { path: this.path });
  }

  #assertWritable(): void {
    this.#assertOpen();
    if (!this.#writable) fail('IO', 'write', this.path, 'EBADF', 'it was opened for reading only');
  }
}

export class MemoryStorage implements Storage {
  readonly #files = new Map<string, Inode>();
  readonly #directories = new Set<string>(['.', '/']);
  #inodes = 0;

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    const name = this.#place('open', path);
    if (mode !== 'create') return new MemoryFile(path, this.#file('open', path), mode === 'write');
    if (this.#isTaken(name)) alreadyThere('open', path);
    const inode: Inode = { id: ++this.#inodes, content: new Content(), lockedBy: undefined };
    this.#files.set(name, inode);
    return new MemoryFile(path, inode, true);
  }

  async identity(path: string): Promise<string | undefined> {
    const name = nameOf(path);
    if (this.#directories.has(name)) return `directory:${name}`;
    const inode = this.#files.get(name);
    return inode === undefined ? undefined : String(inode.id);
  }

  async rename(from: string, to: string): Promise<void> {
    const inode = this.#file('rename', from);
    const name = this.#place('rename', to);
    if (this.#directories.has(name)) isDirectory('rename', to);
    if (this.#files.get(name) === inode) return;
    this.#files.delete(nameOf(from));
    this.#files.set(name, inode);
  }

  async link(from: string, to: string): Promise<void> {
    const inode = this.#file('link', from);
    const name = this.#place('link', to);
    if (this.#isTaken(name)) alreadyThere('link', to);
    this.#files.set(name, inode);
  }

  async remove(path: string): Promise<void> {
    this.#file('remove', path);
    this.#files.delete(nameOf(path));
  }

  async makeDirectory(path: string): Promise<boolean> {
    const name = this.#place('make the directory', path);
    if (this.#directories.has(name)) return false;
    if (this.#files.has(name)) alreadyThere('make the directory', path);
    this.#directories.add(name);
    return true;
  }

  async removeDirectory(path: string): Promise<void> {
    const what = 'remove the directory';
    const name = this.#directory(what, path);
    if (this.#namesIn(name).length > 0) {
      fail('IO', what, path, 'ENOTEMPTY', 'the directory is not empty (ENOTEMPTY); empty it first');
    }
    this.#directories.delete(name);
  }

  async syncDirectory(path: string): Promise<void> {
    this.#directory('open the directory', path);
  }

  async list(path: string): Promise<string[]> {
    return this.#namesIn(this.#directory('list', path));
  }

  async freeBytes(path: string): Promise<number> {
    const name = nameOf(path);
    if (!this.#isTaken(name)) notThere('examine', path);
    return Number.MAX_SAFE_INTEGER;
  }

  #namesIn(directory: string): string[] {
    return [...this.#files.keys(), ...this.#directories]
      .filter((name) => dirname(name) === directory && name !== directory)
      .map((name) => basename(name));
  }

  #isTaken(name: string): boolean {
    return this.#files.has(name) || this.#directories.has(name);
  }

  #file(what: string, path: string): Inode {
    const name = nameOf(path);
    if (this.#directories.has(name)) isDirectory(what, path);
    return this.#files.get(name) ?? notThere(what, path);
  }

  #directory(what: string, path: string): string {
    const name = nameOf(path);
    return this.#directories.has(name) ? name : notThere(what, path);
  }

  /** The name that a path stands for. Its directory must be there. */
  #place(what: string, path: string): string {
    const name = nameOf(path);
    return this.#directories.has(dirname(name)) ? name : notThere(what, path);
  }
}

/** One spelling for each name: `a//b/./c/` is `a/b/c`. */
function nameOf(path: string): string {
  const normal = normalize(path);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

function fail(code: ErrorCode, what: string, path: string, errno: string, reason: string): never {
  throw new DivanError(code, `can not ${what} ${path}: ${reason}`, { path, errno });
}

function notThere(what: string, path: string): never {
  fail('NOT_FOUND', what, path, 'ENOENT', 'there is no such file');
}

function alreadyThere(what: string, path: string): never {
  fail('EXISTS', what, path, 'EEXIST', 'it is there already');
}

function isDirectory(what: string, path: string): never {
  fail('IO', what, path, 'EISDIR', 'it is a directory (EISDIR); name a file');
}
