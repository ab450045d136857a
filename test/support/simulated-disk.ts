/**
 * A disk that can lose power: a `Storage` that logs every operation, and gives the states in which a real disk might be found
 * after a crash at any point of the log (`crash-states.ts` says what they may look like).
 *
 * A running system reads what it wrote. A sync makes durable what was done when it was called, and does so when it resolves,
 * not before; a write that was not awaited is not covered. A sync of a file does not make its name durable. After a sync that
 * failed the file reads well until the power fails, but what it should have made durable stays uncertain for ever, unless it is
 * written again, as on ext4.
 */
import { posix } from 'node:path';
import type { OpenMode, Storage, StorageFile } from '../../engine/file/storage.js';
import { CrashPoint, type CrashState, type DiskImage } from './crash-states.js';
import {
  DirectoryInode,
  type EntryOp,
  FileInode,
  type LogEntry,
  type LogKind,
  NEVER,
  refuse,
} from './disk-record.js';
import { type Hash, PageImage } from './page-image.js';
import { SimulatedFile } from './simulated-file.js';

export { CRASH_CLASSES, type CrashClass, CrashPoint, type CrashState } from './crash-states.js';

/** What every operation of a process throws once it was stopped. No `DivanError`: nothing is to handle it. */
export class CrashError extends Error {
  constructor() {
    super('the process was stopped here');
    this.name = 'CrashError';
  }
}

const ROOT = 0;
const FREE_BYTES = 2 ** 40;

export class SimulatedDisk implements Storage {
  /** What happened so far. A point is a length of it: a crash at point `k` comes before `ops[k]`. */
  readonly ops: LogEntry[] = [];
  /** Called before each entry of the log is made. */
  hook: ((index: number, kind: LogKind, path: string) => void) | undefined;
  /** Once the log is so long, every call throws `CrashError`, as if the process had been killed, until `restart`. */
  haltAfter = NEVER;
  /** Which sync of a file, and which of a directory, rejects: counted from 0. */
  failSync = -1;
  failDirectorySync = -1;
  /** How many turns of the event loop a sync, a write and a read take. What is not awaited happens meanwhile. */
  syncTurns = 3;
  writeTurns = 0;
  readTurns = 0;
  /** What these wait for in the place of turns; undefined for nothing. */
  pause: ((of: 'read' | 'write' | 'sync') => Promise<void> | undefined) | undefined;
  #syncs = 0;
  #directorySyncs = 0;
  /** Rises with each restart: handles of the process before are dead. */
  #life = 0;
  #inodes = new Map<number, FileInode | DirectoryInode>();
  #nextInode: number;
  #point: CrashPoint | undefined;

  constructor(image?: DiskImage) {
    this.#nextInode = image?.nextInode ?? ROOT + 1;
    const directories = image?.directories ?? new Map([[ROOT, new Map()]]);
    for (const [id, entries] of directories) this.#inodes.set(id, new DirectoryInode(id, entries));
    for (const [id, content] of image?.files ?? []) {
      this.#inodes.set(id, new FileInode(id, content));
    }
  }

  // What a test does to the disk.

  /** Puts a mark into the log: from here on a client has been told so. */
  ack(tag: string): void {
    this.#log({ kind: 'ack', path: tag });
  }

  /** The next sync of any file rejects. */
  failNextSync(): void {
    this.failSync = this.#syncs;
  }

  /** The next sync of any directory rejects. */
  failNextDirectorySync(): void {
    this.failDirectorySync = this.#directorySyncs;
  }

  /** The process is killed and a new one may begin: the power stays on, so what was written can be read. */
  restart(): void {
    this.#life++;
    this.haltAfter = NEVER;
    for (const inode of this.#inodes.values())
      if (inode.kind === 'file') inode.lockedBy = undefined;
  }

  /**
   * The disk as the process that runs now has it: what is left of that process when another one has begun reaches nothing any more. Without it
   * a call that a dead process makes late would be one of the new process, which then finds files locked.
   */
  ofProcess(): Storage {
    const life = this.#life;
    const alive = async <T>(call: () => Promise<T>): Promise<T> => {
      if (life !== this.#life) throw new CrashError();
      const result = await call();
      if (life !== this.#life) throw new CrashError();
      return result;
    };
    return {
      open: (path, mode) => alive(() => this.open(path, mode)),
      identity: (path) => alive(() => this.identity(path)),
      rename: (from, to) => alive(() => this.rename(from, to)),
      link: (from, to) => alive(() => this.link(from, to)),
      remove: (path) => alive(() => this.remove(path)),
      makeDirectory: (path) => alive(() => this.makeDirectory(path)),
      removeDirectory: (path) => alive(() => this.removeDirectory(path)),
      syncDirectory: (path) => alive(() => this.syncDirectory(path)),
      list: (path) => alive(() => this.list(path)),
      freeBytes: (path) => alive(() => this.freeBytes(path)),
    };
  }

  /** Puts a file with durable content under a durable name, with the directories that it needs, without a log. */
  place(path: string, content: Uint8Array): void {
    if (this.ops.length > 0) throw new Error('files are placed on a disk before it is used');
    const names = path.split('/').filter((name) => name !== '' && name !== '.');
    const last = names.pop() ?? refuse('NOT_FOUND', 'ENOENT', 'place', path);
    this.#point = undefined;
    let directory = this.#directory('place', '/');
    for (const name of names) directory = this.#placedDirectory(directory, name);
    const file = new FileInode(this.#nextInode++, PageImage.of(content));
    this.#inodes.set(file.id, file);
    this.#placeEntry(directory, last, file.id);
  }

  /** What the running system reads in a file. The caller's own copy. */
  content(path: string): Buffer | undefined {
    const inode = this.#find(path);
    return inode?.kind === 'file' ? inode.cache.slice() : undefined;
  }

  /** A hash of what the running system reads in a file. */
  hashOf(path: string): string | undefined {
    const inode = this.#find(path);
    if (inode?.kind !== 'file') return undefined;
    const hash: Hash = [1, 2];
    inode.cache.hashInto(hash);
    return `${inode.cache.length} ${hash[0]} ${hash[1]}`;
  }

  /** All files: path and inode. */
  get names(): ReadonlyMap<string, number> {
    const names = new Map<string, number>();
    const walk = (directory: DirectoryInode, path: string) => {
      for (const [name, id] of directory.entries) {
        const inode = this.#inodes.get(id);
        if (inode?.kind === 'directory') walk(inode, `${path}/${name}`);
        else names.set(`${path}/${name}`, id);
      }
    };
    walk(this.#directory('list', '/'), '');
    return names;
  }

  /** The tags of the marks before a point. */
  acked(at = this.ops.length): string[] {
    const before = this.ops.slice(0, at).filter(({ kind }) => kind === 'ack');
    return before.map(({ path }) => path);
  }

  /** A stretch of the log, one line for each entry, to explain a failure. */
  describe(from = 0, to = this.ops.length): string {
    const lines = this.ops.slice(from, to).map(({ kind, path, position, length }, index) => {
      const where = position === undefined ? '' : ` at ${position}`;
      return `${from + index} ${kind} ${path}${where}${length === undefined ? '' : ` length ${length}`}`;
    });
    return lines.join('\n');
  }

  /** A point of the log, with the states that a crash there can leave. */
  crashPoint(at = this.ops.length): CrashPoint {
    if (this.#point?.source.at === at) return this.#point;
    this.#point = new CrashPoint({
      at,
      acked: this.acked(at),
      inodes: [...this.#inodes.values()],
      nextInode: this.#nextInode,
      makeDisk: (image) => {
        const disk = new SimulatedDisk(image);
        disk.syncTurns = 0;
        return disk;
      },
    });
    return this.#point;
  }

  /** One state after a crash at a point. */
  crash(at: number, random: () => number): CrashState {
    return this.crashPoint(at).random(random);
  }

  // The storage.

  async open(path: string, mode: OpenMode): Promise<StorageFile> {
    this.#assertRunning();
    const found = this.#find(path);
    if (mode !== 'create') {
      if (found?.kind === 'directory') refuse('IO', 'EISDIR', 'open', path);
      return this.#handle(path, found ?? refuse('NOT_FOUND', 'ENOENT', 'open', path), mode);
    }
    const { directory, name } = this.#place('open', path);
    if (found !== undefined) refuse('EXISTS', 'EEXIST', 'open', path);
    const file = new FileInode(this.#nextInode++, new PageImage());
    this.#change(directory, 'create', path, 'create', [[name, file.id]]);
    this.#inodes.set(file.id, file);
    return this.#handle(path, file, mode);
  }

  async identity(path: string): Promise<string | undefined> {
    this.#assertRunning();
    return this.#find(path)?.id.toString();
  }

  async rename(from: string, to: string): Promise<void> {
    this.#assertRunning();
    const file = this.#file('rename', from);
    const source = this.#place('rename', from);
    const target = this.#place('rename', to);
    const replaced = this.#find(to);
    if (replaced?.kind === 'directory') refuse('IO', 'EISDIR', 'rename', to);
    if (replaced === file) return;
    if (source.directory === target.directory) {
      const sets = [[source.name, undefined] as const, [target.name, file.id] as const];
      this.#change(source.directory, 'rename', from, 'rename', sets);
      return;
    }
    // Two directories are two inodes: either may become durable without the other.
    this.#change(target.directory, 'rename', to, 'rename', [[target.name, file.id]]);
    this.#change(source.directory, 'remove', from, 'remove', [[source.name, undefined]]);
  }

  async link(from: string, to: string): Promise<void> {
    this.#assertRunning();
    const file = this.#file('link', from);
    const { directory, name } = this.#place('link', to);
    if (this.#find(to) !== undefined) refuse('EXISTS', 'EEXIST', 'link', to);
    this.#change(directory, 'link', to, 'rename', [[name, file.id]]);
  }

  async remove(path: string): Promise<void> {
    this.#assertRunning();
    this.#file('remove', path);
    const { directory, name } = this.#place('remove', path);
    this.#change(directory, 'remove', path, 'remove', [[name, undefined]]);
  }

  async makeDirectory(path: string): Promise<boolean> {
    this.#assertRunning();
    const found = this.#find(path);
    if (found?.kind === 'file') refuse('EXISTS', 'EEXIST', 'make the directory', path);
    if (found !== undefined) return false;
    const { directory, name } = this.#place('make the directory', path);
    const made = new DirectoryInode(this.#nextInode++, new Map());
    this.#change(directory, 'make-directory', path, 'create', [[name, made.id]]);
    this.#inodes.set(made.id, made);
    return true;
  }

  async removeDirectory(path: string): Promise<void> {
    this.#assertRunning();
    const removed = this.#directory('remove the directory', path);
    if (removed.entries.size > 0) refuse('IO', 'ENOTEMPTY', 'remove the directory', path);
    const { directory, name } = this.#place('remove the directory', path);
    this.#change(directory, 'remove-directory', path, 'remove', [[name, undefined]]);
  }

  async syncDirectory(path: string): Promise<void> {
    this.#assertRunning();
    const directory = this.#directory('sync the directory', path);
    const covered = directory.covered();
    this.#log({ kind: 'sync-directory', path });
    await this.#turns('sync');
    if (this.#directorySyncs++ === this.failDirectorySync) {
      this.#log({ kind: 'directory-sync-failed', path });
      directory.clean(covered);
      refuse('IO', 'EIO', 'sync the directory', path);
    }
    directory.synced(covered, this.#log({ kind: 'directory-synced', path }));
  }

  async list(path: string): Promise<string[]> {
    this.#assertRunning();
    return [...this.#directory('list', path).entries.keys()];
  }

  async freeBytes(path: string): Promise<number> {
    this.#assertRunning();
    if (this.#find(path) === undefined) refuse('NOT_FOUND', 'ENOENT', 'examine', path);
    return FREE_BYTES;
  }

  // What files share with their disk.

  #handle(path: string, inode: FileInode, mode: OpenMode): SimulatedFile {
    const life = this.#life;
    return new SimulatedFile(path, inode, mode !== 'read', {
      log: (entry) => this.#log(entry),
      turns: (of) => this.#turns(of, life),
      assertRunning: () => this.#assertRunning(life),
      length: () => this.ops.length,
      syncFails: () => this.#syncs++ === this.failSync,
    });
  }

  #log(entry: LogEntry): number {
    this.#assertRunning();
    this.hook?.(this.ops.length, entry.kind, entry.path);
    this.#assertRunning();
    return this.ops.push(entry) - 1;
  }

  #assertRunning(life = this.#life): void {
    if (life !== this.#life || this.ops.length >= this.haltAfter) throw new CrashError();
  }

  async #turns(of: 'read' | 'write' | 'sync', life = this.#life): Promise<void> {
    const turns = this.pause === undefined ? this[`${of}Turns`] : 0;
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
    await this.pause?.(of);
    this.#assertRunning(life);
  }

  #change(
    directory: DirectoryInode,
    kind: LogKind,
    path: string,
    opKind: EntryOp['kind'],
    sets: EntryOp['sets'],
  ): void {
    const index = this.#log({ kind, path });
    directory.add({ kind: opKind, index, sets, doneAt: index + 1, durableAt: NEVER });
    for (const [name, id] of sets) {
      if (id === undefined) directory.entries.delete(name);
      else directory.entries.set(name, id);
    }
  }

  #placedDirectory(parent: DirectoryInode, name: string): DirectoryInode {
    const present = this.#inodes.get(parent.entries.get(name) ?? -1);
    if (present?.kind === 'directory') return present;
    const made = new DirectoryInode(this.#nextInode++, new Map());
    this.#inodes.set(made.id, made);
    this.#placeEntry(parent, name, made.id);
    return made;
  }

  #placeEntry(directory: DirectoryInode, name: string, id: number): void {
    const entries = new Map(directory.entries).set(name, id);
    this.#inodes.set(directory.id, new DirectoryInode(directory.id, entries));
  }

  #find(path: string): FileInode | DirectoryInode | undefined {
    let inode = this.#inodes.get(ROOT);
    for (const name of path.split('/')) {
      if (name === '' || name === '.') continue;
      if (inode?.kind !== 'directory') return undefined;
      inode = this.#inodes.get(inode.entries.get(name) ?? -1);
    }
    return inode;
  }

  #file(what: string, path: string): FileInode {
    const inode = this.#find(path) ?? refuse('NOT_FOUND', 'ENOENT', what, path);
    return inode.kind === 'file' ? inode : refuse('IO', 'EISDIR', what, path);
  }

  #directory(what: string, path: string): DirectoryInode {
    const inode = this.#find(path);
    return inode?.kind === 'directory' ? inode : refuse('NOT_FOUND', 'ENOENT', what, path);
  }

  /** Where the name of a path stands. */
  #place(what: string, path: string): { directory: DirectoryInode; name: string } {
    const directory = this.#directory(what, posix.dirname(path));
    return { directory, name: posix.basename(path) };
  }
}
