/**
 * Purging: leaf revisions are forgotten as if they had never been, and a purge info remembers that for other copies.
 */
import { DivanError } from '../errors.js';
import { readSeq } from '../file/byte-reader.js';
import { ByteWriter } from '../file/byte-writer.js';
import type { WriteRequest } from './commit-queue.js';
import { sizesOf } from './edit.js';
import { assertInRange } from './hash.js';
import { readStoredDocument, type StoredDocument, writeDocumentHead } from './id-tree.js';
import {
  decodePurgeInfo,
  encodePurgeInfo,
  PURGE_REVS_MAX,
  PURGE_UUID_BYTES_MAX,
} from './purge-tree.js';
import { decodeTree, encodeTree, type RevTree, removeLeaves } from './rev-tree.js';
import { compareRevisions, formatRev, type Revision } from './revision.js';
import { type Row, readRow, seqKey, writeLeaves } from './seq-tree.js';
import type { WriteContext } from './write-context.js';

export interface PurgeRequest {
  /** 1 to 64 bytes; a request with a uuid that is known already does nothing. */
  readonly uuid: Uint8Array;
  /** UTF-8. */
  readonly id: Uint8Array;
  readonly revs: readonly Revision[];
}

/** If the limit was exceeded by many, as while they were kept for a compaction, each purge drops at most so many. */
const DROPPED_MAX = 100;

const scratch = new ByteWriter();
const documentBytes = new ByteWriter();

export class PurgeWrite implements WriteRequest {
  readonly cost = 1024;
  /** What `prepare` read would be stale after another request of the same commit. */
  readonly exclusive = true;
  /** The revisions that were leaves and are gone. */
  purged: readonly Revision[] = [];
  readonly #context: WriteContext;
  readonly #request: PurgeRequest;
  #stored: StoredDocument | undefined;
  #row: Row | undefined;
  #done = false;
  #oldest: { readonly seq: number; readonly uuid: Uint8Array }[] = [];

  /** Throws `LIMIT`. */
  constructor(context: WriteContext, request: PurgeRequest) {
    if (request.revs.length > PURGE_REVS_MAX || request.uuid.length > PURGE_UUID_BYTES_MAX) {
      throw new DivanError('LIMIT', `a purge names at most ${PURGE_REVS_MAX} revisions`);
    }
    this.#context = context;
    this.#request = request;
  }

  async prepare(): Promise<void> {
    const { uuid, id } = this.#request;
    this.#done = (await this.#context.view('purgeByUuid').get(uuid)) !== undefined;
    const value = await this.#context.view('byId').get(id);
    if (value !== undefined) {
      this.#stored = readStoredDocument(value);
      const row = await this.#context.view('bySeq').get(seqKey(this.#stored.seq));
      this.#row = row === undefined ? undefined : readRow(row);
    }
    await this.#findOldest();
  }

  /** Which infos are to go because there are more than the limit. */
  async #findOldest(): Promise<void> {
    const { counters, metadata, purgesKeptAfter } = this.#context;
    let excess = Math.min(counters.purgeInfos + 1 - metadata.purgeInfosLimit, DROPPED_MAX);
    if (excess <= 0) return;
    for await (const { key, value } of this.#context.view('purgeBySeq').entries({})) {
      const seq = readSeq(key, 0);
      if (seq > purgesKeptAfter) break;
      this.#oldest.push({ seq, uuid: decodePurgeInfo(value).uuid });
      if (--excess === 0) break;
    }
  }

  apply(): void {
    if (this.#done) return;
    assertInRange(this.#request.id, this.#context.metadata);
    if (this.#stored !== undefined) this.#purge(this.#stored);
    this.#recordInfo();
  }

  #purge(stored: StoredDocument): void {
    const { tree, removed } = removeLeaves(decodeTree(stored.tree), this.#request.revs);
    this.purged = removed;
    if (removed.length === 0) return;
    const { counters, builder, overlays } = this.#context;
    if (stored.deleted) counters.deletedDocs--;
    else counters.liveDocs--;
    counters.activeBytes -= stored.activeBytes;
    counters.externalBytes -= stored.externalBytes;
    if (tree.length === 0) {
      builder.changes.purgedDocument(stored.seq, this.#request.id);
      overlays.purgedDocument(stored.seq, this.#request.id);
    } else this.#keepRest(stored, tree, removed);
  }

  /** The leaves that are left make a new update of the document. */
  #keepRest(stored: StoredDocument, tree: RevTree, removed: readonly Revision[]): void {
    const { counters, builder, overlays } = this.#context;
    const leaves = (this.#row?.leaves ?? []).filter(
      ({ revision }) => !removed.some((gone) => compareRevisions(gone, revision) === 0),
    );
    const deleted = leaves[0]?.deleted ?? false;
    const sizes = sizesOf(leaves);
    if (deleted) counters.deletedDocs++;
    else counters.liveDocs++;
    counters.activeBytes += sizes.activeBytes;
    counters.externalBytes += sizes.externalBytes;
    counters.updateSeq++;
    documentBytes.clear();
    writeDocumentHead(documentBytes, stored.hash, deleted, sizes);
    encodeTree(documentBytes, tree);
    scratch.clear();
    writeLeaves(scratch, leaves);
    const { id } = this.#request;
    builder.changes.document(stored.seq, id, documentBytes.view(), scratch.view());
    overlays.document(stored.seq, id, documentBytes.view(), scratch.view());
  }

  #recordInfo(): void {
    const { counters, builder, overlays } = this.#context;
    const { uuid, id, revs } = this.#request;
    const info = encodePurgeInfo({
      uuid,
      id: Buffer.from(id).toString(),
      revs: revs.map(formatRev),
    });
    const seq = ++counters.purgeSeq;
    counters.purgeInfos++;
    builder.changes.purgeInfo(seq, info);
    overlays.purgeInfo(seq, info);
    for (const oldest of this.#oldest) {
      counters.purgeInfos--;
      builder.changes.droppedPurgeInfo(oldest.seq, oldest.uuid);
      overlays.droppedPurgeInfo(oldest.seq, oldest.uuid);
    }
  }
}
