/** `/{db}` and `/{db}/_bulk_docs`: writing documents without an id in the path, one or many. */
import { type DivanError, isDivanError } from '../../engine/errors.js';
import { ByteCopies } from '../../engine/file/byte-copies.js';
import { DocumentScanner, isLocalId, type ScannedDocument } from '../../engine/shard/document.js';
import type { HashRule } from '../../engine/shard/hash.js';
import type { LocalEdit } from '../../engine/shard/local-writer.js';
import { formatRev } from '../../engine/shard/revision.js';
import type { Database } from '../databases/database.js';
import { checkSize, documentWrite, localWrite } from '../databases/document-write.js';
import { checkPartition } from '../databases/partition.js';
import type { DocumentWrite } from '../databases/shard-writer.js';
import { errorReply } from '../http/error-table.js';
import type { Exchange } from '../http/exchange.js';
import type { JsonElements } from '../http/json-members.js';
import type { Route } from '../http/router.js';
import { assertMayWrite } from './design-documents.js';
import { readDocsBody, readNewEdits } from './docs-member.js';
import { isBatch, putLater } from './later-writes.js';
import { scanDocument } from './scan-document.js';
import type { Services } from './services.js';
import { replyWritten, setLocation } from './written.js';

export function bulkDocumentRoutes(services: Services): Route[] {
  const bulk = new BulkDocuments(services);
  const access = 'database_member';
  return [
    { method: 'POST', path: '/:db', access, handle: (exchange) => bulk.postOne(exchange) },
    {
      method: 'POST',
      path: '/:db/_bulk_docs',
      access,
      handle: (exchange) => bulk.postMany(exchange),
    },
  ];
}

/** So many bytes are scanned between two turns of the event loop: a few milliseconds. */
const SLICE_BYTES = 512 * 1024;

/** A bulk body taken apart: where its documents stand, and how they are meant. */
interface BulkBody {
  readonly bytes: Uint8Array;
  readonly docs: JsonElements;
  readonly newEdits: boolean;
}

/** How the documents of a request are read. */
interface BulkReading {
  readonly newEdits: boolean;
  readonly copies: ByteCopies;
  readonly hashRule: HashRule;
}

/** What becomes of one document of a request. */
type BulkItem =
  | { readonly kind: 'document'; readonly write: DocumentWrite }
  | { readonly kind: 'local'; readonly id: Uint8Array; readonly edit: LocalEdit }
  | { readonly kind: 'refused'; readonly id: Uint8Array; readonly error: DivanError };

class BulkDocuments {
  readonly #services: Services;
  readonly #scanner = new DocumentScanner();

  constructor(services: Services) {
    this.#services = services;
  }

  async postOne(exchange: Exchange): Promise<void> {
    const database = this.#services.catalog.get(exchange.param('db'));
    exchange.assertJsonType();
    const bytes = await exchange.body(this.#requestBytesMax);
    const { hashRule } = database.map;
    const reading = { newEdits: true, copies: new ByteCopies(), hashRule };
    const scanned = await this.#item(bytes, 0, bytes.length, reading);
    const item = allowed(exchange, scanned);
    if (item.kind === 'refused') throw item.error;
    if (item.kind === 'local') {
      const rev = `0-${await database.putLocal(item.edit)}`;
      setLocation(exchange, item.id);
      replyWritten(exchange, 201, item.id, rev);
      return;
    }
    if (isBatch(exchange.query)) return putLater(this.#services, exchange, database, item.write);
    const { rev } = await database.put(item.write);
    setLocation(exchange, item.write.id);
    replyWritten(exchange, 201, item.write.id, formatRev(rev));
  }

  async postMany(exchange: Exchange): Promise<void> {
    const database = this.#services.catalog.get(exchange.param('db'));
    exchange.assertJsonType();
    const body = await this.#read(await exchange.body(this.#requestBytesMax));
    const items = await this.#scan(body, database.map.hashRule);
    const rows = await writeAll(
      database,
      items.map((item) => allowed(exchange, item)),
    );
    // A replicator only wants to hear of what went wrong; a node that asks for a part, what became of which.
    const isAll = body.newEdits || exchange.peer !== undefined;
    const shown = isAll ? rows : rows.filter(({ isError }) => isError);
    exchange.replyText(201, `[${shown.map(({ text }) => text).join(',')}]\n`);
  }

  get #requestBytesMax(): number {
    return this.#services.config.get('chttpd/max_http_request_size');
  }

  async #read(bytes: Uint8Array): Promise<BulkBody> {
    const { config, world } = this.#services;
    const countMax = config.get('couchdb/max_bulk_docs_count');
    const missing = 'POST body must include `docs` parameter.';
    const { docs, others } = await readDocsBody(world.host, bytes, countMax, missing);
    return { bytes, docs, newEdits: readNewEdits(bytes, others) };
  }

  /** Scans all documents before any is written: if one is malformed, none is. */
  async #scan({ bytes, docs, newEdits }: BulkBody, hashRule: HashRule): Promise<BulkItem[]> {
    const items: BulkItem[] = [];
    const reading = { newEdits, copies: new ByteCopies(), hashRule };
    let sliceStart = 0;
    for (let index = 0; index < docs.length; index++) {
      const end = docs.end(index);
      const item = this.#item(bytes, docs.start(index), end, reading);
      items.push(item instanceof Promise ? await item : item);
      if (end - sliceStart < SLICE_BYTES) continue;
      sliceStart = end;
      await this.#services.world.host.yieldTurn();
    }
    return items;
  }

  #item(
    bytes: Uint8Array,
    start: number,
    end: number,
    reading: BulkReading,
  ): BulkItem | Promise<BulkItem> {
    const scanning = scanDocument(this.#services.world.host, this.#scanner, bytes, start, end);
    return scanning instanceof Promise
      ? scanning.then((scanned) => this.#scannedItem(scanned, reading))
      : this.#scannedItem(scanning, reading);
  }

  #scannedItem(scanned: ScannedDocument, { newEdits, copies, hashRule }: BulkReading): BulkItem {
    checkSize(scanned, this.#services.config.get('couchdb/max_document_size'));
    const id = scanned.id ?? Buffer.from(this.#services.uuids.next());
    if (isLocalId(id)) {
      const kept = copies.copy(id);
      return { kind: 'local', id: kept, edit: localWrite(scanned, kept) };
    }
    checkPartition(id, hashRule);
    const copy = (part: Uint8Array) => copies.copy(part);
    const attachmentBytesMax = this.#services.config.get('couchdb/max_attachment_size');
    const options = { id, newEdits, copy, attachmentBytesMax };
    return { kind: 'document', write: documentWrite(scanned, options) };
  }
}

/** The item, or that this caller may not write it. */
function allowed(exchange: Exchange, item: BulkItem): BulkItem {
  if (item.kind !== 'document') return item;
  try {
    assertMayWrite(exchange, item.write.id);
    return item;
  } catch (error) {
    if (!isDivanError(error)) throw error;
    return { kind: 'refused', id: item.write.id, error };
  }
}

interface BulkRow {
  readonly isError: boolean;
  readonly text: string;
}

/** Writes all of a request, each on its own; the rows are in their order. */
async function writeAll(database: Database, items: readonly BulkItem[]): Promise<BulkRow[]> {
  const rows: BulkRow[] = new Array(items.length);
  const writes: DocumentWrite[] = [];
  const places: number[] = [];
  const locals: Promise<void>[] = [];
  for (const [place, item] of items.entries()) {
    if (item.kind === 'document') {
      writes.push(item.write);
      places.push(place);
      continue;
    }
    const text = Buffer.from(item.id).toString();
    if (item.kind === 'refused') {
      rows[place] = errorRow(text, item.error);
      continue;
    }
    locals.push(
      localRow(database, text, item.edit).then((row) => {
        rows[place] = row;
      }),
    );
  }
  for (const [index, outcome] of (await database.update(writes)).entries()) {
    const id = Buffer.from(writes[index]?.id ?? EMPTY).toString();
    rows[places[index] ?? 0] = outcome.ok
      ? okRow(id, formatRev(outcome.rev))
      : errorRow(id, outcome.error);
  }
  await Promise.all(locals);
  return rows;
}

const EMPTY = new Uint8Array(0);

async function localRow(database: Database, id: string, edit: LocalEdit): Promise<BulkRow> {
  try {
    return okRow(id, `0-${await database.putLocal(edit)}`);
  } catch (error) {
    if (!isDivanError(error)) throw error;
    return errorRow(id, error);
  }
}

function okRow(id: string, rev: string): BulkRow {
  const text = `{"ok":true,"id":${JSON.stringify(id)},"rev":${JSON.stringify(rev)}}`;
  return { isError: false, text };
}

function errorRow(id: string, error: DivanError): BulkRow {
  const { error: name, reason } = errorReply(error);
  return { isError: true, text: JSON.stringify({ id, error: name, reason }) };
}
