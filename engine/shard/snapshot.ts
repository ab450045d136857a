/**
 * A shard as of one commit. Stays readable, and the same, while writes go on: it holds the roots of its trees and the overlays
 * above them, none of which ever changes in place.
 */
import type { Entry, KeyRange } from '../btree/tree.js';
import { treeBytes } from '../btree/tree-bytes.js';
import { DivanError } from '../errors.js';
import { readSeq } from '../file/byte-reader.js';
import type { Ref } from '../file/ref.js';
import type { Attachment } from './attachment-list.js';
import type { FileCache } from './file-cache.js';
import { readStoredDocument, type StoredDocument } from './id-tree.js';
import { type LocalDoc, readLocalDoc } from './local-tree.js';
import { decodePurgeInfo, type PurgeInfo } from './purge-tree.js';
import { decodeTree, type RevTree } from './rev-tree.js';
import { type Row, readRow, seqKey } from './seq-tree.js';
import { type Counters, type Metadata, type PerTree, type Roots, TREE_NAMES } from './state.js';
import type { TreeView } from './tree-view.js';

/** A document with its revision tree and the content of its leaves. */
export interface Document {
  readonly id: Uint8Array;
  readonly seq: number;
  readonly deleted: boolean;
  readonly tree: RevTree;
  /** The winner first. */
  readonly leaves: Row['leaves'];
}

/** A row of the changes: the latest update of a document. */
export interface Change extends Row {
  readonly seq: number;
}

export interface ChangesRange {
  /** Only updates after this seq. */
  readonly since?: number;
  /** Only updates up to this seq. */
  readonly until?: number;
  readonly reverse?: boolean;
}

/** What a snapshot is made of. */
export interface SnapshotParts {
  readonly views: PerTree<TreeView>;
  /** The flushed roots, without what the overlays hold. */
  readonly roots: Roots;
  readonly counters: Counters;
  readonly metadata: Metadata;
  readonly cache: FileCache;
}

/** The keys of by-seq in a range of changes. */
export function changesKeys({ since, until, reverse }: ChangesRange): KeyRange {
  return {
    gt: since === undefined ? undefined : seqKey(since),
    lte: until === undefined ? undefined : seqKey(until),
    reverse,
  };
}

const EMPTY_BODY = Buffer.from('{}');

export class Snapshot {
  readonly counters: Counters;
  readonly metadata: Metadata;
  readonly roots: Roots;
  readonly #views: PerTree<TreeView>;
  readonly #cache: FileCache;

  constructor(parts: SnapshotParts) {
    this.counters = parts.counters;
    this.metadata = parts.metadata;
    this.roots = parts.roots;
    this.#views = parts.views;
    this.#cache = parts.cache;
  }

  /** What by-id says of a document, undefined if there is none. All reading methods reject with `CHECKSUM`, `CORRUPT`, `IO` or `CLOSED`. */
  async stored(id: Uint8Array): Promise<StoredDocument | undefined> {
    const value = await this.#views.byId.get(id);
    return value === undefined ? undefined : readStoredDocument(value);
  }

  /** A document, tombstones included. */
  async document(id: Uint8Array): Promise<Document | undefined> {
    const stored = await this.stored(id);
    return stored === undefined ? undefined : this.#complete(id, stored);
  }

  /** All documents in a range of ids, tombstones included. */
  async *documents(range: KeyRange): AsyncGenerator<Document> {
    for await (const { key, value } of this.#views.byId.entries(range)) {
      yield await this.#complete(key, readStoredDocument(value));
    }
  }

  /** The latest update of each document, in the order of updates or against it. */
  async *changes(range: ChangesRange = {}): AsyncGenerator<Change> {
    for await (const { key, value } of this.#views.bySeq.entries(changesKeys(range))) {
      yield { seq: readSeq(key, 0), ...readRow(value) };
    }
  }

  /** How many documents were updated last after this seq. */
  changesAfter(seq: number): Promise<number> {
    return this.#views.bySeq.countChangesAfter(seq);
  }

  /** The row of an update seq, undefined if no document's latest update has it. */
  async row(seq: number): Promise<Row | undefined> {
    const value = await this.#views.bySeq.get(seqKey(seq));
    return value === undefined ? undefined : readRow(value);
  }

  /** The body of a leaf as JSON text. Shared: must not be changed. */
  async body(leaf: { readonly body: Ref }): Promise<Uint8Array> {
    return leaf.body.length === 0 ? EMPTY_BODY : this.#cache.body(leaf.body);
  }

  /** The bytes of a ref that this snapshot gave. */
  run(ref: Ref): Promise<Uint8Array> {
    return this.#cache.read(ref);
  }

  /** The stored bytes of an attachment, in pieces of at most 1 MiB. */
  async *attachment(attachment: Pick<Attachment, 'refs'>): AsyncGenerator<Uint8Array> {
    for (const ref of attachment.refs) yield await this.#cache.read(ref);
  }

  /** A local doc that is not deleted; `id` is without `_local/`. */
  async localDoc(id: Uint8Array): Promise<LocalDoc | undefined> {
    const value = await this.#views.local.get(id);
    const doc = value === undefined ? undefined : readLocalDoc(value);
    return doc?.deleted === true ? undefined : doc;
  }

  /** The local docs in a range of ids, deleted ones left out. */
  async *localDocs(range: KeyRange): AsyncGenerator<LocalDoc & { readonly id: Uint8Array }> {
    for await (const { key, value } of this.#views.local.entries(range)) {
      const doc = readLocalDoc(value);
      if (!doc.deleted) yield { id: key, ...doc };
    }
  }

  /** The purge infos after a purge seq, oldest first. */
  async *purges(since = 0): AsyncGenerator<PurgeInfo & { readonly seq: number }> {
    for await (const { key, value } of this.#views.purgeBySeq.entries({ gt: seqKey(since) })) {
      yield { seq: readSeq(key, 0), ...decodePurgeInfo(value) };
    }
  }

  /**
   * Bytes of the file that something points to: bodies, attachments, and the trees as of the last flush. What else the file has is
   * dead, or is dead after the next flush.
   */
  async liveBytes(): Promise<number> {
    let bytes = this.counters.activeBytes;
    for (const name of TREE_NAMES) bytes += await treeBytes(this.#cache, this.roots[name]);
    return bytes;
  }

  /** The raw value of a key in a tree, for those who copy it. Shared: must not be changed. */
  value(tree: keyof PerTree<TreeView>, key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#views[tree].get(key);
  }

  /** The raw entries of a tree. */
  entries(tree: keyof PerTree<TreeView>, range: KeyRange = {}): AsyncGenerator<Entry> {
    return this.#views[tree].entries(range);
  }

  /** The raw entries of a tree, some at a time. Neither the lists nor the entries may be changed. */
  entryBatches(
    tree: keyof PerTree<TreeView>,
    range: KeyRange = {},
  ): AsyncGenerator<readonly Entry[]> {
    return this.#views[tree].batches(range);
  }

  async #complete(id: Uint8Array, stored: StoredDocument): Promise<Document> {
    const row = await this.#views.bySeq.get(seqKey(stored.seq));
    if (row === undefined) {
      throw new DivanError('CORRUPT', `by-seq does not have the update seq ${stored.seq}`, {
        id: Buffer.from(id).toString(),
      });
    }
    const { leaves } = readRow(row);
    return { id, seq: stored.seq, deleted: stored.deleted, tree: decodeTree(stored.tree), leaves };
  }
}
