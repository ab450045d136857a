/**
 * A disk that can lose power: a `Storage` that records every operation, and builds from any prefix of the record the states in
 * which a real disk might be found afterwards.
 *
 * What a state may look like ("hostile POSIX"): an operation on a file is certain only once a sync of that file that was
 * called after it has returned. Of the others each write is lost, whole, or torn into any subset of its 512-byte sectors,
 * independently of its neighbours; the file may have grown without its data, and then shows zeros, garbage, or bytes that
 * stood elsewhere in it; each truncation happened or not. A name made, removed or changed is certain only once its
 * directory was synced; of the others any subset happened. After a sync that failed the file reads well until the power fails,
 * but what it should have made durable stays uncertain until it is written again, as on ext4.
 */

import { dirname } from 'node:path';
import { DivanError } from '../../engine/errors.js';
import type { OpenMode, Storage, StorageFile } from '../../engine/file/storage.js';
import { CrashBuilder } from './crash-builder.js';

/** What can happen to a disk; a test that never met one of them is void. */
export const CRASH_CLASSES = [
  'dropped',
  'whole',
  'torn',
  'reordered',
  'zero-extended',
  'garbage-extended',
  'stale-extended',
  'lost-name',
  'lost-rename',
] as const;
export type CrashClass = (typeof CRASH_CLASSES)[number];

export type FileOp =
  | {
      readonly kind: 'write';
      readonly inode: number;
      readonly pos: number;
      readonly bytes: Uint8Array;
      lost?: boolean;
    }
  | { readonly kind: 'truncate'; readonly inode: number; readonly length: number; lost?: boolean };
export type NameOp =
  | { readonly kind: 'name'; readonly path: string; readonly inode: number }
  | { readonly kind: 'unname'; readonly path: string }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string };
export type Op =
  | FileOp
  | NameOp
  /** Logged when it has returned; covers what was logged before `from`. */
  | { readonly kind: 'sync'; readonly inode: number; readonly from: number }
  | { readonly kind: 'syncDirectory'; readonly path: string; readonly from: number }
  | { readonly kind: 'mark'; readonly label: string };

export interface Inode {
  readonly id: number;
  bytes: Buffer;
  length: number;
  lockedBy: SimulatedFile | undefined;
}

/** Thrown by every operation once the power is off. */
export class PowerOff extends Error {}

class SimulatedFile implements StorageFile {
  readonly path: string;
  readonly #disk: SimulatedDisk;
  readonly #inode: Inode;

  constructor(disk: SimulatedDisk, path: string, inode: Inode) {
    this.#disk = disk;
    this.path = path;
    this.#inode = inode;
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    const { bytes, length } = this.#inode;
    const count = Math.max(0, Math.min(into.length, length - position));
    into.set(bytes.subarray(position, position + count));
    return count;
  }

  async write(bytes: Uint8Array, position: number): Promise<number> {
    this.#disk.record({
      kind: 'write',
      inode: this.#inode.id,
      pos: position,
      bytes: bytes.slice(),
    });
    writeInto(this.#inode, position, bytes);
    return bytes.length;
  }

  async sync(): Promise<void> {
    await this.#disk.sync(this.#inode.id);
  }

  async truncate(length: number): Promise<void> {
    this.#disk.record({ kind: 'truncate', inode: this.#inode.id, length });
    truncateTo(this.#inode, length);
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

export function writeInto(inode: Inode, position: number, bytes: Uint8Array): void {
  const end = position + bytes.length;
  if (end > inode.bytes.length) {
    const larger = Buffer.alloc(Math.max(end, inode.bytes.length * 2));
    larger.set(inode.bytes.subarray(0, inode.length));
    inode.bytes = larger;
  }
  inode.bytes.set(bytes, position);
  inode.length = Math.max(inode.length, end);
}

export function truncateTo(inode: Inode, length: number): void {
  if (length > inode.bytes.length) writeInto(inode, length, new Uint8Array(0));
  inode.bytes.fill(0, Math.min(length, inode.length));
  inode.length = length;
}

/** A state in which the disk might be found. */
export interface CrashState {
  readonly disk: SimulatedDisk;
  readonly classes: ReadonlySet<CrashClass>;
  /** The same for the same names and contents. */
  readonly fingerprint: string;
}

export class SimulatedDisk implements Storage {
  readonly ops: Op[] = [];
  readonly #inodes: Inode[] = [];
  #names = new Map<string, number>();
  readonly #directories = new Set<string>(['/', '.']);
  /** Which sync, counted from 0 over all files, rejects. */
  failSync = -1;
  #syncs = 0;
  /** How many turns of the event loop a sync takes. */
  syncTurns = 3;
  /** After so many operations the power is off. */
  haltAfter = Number.POSITIVE_INFINITY;

  record(op: Op): void {
    if (this.ops.length >= this.haltAfter) throw new PowerOff('the power is off');
    this.ops.push(op);
  }

  /** The next sync of any file rejects. */
  failNextSync(): void {
    this.failSync = this.#syncs;
  }

  /** Puts a label into the record: what the world outside was told. */
  mark(label: string): void {
    this.record({ kind: 'mark', label });
  }

  /** Puts a file with durable content on the disk, without a record. */
  place(path: string, content: Buffer): void {
    const inode = this.#newInode();
    inode.bytes = content;
    inode.length = content.length;
    this.#names.set(path, inode.id);
  }

  get names(): ReadonlyMap<string, number> {
    return this.#names;
  }

  content(path: string): Buffer | undefined {
    const inode = this.#inodes[this.#names.get(path) ?? -1];
    return inode?.bytes.subarray(0, inode.length);
  }

  async sync(id: number): Promise<void> {
    const from = this.ops.length;
    await this.#turns();
    if (this.#syncs++ === this.failSync) {
      // The pages are clean now: no later sync writes them, unless they are written again.
      for (const op of this.ops.slice(0, from)) {
        if (
          (op.kind === 'write' || op.kind === 'truncate') &&
          op.inode === id &&
          !this.#isSynced(id, op)
        )
          op.lost = true;
      }
      throw new DivanError('IO', 'a planted failure of sync');
    }
    this.record({ kind: 'sync', inode: id, from });
  }

  #isSynced(id: number, op: FileOp): boolean {
    const at = this.ops.indexOf(op);
    return this.ops.some((other) => other.kind === 'sync' && other.inode === id && other.from > at);
  }

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    const existing = this.#inodes[this.#names.get(path) ?? -1];
    if (mode !== 'create') return new SimulatedFile(this, path, existing ?? missing(path));
    if (existing !== undefined) throw new DivanError('EXISTS', `${path} is there`);
    const inode = this.#newInode();
    this.record({ kind: 'name', path, inode: inode.id });
    this.#names.set(path, inode.id);
    return new SimulatedFile(this, path, inode);
  }

  async identity(path: string): Promise<string | undefined> {
    const id = this.#names.get(path);
    return id === undefined ? undefined : String(id);
  }

  async rename(from: string, to: string): Promise<void> {
    const id = this.#names.get(from) ?? missing(from);
    this.record({ kind: 'rename', from, to });
    this.#names.delete(from);
    this.#names.set(to, id);
  }

  async link(from: string, to: string): Promise<void> {
    const id = this.#names.get(from) ?? missing(from);
    if (this.#names.has(to)) throw new DivanError('EXISTS', `${to} is there`);
    this.record({ kind: 'name', path: to, inode: id });
    this.#names.set(to, id);
  }

  async remove(path: string): Promise<void> {
    if (!this.#names.has(path)) missing(path);
    this.record({ kind: 'unname', path });
    this.#names.delete(path);
  }

  async makeDirectory(path: string): Promise<boolean> {
    if (this.#directories.has(path)) return false;
    this.#directories.add(path);
    return true;
  }

  async removeDirectory(path: string): Promise<void> {
    this.#directories.delete(path);
  }

  async syncDirectory(path: string): Promise<void> {
    const from = this.ops.length;
    await this.#turns();
    this.record({ kind: 'syncDirectory', path, from });
  }

  async list(path: string): Promise<string[]> {
    return [...this.#names.keys()]
      .filter((name) => dirname(name) === path)
      .map((name) => name.slice(path.length + 1));
  }

  async freeBytes(): Promise<number> {
    return Number.MAX_SAFE_INTEGER;
  }

  /** A state after a crash right before operation `at`. `base` is what the disk held before the first operation. */
  crash(at: number, random: () => number, base?: SimulatedDisk): CrashState {
    return new CrashBuilder(this.ops.slice(0, at), random, base).build();
  }

  /** Syncs take a while: what is not awaited happens before they return. */
  async #turns(): Promise<void> {
    for (let turn = 0; turn < this.syncTurns; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #newInode(): Inode {
    const inode: Inode = {
      id: this.#inodes.length,
      bytes: Buffer.alloc(0),
      length: 0,
      lockedBy: undefined,
    };
    this.#inodes.push(inode);
    return inode;
  }
}

function missing(path: string): never {
  throw new DivanError('NOT_FOUND', `there is no ${path}`);
}
