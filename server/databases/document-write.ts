/** Documents as clients write them, as writes of a database. */
import { DivanError } from '../../engine/errors.js';
import type { AttachmentInputs } from '../../engine/shard/attachment-input.js';
import type { StoredBytes } from '../../engine/shard/attachment-list.js';
import { inlineSource } from '../../engine/shard/attachment-upload.js';
import { parseLocalRev, type ScannedDocument } from '../../engine/shard/document.js';
import { LOCAL_PREFIX } from '../../engine/shard/local-tree.js';
import type { LocalEdit } from '../../engine/shard/local-writer.js';
import { compareRevisions, formatRev, type Revision } from '../../engine/shard/revision.js';
import type { DocumentWrite, NewAttachment } from './shard-writer.js';

export interface WriteOptions {
  /** The id that the path names; it wins over the one in the document. */
  readonly id: Uint8Array;
  /** The revision that the query or a header names; one in the document must be the same. */
  readonly rev?: Revision | undefined;
  /** False for a replicated revision, which is stored as it is. */
  readonly newEdits: boolean;
  /** The attachments that followed the document, stored already. */
  readonly following?: ReadonlyMap<string, StoredBytes>;
  /** How large an attachment may be. */
  readonly attachmentBytesMax: number;
  /** How bytes of the scanner are copied, which are valid until its next scan only. */
  readonly copy?: (bytes: Uint8Array) => Uint8Array;
}

const copyEach = (bytes: Uint8Array) => new Uint8Array(bytes);

/** The write of a scanned document, with bytes of its own. Throws `BAD_REQUEST`, `INVALID_DOCUMENT`. */
export function documentWrite(scanned: ScannedDocument, options: WriteOptions): DocumentWrite {
  const { deleted, localRevision } = scanned;
  if (localRevision !== undefined) {
    throw new DivanError('INVALID_DOCUMENT', `Invalid rev format: 0-${localRevision}`);
  }
  const { copy = copyEach } = options;
  const attachments =
    scanned.attachments === undefined ? undefined : newAttachments(scanned.attachments, options);
  const write = { id: copy(options.id), body: copy(scanned.body), deleted, attachments };
  const rev = agreed(scanned.rev, options.rev);
  if (options.newEdits) return { ...write, parent: rev ?? scanned.path?.[0] };
  const path = scanned.path ?? (rev === undefined ? undefined : [rev]);
  if (path !== undefined) return { ...write, path };
  throw new DivanError(
    'BAD_REQUEST',
    'a replicated document (new_edits=false) needs its _rev or _revisions',
  );
}

/** Throws `TOO_LARGE`, and `INVALID_DOCUMENT` for an attachment whose bytes are nowhere. */
function newAttachments(
  inputs: AttachmentInputs,
  { following, attachmentBytesMax: bytesMax }: WriteOptions,
): ReadonlyMap<string, NewAttachment> {
  return new Map(
    [...inputs].map(([name, input]) => {
      const { contentType, revpos, content } = input;
      if (typeof content !== 'string' && content.length > bytesMax) {
        throw new DivanError('TOO_LARGE', `an attachment has at most ${bytesMax} bytes`);
      }
      const followed = content === 'follows' ? following?.get(name) : undefined;
      const bytes = followed ?? inlineSource(name, input, bytesMax);
      return [name, { contentType, revpos, content: bytes }];
    }),
  );
}

/** Throws `TOO_LARGE` for a document of more bytes, its attachments not counted. */
export function checkSize({ body }: ScannedDocument, bytesMax: number): void {
  if (body.length <= bytesMax) return;
  throw new DivanError('TOO_LARGE', `a document has at most ${bytesMax} bytes`);
}

/** The one revision of two places that may name it. Throws `BAD_REQUEST` if they differ. */
export function agreed(
  inDocument: Revision | undefined,
  besides: Revision | undefined,
): Revision | undefined {
  return theOne(inDocument, besides, (a, b) => compareRevisions(a, b) === 0);
}

function theOne<T>(
  inDocument: T | undefined,
  besides: T | undefined,
  isSame: (a: T, b: T) => boolean,
): T | undefined {
  if (inDocument === undefined || besides === undefined) return inDocument ?? besides;
  if (isSame(inDocument, besides)) return inDocument;
  throw new DivanError(
    'BAD_REQUEST',
    'Document rev from request body and query string have different values',
  );
}

/**
 * The write of a scanned local doc; `besides`: the `N` of the revision that the query or a header names. REQUIRES: the id begins with
 * `_local/`. Throws `BAD_REQUEST`, `INVALID_DOCUMENT`.
 */
export function localWrite(scanned: ScannedDocument, id: Uint8Array, besides?: number): LocalEdit {
  // One of a document with an id of its own, which the path overrules.
  if (scanned.rev !== undefined) parseLocalRev(formatRev(scanned.rev));
  return {
    id: new Uint8Array(id.subarray(LOCAL_PREFIX.length)),
    body: scanned.deleted ? undefined : new Uint8Array(scanned.body),
    revision: theOne(scanned.localRevision, besides, (a, b) => a === b),
  };
}
