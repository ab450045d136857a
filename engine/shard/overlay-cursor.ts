/** Where a reader of an overlay is among its sorted entries. */
import assert from 'node:assert';
import type { Block, Overlay } from './overlay.js';

/** A position among the sorted handles; good until the overlay's shape changes. */
export class Place {
  readonly #blocks: readonly Block[];
  #block: number;
  #index: number;

  constructor(blocks: readonly Block[], block: number, index: number) {
    this.#blocks = blocks;
    this.#block = block;
    this.#index = index;
    this.#normalise();
  }

  /** The handle here, 0 beyond either end. */
  handle(): number {
    const block = this.#blocks[this.#block];
    if (block === undefined || this.#index < 0 || this.#index >= block.count) return 0;
    return block.handles[this.#index] ?? 0;
  }

  move(by: 1 | -1): void {
    this.#index += by;
    this.#normalise();
  }

  #normalise(): void {
    const block = this.#blocks[this.#block];
    if (block === undefined) return;
    if (this.#index < 0 && this.#block > 0) {
      this.#block--;
      this.#index = (this.#blocks[this.#block]?.count ?? 0) - 1;
    } else if (this.#index >= block.count && this.#block < this.#blocks.length - 1) {
      this.#block++;
      this.#index = 0;
    }
  }
}

/** Reads an overlay in order. Stays right while the writer adds entries between two calls. */
export class OverlayCursor {
  readonly #overlay: Overlay;
  readonly #version: number;
  readonly #step: 1 | -1;
  readonly #seekPlace: (key: Uint8Array | undefined, inclusive: boolean) => Place;
  #place: Place;
  #shape: number;
  #raw = 0;
  /** The visible entry the cursor stands on, 0 past the end. */
  handle = 0;

  constructor(
    overlay: Overlay,
    version: number,
    reverse: boolean,
    seekPlace: (key: Uint8Array | undefined, inclusive: boolean) => Place,
  ) {
    this.#overlay = overlay;
    this.#version = version;
    this.#step = reverse ? -1 : 1;
    this.#seekPlace = seekPlace;
    this.#place = seekPlace(undefined, true);
    this.#shape = overlay.shape;
  }

  /** Moves to the first visible entry at (or, not inclusive, beyond) `key`; without a key to the first of all. */
  seek(key: Uint8Array | undefined, inclusive: boolean): void {
    this.#place = this.#seekPlace(key, inclusive);
    this.#shape = this.#overlay.shape;
    this.#settle();
  }

  /** Moves to the next visible entry. REQUIRES: the cursor stands on one. */
  next(): void {
    assert(this.#raw !== 0, 'a cursor moves on from an entry');
    if (this.#shape !== this.#overlay.shape) {
      this.seek(this.#overlay.keyOf(this.#raw), false);
      return;
    }
    this.#place.move(this.#step);
    this.#settle();
  }

  #settle(): void {
    for (;;) {
      this.#raw = this.#place.handle();
      this.handle = this.#raw === 0 ? 0 : this.#overlay.visible(this.#raw, this.#version);
      if (this.#raw === 0 || this.handle !== 0) return;
      this.#place.move(this.#step);
    }
  }
}
