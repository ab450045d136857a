/**
 * Writing documents: a batch of edits as one write request.
 *
 * A document without conflicts that a plain edit extends is changed by splicing bytes: no revision tree is decoded. All else
 * goes through `mergeEdit`.
 */
import assert from 'node:assert';
import { NOT_CACHED } from '../btree/lookup.js';
import { DivanError, isDivanError } from '../errors.js';
import { ByteWriter } from '../file/byte-writer.js';
import { REF_BYTES, type Ref, readRef, writeRef } from '../file/ref.js';
import { EMPTY_BODY_REF } from './commit-builder.js';
import type { WriteRequest } from './commit-queue.js';
import {
  type Current,
  type DocumentEdit,
  type Merged,
  mergeEdit,
  needsRow,
  parentOf,
  type Revised,
  revise,
  type Sizes,
  sizesOf,
} from './edit.js';
import { assertInRange, hashOf } from './hash.js';
import { readStoredDocument, type StoredDocument, writeDocumentHead } from './id-tree.js';
import { type EncodedPath, encodeTree, readPath, writePath } from './rev-tree.js';
import { codeBytes, type Revision } from './revision.js';
import { type Leaf, type Row, readRow, seqKey, writeLeaves, writePlainLeaf } from './seq-tree.js';
import { STORED_IN } from './stored-pieces.js';
import type { WriteContext } from './write-context.js';

/** Bodies from this size on are written before their commit instead of inside it. */
const LARGE_BODY_BYTES = 1024 * 1024;
/** What by-id and by-seq hold of one document: a bound for nodes and change lists. */
const VALUE_BYTES_MAX = 16 * 1024 * 1024;
/** What an edit takes of a commit besides its id and body. */
const EDIT_OVERHEAD_BYTES = 128;
const EMPTY_BODY_LENGTH = 2;
/** A batch has at most so many edits, and is full when they have so many bytes: it is applied in one go, bodies are hashed then. */
const BATCH_EDITS_MAX = 500;
const BATCH_BYTES_MAX = 4 * 1024 * 1024;

/** What became of an edit. */
export type EditOutcome =
  | { readonly ok: true; readonly rev: Revision; readonly seq: number }
  | { readonly ok: false; readonly error: DivanError };

interface Prepared {
  /** With attachments that are stored in the file of the commit. */
  edit: DocumentEdit;
  readonly hash: number;
  stored: StoredDocument | undefined;
  row: Row | undefined;
  /** The place of a large body. */
  largeBody: Ref | undefined;
}

const scratch = new ByteWriter();
const documentBytes = new ByteWriter();
const packedRef = new Uint8Array(REF_BYTES);

export class EditBatch implements WriteRequest {
  readonly cost: number;
  readonly outcomes: EditOutcome[] = [];
  readonly #context: WriteContext;
  #edits: readonly DocumentEdit[];
  readonly #prepared: Prepared[] = [];

  constructor(context: WriteContext, edits: readonly DocumentEdit[]) {
    this.#context = context;
    this.#edits = edits;
    let cost = 0;
    for (const { id, body } of edits) cost += editCost(id.length, body.length);
    this.cost = cost;
  }

  get hasAttachments(): boolean {
    return this.#edits.some(({ attachments }) => attachments !== undefined);
  }

  /** Sees to it that attachments are in the file, before the batch waits for its commit, which nothing large should hold up. */
  async bringAttachments(): Promise<void> {
    const edits: DocumentEdit[] = [];
    for (const edit of this.#edits) edits.push(await this.#withAttachmentsHere(edit));
    this.#edits = edits;
  }

  /** The outcomes when all edits are refused with one error. */
  refused(error: DivanError): EditOutcome[] {
    return this.#edits.map(() => ({ ok: false, error }));
  }

  async prepare(): Promise<void> {
    const waiting: Promise<void>[] = [];
    for (const edit of this.#edits) {
      const prepared = newPrepared(edit, hashOf(edit.id, this.#context.metadata.hashRule));
      this.#prepared.push(prepared);
      const value = this.#context.view('byId').getCached(edit.id);
      // The common edit makes a new document and needs nothing from the file: no promise then.
      const small = edit.body.length < LARGE_BODY_BYTES && edit.attachments === undefined;
      if (value === undefined && small) continue;
      waiting.push(this.#prepareEdit(prepared, value));
    }
    await Promise.all(waiting);
  }

  apply(): void {
    for (const prepared of this.#prepared) {
      try {
        this.outcomes.push(this.#applyEdit(prepared));
      } catch (error) {
        if (!isDivanError(error)) throw error;
        this.outcomes.push({ ok: false, error });
      }
    }
  }

  async #prepareEdit(
    prepared: Prepared,
    cached: Uint8Array | undefined | typeof NOT_CACHED,
  ): Promise<void> {
    const { id, body } = prepared.edit;
    const value = cached === NOT_CACHED ? await this.#context.view('byId').get(id) : cached;
    if (value !== undefined) await this.#prepareExisting(prepared, value);
    prepared.edit = await this.#withAttachmentsHere(prepared.edit);
    if (body.length >= LARGE_BODY_BYTES) prepared.largeBody = await this.#writeLarge(body);
  }

  async #prepareExisting(prepared: Prepared, value: Uint8Array): Promise<void> {
    const stored = readStoredDocument(value);
    prepared.stored = stored;
    if (!needsRow(prepared.edit, stored)) return;
    prepared.row = rowOf(await this.#context.view('bySeq').get(seqKey(stored.seq)), stored.seq);
  }

  /** Attachments that were stored in another file, before a compaction or a split, are copied into this one. */
  async #withAttachmentsHere(edit: DocumentEdit): Promise<DocumentEdit> {
    const attachments = new Map(edit.attachments);
    for (const [name, attachment] of attachments) {
      if (attachment.stored === undefined) continue;
      const refs = await this.#refsHere(attachment.stored.refs);
      attachments.set(name, { ...attachment, stored: { ...attachment.stored, refs } });
    }
    return edit.attachments === undefined ? edit : { ...edit, attachments };
  }

  async #refsHere(refs: readonly Ref[]): Promise<readonly Ref[]> {
    const { file, copiesOf } = this.#context;
    const from = STORED_IN.get(refs);
    assert(from !== undefined, 'attachments are stored through a shard');
    if (from === file) return refs;
    const known = copiesOf.get(refs);
    if (known !== undefined) return this.#refsHere(known);
    const copies: Ref[] = [];
    for (const ref of refs) copies.push(await file.appendRun(await from.read(ref)));
    STORED_IN.set(copies, file);
    copiesOf.set(refs, copies);
    return copies;
  }

  #writeLarge(body: Uint8Array): Promise<Ref> {
    return this.#context.file.appendRun(body);
  }

  #applyEdit(prepared: Prepared): EditOutcome {
    const { metadata, touched } = this.#context;
    const { hash, edit } = prepared;
    assertInRange(edit.id, metadata, hash);
    if (touched.has(hash)) this.#refresh(prepared);
    const path = this.#plainPath(prepared);
    const outcome =
      path === undefined ? this.#merge(prepared) : this.#splice(prepared, path.existing);
    touched.add(hash);
    return outcome;
  }

  /** Reads again what an earlier edit of the same commit may have changed: all of that is in the newest overlay. */
  #refresh(prepared: Prepared): void {
    const { byId, bySeq } = this.#context.overlays.overlays;
    const handle = byId.find(prepared.edit.id, Number.MAX_SAFE_INTEGER);
    if (handle === 0) return;
    const value = byId.valueOf(handle);
    prepared.stored = value === undefined ? undefined : readStoredDocument(value);
    prepared.row = undefined;
    if (prepared.stored === undefined) return;
    const { seq } = prepared.stored;
    const rowHandle = bySeq.find(seqKey(seq), Number.MAX_SAFE_INTEGER);
    if (rowHandle !== 0) prepared.row = rowOf(bySeq.valueOf(rowHandle), seq);
  }

  /** The path to extend, if splicing will do: a plain edit of a document without conflicts, or a new one. */
  #plainPath(prepared: Prepared): { existing: EncodedPath | undefined } | undefined {
    const { edit, stored } = prepared;
    if (edit.path !== undefined) return undefined;
    if (stored === undefined) return { existing: undefined };
    const existing = readPath(stored.tree);
    return existing === undefined ? undefined : { existing };
  }

  /** Puts a new revision in front of the path of a document without conflicts. */
  #splice(prepared: Prepared, existing: EncodedPath | undefined): EditOutcome {
    const { edit, row } = prepared;
    const leaves =
      existing === undefined ? [] : [{ revision: existing.leaf, deleted: existing.deleted }];
    const revised = revise(edit, parentOf(edit, leaves), row);
    const body = this.#placeBody(prepared);
    const sizes = sizesOf([{ body, attachments: revised.attachments }]);
    documentBytes.clear();
    writeDocumentHead(documentBytes, prepared.hash, edit.deleted, sizes);
    this.#writeSplicedPath(documentBytes, revised.revision, edit.deleted, existing);
    this.#count(prepared, edit.deleted, sizes);
    this.#writePlain(prepared, revised, body);
    return { ok: true, rev: revised.revision, seq: this.#context.counters.updateSeq };
  }

  #writeSplicedPath(
    out: ByteWriter,
    revision: Revision,
    deleted: boolean,
    existing: EncodedPath | undefined,
  ): void {
    if (existing === undefined) {
      writePath(out, revision.gen, deleted, 1, [revision.code]);
      return;
    }
    const limit = this.#context.metadata.revsLimit;
    const count = Math.min(existing.count, limit - 1);
    const older = codesOf(existing, count);
    writePath(out, revision.gen, deleted, count + 1, [revision.code, older]);
  }

  /** The operation for a document with one leaf, whose bytes up to the tree are in `documentBytes`. */
  #writePlain(prepared: Prepared, revised: Revised, body: Ref): void {
    const { builder, overlays } = this.#context;
    const { id, deleted } = prepared.edit;
    const document = documentBytes.view();
    const oldSeq = prepared.stored?.seq ?? 0;
    scratch.clear();
    if (revised.attachments.length === 0) {
      writePlainLeaf(scratch, revised.revision, deleted, packedRef);
      builder.changes.plainDocument(oldSeq, id, document, packedRef);
      // What a replay of the plain operation makes of it, without taking it apart again.
      overlays.document(oldSeq, id, document, scratch.view());
      return;
    }
    writeLeaves(scratch, [{ ...revised, deleted, body }]);
    builder.changes.document(oldSeq, id, document, scratch.view());
    overlays.document(oldSeq, id, document, scratch.view());
  }

  #merge(prepared: Prepared): EditOutcome {
    const { edit, stored, row } = prepared;
    const { metadata, counters } = this.#context;
    const current: Current | undefined =
      stored === undefined ? undefined : { document: stored, row };
    const merged = mergeEdit(edit, current, readRef(EMPTY_BODY_REF, 0), metadata.revsLimit);
    if (!merged.changed)
      return { ok: true, rev: merged.revision, seq: stored?.seq ?? counters.updateSeq };
    const leaves = merged.addsLeaf ? this.#placeLeaf(prepared, merged) : merged.leaves;
    const deleted = leaves[0]?.deleted ?? false;
    const sizes = sizesOf(leaves);
    documentBytes.clear();
    writeDocumentHead(documentBytes, prepared.hash, deleted, sizes);
    encodeTree(documentBytes, merged.tree);
    scratch.clear();
    writeLeaves(scratch, leaves);
    if (documentBytes.length > VALUE_BYTES_MAX || scratch.length > VALUE_BYTES_MAX) {
      throw new DivanError('LIMIT', 'a document has too many revisions or attachments');
    }
    this.#count(prepared, deleted, sizes);
    const oldSeq = stored?.seq ?? 0;
    this.#context.builder.changes.document(oldSeq, edit.id, documentBytes.view(), scratch.view());
    this.#context.overlays.document(oldSeq, edit.id, documentBytes.view(), scratch.view());
    return { ok: true, rev: merged.revision, seq: counters.updateSeq };
  }

  /** Gives the new leaf of a merged document its body. */
  #placeLeaf(prepared: Prepared, merged: Merged): Leaf[] {
    const body = this.#placeBody(prepared);
    return merged.leaves.map((leaf) =>
      leaf.revision === merged.revision ? { ...leaf, body } : leaf,
    );
  }

  /** Puts the body into the commit, unless it is large or empty; leaves its packed ref in `packedRef`. */
  #placeBody(prepared: Prepared): Ref {
    const { edit, largeBody } = prepared;
    const { builder } = this.#context;
    if (largeBody !== undefined) {
      builder.foreign = true;
      writeRef(packedRef, 0, largeBody);
      return largeBody;
    }
    for (const { stored } of edit.attachments?.values() ?? []) {
      if (stored === undefined) continue;
      assert(STORED_IN.get(stored.refs) === this.#context.file, 'they are in this file');
      builder.foreign = true;
    }
    if (edit.body.length <= EMPTY_BODY_LENGTH) packedRef.fill(0);
    else builder.appendBody(edit.body, packedRef, 0);
    return readRef(packedRef, 0);
  }

  /** Counts a changed document. */
  #count(prepared: Prepared, deleted: boolean, sizes: Sizes): void {
    const { counters } = this.#context;
    const { stored } = prepared;
    if (stored?.deleted === true) counters.deletedDocs--;
    else if (stored !== undefined) counters.liveDocs--;
    if (deleted) counters.deletedDocs++;
    else counters.liveDocs++;
    counters.activeBytes += sizes.activeBytes - (stored?.activeBytes ?? 0);
    counters.externalBytes += sizes.externalBytes - (stored?.externalBytes ?? 0);
    counters.updateSeq++;
  }
}

function newPrepared(edit: DocumentEdit, hash: number): Prepared {
  return { edit, hash, stored: undefined, row: undefined, largeBody: undefined };
}

/** What is applied in one go, where others have no turn, counts; for a large body too, of which only a ref gets into the commit. */
function editCost(idBytes: number, bodyBytes: number): number {
  return bodyBytes + idBytes + EDIT_OVERHEAD_BYTES;
}

/** Edits in the portions in which they are submitted. */
export function* inBatches(edits: readonly DocumentEdit[]): Generator<readonly DocumentEdit[]> {
  let start = 0;
  let bytes = 0;
  for (const [index, { body }] of edits.entries()) {
    const isFull = index - start === BATCH_EDITS_MAX || bytes + body.length > BATCH_BYTES_MAX;
    if (isFull && index > start) {
      yield edits.slice(start, index);
      start = index;
      bytes = 0;
    }
    bytes += body.length;
  }
  if (start < edits.length) yield edits.slice(start);
}

function rowOf(value: Uint8Array | undefined, seq: number): Row {
  if (value !== undefined) return readRow(value);
  throw new DivanError('CORRUPT', `by-id names the update seq ${seq}, which by-seq does not have`);
}

/** The codes of the newest `count` revisions of a path. */
function codesOf(path: EncodedPath, count: number): Uint8Array {
  if (count === path.count) return path.codes;
  let at = 0;
  for (let left = count; left > 0; left--) at += codeBytes(path.codes[at] ?? 0);
  return path.codes.subarray(0, at);
}
