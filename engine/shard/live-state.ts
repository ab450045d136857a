/**
 * The state of a shard in memory: what is applied, what of it is durable, and the commit being laid out.
 */
import assert from 'node:assert';
import type { AppendFile, CommitInput } from '../file/append-file.js';
import type { Ref } from '../file/ref.js';
import { CommitBuilder } from './commit-builder.js';
import type { FileCache } from './file-cache.js';
import type { OpenedState } from './opening.js';
import { OverlaySet } from './overlay-set.js';
import { Snapshot } from './snapshot.js';
import {
  type Counters,
  type Metadata,
  type PerTree,
  perTree,
  type Roots,
  type TreeName,
} from './state.js';
import { TreeView } from './tree-view.js';
import type { MutableCounters, WriteContext } from './write-context.js';

/** A reader with this version sees everything that was applied. */
const LATEST = Number.MAX_SAFE_INTEGER;

export class LiveState implements WriteContext {
  file: AppendFile;
  readonly counters: MutableCounters;
  readonly touched = new Set<number>();
  readonly copiesOf = new WeakMap<readonly Ref[], readonly Ref[]>();
  purgesKeptAfter = Number.POSITIVE_INFINITY;
  metadata: Metadata;
  roots: Roots;
  /** The overlays that take changes now. */
  active: OverlaySet;
  #cache: FileCache;
  /** The overlays that a flush is merging. */
  #frozen: OverlaySet | undefined;
  /** The commit being laid out or laid out last. */
  #version = 0;
  #durableVersion = 0;
  #durableCounters: Counters;
  #durableMetadata: Metadata;
  /** One commit is being written while the next is laid out. */
  #builders: [CommitBuilder, CommitBuilder];
  #firstSeq = 0;
  #views: PerTree<TreeView> | undefined;

  constructor(file: AppendFile, cache: FileCache, opened: OpenedState) {
    this.file = file;
    this.#cache = cache;
    this.roots = opened.roots;
    this.counters = { ...opened.counters };
    this.metadata = opened.metadata;
    this.#durableCounters = opened.counters;
    this.#durableMetadata = opened.metadata;
    this.active = this.#adopt(opened.overlays);
    this.#builders = [new CommitBuilder(file), new CommitBuilder(file)];
  }

  get builder(): CommitBuilder {
    return this.#builders[0];
  }

  get overlays(): OverlaySet {
    return this.active;
  }

  view(name: TreeName): TreeView {
    this.#views ??= this.#viewsAt(LATEST);
    return this.#views[name];
  }

  /** Where nodes and bodies are read from. */
  get cache(): FileCache {
    return this.#cache;
  }

  /** What is durable now. */
  snapshot(): Snapshot {
    return new Snapshot({
      views: this.#viewsAt(this.#durableVersion),
      roots: this.roots,
      counters: this.#durableCounters,
      metadata: this.#durableMetadata,
      // Not that of a later file: a snapshot stays one of the file that it was taken of.
      cache: this.#cache,
    });
  }

  /** Starts laying out a commit. */
  begin(): void {
    this.#builders.reverse();
    this.#version++;
    this.touched.clear();
    this.#firstSeq = this.counters.updateSeq + 1;
    this.builder.begin();
    this.active.begin(this.#version, this.#firstSeq);
  }

  /** Ends it; undefined if nothing was changed. `published` makes it visible to readers. */
  finish(): { readonly commit: CommitInput; readonly published: () => void } | undefined {
    if (this.builder.changes.count === 0) return undefined;
    const version = this.#version;
    const counters = { ...this.counters };
    const { metadata } = this;
    const commit = this.builder.finish(this.#firstSeq, counters);
    const published = () => {
      assert(version > this.#durableVersion, 'commits become durable in order');
      this.#durableVersion = version;
      this.#durableCounters = counters;
      this.#durableMetadata = metadata;
    };
    return { commit, published };
  }

  /** Sets the present overlays aside for a flush. REQUIRES: no commit is being laid out, and no flush is running. */
  freeze(): OverlaySet {
    assert(this.#frozen === undefined, 'one flush at a time');
    const frozen = this.active;
    this.#frozen = frozen;
    this.active = this.#adopt(new OverlaySet());
    this.#views = undefined;
    return frozen;
  }

  /** Takes the roots that a flush made, durable by now. */
  thaw(roots: Roots): void {
    this.roots = roots;
    this.#frozen = undefined;
    this.#views = undefined;
  }

  /** Takes what was merged into the trees without a commit of changes. REQUIRES: the overlays are empty, no flush is running. */
  absorb(roots: Roots, counters: Counters, metadata: Metadata): void {
    assert(this.active.empty && this.#frozen === undefined, 'only an idle shard absorbs');
    Object.assign(this.counters, counters);
    this.metadata = metadata;
    this.#durableCounters = counters;
    this.#durableMetadata = metadata;
    this.thaw(roots);
  }

  assertExchangeable(other: LiveState): void {
    assert(this.#frozen === undefined && other.active.empty, 'files are exchanged at rest');
  }

  /** Goes on with another file that holds the same. REQUIRES: no commit is under way and no flush is running, in either. */
  takeOver(other: LiveState): void {
    this.assertExchangeable(other);
    this.file = other.file;
    this.#cache.clear();
    this.#cache = other.#cache;
    this.active = this.#adopt(new OverlaySet());
    this.#builders = [new CommitBuilder(other.file), new CommitBuilder(other.file)];
    this.absorb(other.roots, { ...other.counters }, other.metadata);
  }

  #adopt(overlays: OverlaySet): OverlaySet {
    overlays.onMetadata = (metadata) => {
      this.metadata = metadata;
    };
    return overlays;
  }

  #viewsAt(version: number): PerTree<TreeView> {
    const layers = this.#frozen === undefined ? [this.active] : [this.active, this.#frozen];
    return perTree((name) => {
      const overlays = layers.map((layer) => layer.overlays[name]);
      return new TreeView(this.#cache, this.roots[name], overlays, version);
    });
  }
}
