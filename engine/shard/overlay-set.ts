/**
 * The overlays of all trees of a shard, and what the operations of a change list do to them. The writer and the replay at opening
 * apply operations through here, so they can't differ.
 */

import { DivanError } from '../errors.js';
import { ByteWriter, SEQ_BYTES, writeSeq } from '../file/byte-writer.js';
import type { ChangeTarget } from './change-list.js';
import { readDocument } from './id-tree.js';
import { localSeqOf } from './local-tree.js';
import { Overlay } from './overlay.js';
import { decodePurgeInfo } from './purge-tree.js';
import { readPath } from './rev-tree.js';
import { seqKey, writePlainLeaf, writeRowHead } from './seq-tree.js';
import { type Metadata, type PerTree, perTree, TREE_NAMES } from './state.js';

export class OverlaySet implements ChangeTarget {
  readonly overlays: PerTree<Overlay> = perTree(() => new Overlay());
  /** What the operations applied next belong to. */
  #version = 0;
  /** The update seq that the next document or metadata operation takes. */
  #nextSeq = 0;
  #metadataChanged = false;
  /** Hears of changed metadata. */
  onMetadata: (metadata: Metadata) => void = () => undefined;
  readonly #value = new ByteWriter();
  readonly #key = new Uint8Array(SEQ_BYTES);

  /** Bytes of all overlays. */
  get bytes(): number {
    let bytes = 0;
    for (const name of TREE_NAMES) bytes += this.overlays[name].bytes;
    return bytes;
  }

  /** True if there is nothing to flush. */
  get empty(): boolean {
    return !this.#metadataChanged && TREE_NAMES.every((name) => this.overlays[name].count === 0);
  }

  /** Before the commits of a file are replayed. The keys of the other trees mostly come in order, or are few. */
  beginLoading(): void {
    this.overlays.byId.beginLoading();
  }

  endLoading(): void {
    this.overlays.byId.endLoading();
  }

  /** Begins the operations of one commit. */
  begin(version: number, nextSeq: number): void {
    this.#version = version;
    this.#nextSeq = nextSeq;
  }

  document(oldSeq: number, id: Uint8Array, document: Uint8Array, leaves: Uint8Array): void {
    const row = this.#beginDocument(oldSeq, id, document);
    row.append(leaves);
    this.#endDocument();
  }

  plainDocument(oldSeq: number, id: Uint8Array, document: Uint8Array, ref: Uint8Array): void {
    const path = readPath(readDocument(document).tree);
    if (path === undefined) throw new DivanError('CORRUPT', 'a plain document has conflicts');
    const row = this.#beginDocument(oldSeq, id, document);
    writePlainLeaf(row, path.leaf, path.deleted, ref);
    this.#endDocument();
  }

  /** Puts the document into by-id and returns the head of its row, to be completed. */
  #beginDocument(oldSeq: number, id: Uint8Array, document: Uint8Array): ByteWriter {
    const value = this.#value;
    value.clear();
    value.seq(this.#nextSeq);
    value.append(document);
    this.overlays.byId.put(id, value.view(), this.#version);
    this.#removeRow(oldSeq);
    value.clear();
    writeRowHead(value, document, id);
    return value;
  }

  #endDocument(): void {
    writeSeq(this.#key, 0, this.#nextSeq++);
    this.overlays.bySeq.put(this.#key, this.#value.view(), this.#version);
  }

  #removeRow(seq: number): void {
    if (seq > 0) this.overlays.bySeq.put(seqKey(seq), undefined, this.#version);
  }

  purgedDocument(oldSeq: number, id: Uint8Array): void {
    this.overlays.byId.put(id, undefined, this.#version);
    this.#removeRow(oldSeq);
  }

  localDoc(oldSeq: number, id: Uint8Array, value: Uint8Array): void {
    const { local, localBySeq } = this.overlays;
    local.put(id, value, this.#version);
    if (oldSeq > 0) localBySeq.put(seqKey(oldSeq), undefined, this.#version);
    localBySeq.put(seqKey(localSeqOf(value)), id, this.#version);
  }

  purgeInfo(seq: number, value: Uint8Array): void {
    const { purgeBySeq, purgeByUuid } = this.overlays;
    purgeBySeq.put(seqKey(seq), value, this.#version);
    purgeByUuid.put(decodePurgeInfo(value).uuid, seqKey(seq), this.#version);
  }

  droppedPurgeInfo(seq: number, uuid: Uint8Array): void {
    this.overlays.purgeBySeq.put(seqKey(seq), undefined, this.#version);
    this.overlays.purgeByUuid.put(uuid, undefined, this.#version);
  }

  metadata(metadata: Metadata): void {
    this.#nextSeq++;
    this.#metadataChanged = true;
    this.onMetadata(metadata);
  }
}
