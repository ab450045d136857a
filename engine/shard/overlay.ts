/**
 * The overlay of one tree: the changes since the last flush, in memory, sorted like the tree (FORMAT.md section 1).
 *
 * A sorted map from key bytes to value bytes with versions. Entries are packed into arenas of up to 1 MiB, without an object
 * for each; a key's versions are a chain from the newest to the oldest. Nothing is ever changed in place, so a reader
 * with a version sees an unchanging map while a writer adds newer ones. One writer; readers between its calls.
 *
 * An entry: u32 handle of the older version (0: none), u32 version, u32 key length, u32 value length + 1 (0: the key is
 * removed), key, value. A handle is (arena number) * 2^20 + offset, and never 0.
 */
import assert from 'node:assert';
import { compareBytes } from '../file/bytes.js';
import { orderByPrefix } from '../file/radix-order.js';
import { OverlayCursor, Place } from './overlay-cursor.js';

const ARENA_BITS = 20;
const ARENA_BYTES = 2 ** ARENA_BITS;
const FIRST_ARENA_BYTES = 4096;
const ARENAS_MAX = 2 ** (32 - ARENA_BITS);
const OFFSET_MASK = ARENA_BYTES - 1;
const HEADER_BYTES = 16;
/** Sorted handles are kept in blocks, split in half when full: an insertion moves at most so many. */
const BLOCK_ENTRIES_MAX = 256;
/** Blocks of sorted entries are left with room for later ones. */
const BLOCK_ENTRIES_LOADED = 192;

interface Arena {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
}

/** Some of the sorted handles. */
export interface Block {
  readonly handles: Uint32Array;
  /** The first six bytes of each key as a number: most comparisons end here, without a visit to the arena. */
  readonly prefixes: Float64Array;
  count: number;
}

export class Overlay {
  readonly #arenas: Arena[] = [newArena(FIRST_ARENA_BYTES)];
  /** Where the next entry goes in the last arena. Starts past 0, so that no handle is 0. */
  #top = HEADER_BYTES;
  readonly #blocks: Block[] = [newBlock()];
  /** The prefix of the last key of each block but the last, side by side: the search among blocks stays in the CPU's cache. */
  #lastPrefixes = new Float64Array(16);
  #bytes = 0;
  #count = 0;
  /** While loading, the handles as they came. */
  #arrivals: Uint32Array | undefined;
  /** Changes whenever a new key moves handles about, so that cursors know to look for their place again. */
  shape = 0;

  /** Bytes in use by entries. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many keys there are, removed ones included. */
  get count(): number {
    return this.#count;
  }

  /** Sets (or with `value` undefined removes) a key as of `version`. REQUIRES: versions never fall. Copies its arguments. */
  put(key: Uint8Array, value: Uint8Array | undefined, version: number): void {
    if (this.#arrivals !== undefined) {
      this.#arrive(this.#append(key, value, version, 0));
      return;
    }
    const at = this.#lowerBound(key);
    const block = this.#blocks[at.block];
    assert(block !== undefined);
    const existing = at.index < block.count ? (block.handles[at.index] ?? 0) : 0;
    const same = existing !== 0 && this.#compare(key, existing) === 0;
    const handle = this.#append(key, value, version, same ? existing : 0);
    if (same) block.handles[at.index] = handle;
    else this.#insert(at.block, at.index, handle, prefixOf(key));
  }

  /**
   * What is put from now on is sorted all at once by `endLoading`: twice as fast for the many entries of a replay.
   * REQUIRES: the overlay is empty, and nobody reads it until then; all entries have one version.
   */
  beginLoading(): void {
    assert(this.#bytes === 0, 'only an empty overlay is loaded');
    this.#arrivals = new Uint32Array(1024);
  }

  endLoading(): void {
    const handles = this.#arrivals?.subarray(0, this.#count) ?? new Uint32Array(0);
    this.#arrivals = undefined;
    this.#count = 0;
    const prefixes = Float64Array.from(handles, (handle) => prefixOf(this.keyOf(handle)));
    const compare = (a: number, b: number) =>
      this.#compare(this.keyOf(handles[a] ?? 0), handles[b] ?? 0);
    const order = orderByPrefix(prefixes, compare);
    for (let at = 0; at < order.length; at++) {
      const index = order[at] ?? 0;
      const next = order[at + 1];
      // Of the entries of one key only the newest, which is the last, was ever to be seen.
      const superseded =
        next !== undefined && prefixes[index] === prefixes[next] && compare(index, next) === 0;
      if (!superseded) this.#addSorted(handles[index] ?? 0, prefixes[index] ?? 0);
    }
    this.shape++;
  }

  #arrive(handle: number): void {
    let arrivals = this.#arrivals;
    assert(arrivals !== undefined);
    if (this.#count === arrivals.length) {
      arrivals = new Uint32Array(this.#count * 2);
      arrivals.set(this.#arrivals ?? []);
      this.#arrivals = arrivals;
    }
    arrivals[this.#count++] = handle;
  }

  /** Puts a handle behind all others. */
  #addSorted(handle: number, prefix: number): void {
    let block = this.#blocks[this.#blocks.length - 1];
    assert(block !== undefined);
    if (block.count === BLOCK_ENTRIES_LOADED) {
      const last = block.prefixes[block.count - 1] ?? 0;
      block = newBlock();
      this.#blocks.push(block);
      this.#addLastPrefix(this.#blocks.length - 2, last);
    }
    block.handles[block.count] = handle;
    block.prefixes[block.count++] = prefix;
    this.#count++;
  }

  /** The handle of the entry for a key that a reader with `version` sees (perhaps a removal), or 0. */
  find(key: Uint8Array, version: number): number {
    const at = this.#lowerBound(key);
    const block = this.#blocks[at.block];
    if (block === undefined || at.index >= block.count) return 0;
    const handle = block.handles[at.index] ?? 0;
    return this.#compare(key, handle) === 0 ? this.visible(handle, version) : 0;
  }

  /** The newest entry in the chain of `handle` that is not newer than `version`, or 0. */
  visible(handle: number, version: number): number {
    let current = handle;
    while (current !== 0 && this.#word(current, 1) > version) current = this.#word(current, 0);
    return current;
  }

  /** The key of an entry. Shared: must not be changed. */
  keyOf(handle: number): Uint8Array {
    const { bytes } = this.#arena(handle);
    const start = (handle & OFFSET_MASK) + HEADER_BYTES;
    return bytes.subarray(start, start + this.#word(handle, 2));
  }

  /** The value of an entry, undefined for a removal. Shared: must not be changed. */
  valueOf(handle: number): Uint8Array | undefined {
    const length = this.#word(handle, 3);
    if (length === 0) return undefined;
    const start = (handle & OFFSET_MASK) + HEADER_BYTES + this.#word(handle, 2);
    return this.#arena(handle).bytes.subarray(start, start + length - 1);
  }

  /** The last key, even if no reader sees it; undefined if there is none. Shared: must not be changed. */
  get lastKey(): Uint8Array | undefined {
    const block = this.#blocks[this.#blocks.length - 1];
    return block === undefined || block.count === 0
      ? undefined
      : this.keyOf(block.handles[block.count - 1] ?? 0);
  }

  /** Of the keys after `key` that a reader with `version` sees: how many have values, less those up to `last` that are removed. */
  countAfter(key: Uint8Array, version: number, last: Uint8Array): number {
    let count = 0;
    const at = this.#lowerBound(key);
    for (let index = at.block; index < this.#blocks.length; index++) {
      const block = this.#blocks[index];
      assert(block !== undefined);
      for (let n = index === at.block ? at.index : 0; n < block.count; n++) {
        const newest = block.handles[n] ?? 0;
        const handle = this.visible(newest, version);
        const isKey = index === at.block && n === at.index && this.#compare(key, newest) === 0;
        if (handle === 0 || isKey) continue;
        if (this.#word(handle, 3) > 0) count++;
        else if (this.#compare(last, handle) >= 0) count--;
      }
    }
    return count;
  }

  /** The first place whose key is not before `key`; the end when there is none. */
  #lowerBound(key: Uint8Array): { block: number; index: number } {
    const last = this.#blocks.length - 1;
    const lastBlock = this.#blocks[last];
    assert(lastBlock !== undefined);
    const prefix = prefixOf(key);
    // Seqs only grow: the common place for a new key in half of the trees is behind the last one.
    if (this.#isAfterLast(key, prefix, lastBlock)) return { block: last, index: lastBlock.count };
    const block = this.#blockOf(key, prefix, last);
    return { block, index: this.#lowerBoundIn(block, key, prefix) };
  }

  /** The first of the blocks up to `last` whose last key is not before `key`. */
  #blockOf(key: Uint8Array, prefix: number, last: number): number {
    const lastPrefixes = this.#lastPrefixes;
    let low = 0;
    let high = last;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = lastPrefixes[middle] ?? 0;
      if (prefix > other || (prefix === other && this.#isAfterLastOf(key, middle)))
        low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #isAfterLastOf(key: Uint8Array, blockIndex: number): boolean {
    const block = this.#blocks[blockIndex];
    assert(block !== undefined);
    return this.#compare(key, block.handles[block.count - 1] ?? 0) > 0;
  }

  #isAfterLast(key: Uint8Array, prefix: number, block: Block): boolean {
    return block.count > 0 && this.#order(key, prefix, block, block.count - 1) > 0;
  }

  #lowerBoundIn(blockIndex: number, key: Uint8Array, prefix: number): number {
    const block = this.#blocks[blockIndex];
    assert(block !== undefined);
    let low = 0;
    let high = block.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#order(key, prefix, block, middle) > 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Compares a key with the one at a place of a block. */
  #order(key: Uint8Array, prefix: number, block: Block, index: number): number {
    const other = block.prefixes[index] ?? 0;
    return prefix === other ? this.#compare(key, block.handles[index] ?? 0) : prefix - other;
  }

  #compare(key: Uint8Array, handle: number): number {
    const start = (handle & OFFSET_MASK) + HEADER_BYTES;
    const { bytes } = this.#arena(handle);
    return compareBytes(key, 0, key.length, bytes, start, start + this.#word(handle, 2));
  }

  #insert(blockIndex: number, index: number, handle: number, prefix: number): void {
    const block = this.#blocks[blockIndex];
    assert(block !== undefined);
    block.handles.copyWithin(index + 1, index, block.count);
    block.handles[index] = handle;
    block.prefixes.copyWithin(index + 1, index, block.count);
    block.prefixes[index] = prefix;
    block.count++;
    this.#count++;
    this.shape++;
    if (block.count === BLOCK_ENTRIES_MAX) this.#splitBlock(blockIndex, block);
  }

  /** A full block in the middle is halved; the last one is left nearly full, since keys that only grow never come back to it. */
  #splitBlock(blockIndex: number, block: Block): void {
    const isLast = blockIndex === this.#blocks.length - 1;
    const keep = isLast ? BLOCK_ENTRIES_MAX - 8 : BLOCK_ENTRIES_MAX / 2;
    const right = newBlock();
    right.handles.set(block.handles.subarray(keep, block.count));
    right.prefixes.set(block.prefixes.subarray(keep, block.count));
    right.count = block.count - keep;
    block.count = keep;
    this.#blocks.splice(blockIndex + 1, 0, right);
    this.#addLastPrefix(blockIndex, block.prefixes[keep - 1] ?? 0);
  }

  /** REQUIRES: the blocks from `at` on have just moved up by one, and no key stands behind the last of its block but in the last. */
  #addLastPrefix(at: number, prefix: number): void {
    const count = this.#blocks.length;
    if (count > this.#lastPrefixes.length) {
      const grown = new Float64Array(count * 2);
      grown.set(this.#lastPrefixes);
      this.#lastPrefixes = grown;
    }
    this.#lastPrefixes.copyWithin(at + 1, at, count - 2);
    this.#lastPrefixes[at] = prefix;
  }

  #append(key: Uint8Array, value: Uint8Array | undefined, version: number, older: number): number {
    const length = HEADER_BYTES + key.length + (value?.length ?? 0);
    const handle = this.#allocate(length);
    const { bytes, words } = this.#arena(handle);
    const offset = handle & OFFSET_MASK;
    const word = offset >>> 2;
    words[word] = older;
    words[word + 1] = version;
    words[word + 2] = key.length;
    words[word + 3] = value === undefined ? 0 : value.length + 1;
    bytes.set(key, offset + HEADER_BYTES);
    if (value !== undefined) bytes.set(value, offset + HEADER_BYTES + key.length);
    this.#bytes += length;
    return handle;
  }

  /** An entry larger than an arena gets one of its own, which then is full. */
  #allocate(length: number): number {
    if (this.#top + length > this.#lastArenaBytes()) {
      assert(this.#arenas.length < ARENAS_MAX, 'an overlay holds at most 4 GiB');
      this.#arenas.push(newArena(Math.max(this.#nextArenaBytes(), length + HEADER_BYTES)));
      this.#top = 0;
    }
    const handle = (this.#arenas.length - 1) * ARENA_BYTES + this.#top;
    this.#top = (this.#top + length + 3) & ~3;
    // Offsets have 20 bits: nothing can begin beyond them in an oversized arena.
    if (this.#top > OFFSET_MASK) this.#top = Number.MAX_SAFE_INTEGER;
    return handle;
  }

  /** Arenas begin small: most overlays of most shards hold little. */
  #nextArenaBytes(): number {
    return Math.min(ARENA_BYTES, FIRST_ARENA_BYTES * 8 ** this.#arenas.length);
  }

  #lastArenaBytes(): number {
    return this.#arenas[this.#arenas.length - 1]?.bytes.length ?? 0;
  }

  #arena(handle: number): Arena {
    const arena = this.#arenas[handle >>> ARENA_BITS];
    assert(arena !== undefined, 'a handle points into an arena');
    return arena;
  }

  #word(handle: number, index: number): number {
    return this.#arena(handle).words[((handle & OFFSET_MASK) >>> 2) + index] ?? 0;
  }

  /** A cursor over what a reader with `version` sees, in key order or, with `reverse`, against it. */
  cursor(version: number, reverse: boolean): OverlayCursor {
    return new OverlayCursor(this, version, reverse, (key, inclusive) =>
      this.#seek(key, inclusive, reverse),
    );
  }

  /** The place of the nearest handle at or beyond `key` in the direction of reading; without a key the first place. */
  #seek(key: Uint8Array | undefined, inclusive: boolean, reverse: boolean): Place {
    if (key === undefined) {
      const last = this.#blocks.length - 1;
      return new Place(this.#blocks, reverse ? last : 0, reverse ? this.#countOf(last) - 1 : 0);
    }
    const at = this.#lowerBound(key);
    const place = new Place(this.#blocks, at.block, at.index);
    const handle = place.handle();
    const same = handle !== 0 && this.#compare(key, handle) === 0;
    if (same && inclusive) return place;
    if (reverse) place.move(-1);
    else if (same) place.move(1);
    return place;
  }

  #countOf(block: number): number {
    return this.#blocks[block]?.count ?? 0;
  }
}

function newArena(length: number): Arena {
  const buffer = new ArrayBuffer((length + 3) & ~3);
  return { bytes: new Uint8Array(buffer), words: new Uint32Array(buffer) };
}

function newBlock(): Block {
  return {
    handles: new Uint32Array(BLOCK_ENTRIES_MAX),
    prefixes: new Float64Array(BLOCK_ENTRIES_MAX),
    count: 0,
  };
}

/** The first six bytes of a key as a number, zeros past its end: orders keys wherever it differs. */
function prefixOf(key: Uint8Array): number {
  const high = ((key[0] ?? 0) << 16) | ((key[1] ?? 0) << 8) | (key[2] ?? 0);
  const low = ((key[3] ?? 0) << 16) | ((key[4] ?? 0) << 8) | (key[5] ?? 0);
  return high * 2 ** 24 + low;
}
