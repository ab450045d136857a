/**
 * What becomes of the operations that are uncertain when the power fails: given, or chosen by a generator of numbers.
 */
import type { DataOp, EntryOp, TruncateOp, WriteOp } from './disk-record.js';
import { randomInt } from './seed.js';

export const SECTOR_BYTES = 512;

export type Fill = 'zero' | 'garbage' | 'stale';

/** What becomes of an uncertain write. `keeps` says which of its sectors a torn one has. */
export type WriteFate =
  | { readonly kind: 'whole' | 'dropped' | 'extended'; readonly fill: Fill }
  | { readonly kind: 'torn'; readonly fill: Fill; readonly keeps: SectorChoice };
type SectorChoice = (sector: number, sectors: number) => boolean;

/** Decides what becomes of uncertain operations. */
export interface Fates {
  write(op: WriteOp, extendsFile: boolean): WriteFate;
  happens(op: TruncateOp | EntryOp): boolean;
}

/** Fates that are given: what is kept, and one write with a fate of its own. */
export class PlannedFates implements Fates {
  readonly #kept: ReadonlySet<DataOp | EntryOp>;
  readonly #special: WriteOp | undefined;
  readonly #fate: WriteFate | undefined;

  constructor(kept: ReadonlySet<DataOp | EntryOp>, special?: WriteOp, fate?: WriteFate) {
    this.#kept = kept;
    this.#special = special;
    this.#fate = fate;
  }

  write(op: WriteOp): WriteFate {
    if (op === this.#special && this.#fate !== undefined) return this.#fate;
    return { kind: this.#kept.has(op) ? 'whole' : 'dropped', fill: 'zero' };
  }

  happens(op: TruncateOp | EntryOp): boolean {
    return this.#kept.has(op);
  }
}

const FILLS: readonly Fill[] = ['zero', 'garbage', 'stale'];
export const GROWN_FATES: readonly WriteFate[] = FILLS.map((fill) => ({ kind: 'extended', fill }));

export function tornFates(op: WriteOp): WriteFate[] {
  const { sectors } = sectorsOf(op);
  const choices: SectorChoice[] = [];
  if (sectors > 1)
    choices.push(
      (sector) => sector === 0,
      (sector) => sector === sectors - 1,
    );
  if (sectors > 2)
    choices.push(
      (sector) => sector > 0,
      (sector) => sector < sectors - 1,
    );
  return choices.map((keeps) => ({ kind: 'torn', fill: 'zero', keeps }));
}

/** A mood for each state: chances that are the same for all would rarely lose nearly all, or nearly nothing. */
export class RandomFates implements Fates {
  readonly #random: () => number;
  readonly #lossChance: number;
  readonly #tearChance: number;
  readonly #growthChance: number;
  readonly #entryLossChance: number;
  /** In the order of the log, all before it happened and nothing after it; undefined if each is on its own. */
  readonly #cut: number | undefined;

  constructor(uncertain: readonly (DataOp | EntryOp)[], random: () => number) {
    this.#random = random;
    this.#lossChance = pick([0.05, 0.3, 0.5, 0.7, 0.95], random);
    this.#tearChance = pick([0, 0.2, 0.7], random);
    this.#growthChance = pick([0, 0.5, 0.9], random);
    this.#entryLossChance = pick([0, 0.3, 0.5, 0.7, 1], random);
    const isOrdered = uncertain.length > 0 && random() < 0.25;
    this.#cut = isOrdered ? uncertain[randomInt(random, uncertain.length)]?.index : undefined;
  }

  write(op: WriteOp, extendsFile: boolean): WriteFate {
    const fill = pick(FILLS, this.#random);
    if (this.#cut !== undefined && op.index < this.#cut) return { kind: 'whole', fill };
    const isTorn = op.index === this.#cut || this.#random() < this.#tearChance;
    if (isTorn && sectorsOf(op).sectors > 1 && (this.#cut === undefined || op.index === this.#cut))
      return { kind: 'torn', fill, keeps: this.#tear() };
    if (this.#cut === undefined && this.#random() >= this.#lossChance)
      return { kind: 'whole', fill };
    const grows = extendsFile && this.#random() < this.#growthChance;
    return { kind: grows ? 'extended' : 'dropped', fill };
  }

  happens(op: TruncateOp | EntryOp): boolean {
    if (this.#cut !== undefined) return op.index < this.#cut;
    const isEntry = op.kind !== 'truncate';
    return this.#random() >= (isEntry ? this.#entryLossChance : this.#lossChance);
  }

  #tear(): SectorChoice {
    const random = this.#random;
    const share = random();
    const chosen = (sectors: number) => Math.floor(share * sectors);
    return pick<SectorChoice>(
      [
        (sector, sectors) => sector <= Math.min(chosen(sectors), sectors - 2),
        (sector, sectors) => sector > Math.min(chosen(sectors), sectors - 2),
        (sector, sectors) => sector === chosen(sectors),
        (sector, sectors) => sector !== chosen(sectors),
        (sector, sectors) =>
          sector === chosen(sectors) ||
          (sector !== (chosen(sectors) + 1) % sectors && random() < 0.5),
      ],
      random,
    );
  }
}

function pick<T>(choices: readonly T[], random: () => number): T {
  const choice = choices[randomInt(random, choices.length)];
  if (choice === undefined) throw new RangeError('nothing to pick from');
  return choice;
}

export function sectorsOf(op: WriteOp): { first: number; sectors: number } {
  const first = Math.floor(op.position / SECTOR_BYTES);
  const last = Math.floor((op.position + op.bytes.length - 1) / SECTOR_BYTES);
  return { first, sectors: last - first + 1 };
}
