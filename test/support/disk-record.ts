/**
 * What a simulated disk remembers of each file and directory: what was durable at the start, and every operation since with
 * the point of the log at which it became certain.
 */
import { DivanError, type ErrorCode } from '../../engine/errors.js';
import type { PageImage } from './page-image.js';

export const NEVER = Number.POSITIVE_INFINITY;

export type LogKind =
  | 'create'
  | 'write'
  | 'truncate'
  | 'sync'
  | 'synced'
  | 'sync-failed'
  | 'rename'
  | 'link'
  | 'remove'
  | 'make-directory'
  | 'remove-directory'
  | 'sync-directory'
  | 'directory-synced'
  | 'directory-sync-failed'
  /** A client was told something. */
  | 'ack';

export interface LogEntry {
  readonly kind: LogKind;
  /** The path, or the tag of an `ack`. */
  readonly path: string;
  readonly position?: number;
  readonly length?: number;
}

/** An operation before it is certain has `durableAt` infinite: until then a loss of power may undo it. */
interface Uncertain {
  /** Where it stands in the log. */
  readonly index: number;
  /** Length of the log when the caller was told that it is done; a sync covers only what was done when it was called. */
  doneAt: number;
  /** Where the sync that covers it ended in the log. */
  durableAt: number;
}

export interface WriteOp extends Uncertain {
  readonly kind: 'write';
  readonly position: number;
  readonly bytes: Uint8Array;
}

export interface TruncateOp extends Uncertain {
  readonly kind: 'truncate';
  readonly length: number;
}

export type DataOp = WriteOp | TruncateOp;

/** One step for the directory: the names that it sets, to an inode or to nothing. */
export interface EntryOp extends Uncertain {
  readonly kind: 'create' | 'rename' | 'remove';
  readonly sets: readonly (readonly [name: string, inode: number | undefined])[];
}

/** Both kinds of inode: operations, and those of them that a sync has still to make certain. */
class Inode<Op extends Uncertain> {
  readonly id: number;
  readonly ops: Op[] = [];
  #dirty: Op[] = [];

  constructor(id: number) {
    this.id = id;
  }

  add(op: Op): void {
    this.ops.push(op);
    this.#dirty.push(op);
  }

  /** What a sync that is called now covers. */
  covered(): readonly Op[] {
    return this.#dirty.filter((op) => op.doneAt < NEVER);
  }

  synced(covered: readonly Op[], at: number): void {
    for (const op of covered) op.durableAt = Math.min(op.durableAt, at);
    this.clean(covered);
  }

  /** After a sync that failed its pages count as clean, and no later sync writes them. */
  clean(covered: readonly Op[]): void {
    const clean = new Set(covered);
    this.#dirty = this.#dirty.filter((op) => !clean.has(op));
  }
}

export class FileInode extends Inode<DataOp> {
  readonly kind = 'file';
  /** What the running system reads. */
  cache: PageImage;
  lockedBy: object | undefined;
  readonly #start: PageImage;
  #reached: { readonly count: number; readonly image: PageImage };

  constructor(id: number, start: PageImage) {
    super(id);
    this.#start = start;
    this.cache = start.fork();
    this.#reached = { count: 0, image: start };
  }

  /** The content after the first `count` operations. Not to be written. Cheap if asked for in rising order. */
  imageAfter(count: number): PageImage {
    if (count === this.#reached.count) return this.#reached.image;
    const from = count > this.#reached.count ? this.#reached : { count: 0, image: this.#start };
    const image = from.image.fork();
    for (const op of this.ops.slice(from.count, count)) applyWhole(image, op);
    this.#reached = { count, image };
    return image;
  }
}

export class DirectoryInode extends Inode<EntryOp> {
  readonly kind = 'directory';
  readonly entries: Map<string, number>;
  readonly start: ReadonlyMap<string, number>;

  constructor(id: number, start: ReadonlyMap<string, number>) {
    super(id);
    this.start = start;
    this.entries = new Map(start);
  }
}

export function applyWhole(image: PageImage, op: DataOp): void {
  if (op.kind === 'write') image.write(op.bytes, op.position);
  else image.truncate(op.length);
}

export function applyEntry(entries: Map<string, number>, op: EntryOp): void {
  for (const [name, inode] of op.sets) {
    if (inode === undefined) entries.delete(name);
    else entries.set(name, inode);
  }
}

export function refuse(code: ErrorCode, errno: string, what: string, path: string): never {
  throw new DivanError(code, `can not ${what} ${path}: ${errno}`, { path, errno });
}
