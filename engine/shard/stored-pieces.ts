/**
 * The bytes of attachments that no document names yet, and the file in which they stand. An upload may outlast the file that it began in: a
 * compaction or a split puts other files in its place, into which the attachment is copied when its document is written.
 */
import { createHash } from 'node:crypto';
import { DivanError } from '../errors.js';
import type { AppendFile } from '../file/append-file.js';
import type { Ref } from '../file/ref.js';
import { ATTACHMENT_BYTES_MAX, PIECE_BYTES_MAX, type StoredBytes } from './attachment-list.js';

/** By their refs. Only what was stored through a shard is here: others may name bytes that were cut off since. */
export const STORED_IN = new WeakMap<readonly Ref[], AppendFile>();

/** Appends the bytes of an attachment to a file as they come. Throws `LIMIT`, and what the source and writing throw. */
export async function storePieces(
  file: AppendFile,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<StoredBytes> {
  const md5 = createHash('md5');
  const refs: Ref[] = [];
  let length = 0;
  for await (const piece of inPieces(source)) {
    length += piece.length;
    if (length > ATTACHMENT_BYTES_MAX) {
      throw new DivanError('LIMIT', `an attachment has at most ${ATTACHMENT_BYTES_MAX} bytes`);
    }
    md5.update(piece);
    refs.push(await file.appendRun(piece));
  }
  STORED_IN.set(refs, file);
  return { digest: md5.digest(), length, encoding: undefined, decodedLength: length, refs };
}

/** Regroups a stream into pieces of the size in which attachments are stored. */
async function* inPieces(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let pending: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + PIECE_BYTES_MAX - bytes);
      pending.push(part);
      bytes += part.length;
      at += part.length;
      if (bytes < PIECE_BYTES_MAX) continue;
      yield Buffer.concat(pending);
      pending = [];
      bytes = 0;
    }
  }
  if (bytes > 0) yield Buffer.concat(pending);
}
