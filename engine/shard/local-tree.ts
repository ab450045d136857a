/**
 * Local docs (`_local/…`): the trees `local` and `local-by-seq` of FORMAT.md section 9. They have no revision tree and
 * are never replicated; the second tree lets a rewrite catch up with what changed.
 */
import type { TreeShape } from '../btree/tree.js';
import { ByteReader, readSeq } from '../file/byte-reader.js';
import { type ByteWriter, SEQ_BYTES } from '../file/byte-writer.js';
import { byteAt } from '../file/bytes.js';

/** `_local/` is not part of the key. */
export const LOCAL_PREFIX = '_local/';
export const LOCAL_BODY_BYTES_MAX = 8 * 1024 * 1024;

const DELETED = 1;

export interface LocalDoc {
  /** The local seq of its latest change. */
  readonly seq: number;
  readonly deleted: boolean;
  /** Shown as `0-<revision>`. */
  readonly revision: number;
  /** The body as JSON text; empty when deleted. */
  readonly body: Uint8Array;
}

export const localShape: TreeShape = {
  name: 'local',
  measures: 1,
  measure(bytes, _keyStart, keyEnd, _end, totals) {
    if ((byteAt(bytes, keyEnd + SEQ_BYTES) & DELETED) === 0) totals[0] = (totals[0] ?? 0) + 1;
  },
};

export const localBySeqShape: TreeShape = {
  name: 'local-by-seq',
  measures: 1,
  measure(_bytes, _keyStart, _keyEnd, _end, totals) {
    totals[0] = (totals[0] ?? 0) + 1;
  },
};

/** Appends the value of a local doc to `out`. */
export function writeLocalDoc(out: ByteWriter, doc: LocalDoc): void {
  out.seq(doc.seq);
  out.u8(doc.deleted ? DELETED : 0);
  out.varint(doc.revision);
  out.append(doc.body);
}

/** Decodes a value of the tree `local`. The body is a view. Throws `CORRUPT`. */
export function readLocalDoc(value: Uint8Array): LocalDoc {
  const reader = new ByteReader().reset(value);
  const seq = reader.seq();
  const deleted = (reader.u8() & DELETED) !== 0;
  const revision = reader.varint();
  return { seq, deleted, revision, body: value.subarray(reader.at) };
}

/** The local seq of a value without decoding the rest. */
export function localSeqOf(value: Uint8Array): number {
  return readSeq(value, 0);
}
