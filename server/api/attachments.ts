/** `/{db}/{docid}/{attachment}`: the bytes of one attachment, streamed both ways. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { checkAttachmentName, checkAttachmentType } from '../../engine/shard/attachment-input.js';
import {
  ATTACHMENT_BYTES_MAX,
  type Attachment,
  DIGEST_BYTES,
} from '../../engine/shard/attachment-list.js';
import { isLocalId } from '../../engine/shard/document.js';
import { formatRev, type Revision } from '../../engine/shard/revision.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { Database } from '../databases/database.js';
import { ReadDocument } from '../databases/document-view.js';
import { checkPartition } from '../databases/partition.js';
import type { NewAttachment } from '../databases/shard-writer.js';
import { acceptsGzip } from '../http/accept.js';
import {
  type ByteRange,
  contentRange,
  parseRange,
  unsatisfiedContentRange,
} from '../http/byte-range.js';
import { isRangeWanted } from '../http/etags.js';
import type { Exchange } from '../http/exchange.js';
import { inflated } from '../http/inflate.js';
import { interruptible } from '../http/interruptible.js';
import { REST, type Route } from '../http/router.js';
import { assertMayWrite } from './design-documents.js';
import { UPLOAD_MEMORY_BYTES } from './document-upload.js';
import { documentId, leafOf, revisionOf } from './documents.js';
import type { Services } from './services.js';
import { replyWritten } from './written.js';

const EMPTY_BODY = Buffer.from('{}');
const UNKNOWN_TYPE = 'application/octet-stream';

export function attachmentRoutes(services: Services): Route[] {
  const attachments = new Attachments(services);
  const paths = [
    ['/:db/:doc/*', 'database_member'],
    ['/:db/_design/:ddoc/*', 'database_admin'],
  ] as const;
  return paths.flatMap(([path, access]): Route[] => [
    {
      method: 'GET',
      path,
      access: 'database_member',
      handle: (exchange) => attachments.get(exchange),
    },
    { method: 'PUT', path, access, handle: (exchange) => attachments.put(exchange) },
    { method: 'DELETE', path, access, handle: (exchange) => attachments.remove(exchange) },
  ]);
}

/** What an edit of an attachment starts from; without a leaf it makes a new document. */
interface Base {
  readonly body: Uint8Array;
  readonly deleted: boolean;
  readonly parent: Revision | undefined;
  /** The attachments that stay as they are, all as stubs. */
  readonly stubs: ReadonlyMap<string, NewAttachment>;
}

class Attachments {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  async get(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    const id = ownerId(exchange);
    const name = exchange.param(REST);
    const revision = revisionOf(exchange);
    await database.read(id, async (snapshot) => {
      const document = await ReadDocument.find(snapshot, id);
      const leaf =
        revision === undefined ? leafOf(document, exchange.query) : document?.leaf(revision);
      const attachment = leaf?.attachments.find((attachment) => attachment.name === name);
      if (attachment === undefined) throw missing();
      await new AttachmentReply(exchange, snapshot, attachment).send();
    });
  }

  async put(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    const id = ownerId(exchange);
    assertMayWrite(exchange, id);
    checkPartition(id, database.map.hashRule);
    const name = exchange.param(REST);
    checkAttachmentName(name);
    const contentType = exchange.header('content-type') ?? UNKNOWN_TYPE;
    checkAttachmentType(contentType);
    const encoding = encodingOf(exchange.header('content-encoding'));
    const digest = declaredDigest(exchange.header('content-md5'));
    const { body, deleted, parent, stubs } = await this.#base(database, id, revisionOf(exchange));
    exchange.holdMemory(UPLOAD_MEMORY_BYTES);
    const bytesMax = Math.min(
      this.#services.config.get('couchdb/max_attachment_size'),
      ATTACHMENT_BYTES_MAX,
    );
    const { rev } = await database.putUploaded(id, async (store, ending) => {
      const chunks = interruptible(exchange.encodedBodyStream(bytesMax), ending);
      const content = await store({ chunks, encoding, digest, bytesMax });
      const attachments = new Map(stubs).set(name, { contentType, revpos: undefined, content });
      return { id, body, deleted, parent, attachments };
    });
    replyWritten(exchange, 201, id, formatRev(rev));
  }

  async remove(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    const id = ownerId(exchange);
    assertMayWrite(exchange, id);
    const { body, deleted, parent, stubs } = await this.#base(database, id, revisionOf(exchange));
    const attachments = new Map(stubs);
    if (!attachments.delete(exchange.param(REST))) throw missing();
    const { rev } = await database.put({ id, body, deleted, parent, attachments });
    replyWritten(exchange, 200, id, formatRev(rev));
  }

  #database(exchange: Exchange): Database {
    return this.#services.catalog.get(exchange.param('db'));
  }

  /** Reads what is to be edited before anything is uploaded. Throws `CONFLICT` if the edit could not succeed. */
  #base(database: Database, id: Uint8Array, parent: Revision | undefined): Promise<Base> {
    return database.read(id, async (snapshot) => {
      const document = await ReadDocument.find(snapshot, id);
      const isNew = document === undefined || document.winner.deleted;
      if (parent === undefined && isNew) {
        return { body: EMPTY_BODY, deleted: false, parent, stubs: new Map() };
      }
      const leaf = parent === undefined ? undefined : document?.leaf(parent);
      if (leaf === undefined) throw new DivanError('CONFLICT', 'Document update conflict.');
      const body = await snapshot.body(leaf);
      return { body, deleted: leaf.deleted, parent, stubs: stubsOf(leaf) };
    });
  }
}

/** The id of the document that has the attachment. Throws `BAD_REQUEST` for a local one: it would be stored as a document like others. */
function ownerId(exchange: Exchange): Uint8Array {
  const id = documentId(exchange);
  if (!isLocalId(id)) return id;
  throw new DivanError('BAD_REQUEST', '_local documents do not accept attachments.');
}

function missing(): DivanError {
  return new DivanError('NOT_FOUND', 'Document is missing attachment');
}

function stubsOf(leaf: Leaf): ReadonlyMap<string, NewAttachment> {
  return new Map(
    leaf.attachments.map(({ name, contentType, revpos }) => [
      name,
      { contentType, revpos, content: undefined },
    ]),
  );
}

/** Throws `UNSUPPORTED_TYPE`. */
function encodingOf(header: string | undefined): 'gzip' | undefined {
  const encoding = header?.trim().toLowerCase() ?? 'identity';
  if (encoding === 'identity' || encoding === '') return undefined;
  if (encoding === 'gzip' || encoding === 'x-gzip') return 'gzip';
  throw new DivanError(
    'UNSUPPORTED_TYPE',
    'Only gzip and identity content-encodings are supported',
  );
}

/** Throws `BAD_REQUEST`. */
function declaredDigest(header: string | undefined): Uint8Array | undefined {
  if (header === undefined) return undefined;
  const digest = Buffer.from(header.trim(), 'base64');
  if (digest.length === DIGEST_BYTES) return digest;
  throw new DivanError('BAD_REQUEST', 'Content-MD5 must be an MD5 in base64');
}

/** The reply to one GET of an attachment. */
class AttachmentReply {
  readonly #exchange: Exchange;
  readonly #snapshot: Snapshot;
  readonly #attachment: Attachment;
  /** Whether the bytes are sent as they are stored. */
  readonly #asStored: boolean;
  readonly #length: number;
  /** The digest, by which clients know the bytes. */
  readonly #tag: string;

  constructor(exchange: Exchange, snapshot: Snapshot, attachment: Attachment) {
    this.#exchange = exchange;
    this.#snapshot = snapshot;
    this.#attachment = attachment;
    this.#asStored =
      attachment.encoding === undefined || acceptsGzip(exchange.header('accept-encoding'));
    this.#length = this.#asStored ? attachment.length : attachment.decodedLength;
    this.#tag = Buffer.from(attachment.digest).toString('base64');
  }

  async send(): Promise<void> {
    const { encoding } = this.#attachment;
    // Whoever wrote the bytes must not act as whoever reads them: no script of theirs has the origin of the server.
    this.#exchange.setHeader('Content-Security-Policy', 'sandbox');
    this.#exchange.setHeader('Accept-Ranges', encoding === undefined ? 'bytes' : 'none');
    if (encoding !== undefined) this.#exchange.setHeader('Vary', 'Accept-Encoding');
    if (this.#exchange.replyIfUnchanged(this.#tag)) return;
    const range = this.#range();
    const status = range === undefined ? 200 : 206;
    await this.#exchange.replyChunks(status, this.#bytes(range), this.#headers(range));
  }

  /** The part that is wanted. What is encoded has none: a part of it could not be decoded. */
  #range(): ByteRange | undefined {
    const exchange = this.#exchange;
    if (this.#attachment.encoding !== undefined || exchange.isHead) return undefined;
    if (!isRangeWanted(exchange.header('if-range'), this.#tag)) return undefined;
    try {
      return parseRange(exchange.header('range'), this.#length);
    } catch (error) {
      if (isDivanError(error, 'RANGE_NOT_SATISFIABLE')) {
        exchange.setHeader('Content-Range', unsatisfiedContentRange(this.#length));
      }
      throw error;
    }
  }

  #headers(range: ByteRange | undefined): Record<string, string> {
    const { contentType, encoding } = this.#attachment;
    const headers: Record<string, string> = {
      // What no header can hold is served as unknown.
      'Content-Type': /^[\t\x20-\x7e]+$/.test(contentType) ? contentType : UNKNOWN_TYPE,
      'Content-Length': String(range === undefined ? this.#length : range.end - range.start),
    };
    if (range !== undefined) headers['Content-Range'] = contentRange(range, this.#length);
    else if (this.#asStored) headers['Content-MD5'] = this.#tag;
    if (encoding !== undefined && this.#asStored) headers['Content-Encoding'] = encoding;
    return headers;
  }

  #bytes(range: ByteRange | undefined): AsyncIterable<Uint8Array> {
    const { encoding, decodedLength } = this.#attachment;
    if (range !== undefined) return this.#part(range);
    const stored = this.#snapshot.attachment(this.#attachment);
    return this.#asStored ? stored : inflated(stored, encoding, decodedLength);
  }

  /** Reads only the pieces that the range is in. */
  async *#part({ start, end }: ByteRange): AsyncGenerator<Uint8Array, void> {
    let at = 0;
    for (const ref of this.#attachment.refs) {
      const from = at;
      at += ref.length;
      if (at <= start) continue;
      if (from >= end) return;
      const piece = await this.#snapshot.run(ref);
      yield piece.subarray(Math.max(0, start - from), end - from);
    }
  }
}
