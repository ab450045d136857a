/**
 * The storage seam: the only way in which the engine touches a disk.
 *
 * `node-storage.ts` implements it over `node:fs` (the one file of the engine that imports it), and
 * `memory-storage.ts` in memory; tests put simulated and failing disks behind it.
 *
 * Every method rejects with a `DivanError`: `NOT_FOUND`, `EXISTS`, `NO_SPACE` (ENOSPC, EDQUOT, EFBIG) or `IO`, with
 * the operating system's code in `facts.errno`.
 */

/** An open file. Reads may run at the same time as one another and as a write. */
export interface StorageFile {
  readonly path: string;
  /** Reads up to `into.length` bytes from `position`; returns how many, fewer only at the end or on a short read, 0 only at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  /** Writes some of `bytes`, at least one, at `position`, and returns how many: a short write is no error. */
  write(bytes: Uint8Array, position: number): Promise<number>;
  /** fdatasync: when it resolves, what was written and the length of the file are durable. After it rejects nothing is known. */
  sync(): Promise<void>;
  truncate(length: number): Promise<void>;
  /** The length in bytes. */
  size(): Promise<number>;
  /** A string that is the same for two handles exactly if they are of the same file (device and inode). */
  identity(): Promise<string>;
  /** Takes the exclusive advisory lock (flock) until `close`; false when another handle has it. Main thread only. */
  tryLock(): boolean;
  /** It was given this name, which errors tell from now on. */
  renamed(path: string): void;
  close(): Promise<void>;
}

/** `read` opens an existing file for reading, `write` for both, `create` makes a new one and fails if it is there. */
export type OpenMode = 'read' | 'write' | 'create';

/** A file system. Paths are those of the operating system. */
export interface Storage {
  /**
   * Opens a file. A link is followed: the path of the opened file is then that of the file itself. With `like` a new file gets the
   * permissions and, where that is allowed, the owner of the file of that name.
   */
  open(path: string, mode: OpenMode, like?: string): Promise<StorageFile>;
  /** As `StorageFile.identity`; undefined when nothing has that name. */
  identity(path: string): Promise<string | undefined>;
  /** Replaces `to` if it is there, in one step. */
  rename(from: string, to: string): Promise<void>;
  /** Gives a file a second name in one step; fails with `EXISTS` if that name is taken. */
  link(from: string, to: string): Promise<void>;
  /** Removes a file. */
  remove(path: string): Promise<void>;
  /** Makes a directory whose parent exists; true if it was made, false if it was there. */
  makeDirectory(path: string): Promise<boolean>;
  /** Removes an empty directory. */
  removeDirectory(path: string): Promise<void>;
  /** fsync of a directory: the names made, renamed and removed in it are durable. */
  syncDirectory(path: string): Promise<void>;
  /** The names in a directory, unsorted. */
  list(path: string): Promise<string[]>;
  /** Bytes that a file in this directory could still take. */
  freeBytes(path: string): Promise<number>;
}
