/**
 * A flush: frozen overlays are merged into the trees in sorted batches, in slices between which commits go on, and a commit
 * names the new roots (FORMAT.md sections 1 and 6).
 */
import { modify, type OpCursor } from '../btree/modify.js';
import type { NodeSink, TreeRoot, TreeShape } from '../btree/tree.js';
import type { AppendFile } from '../file/append-file.js';
import { RECORD_BYTES } from '../file/commit-record.js';
import type { Host } from '../file/host.js';
import type { FilePos, Ref } from '../file/ref.js';
import type { FileCache } from './file-cache.js';
import { idShape } from './id-tree.js';
import { localBySeqShape, localShape } from './local-tree.js';
import { FileNodeSink } from './node-sink.js';
import type { Overlay } from './overlay.js';
import type { OverlayCursor } from './overlay-cursor.js';
import type { OverlaySet } from './overlay-set.js';
import { purgeBySeqShape, purgeByUuidShape } from './purge-tree.js';
import { seqShape } from './seq-tree.js';
import {
  type Counters,
  countersOf,
  encodeState,
  type PerTree,
  type Roots,
  type State,
  TREE_NAMES,
  type TreeName,
} from './state.js';

export const TREE_SHAPES: PerTree<TreeShape> = {
  byId: idShape,
  bySeq: seqShape,
  local: localShape,
  localBySeq: localBySeqShape,
  purgeBySeq: purgeBySeqShape,
  purgeByUuid: purgeByUuidShape,
};

/** Of a flush that others do not wait for: some milliseconds. */
const SLICE_ENTRIES = 1000;

/** What a flush works on. */
export interface FlushInput {
  readonly file: AppendFile;
  readonly host: Host;
  readonly cache: FileCache;
  readonly nodeBytes: number;
  /** The state as of the commit at which the overlays were frozen, with the roots before the flush. */
  readonly state: State;
  readonly frozen: OverlaySet;
  /** The end of the file when they were frozen: later commits are not in the new state. */
  readonly replayFrom: FilePos;
  /**
   * True if no commits of this file wait for that of the flush, which can be left to sync all that was written. Then it is others who wait
   * for this thread, and the slices are shorter.
   */
  readonly alone?: boolean;
}

/**
 * Returns the new roots, durable, with the counters that go with them.
 * Rejects with `IO`, `NO_SPACE`, `CHECKSUM`, `CORRUPT`; the trees are then as before.
 */
export async function flush(
  input: FlushInput,
): Promise<{ readonly roots: Roots; readonly counters: Counters }> {
  const { file, state } = input;
  const sink = new FileNodeSink(file, input.host);
  const caching = new CachingSink(sink, input.cache);
  const roots: { [name in TreeName]: TreeRoot | undefined } = { ...state.roots };
  for (const name of TREE_NAMES) {
    const ops = new OverlayOps(input.frozen.overlays[name]);
    const { nodeBytes, alone } = input;
    const options = alone === true ? { nodeBytes, sliceEntries: SLICE_ENTRIES } : { nodeBytes };
    roots[name] = await modify(input.cache, caching, TREE_SHAPES[name], roots[name], ops, options);
  }
  const counters = countersOf(state.counters, roots);
  const ref = sink.append(encodeState({ ...state, counters, roots }));
  await sink.finish();
  if (input.alone !== true) await file.sync();
  const start = file.reserve(RECORD_BYTES);
  await file.commit({
    bytes: new Uint8Array(RECORD_BYTES),
    start,
    changesLength: 0,
    foreign: true,
    state: { ref, replayFrom: input.replayFrom },
  });
  return { roots, counters };
}

/** Puts new nodes into the cache as they are written: most of them are read soon. */
class CachingSink implements NodeSink {
  readonly #sink: FileNodeSink;
  readonly #cache: FileCache;

  constructor(sink: FileNodeSink, cache: FileCache) {
    this.#sink = sink;
    this.#cache = cache;
  }

  get full(): boolean {
    return this.#sink.full;
  }

  append(node: Uint8Array): Ref {
    const ref = this.#sink.append(node);
    this.#cache.add(ref, node);
    return ref;
  }

  drain(): Promise<void> {
    return this.#sink.drain();
  }
}

/** The newest versions in an overlay as operations on its tree. */
class OverlayOps implements OpCursor {
  readonly #overlay: Overlay;
  readonly #cursor: OverlayCursor;

  constructor(overlay: Overlay) {
    this.#overlay = overlay;
    this.#cursor = overlay.cursor(Number.MAX_SAFE_INTEGER, false);
    this.#cursor.seek(undefined, true);
  }

  get ended(): boolean {
    return this.#cursor.handle === 0;
  }

  get key(): Uint8Array {
    return this.#overlay.keyOf(this.#cursor.handle);
  }

  get value(): Uint8Array | undefined {
    return this.#overlay.valueOf(this.#cursor.handle);
  }

  next(): void {
    this.#cursor.next();
  }
}
