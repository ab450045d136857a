/** A handle of a file on a `SimulatedDisk`. */
import { DivanError } from '../../engine/errors.js';
import type { StorageFile } from '../../engine/file/storage.js';
import { type FileInode, type LogEntry, NEVER, refuse } from './disk-record.js';

/** What a file needs of its disk. */
export interface FileDisk {
  log(entry: LogEntry): number;
  turns(of: 'read' | 'write' | 'sync'): Promise<void>;
  assertRunning(): void;
  length(): number;
  syncFails(): boolean;
}

export class SimulatedFile implements StorageFile {
  readonly path: string;
  readonly #inode: FileInode;
  readonly #writable: boolean;
  readonly #disk: FileDisk;
  #closed = false;

  constructor(path: string, inode: FileInode, writable: boolean, disk: FileDisk) {
    this.path = path;
    this.#inode = inode;
    this.#writable = writable;
    this.#disk = disk;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    this.#assertOpen();
    await this.#disk.turns('read');
    return this.#inode.cache.read(into, position);
  }

  async write(bytes: Uint8Array, position: number): Promise<number> {
    this.#assertOpen();
    if (!this.#writable) refuse('IO', 'EBADF', 'write', this.path);
    if (bytes.length === 0) return 0;
    const { path } = this;
    const index = this.#disk.log({ kind: 'write', path, position, length: bytes.length });
    const copy = Uint8Array.prototype.slice.call(bytes);
    const timing = { index, doneAt: NEVER, durableAt: NEVER };
    const op = { kind: 'write' as const, position, bytes: copy, ...timing };
    this.#inode.add(op);
    this.#inode.cache.write(bytes, position);
    await this.#disk.turns('write');
    op.doneAt = this.#disk.length();
    return bytes.length;
  }

  async truncate(length: number): Promise<void> {
    this.#assertOpen();
    if (!this.#writable) refuse('IO', 'EINVAL', 'truncate', this.path);
    const index = this.#disk.log({ kind: 'truncate', path: this.path, length });
    const op = { kind: 'truncate' as const, length, index, doneAt: NEVER, durableAt: NEVER };
    this.#inode.add(op);
    this.#inode.cache.truncate(length);
    await this.#disk.turns('write');
    op.doneAt = this.#disk.length();
  }

  async sync(): Promise<void> {
    this.#assertOpen();
    const covered = this.#inode.covered();
    this.#disk.log({ kind: 'sync', path: this.path });
    await this.#disk.turns('sync');
    if (this.#disk.syncFails()) {
      this.#disk.log({ kind: 'sync-failed', path: this.path });
      this.#inode.clean(covered);
      refuse('IO', 'EIO', 'sync', this.path);
    }
    this.#inode.synced(covered, this.#disk.log({ kind: 'synced', path: this.path }));
  }

  async size(): Promise<number> {
    this.#assertOpen();
    return this.#inode.cache.length;
  }

  async identity(): Promise<string> {
    this.#assertOpen();
    return this.#inode.id.toString();
  }

  /** The record goes on with the name under which it was opened. */
  renamed(): void {}

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
    this.#disk.assertRunning();
    if (!this.#closed) return;
    throw new DivanError('CLOSED', `${this.path} was closed before this call`, { path: this.path });
  }
}
