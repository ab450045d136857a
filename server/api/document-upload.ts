/**
 * `PUT /{db}/{docid}` as multipart/related: the document comes first, then the bytes of the attachments that it says follow. They are
 * stored as they come and take effect with the document; if anything fails before, they are dead bytes in the file.
 */
import { DivanError } from '../../engine/errors.js';
import type { AttachmentInput } from '../../engine/shard/attachment-input.js';
import {
  ATTACHMENT_BYTES_MAX,
  PIECE_BYTES_MAX,
  type StoredBytes,
} from '../../engine/shard/attachment-list.js';
import { DocumentScanner, type ScannedDocument } from '../../engine/shard/document.js';
import type { Revision } from '../../engine/shard/revision.js';
import type { Database, DatabaseUpload } from '../databases/database.js';
import { checkSize, documentWrite, type WriteOptions } from '../databases/document-write.js';
import type { Exchange } from '../http/exchange.js';
import { interruptible } from '../http/interruptible.js';
import { PartAssignment } from '../http/multipart-document.js';
import { boundaryOf, type MultipartPart, readMultipart } from '../http/multipart-reader.js';
import { scanDocument } from './scan-document.js';
import type { Services } from './services.js';

const PART_HEADER_BYTES_MAX = 16 * 1024;
/** What an upload holds in memory: a piece that is being put together and one that is being written. */
export const UPLOAD_MEMORY_BYTES = 2 * PIECE_BYTES_MAX;

export class DocumentUpload {
  readonly #services: Services;
  readonly #exchange: Exchange;
  readonly #parts: AsyncGenerator<MultipartPart, void>;

  /** Throws `BAD_REQUEST` for a content type without a boundary. */
  constructor(services: Services, exchange: Exchange) {
    this.#services = services;
    this.#exchange = exchange;
    const boundary = boundaryOf(exchange.header('content-type') ?? '');
    const body = exchange.bodyStream(Number.MAX_SAFE_INTEGER);
    const partsMax = services.config.get('chttpd/max_multipart_parts');
    this.#parts = readMultipart(body, boundary, {
      partsMax,
      headerBytesMax: PART_HEADER_BYTES_MAX,
    });
  }

  /** Reads and writes all of it. Throws what is wrong with the body, and what `Database.put` throws. */
  async put(
    database: Database,
    options: Pick<WriteOptions, 'id' | 'rev' | 'newEdits'>,
  ): Promise<{ readonly rev: Revision; readonly deleted: boolean }> {
    try {
      const scanned = await this.#document();
      this.#exchange.holdMemory(UPLOAD_MEMORY_BYTES);
      const { id } = options;
      const { rev } = await database.putUploaded(id, async (store, ending) => {
        const following = await this.#following(scanned, store, ending);
        const attachmentBytesMax = this.#attachmentBytesMax;
        return documentWrite(scanned, { ...options, following, attachmentBytesMax });
      });
      return { rev, deleted: scanned.deleted };
    } finally {
      // Not awaited: the client may send nothing for long.
      this.#parts.return().catch(() => undefined);
    }
  }

  get #attachmentBytesMax(): number {
    const bytesMax = this.#services.config.get('couchdb/max_attachment_size');
    return Math.min(bytesMax, ATTACHMENT_BYTES_MAX);
  }

  async #document(): Promise<ScannedDocument> {
    const { config, world } = this.#services;
    const first = await this.#parts.next();
    if (first.done === true) throw new DivanError('BAD_REQUEST', 'the multipart body has no parts');
    const bytesMax = config.get('chttpd/max_http_request_size');
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of first.value.body) {
      bytes += chunk.length;
      if (bytes > bytesMax) {
        throw new DivanError('TOO_LARGE', `a document has at most ${bytesMax} bytes here`);
      }
      this.#exchange.holdMemory(chunk.length);
      chunks.push(chunk);
    }
    const scanned = await scanDocument(world.host, new DocumentScanner(), Buffer.concat(chunks));
    checkSize(scanned, config.get('couchdb/max_document_size'));
    return scanned;
  }

  /** Stores the attachments that follow. */
  async #following(
    scanned: ScannedDocument,
    store: DatabaseUpload,
    ending: AbortSignal,
  ): Promise<ReadonlyMap<string, StoredBytes>> {
    const inputs = [...(scanned.attachments ?? [])].filter(
      ([, { content }]) => content === 'follows',
    );
    const pending = new Map(inputs);
    const assignment = new PartAssignment(pending.keys());
    const stored = new Map<string, StoredBytes>();
    for await (const part of interruptible(this.#parts, ending)) {
      const name = assignment.take(part.headers);
      const input = pending.get(name);
      if (input !== undefined) stored.set(name, await this.#store(store, input, part, ending));
    }
    assignment.finish();
    return stored;
  }

  #store(
    store: DatabaseUpload,
    input: AttachmentInput,
    part: MultipartPart,
    ending: AbortSignal,
  ): Promise<StoredBytes> {
    const { encoding, digest, encodedLength, length } = input;
    const chunks = interruptible(part.body, ending);
    const bytesMax = this.#attachmentBytesMax;
    return store({ chunks, encoding, digest, encodedLength, length, bytesMax });
  }
}
