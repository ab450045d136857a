/**
 * What a write request works on: the latest state of a shard, commits under way included, and the commit being laid out.
 */
import type { AppendFile } from '../file/append-file.js';
import type { Ref } from '../file/ref.js';
import type { CommitBuilder } from './commit-builder.js';
import type { OverlaySet } from './overlay-set.js';
import type { Counters, Metadata, TreeName } from './state.js';
import type { TreeView } from './tree-view.js';

export type MutableCounters = { -readonly [name in keyof Counters]: Counters[name] };

export interface WriteContext {
  readonly file: AppendFile;
  /** A tree with all changes so far, durable or not. */
  view(name: TreeName): TreeView;
  /** The commit that is being laid out. */
  readonly builder: CommitBuilder;
  /** The overlays that take its changes. */
  readonly overlays: OverlaySet;
  /** The counters as they will be after it. */
  readonly counters: MutableCounters;
  /** The metadata as it will be after it. */
  metadata: Metadata;
  /** The hashes of the ids that this commit has changed: what was read of them before is stale. */
  readonly touched: Set<number>;
  /** Of attachments that were stored in another file: the refs of their copies in this shard's. */
  readonly copiesOf: WeakMap<readonly Ref[], readonly Ref[]>;
  /** Purge infos after this purge seq are kept even beyond their limit: somebody has not read them yet. */
  purgesKeptAfter: number;
}
