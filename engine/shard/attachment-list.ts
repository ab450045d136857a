/**
 * The attachments of a leaf revision as they stand in its row: FORMAT.md section 9, "leaf".
 */

import { DivanError } from '../errors.js';
import { pack, type Unpacked, unpack } from '../file/pack.js';
import { REF_BYTES, type Ref, readRef, writeRef } from '../file/ref.js';

/** An attachment is stored in pieces of at most this many bytes, so that none has to be held in memory whole. */
export const PIECE_BYTES_MAX = 1024 * 1024;
export const ATTACHMENT_BYTES_MAX = 2 ** 36;
export const ATTACHMENTS_MAX = 4096;
export const ATTACHMENT_NAME_BYTES_MAX = 1024;
export const ATTACHMENT_TYPE_BYTES_MAX = 256;
export const DIGEST_BYTES = 16;

/** Stored bytes: where they stand and what they are. */
export interface StoredBytes {
  /** MD5 of the stored bytes. */
  readonly digest: Uint8Array;
  /** How many bytes are stored. */
  readonly length: number;
  /** How they are encoded; undefined: as they are. */
  readonly encoding: 'gzip' | undefined;
  /** The length after decoding. */
  readonly decodedLength: number;
  readonly refs: readonly Ref[];
}

/** An attachment of a revision. */
export interface Attachment extends StoredBytes {
  readonly name: string;
  readonly contentType: string;
  /** The generation of the revision that brought it. */
  readonly revpos: number;
}

/** Encodes attachments in the order of the UTF-8 bytes of their names. */
export function encodeAttachments(attachments: readonly Attachment[]): Uint8Array {
  const sorted = [...attachments].sort((a, b) =>
    Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
  return pack(
    sorted.map((attachment) => [
      attachment.name,
      attachment.contentType,
      attachment.revpos,
      attachment.digest,
      attachment.length,
      attachment.encoding ?? null,
      attachment.decodedLength,
      packRefs(attachment.refs),
    ]),
  );
}

/** Throws `CORRUPT`. */
export function decodeAttachments(bytes: Uint8Array): Attachment[] {
  return unpack(bytes).each((list) => decodeAttachment(list.array()));
}

function decodeAttachment(parts: Unpacked): Attachment {
  return {
    name: parts.text(),
    contentType: parts.text(),
    revpos: parts.int(),
    digest: parts.binary(DIGEST_BYTES),
    length: parts.int(),
    encoding: decodeEncoding(parts.textOrNull()),
    decodedLength: parts.int(),
    refs: unpackRefs(parts.binary()),
  };
}

function decodeEncoding(text: string | undefined): 'gzip' | undefined {
  if (text === undefined || text === 'gzip') return text;
  throw new DivanError('CORRUPT', `an attachment has the unknown encoding ${text}`);
}

function packRefs(refs: readonly Ref[]): Uint8Array {
  const bytes = new Uint8Array(refs.length * REF_BYTES);
  for (const [index, ref] of refs.entries()) writeRef(bytes, index * REF_BYTES, ref);
  return bytes;
}

function unpackRefs(bytes: Uint8Array): Ref[] {
  if (bytes.length % REF_BYTES !== 0)
    throw new DivanError('CORRUPT', 'a list of refs is cut short');
  const refs: Ref[] = [];
  for (let at = 0; at < bytes.length; at += REF_BYTES) refs.push(readRef(bytes, at));
  return refs;
}
