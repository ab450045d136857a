/**
 * The states in which a disk may be found after a loss of power at one point of its log ("hostile POSIX").
 *
 * An operation is certain if a sync that was called after it was done has returned before the point. Of the others:
 * - each write is lost, whole, or torn into any subset of its 512-byte sectors, whatever became of its neighbours;
 * - the file may have grown without the data, and then shows zeros, garbage, or bytes that stood or stand elsewhere in it;
 * - each truncation, and each change of a directory, happened or not. A rename within a directory is one change. A name is
 *   made certain by a sync of its directory alone.
 */

import {
  type Fates,
  type Fill,
  GROWN_FATES,
  PlannedFates,
  RandomFates,
  SECTOR_BYTES,
  sectorsOf,
  tornFates,
  type WriteFate,
} from './crash-fates.js';
import type { EntryOp, FileInode, WriteOp } from './disk-record.js';
import { applyEntry, applyWhole, type DataOp, type DirectoryInode } from './disk-record.js';
import { type Hash, mix, type PageImage } from './page-image.js';
import { randomInt, seededRandom } from './seed.js';
import type { SimulatedDisk } from './simulated-disk.js';

const GARBAGE_BYTES = 65_536;
/** More uncertain operations than this have too many subsets to try them all. */
const EXHAUSTIVE_OPS_MAX = 12;

/** What can happen to a disk; a test that never met one of them is void. */
export const CRASH_CLASSES = [
  'dropped',
  'whole',
  'torn',
  'reordered',
  'zero-extended',
  'garbage-extended',
  'stale-extended',
  'lost-create',
  'lost-rename',
  'lost-remove',
] as const;
export type CrashClass = (typeof CRASH_CLASSES)[number];

/** Everything durable: what a fresh disk is made of. Images and maps are shared, not to be written. */
export interface DiskImage {
  readonly files: ReadonlyMap<number, PageImage>;
  readonly directories: ReadonlyMap<number, ReadonlyMap<string, number>>;
  readonly nextInode: number;
}

export interface CrashSource {
  readonly inodes: readonly (FileInode | DirectoryInode)[];
  readonly nextInode: number;
  /** What clients were told before the point. */
  readonly acked: readonly string[];
  /** The point: a length of the log. */
  readonly at: number;
  makeDisk(image: DiskImage): SimulatedDisk;
}

/** One state. */
export class CrashState {
  readonly at: number;
  readonly acked: readonly string[];
  readonly classes: ReadonlySet<CrashClass>;
  readonly #image: DiskImage;
  readonly #source: CrashSource;
  #disk: SimulatedDisk | undefined;
  #fingerprint: string | undefined;

  constructor(source: CrashSource, image: DiskImage, classes: ReadonlySet<CrashClass>) {
    this.at = source.at;
    this.acked = source.acked;
    this.classes = classes;
    this.#image = image;
    this.#source = source;
  }

  /** A disk with this state, everything durable, with an empty log. Always the same one. */
  get disk(): SimulatedDisk {
    this.#disk ??= this.open();
    return this.#disk;
  }

  /** Another disk with this state. */
  open(): SimulatedDisk {
    return this.#source.makeDisk(this.#image);
  }

  /** The same for the same names and contents. */
  get fingerprint(): string {
    this.#fingerprint ??= fingerprintOf(this.#image);
    return this.#fingerprint;
  }
}

interface UncertainFile {
  readonly id: number;
  readonly base: PageImage;
  readonly pending: readonly DataOp[];
  /** All operations before the point: what stale bytes can come from. */
  readonly past: readonly DataOp[];
}

interface UncertainDirectory {
  readonly id: number;
  readonly base: ReadonlyMap<string, number>;
  readonly pending: readonly EntryOp[];
}

/** A point of the log. */
export class CrashPoint {
  readonly source: CrashSource;
  readonly files: UncertainFile[] = [];
  readonly directories: UncertainDirectory[] = [];
  /** What may be lost, in the order of the log. */
  readonly uncertain: (DataOp | EntryOp)[] = [];

  constructor(source: CrashSource) {
    this.source = source;
    for (const inode of source.inodes) {
      if (inode.kind === 'file') this.files.push(this.#file(inode));
      else this.directories.push(this.#directory(inode));
    }
    this.uncertain.sort((a, b) => a.index - b.index);
  }

  isCertain(op: DataOp | EntryOp): boolean {
    return op.durableAt < this.source.at;
  }

  /** A state chosen by the generator of numbers. */
  random(random: () => number): CrashState {
    return new StateBuilder(this, new RandomFates(this.uncertain, random), random).build();
  }

  /** All that is uncertain is lost. */
  worst(): CrashState {
    return this.#build(new PlannedFates(new Set()));
  }

  /** Nothing is lost. */
  best(): CrashState {
    return this.#build(new PlannedFates(new Set(this.uncertain)));
  }

  /**
   * Every subset of the uncertain operations, and with each of those every kept write torn at its edges, and every lost one grown
   * without data; each state once. REQUIRES: at most 12 are uncertain.
   */
  *exhaustive(): Generator<CrashState> {
    const count = this.uncertain.length;
    if (count > EXHAUSTIVE_OPS_MAX) throw new Error(`${count} uncertain operations are too many`);
    const seen = new Set<string>();
    for (let mask = 0; mask < 2 ** count; mask++) {
      const kept = new Set(this.uncertain.filter((_, bit) => (mask >> bit) & 1));
      for (const fates of this.#variants(kept)) {
        const state = this.#build(fates);
        if (seen.has(state.fingerprint)) continue;
        seen.add(state.fingerprint);
        yield state;
      }
    }
  }

  *#variants(kept: ReadonlySet<DataOp | EntryOp>): Generator<PlannedFates> {
    yield new PlannedFates(kept);
    for (const op of this.uncertain) {
      if (op.kind !== 'write') continue;
      for (const fate of kept.has(op) ? tornFates(op) : GROWN_FATES)
        yield new PlannedFates(kept, op, fate);
    }
  }

  #build(fates: Fates): CrashState {
    return new StateBuilder(this, fates, seededRandom(this.source.at)).build();
  }

  #file(inode: FileInode): UncertainFile {
    const past = before(inode.ops, this.source.at);
    const pending = this.#pending(past);
    const base = inode.imageAfter(past.length - pending.length);
    return { id: inode.id, base, pending, past };
  }

  #directory(inode: DirectoryInode): UncertainDirectory {
    const past = before(inode.ops, this.source.at);
    const pending = this.#pending(past);
    const base = new Map(inode.start);
    for (const op of past.slice(0, past.length - pending.length)) applyEntry(base, op);
    return { id: inode.id, base, pending };
  }

  /** From the first uncertain operation on: later ones that are certain come after it all the same. */
  #pending<Op extends DataOp | EntryOp>(past: readonly Op[]): Op[] {
    const first = past.findIndex((op) => !this.isCertain(op));
    if (first < 0) return [];
    const pending = past.slice(first);
    for (const op of pending) if (!this.isCertain(op)) this.uncertain.push(op);
    return pending;
  }
}

function before<Op extends DataOp | EntryOp>(ops: readonly Op[], at: number): readonly Op[] {
  const last = ops.at(-1);
  return last === undefined || last.index < at ? ops : ops.filter((op) => op.index < at);
}

let garbage: Uint8Array | undefined;

/** The same random bytes for all. */
function garbageBytes(): Uint8Array {
  const random = seededRandom(0x6a7b);
  garbage ??= Uint8Array.from({ length: GARBAGE_BYTES }, () => randomInt(random, 256));
  return garbage;
}

/** Builds one state. */
class StateBuilder {
  readonly #point: CrashPoint;
  readonly #fates: Fates;
  readonly #random: () => number;
  readonly #classes = new Set<CrashClass>();
  #lostFirst = Number.POSITIVE_INFINITY;
  #keptLast = -1;

  constructor(point: CrashPoint, fates: Fates, random: () => number) {
    this.#point = point;
    this.#fates = fates;
    this.#random = random;
  }

  build(): CrashState {
    const files = new Map<number, PageImage>();
    const directories = new Map<number, ReadonlyMap<string, number>>();
    for (const file of this.#point.files) {
      files.set(file.id, file.pending.length === 0 ? file.base : this.#file(file));
    }
    for (const { id, base, pending } of this.#point.directories) {
      directories.set(id, pending.length === 0 ? base : this.#directory(base, pending));
    }
    if (this.#lostFirst < this.#keptLast) this.#classes.add('reordered');
    const { source } = this.#point;
    return new CrashState(
      source,
      { files, directories, nextInode: source.nextInode },
      this.#classes,
    );
  }

  #directory(base: ReadonlyMap<string, number>, pending: readonly EntryOp[]): Map<string, number> {
    const entries = new Map(base);
    for (const op of pending) {
      if (this.#point.isCertain(op) || this.#fates.happens(op)) applyEntry(entries, op);
      else this.#classes.add(`lost-${op.kind}`);
    }
    return entries;
  }

  #file(file: UncertainFile): PageImage {
    const image = file.base.fork();
    for (const op of file.pending) {
      if (this.#point.isCertain(op)) applyWhole(image, op);
      else if (op.kind === 'write') this.#write(file, image, op);
      else if (this.#fates.happens(op)) image.truncate(op.length);
    }
    return image;
  }

  #write(file: UncertainFile, image: PageImage, op: WriteOp): void {
    const end = op.position + op.bytes.length;
    const fate = this.#fates.write(op, end > image.length);
    if (fate.kind === 'dropped' || fate.kind === 'extended') {
      this.#classes.add('dropped');
      this.#lostFirst = Math.min(this.#lostFirst, op.index);
      if (fate.kind === 'extended') this.#grow(file, image, op, end, fate.fill);
      return;
    }
    this.#classes.add(fate.kind);
    this.#keptLast = Math.max(this.#keptLast, op.index);
    if (fate.kind === 'torn') this.#tear(file, image, op, fate);
    else {
      this.#grow(file, image, op, op.position, fate.fill);
      image.write(op.bytes, op.position);
    }
  }

  /** The file may end after the last sector that survived, or where the whole write would have ended. */
  #tear(
    file: UncertainFile,
    image: PageImage,
    op: WriteOp,
    fate: WriteFate & { kind: 'torn' },
  ): void {
    const { first, sectors } = sectorsOf(op);
    const end = op.position + op.bytes.length;
    if (this.#random() < 0.5) this.#grow(file, image, op, end, fate.fill);
    for (let sector = 0; sector < sectors; sector++) {
      if (!fate.keeps(sector, sectors)) continue;
      const from = Math.max(op.position, (first + sector) * SECTOR_BYTES);
      const to = Math.min(end, (first + sector + 1) * SECTOR_BYTES);
      this.#grow(file, image, op, from, fate.fill);
      image.write(op.bytes.subarray(from - op.position, to - op.position), from);
    }
  }

  /** Makes the file at least `length` long, without data. */
  #grow(file: UncertainFile, image: PageImage, op: WriteOp, length: number, fill: Fill): void {
    const from = image.length;
    if (length <= from) return;
    image.truncate(length);
    if (fill === 'garbage') image.write(this.#garbage(length - from), from);
    if (fill === 'stale') image.write(this.#stale(file, op, from, length), from);
    this.#classes.add(`${fill}-extended`);
  }

  #garbage(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const pool = garbageBytes();
    for (let done = 0; done < length; ) {
      const from = randomInt(this.#random, GARBAGE_BYTES);
      const piece = pool.subarray(from, Math.min(GARBAGE_BYTES, from + length - done));
      bytes.set(piece, done);
      done += piece.length;
    }
    return bytes;
  }

  /** Bytes of other writes to the file, where they stood or moved by whole sectors. */
  #stale(file: UncertainFile, lost: WriteOp, from: number, to: number): Uint8Array {
    const bytes = new Uint8Array(to - from);
    const others = file.past.filter((op) => op.kind === 'write' && op !== lost);
    const other = others[randomInt(this.#random, others.length)];
    let source = file.base.slice(0, GARBAGE_BYTES);
    let position = 0;
    if (other?.kind === 'write' && this.#random() < 0.8) {
      source = Buffer.from(other.bytes.buffer, other.bytes.byteOffset, other.bytes.length);
      position = other.position;
    }
    if (source.length === 0) return bytes;
    const overlaps = position < to && position + source.length > from;
    if (overlaps && this.#random() < 0.7) {
      const start = Math.max(from, position);
      bytes.set(source.subarray(start - position, to - position), start - from);
      return bytes;
    }
    const shift = randomInt(this.#random, Math.ceil(source.length / SECTOR_BYTES)) * SECTOR_BYTES;
    const phase = (((from - position) % SECTOR_BYTES) + SECTOR_BYTES) % SECTOR_BYTES;
    const moved = source.subarray(Math.min(shift + phase, source.length));
    for (let done = 0; done < bytes.length && moved.length > 0; done += moved.length)
      bytes.set(moved.subarray(0, bytes.length - done), done);
    return bytes;
  }
}

function fingerprintOf(image: DiskImage): string {
  const total: Hash = [0, 0];
  const walk = (directory: number, path: string) => {
    for (const [name, id] of image.directories.get(directory) ?? []) {
      const hash: Hash = [0x1234_5678, 0x0bad_cafe];
      for (const char of `${path}/${name}`) mix(hash, char.charCodeAt(0), char.charCodeAt(0));
      image.files.get(id)?.hashInto(hash);
      // A sum, so that the order of names does not matter.
      total[0] = (total[0] + hash[0]) | 0;
      total[1] = (total[1] + hash[1]) | 0;
      if (image.directories.has(id)) walk(id, `${path}/${name}`);
    }
  };
  walk(0, '');
  return total.map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
}
