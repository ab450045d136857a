/**
 * Builds the states in which a simulated disk may be found after a crash: what is certain, and a random choice of what is not. The
 * rules stand at the head of `simulated-disk.ts`.
 */
import { crc32 } from 'node:zlib';
import { randomInt } from './seed.js';
import {
  type CrashClass,
  type CrashState,
  type FileOp,
  type Inode,
  type NameOp,
  type Op,
  SimulatedDisk,
  truncateTo,
  writeInto,
} from './simulated-disk.js';

const SECTOR_BYTES = 512;

/** Builds one state from a prefix of the record. */
export class CrashBuilder {
  readonly #ops: readonly Op[];
  readonly #random: () => number;
  readonly #base: SimulatedDisk | undefined;
  readonly #classes = new Set<CrashClass>();

  constructor(ops: readonly Op[], random: () => number, base: SimulatedDisk | undefined) {
    this.#ops = ops;
    this.#random = random;
    this.#base = base;
  }

  build(): CrashState {
    const disk = new SimulatedDisk();
    disk.syncTurns = 0;
    let fingerprint = '';
    for (const [path, id] of [...this.#namesAfter()].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const content = this.#contentAfter(path, id);
      disk.place(path, content);
      fingerprint += `${path}:${content.length}:${crc32(content)};`;
    }
    return { disk, classes: this.#classes, fingerprint };
  }

  #chance(share: number): boolean {
    return this.#random() < share;
  }

  /** The names, each with its inode; those of the base have the same numbers as there. */
  #namesAfter(): Map<string, number> {
    const names = new Map(this.#base?.names ?? []);
    const synced = this.#directoryOpsSynced();
    for (const [index, op] of this.#ops.entries()) {
      if (op.kind !== 'name' && op.kind !== 'unname' && op.kind !== 'rename') continue;
      if (index >= synced && this.#chance(0.5)) {
        const isSecondName = op.kind === 'name' && [...names.values()].includes(op.inode);
        this.#classes.add(op.kind === 'rename' || isSecondName ? 'lost-rename' : 'lost-name');
        continue;
      }
      applyName(names, op);
    }
    return names;
  }

  /** All paths of a test are in one directory. */
  #directoryOpsSynced(): number {
    let synced = 0;
    for (const op of this.#ops) if (op.kind === 'syncDirectory') synced = Math.max(synced, op.from);
    return synced;
  }

  #contentAfter(path: string, id: number): Buffer {
    let synced = 0;
    for (const op of this.#ops)
      if (op.kind === 'sync' && op.inode === id) synced = Math.max(synced, op.from);
    const inode: Inode = { id, bytes: Buffer.alloc(0), length: 0, lockedBy: undefined };
    const base = this.#base?.names.get(path) === id ? this.#base.content(path) : undefined;
    if (base !== undefined) writeInto(inode, 0, base);
    const pending: FileOp[] = [];
    for (const [index, op] of this.#ops.entries()) {
      if ((op.kind !== 'write' && op.kind !== 'truncate') || op.inode !== id) continue;
      if (index < synced && op.lost !== true) applyWhole(inode, op);
      else pending.push(op);
    }
    this.#applyPending(inode, pending);
    return inode.bytes.subarray(0, inode.length);
  }

  #applyPending(inode: Inode, pending: readonly FileOp[]): void {
    if (pending.length === 0) return;
    const wholeChance = [0.15, 0.5, 0.85][randomInt(this.#random, 3)] ?? 0.5;
    let lostBefore = false;
    this.#extend(inode, pending);
    for (const op of pending) {
      if (this.#chance(wholeChance)) {
        applyWhole(inode, op);
        this.#classes.add('whole');
        if (lostBefore) this.#classes.add('reordered');
      } else if (op.kind === 'write' && this.#chance(0.6)) {
        this.#applyTorn(inode, op);
        lostBefore = true;
      } else {
        this.#classes.add('dropped');
        lostBefore = true;
      }
    }
  }

  #applyTorn(inode: Inode, op: FileOp & { kind: 'write' }): void {
    let kept = 0;
    let lost = 0;
    const end = op.pos + op.bytes.length;
    for (let from = op.pos; from < end; ) {
      const to = Math.min(end, from - (from % SECTOR_BYTES) + SECTOR_BYTES);
      if (this.#chance(0.5)) {
        writeInto(inode, from, op.bytes.subarray(from - op.pos, to - op.pos));
        kept++;
      } else lost++;
      from = to;
    }
    if (kept > 0 && lost > 0) this.#classes.add('torn');
  }

  /** Sometimes the file has grown without its data. */
  #extend(inode: Inode, pending: readonly FileOp[]): void {
    const end = Math.max(
      ...pending.map((op) => (op.kind === 'write' ? op.pos + op.bytes.length : 0)),
    );
    if (end <= inode.length || this.#chance(0.4)) return;
    const from = inode.length;
    const filler = Buffer.alloc(end - from);
    const kind = (['zero-extended', 'garbage-extended', 'stale-extended'] as const)[
      randomInt(this.#random, 3)
    ];
    if (kind === 'garbage-extended') {
      for (let at = 0; at < filler.length; at++) filler[at] = Math.floor(this.#random() * 256);
    }
    if (kind === 'stale-extended') this.#fillStale(inode, pending, filler);
    if (kind !== undefined) this.#classes.add(kind);
    writeInto(inode, from, filler);
  }

  /** Bytes that stood in the file, or were on their way to another place of it. */
  #fillStale(inode: Inode, pending: readonly FileOp[], filler: Buffer): void {
    const sources = pending.flatMap((op) => (op.kind === 'write' ? [op.bytes] : []));
    const source = this.#chance(0.5)
      ? inode.bytes.subarray(0, inode.length)
      : Buffer.concat(sources);
    if (source.length === 0) return;
    const shift = randomInt(this.#random, source.length);
    for (let at = 0; at < filler.length; at++)
      filler[at] = source[(shift + at) % source.length] ?? 0;
  }
}

function applyWhole(inode: Inode, op: FileOp): void {
  if (op.kind === 'write') writeInto(inode, op.pos, op.bytes);
  else truncateTo(inode, op.length);
}

function applyName(names: Map<string, number>, op: NameOp): void {
  if (op.kind === 'name') names.set(op.path, op.inode);
  else if (op.kind === 'unname') names.delete(op.path);
  else {
    const id = names.get(op.from);
    if (id === undefined) return;
    names.delete(op.from);
    names.set(op.to, id);
  }
}
