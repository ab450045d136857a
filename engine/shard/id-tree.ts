/**
 * The tree by-id: what is known of each document but where its bodies stand (FORMAT.md section 9, "document").
 */
import type { TreeShape } from '../btree/tree.js';
import { ByteReader } from '../file/byte-reader.js';
import { type ByteWriter, SEQ_BYTES } from '../file/byte-writer.js';
import { byteAt } from '../file/bytes.js';
import { VarintReader } from '../file/varint.js';

export const DOCUMENT_DELETED = 1;
/** Where the flags stand in a document. */
export const DOCUMENT_FLAGS_AT = 4;

/** A document without its update seq. */
export interface DocumentValue {
  readonly hash: number;
  /** The winner is a tombstone. */
  readonly deleted: boolean;
  readonly activeBytes: number;
  readonly externalBytes: number;
  /** The encoded revision tree. */
  readonly tree: Uint8Array;
}

/** A document as it stands in by-id. */
export interface StoredDocument extends DocumentValue {
  readonly seq: number;
}

const varint = new VarintReader();

export const idShape: TreeShape = {
  name: 'by-id',
  measures: 4,
  measure(bytes, _keyStart, keyEnd, _end, totals) {
    const flagsAt = keyEnd + SEQ_BYTES + DOCUMENT_FLAGS_AT;
    const deleted = (byteAt(bytes, flagsAt) & DOCUMENT_DELETED) !== 0;
    const index = deleted ? 1 : 0;
    totals[index] = (totals[index] ?? 0) + 1;
    const sizes = varint.reset(bytes, flagsAt + 1);
    totals[2] = (totals[2] ?? 0) + sizes.next();
    totals[3] = (totals[3] ?? 0) + sizes.next();
  },
};

/** Appends all of a document before its revision tree, which the caller appends next. */
export function writeDocumentHead(
  out: ByteWriter,
  hash: number,
  deleted: boolean,
  sizes: Pick<DocumentValue, 'activeBytes' | 'externalBytes'>,
): void {
  out.u32(hash);
  out.u8(deleted ? DOCUMENT_DELETED : 0);
  out.varint(sizes.activeBytes);
  out.varint(sizes.externalBytes);
}

/** Reads a document that starts at `at`. The tree is a view. Throws `CORRUPT`. */
export function readDocument(bytes: Uint8Array, at = 0): DocumentValue {
  const reader = new ByteReader().reset(bytes, at);
  const hash = reader.u32();
  const deleted = (reader.u8() & DOCUMENT_DELETED) !== 0;
  const activeBytes = reader.varint();
  const externalBytes = reader.varint();
  return { hash, deleted, activeBytes, externalBytes, tree: bytes.subarray(reader.at) };
}

/** Reads a value of by-id. Throws `CORRUPT`. */
export function readStoredDocument(value: Uint8Array): StoredDocument {
  const reader = new ByteReader().reset(value);
  const seq = reader.seq();
  return { seq, ...readDocument(value, SEQ_BYTES) };
}
