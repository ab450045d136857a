/** `/{db}/{docid}`: one document. */
import { DivanError } from '../../engine/errors.js';
import { ATTACHMENT_BYTES_MAX } from '../../engine/shard/attachment-list.js';
import { checkId, DocumentScanner, isLocalId, parseLocalRev } from '../../engine/shard/document.js';
import { localDocText } from '../../engine/shard/document-text.js';
import { LOCAL_PREFIX } from '../../engine/shard/local-tree.js';
import {
  compareRevisions,
  formatRev,
  parseRev,
  type Revision,
} from '../../engine/shard/revision.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import { USERS_DATABASE } from '../auth/user-documents.js';
import type { Database } from '../databases/database.js';
import { ReadDocument, type ViewOptions } from '../databases/document-view.js';
import { agreed, checkSize, documentWrite, localWrite } from '../databases/document-write.js';
import { checkPartition } from '../databases/partition.js';
import type { DocumentWrite, NewAttachment } from '../databases/shard-writer.js';
import { namedQuality } from '../http/accept.js';
import { revisionOfIfMatch } from '../http/etags.js';
import type { Exchange } from '../http/exchange.js';
import { percentDecode } from '../http/percent.js';
import type { Query } from '../http/query.js';
import type { Route } from '../http/router.js';
import { assertMayWrite } from './design-documents.js';
import { DocumentUpload } from './document-upload.js';
import { isBatch, putLater } from './later-writes.js';
import { replyOpenRevisions } from './open-revisions.js';
import { replyRelated } from './revision-parts.js';
import { scanDocument } from './scan-document.js';
import type { Services } from './services.js';
import { replyWritten, setLocation } from './written.js';

/** At most so many revisions are asked for at once. */
export const REVISIONS_MAX = 10_000;

export function documentRoutes(services: Services): Route[] {
  const documents = new Documents(services);
  return ['/:db/:doc', DESIGN_PATH, '/:db/_local/:local'].flatMap((path): Route[] => {
    const writer = path === DESIGN_PATH ? 'database_admin' : 'database_member';
    const reader = 'database_member';
    return [
      { method: 'GET', path, access: reader, handle: (exchange) => documents.get(exchange) },
      { method: 'PUT', path, access: writer, handle: (exchange) => documents.put(exchange) },
      { method: 'DELETE', path, access: writer, handle: (exchange) => documents.remove(exchange) },
      { method: 'COPY', path, access: reader, handle: (exchange) => documents.copy(exchange) },
    ];
  });
}

const DESIGN_PATH = '/:db/_design/:ddoc';

/** The id in the path of a request, in UTF-8. Throws `INVALID_DOCUMENT`, `LIMIT`. */
export function documentId(exchange: Exchange): Uint8Array {
  const { params } = exchange;
  const ddoc = params.get('ddoc');
  const local = params.get('local');
  const text =
    ddoc !== undefined
      ? `_design/${ddoc}`
      : local !== undefined
        ? LOCAL_PREFIX + local
        : exchange.param('doc');
  const id = Buffer.from(text);
  checkId(id);
  return id;
}

/** What a query asks to be shown. */
export function viewOptions(query: Query): ViewOptions {
  const meta = query.boolean('meta') === true;
  const since = query.strings('atts_since', REVISIONS_MAX);
  return {
    revs: query.boolean('revs') === true,
    revsInfo: meta || query.boolean('revs_info') === true,
    conflicts: meta || query.boolean('conflicts') === true,
    deletedConflicts: meta || query.boolean('deleted_conflicts') === true,
    localSeq: query.boolean('local_seq') === true,
    attachments: since?.map(parseRev) ?? query.boolean('attachments') === true,
    encodingInfo: query.boolean('att_encoding_info') === true,
  };
}

/** The revision that a request names in its query or in `If-Match`. Throws `BAD_REQUEST`, `INVALID_DOCUMENT`. */
export function revisionOf(exchange: Exchange): Revision | undefined {
  const { inHeader, inQuery } = namedRevisions(exchange);
  return agreed(
    inHeader === undefined ? undefined : parseRev(inHeader),
    inQuery === undefined ? undefined : parseRev(inQuery),
  );
}

/** As `revisionOf`, for a local doc: the `N` of its `0-N`. */
function localRevisionOf(exchange: Exchange): number | undefined {
  const { inHeader, inQuery } = namedRevisions(exchange);
  const rev = inQuery ?? inHeader;
  return rev === undefined ? undefined : parseLocalRev(rev);
}

function namedRevisions(exchange: Exchange): {
  readonly inHeader: string | undefined;
  readonly inQuery: string | undefined;
} {
  const inHeader = revisionOfIfMatch(exchange.header('if-match'));
  const inQuery = exchange.query.string('rev');
  return { inHeader, inQuery: inQuery === '' ? undefined : inQuery };
}

/** The leaf that a query names, or the winner. Throws `NOT_FOUND`, as CouchDB does with `missing` or `deleted`. */
export function leafOf(document: ReadDocument | undefined, query: Query): Leaf {
  if (document === undefined) throw new DivanError('NOT_FOUND', 'missing');
  const rev = query.string('rev');
  if (rev === undefined) {
    if (document.winner.deleted) throw new DivanError('NOT_FOUND', 'deleted');
    return document.winner;
  }
  const revision = parseRev(rev);
  const [leaf] =
    query.boolean('latest') === true ? document.leavesFrom(revision) : [document.leaf(revision)];
  if (leaf === undefined) throw new DivanError('NOT_FOUND', 'missing');
  return leaf;
}

class Documents {
  readonly #services: Services;
  readonly #scanner = new DocumentScanner();

  constructor(services: Services) {
    this.#services = services;
  }

  async get(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    const id = documentId(exchange);
    if (isLocalId(id)) return this.#getLocal(exchange, database, id);
    await database.read(id, async (snapshot) => {
      const { query } = exchange;
      const document = await ReadDocument.find(snapshot, id);
      if (query.has('open_revs')) {
        const view = viewOptions(query);
        return replyOpenRevisions(this.#services, exchange, document, view, REVISIONS_MAX);
      }
      const leaf = leafOf(document, query);
      const names = query.names();
      // Only the bare document is the same as long as its revision is.
      const isBare = names.length === 0 || (names.length === 1 && query.has('rev'));
      if (isBare && exchange.replyIfUnchanged(formatRev(leaf.revision))) return;
      if (document === undefined) return;
      const options = names.length === 0 ? {} : viewOptions(query);
      await this.#reply(exchange, document, leaf, options);
    });
  }

  /** Attachments in a reply may be large: then it is sent piece by piece, as multipart if the client takes that. */
  async #reply(
    exchange: Exchange,
    document: ReadDocument,
    leaf: Leaf,
    options: ViewOptions,
  ): Promise<void> {
    if (!document.hasInlineContent(leaf, options)) {
      exchange.replyText(200, await document.text(leaf, options));
      return;
    }
    const accept = exchange.header('accept');
    const related = namedQuality(accept, 'multipart/related');
    if (related > 0 && related >= namedQuality(accept, 'application/json')) {
      return replyRelated(this.#services, exchange, document, leaf, options);
    }
    await exchange.replyChunks(200, document.chunks(leaf, options));
  }

  async put(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    const id = documentId(exchange);
    assertMayWrite(exchange, id);
    checkPartition(id, database.map.hashRule);
    const newEdits = exchange.query.boolean('new_edits') !== false;
    if (exchange.contentType === 'multipart/related' && !isLocalId(id)) {
      if (database.name === USERS_DATABASE && !exchange.caller.isServerAdmin) {
        throw new DivanError('FORBIDDEN', 'Only administrators may write attachments here.');
      }
      const options = { id, rev: revisionOf(exchange), newEdits };
      const written = await new DocumentUpload(this.#services, exchange).put(database, options);
      this.#replyWritten(exchange, id, formatRev(written.rev), written.deleted);
      return;
    }
    const { config, world } = this.#services;
    const bytes = await exchange.body(config.get('chttpd/max_http_request_size'));
    const scanning = scanDocument(world.host, this.#scanner, bytes);
    const scanned = scanning instanceof Promise ? await scanning : scanning;
    checkSize(scanned, config.get('couchdb/max_document_size'));
    if (isLocalId(id)) {
      const revision = await database.putLocal(localWrite(scanned, id, localRevisionOf(exchange)));
      this.#replyWritten(exchange, id, `0-${revision}`, scanned.deleted);
      return;
    }
    const rev = revisionOf(exchange);
    const attachmentBytesMax = config.get('couchdb/max_attachment_size');
    const sent = documentWrite(scanned, { id, rev, newEdits, attachmentBytesMax });
    const isOwnUser = database.name === USERS_DATABASE && !exchange.caller.isServerAdmin;
    const write = isOwnUser ? await this.#ownUser(exchange, sent) : sent;
    if (isBatch(exchange.query)) return putLater(this.#services, exchange, database, write);
    const { rev: written } = await database.put(write);
    this.#replyWritten(exchange, id, formatRev(written), write.deleted);
  }

  async remove(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    const id = documentId(exchange);
    assertMayWrite(exchange, id);
    if (isLocalId(id)) {
      await this.#removeLocal(exchange, database, id);
      return;
    }
    const parent = revisionOf(exchange);
    await this.#assertMayDelete(database, id, parent);
    const { rev } = await database.put({ id, body: EMPTY_BODY, deleted: true, parent });
    this.#replyWritten(exchange, id, formatRev(rev), true);
  }

  /** Copies a document to the id, and over the revision, that the `Destination` header names. */
  async copy(exchange: Exchange): Promise<void> {
    const database = this.#database(exchange);
    const id = documentId(exchange);
    const { id: targetId, rev: parent } = destinationOf(exchange);
    if (isLocalId(id) || isLocalId(targetId)) {
      // Stored as a document like others, a copy would be replicated, and not be found where local ones are.
      throw new DivanError('BAD_REQUEST', '_local documents cannot be copied.');
    }
    assertMayWrite(exchange, targetId);
    checkPartition(targetId, database.map.hashRule);
    // The target is written from within its shard, so that waiting for it never waits for the reading of the source.
    const { rev } = await database.putUploaded(targetId, (store) =>
      database.read(id, async (snapshot) => {
        const leaf = leafOf(await ReadDocument.find(snapshot, id), exchange.query);
        const body = await snapshot.body(leaf);
        const attachments = new Map<string, NewAttachment>();
        for (const attachment of leaf.attachments) {
          const { name, contentType, encoding, digest } = attachment;
          const chunks = snapshot.attachment(attachment);
          const content = await store({ chunks, encoding, digest, bytesMax: ATTACHMENT_BYTES_MAX });
          attachments.set(name, { contentType, revpos: undefined, content });
        }
        const write = { id: targetId, body, deleted: leaf.deleted, parent };
        return attachments.size === 0 ? write : { ...write, attachments };
      }),
    );
    this.#replyWritten(exchange, targetId, formatRev(rev), false);
  }

  #database(exchange: Exchange): Database {
    return this.#services.catalog.get(exchange.param('db'));
  }

  async #getLocal(exchange: Exchange, database: Database, id: Uint8Array): Promise<void> {
    const name = id.subarray(LOCAL_PREFIX.length);
    const { slot } = database.localShardOf(name);
    const doc = await slot.read((reader) => reader.snapshot().localDoc(name));
    if (doc === undefined) throw new DivanError('NOT_FOUND', 'missing');
    exchange.replyText(200, localDocText(Buffer.from(name).toString(), doc.revision, doc.body));
  }

  async #removeLocal(exchange: Exchange, database: Database, id: Uint8Array): Promise<void> {
    const name = id.subarray(LOCAL_PREFIX.length);
    const revision = localRevisionOf(exchange);
    const { slot } = database.localShardOf(name);
    const doc = await slot.read((reader) => reader.snapshot().localDoc(name));
    if (doc === undefined) throw new DivanError('NOT_FOUND', 'missing');
    await database.putLocal({ id: name, body: undefined, revision });
    this.#replyWritten(exchange, id, '0-0', true);
  }

  /**
   * What a user may write of its own document. It is compared with the very revision that it replaces: one that an admin writes meanwhile
   * makes it a conflict, even if the user named that one beforehand. And the revision must be there: users do not make users.
   */
  async #ownUser(exchange: Exchange, write: DocumentWrite): Promise<DocumentWrite> {
    const { users } = this.#services;
    const winner = await users.winner(exchange.param('doc'));
    const allowed = await users.prepareFor(exchange.caller, write, winner?.document);
    const { parent } = write;
    const isOfWinner =
      winner !== undefined &&
      parent !== undefined &&
      compareRevisions(parent, winner.revision) === 0;
    if (isOfWinner) return allowed;
    throw new DivanError('CONFLICT', 'Document update conflict.');
  }

  /** Deleting what is not there, or not any more, is no conflict, whatever revision is named. Throws `NOT_FOUND`, `CONFLICT`. */
  async #assertMayDelete(
    database: Database,
    id: Uint8Array,
    parent: Revision | undefined,
  ): Promise<void> {
    const stored = await database.read(id, (snapshot: Snapshot) => snapshot.stored(id));
    if (stored === undefined) throw new DivanError('NOT_FOUND', 'missing');
    if (stored.deleted) throw new DivanError('NOT_FOUND', 'deleted');
    if (parent === undefined) throw new DivanError('CONFLICT', 'Document update conflict.');
  }

  #replyWritten(exchange: Exchange, id: Uint8Array, rev: string, deleted: boolean): void {
    setLocation(exchange, id);
    replyWritten(exchange, deleted ? 200 : 201, id, rev);
  }
}

const EMPTY_BODY = Buffer.from('{}');

/** `Destination: <id>[?rev=<rev>]`, percent-encoded. Throws `BAD_REQUEST`. */
export function destinationOf(exchange: Exchange): { id: Uint8Array; rev: Revision | undefined } {
  const header = exchange.header('destination');
  if (header === undefined || header === '') {
    throw new DivanError('BAD_REQUEST', 'Destination header is mandatory for COPY.');
  }
  if (/^https?:\/\//i.test(header)) {
    throw new DivanError('BAD_REQUEST', 'Destination URL must be relative.');
  }
  const [path = '', query = ''] = header.split('?', 2);
  const rev = /^rev=(.+)$/.exec(query)?.[1];
  const id = Buffer.from(percentDecode(path, 0, path.length, false, 'the Destination header'));
  checkId(id);
  return { id, rev: rev === undefined ? undefined : parseRev(rev) };
}
