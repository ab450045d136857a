/**
 * The tree by-seq: the latest update of each document, in the order of updates, with the places of its bodies and attachments
 * (FORMAT.md section 9, "row").
 */
import type { TreeShape } from '../btree/tree.js';
import { ByteReader } from '../file/byte-reader.js';
import { type ByteWriter, SEQ_BYTES, writeSeq } from '../file/byte-writer.js';
import { REF_BYTES, type Ref } from '../file/ref.js';
import { type Attachment, decodeAttachments, encodeAttachments } from './attachment-list.js';
import { DOCUMENT_DELETED, DOCUMENT_FLAGS_AT } from './id-tree.js';
import { type Revision, readRevision, skipRevision, writeRevision } from './revision.js';

const LEAF_DELETED = 1;
export const LEAF_ATTACHMENTS = 2;

/** A leaf revision and where its content stands. */
export interface Leaf {
  readonly revision: Revision;
  readonly deleted: boolean;
  /** Of length 0 for the body `{}`. */
  readonly body: Ref;
  readonly attachments: readonly Attachment[];
}

export interface Row {
  readonly hash: number;
  /** The winner is a tombstone. */
  readonly deleted: boolean;
  readonly id: Uint8Array;
  /** The winner first. */
  readonly leaves: readonly Leaf[];
}

/** Where the flags stand in a row, and behind them the length and the bytes of the id. */
export const ROW_FLAGS_AT = DOCUMENT_FLAGS_AT;
export const ROW_ID_AT = ROW_FLAGS_AT + 1;

export const seqShape: TreeShape = {
  name: 'by-seq',
  measures: 1,
  measure(_bytes, _keyStart, _keyEnd, _end, totals) {
    totals[0] = (totals[0] ?? 0) + 1;
  },
};

/** The key of an update seq. */
export function seqKey(seq: number): Uint8Array {
  const key = new Uint8Array(SEQ_BYTES);
  writeSeq(key, 0, seq);
  return key;
}

/** Appends what comes before the leaves; hash and flags are those of the document. */
export function writeRowHead(out: ByteWriter, document: Uint8Array, id: Uint8Array): void {
  out.append(document.subarray(0, DOCUMENT_FLAGS_AT + 1));
  out.prefixed(id);
}

/** Appends the number of leaves and the leaves. */
export function writeLeaves(out: ByteWriter, leaves: readonly Leaf[]): void {
  out.varint(leaves.length);
  for (const { revision, deleted, body, attachments } of leaves) {
    out.u8((deleted ? LEAF_DELETED : 0) | (attachments.length > 0 ? LEAF_ATTACHMENTS : 0));
    writeRevision(out, revision);
    out.ref(body);
    if (attachments.length > 0) out.prefixed(encodeAttachments(attachments));
  }
}

/** As `writeLeaves`, of one leaf without attachments whose ref is packed already. */
export function writePlainLeaf(
  out: ByteWriter,
  revision: Revision,
  deleted: boolean,
  packedRef: Uint8Array,
): void {
  out.u8(1);
  out.u8(deleted ? LEAF_DELETED : 0);
  writeRevision(out, revision);
  out.append(packedRef);
}

/** Reads a row. Ids and revisions are views. Throws `CORRUPT`. */
export function readRow(value: Uint8Array): Row {
  const reader = new ByteReader().reset(value);
  const hash = reader.u32();
  const deleted = (reader.u8() & DOCUMENT_DELETED) !== 0;
  const id = reader.prefixed();
  return { hash, deleted, id, leaves: readLeaves(reader) };
}

export function readLeaves(reader: ByteReader): Leaf[] {
  const leaves: Leaf[] = [];
  for (let left = reader.varint(); left > 0; left--) leaves.push(readLeaf(reader));
  return leaves;
}

function readLeaf(reader: ByteReader): Leaf {
  const flags = reader.u8();
  const revision = readRevision(reader);
  const body = reader.ref();
  const attachments = (flags & LEAF_ATTACHMENTS) !== 0 ? decodeAttachments(reader.prefixed()) : [];
  return { revision, deleted: (flags & LEAF_DELETED) !== 0, body, attachments };
}

/** Where the parts of a row of a single leaf without attachments stand, for those that copy many rows. */
export class PlainRowReader {
  readonly #reader = new ByteReader();
  /** Where the packed ref of the body starts. */
  refAt = 0;

  /** True if the row that starts at `at` is of one leaf without attachments; `refAt` is then set. Throws `CORRUPT`. */
  read(bytes: Uint8Array, at: number): boolean {
    const reader = this.#reader.reset(bytes, at);
    reader.skip(ROW_ID_AT);
    reader.skip(reader.varint());
    if (reader.varint() !== 1 || (reader.u8() & LEAF_ATTACHMENTS) !== 0) return false;
    skipRevision(reader);
    this.refAt = reader.skip(REF_BYTES);
    return true;
  }
}
