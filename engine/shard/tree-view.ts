/**
 * One tree as a reader sees it: the flushed tree with the overlays laid over it, newest first, as of one version.
 */
import { lookup, lookupCached, type NOT_CACHED } from '../btree/lookup.js';
import { type LeafSlice, leafSlices } from '../btree/range.js';
import type { Entry, KeyRange, NodeSource, TreeRoot } from '../btree/tree.js';
import { compareBytes } from '../file/bytes.js';
import { countChangesAfter } from './change-count.js';
import type { Overlay } from './overlay.js';
import type { OverlayCursor } from './overlay-cursor.js';

/** One overlay being read, newest first in a list of them. */
interface OverlayReader {
  readonly overlay: Overlay;
  readonly cursor: OverlayCursor;
}

/** More entries than a leaf node usually has. */
const BATCH_ENTRIES_MAX = 512;

export class TreeView {
  readonly #source: NodeSource;
  readonly #root: TreeRoot | undefined;
  /** Newest first. */
  readonly #overlays: readonly Overlay[];
  readonly #version: number;

  constructor(
    source: NodeSource,
    root: TreeRoot | undefined,
    overlays: readonly Overlay[],
    version: number,
  ) {
    this.#source = source;
    this.#root = root;
    this.#overlays = overlays;
    this.#version = version;
  }

  /** The value of a key, or undefined. Shared: must not be changed. Throws `CHECKSUM`, `CORRUPT` or `IO`. */
  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    for (const overlay of this.#overlays) {
      const handle = overlay.find(key, this.#version);
      if (handle !== 0) return overlay.valueOf(handle);
    }
    return lookup(this.#source, this.#root, key);
  }

  /** As `get`, from memory alone; `NOT_CACHED` if that does not suffice. */
  getCached(key: Uint8Array): Uint8Array | undefined | typeof NOT_CACHED {
    for (const overlay of this.#overlays) {
      const handle = overlay.find(key, this.#version);
      if (handle !== 0) return overlay.valueOf(handle);
    }
    return lookupCached(this.#source, this.#root, key);
  }

  /** Of by-seq: how many entries come after a seq. */
  countChangesAfter(seq: number): Promise<number> {
    return countChangesAfter(this.#source, this.#root, this.#overlays, this.#version, seq);
  }

  /** The entries of a range in key order, or against it with `reverse`. */
  async *entries(range: KeyRange): AsyncGenerator<Entry> {
    for await (const batch of this.batches(range)) for (const entry of batch) yield entry;
  }

  /** As `entries`, some at a time, never none: with so many entries, a promise for each would take longer than the rest. */
  async *batches(range: KeyRange): AsyncGenerator<readonly Entry[]> {
    const readers = this.#overlays.map((overlay) => openReader(overlay, range, this.#version));
    const slices = leafSlices(this.#source, this.#root, range);
    const flushed = new FlushedEntries(range.reverse === true);
    try {
      for (;;) {
        if (flushed.needsSlice) {
          const next = await slices.next();
          flushed.take(next.done === true ? undefined : next.value);
        }
        const batch = mergeBatch(flushed, readers, range);
        if (batch.length > 0) yield batch;
        else if (flushed.ended) return;
      }
    } finally {
      await slices.return(undefined);
    }
  }
}

/** The entries of the flushed tree, leaf node by leaf node. */
class FlushedEntries {
  readonly #reverse: boolean;
  #slice: LeafSlice | undefined;
  #taken = 0;
  /** True when the last leaf node was used up. */
  ended = false;

  constructor(reverse: boolean) {
    this.#reverse = reverse;
  }

  /** True when a leaf node is used up and it is not known whether another one follows. */
  get needsSlice(): boolean {
    return this.#slice === undefined && !this.ended;
  }

  /** Goes on with a leaf node; undefined if there is none. */
  take(slice: LeafSlice | undefined): void {
    this.#slice = slice;
    this.#taken = 0;
    this.ended = slice === undefined;
  }

  /** The entry that comes next in the leaf node. */
  get head(): Entry | undefined {
    if (this.#slice === undefined) return undefined;
    const { node, from, to } = this.#slice;
    const index = this.#reverse ? to - 1 - this.#taken : from + this.#taken;
    return { key: node.key(index), value: node.value(index) };
  }

  next(): void {
    if (this.#slice === undefined) return;
    if (++this.#taken === this.#slice.to - this.#slice.from) this.#slice = undefined;
  }
}

/** Merges until a leaf node is used up, or the batch is large enough. Empty if nothing was left, or only removals. */
function mergeBatch(
  flushed: FlushedEntries,
  readers: readonly OverlayReader[],
  range: KeyRange,
): readonly Entry[] {
  const batch: Entry[] = [];
  let reader = firstOf(readers, range);
  let fromTree = flushed.head;
  while (!flushed.needsSlice && batch.length < BATCH_ENTRIES_MAX) {
    const order = compareHeads(fromTree, reader, range.reverse === true);
    if (order === undefined) break;
    if (order <= 0 && fromTree !== undefined) {
      if (order < 0) batch.push(fromTree);
      flushed.next();
      fromTree = flushed.head;
    }
    if (order >= 0 && reader !== undefined) {
      const entry = takeEntry(readers, reader);
      if (entry !== undefined) batch.push(entry);
      reader = firstOf(readers, range);
    }
  }
  return batch;
}

function openReader(overlay: Overlay, range: KeyRange, version: number): OverlayReader {
  const reverse = range.reverse === true;
  const cursor = overlay.cursor(version, reverse);
  const inclusive = reverse ? range.lte : range.gte;
  const exclusive = reverse ? range.lt : range.gt;
  cursor.seek(inclusive ?? exclusive, inclusive !== undefined);
  return { overlay, cursor };
}

/** The reader whose next key comes first; of equal ones the newest. Undefined when none has a key in the range. */
function firstOf(readers: readonly OverlayReader[], range: KeyRange): OverlayReader | undefined {
  let best: OverlayReader | undefined;
  let bestKey: Uint8Array | undefined;
  for (const reader of readers) {
    if (reader.cursor.handle === 0) continue;
    const key = reader.overlay.keyOf(reader.cursor.handle);
    if (isBeyond(key, range)) continue;
    const order = bestKey === undefined ? -1 : compareKeys(key, bestKey);
    if (bestKey === undefined || (range.reverse === true ? order > 0 : order < 0)) {
      best = reader;
      bestKey = key;
    }
  }
  return best;
}

/** True for a key past the far end of the range. */
function isBeyond(key: Uint8Array, range: KeyRange): boolean {
  if (range.reverse === true) {
    if (range.gte !== undefined) return compareKeys(key, range.gte) < 0;
    return range.gt !== undefined && compareKeys(key, range.gt) <= 0;
  }
  if (range.lte !== undefined) return compareKeys(key, range.lte) > 0;
  return range.lt !== undefined && compareKeys(key, range.lt) >= 0;
}

/** Negative: the tree's entry comes first; positive: the overlay's; 0: they have the same key. Undefined: neither is left. */
function compareHeads(
  fromTree: Entry | undefined,
  reader: OverlayReader | undefined,
  reverse: boolean,
): number | undefined {
  if (fromTree === undefined) return reader === undefined ? undefined : 1;
  if (reader === undefined) return -1;
  const order = compareKeys(fromTree.key, reader.overlay.keyOf(reader.cursor.handle));
  return reverse ? -order : order;
}

/** Takes the entry of `reader`, moving every reader that stands on the same key; undefined for a removal. */
function takeEntry(readers: readonly OverlayReader[], reader: OverlayReader): Entry | undefined {
  const key = reader.overlay.keyOf(reader.cursor.handle);
  const value = reader.overlay.valueOf(reader.cursor.handle);
  for (const { overlay, cursor } of readers) {
    if (cursor.handle !== 0 && compareKeys(overlay.keyOf(cursor.handle), key) === 0) cursor.next();
  }
  return value === undefined ? undefined : { key, value };
}

function compareKeys(a: Uint8Array, b: Uint8Array): number {
  return compareBytes(a, 0, a.length, b, 0, b.length);
}
