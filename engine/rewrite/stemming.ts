/** Stemming documents of by-id, which a compaction does after the revs limit was lowered. */
import { ByteWriter, SEQ_BYTES } from '../file/byte-writer.js';
import { readDocument, writeDocumentHead } from '../shard/id-tree.js';
import { decodeTree, encodeTree, stem } from '../shard/rev-tree.js';

/** No revision takes fewer bytes in an encoded tree: shorter trees need no stemming. */
const REVISION_BYTES_MIN = 2;

/** False if a value of so many bytes is certainly short enough. */
export function mayBeStemmed(valueBytes: number, revsLimit: number): boolean {
  return valueBytes > revsLimit * REVISION_BYTES_MIN;
}

const scratch = new ByteWriter();

/**
 * The value of by-id that stands in `bytes[start, end)`, with at most `revsLimit` revisions on each branch; undefined if it can
 * stay. A view, valid until the next call. Throws `CORRUPT`.
 */
export function stemmedDocument(
  bytes: Uint8Array,
  start: number,
  end: number,
  revsLimit: number,
): Uint8Array | undefined {
  if (!mayBeStemmed(end - start, revsLimit)) return undefined;
  const value = bytes.subarray(start, end);
  const document = readDocument(value, SEQ_BYTES);
  scratch.clear();
  scratch.append(value.subarray(0, SEQ_BYTES));
  writeDocumentHead(scratch, document.hash, document.deleted, document);
  encodeTree(scratch, stem(decodeTree(document.tree), revsLimit));
  return scratch.view();
}
