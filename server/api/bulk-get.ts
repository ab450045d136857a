/** `_bulk_get`: revisions of many documents in one reply. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { checkId } from '../../engine/shard/document.js';
import { parseRev, type Revision } from '../../engine/shard/revision.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { Database } from '../databases/database.js';
import { ReadDocument, type ViewOptions } from '../databases/document-view.js';
import { quality } from '../http/accept.js';
import { errorReply } from '../http/error-table.js';
import type { Exchange } from '../http/exchange.js';
import {
  type JsonObject,
  memberOf,
  objectOf,
  optionalString,
  optionalStrings,
  parseJson,
} from '../http/json-value.js';
import type { OutgoingPart } from '../http/multipart-writer.js';
import type { ReplyStream } from '../http/reply-stream.js';
import type { Route } from '../http/router.js';
import { readDocsBody } from './docs-member.js';
import { REVISIONS_MAX, viewOptions } from './documents.js';
import { findRevisions, missingPart, replyMultipart, revisionPart } from './revision-parts.js';
import type { Services } from './services.js';

/** What asks for one document has at most so many bytes. */
const ITEM_BYTES_MAX = 1024 * 1024;
/** Others have their turn after so many items. */
const SLICE_ITEMS = 100;

export function bulkGetRoutes(services: Services): Route[] {
  const bulk = new BulkGet(services);
  return [
    {
      method: 'POST',
      path: '/:db/_bulk_get',
      access: 'database_member',
      handle: (exchange) => bulk.post(exchange),
    },
  ];
}

/** What is told instead of a revision, in CouchDB's form. */
interface ItemError {
  readonly id: string | null;
  readonly rev: string | null;
  readonly error: string;
  readonly reason: string;
}

/** One document that is asked for; without a revision all its leaves. */
interface GoodItem {
  readonly id: string;
  readonly rev: string | undefined;
  readonly revision: Revision | undefined;
  readonly attsSince: readonly Revision[] | undefined;
  readonly error?: undefined;
}

/** An entry of `docs`, or what is wrong with it. */
type Item = GoodItem | { readonly id: string | null; readonly error: ItemError };

/** A revision that was found, or what is told instead. */
type Found =
  | { readonly error: ItemError }
  | {
      readonly error?: undefined;
      readonly document: ReadDocument;
      readonly leaf: Leaf;
      readonly view: ViewOptions;
    };

class BulkGet {
  readonly #services: Services;

  constructor(services: Services) {
    this.#services = services;
  }

  async post(exchange: Exchange): Promise<void> {
    const database = this.#services.catalog.get(exchange.param('db'));
    exchange.assertJsonType();
    const bytes = await exchange.body(this.#services.config.get('chttpd/max_http_request_size'));
    const items = await this.#read(bytes);
    const accept = exchange.header('accept');
    const reading = new BulkReading(this.#services, database, exchange);
    if (quality(accept, 'application/json') > 0) await reading.replyJson(items);
    else if (quality(accept, 'multipart/mixed') > 0) await reading.replyMultipart(items, 'mixed');
    else if (quality(accept, 'multipart/related') > 0) {
      await reading.replyMultipart(items, 'related');
    } else await reading.replyJson(items);
  }

  /** Reads all of the request before anything is replied. Throws `BAD_REQUEST`, `INVALID_JSON`, `TOO_LARGE`. */
  async #read(bytes: Uint8Array): Promise<readonly Item[]> {
    const { config, world } = this.#services;
    const countMax = config.get('couchdb/max_bulk_get_count');
    const missing = 'Missing JSON list of `docs`.';
    const { docs } = await readDocsBody(world.host, bytes, countMax, missing);
    const items: Item[] = [];
    for (let index = 0; index < docs.length; index++) {
      const text = bytes.subarray(docs.start(index), docs.end(index));
      if (text.length > ITEM_BYTES_MAX) {
        throw new DivanError(
          'TOO_LARGE',
          `an entry of \`docs\` has at most ${ITEM_BYTES_MAX} bytes`,
        );
      }
      items.push(itemOf(objectOf(parseJson(text), 'an entry of `docs`')));
      if (index % SLICE_ITEMS === SLICE_ITEMS - 1) await world.host.yieldTurn();
    }
    return items;
  }
}

/** What is wrong with one entry is told in its place. */
function itemOf(entry: JsonObject): Item {
  const id = memberOf(entry, 'id');
  const idText = typeof id === 'string' ? id : null;
  const rev = memberOf(entry, 'rev');
  const revText = typeof rev === 'string' ? rev : null;
  try {
    if (idText === null) throw new DivanError('INVALID_DOCUMENT', 'Document id must be a string');
    checkId(Buffer.from(idText));
  } catch (error) {
    const reason = reasonOf(error);
    return { id: idText, error: { id: idText, rev: revText, error: 'illegal_docid', reason } };
  }
  try {
    const text = optionalString(entry, 'rev');
    return {
      id: idText,
      rev: text,
      revision: text === undefined ? undefined : parseRev(text),
      attsSince: optionalStrings(entry, 'atts_since', REVISIONS_MAX)?.map(parseRev),
    };
  } catch (error) {
    const reason = reasonOf(error);
    return { id: idText, error: { id: idText, rev: revText, error: 'bad_request', reason } };
  }
}

function reasonOf(error: unknown): string {
  if (isDivanError(error)) return errorReply(error).reason;
  throw error;
}

/** Reads the documents of one request while its reply is written. */
class BulkReading {
  readonly #services: Services;
  readonly #database: Database;
  readonly #exchange: Exchange;
  readonly #view: ViewOptions;
  readonly #latest: boolean;

  constructor(services: Services, database: Database, exchange: Exchange) {
    this.#services = services;
    this.#database = database;
    this.#exchange = exchange;
    this.#view = viewOptions(exchange.query);
    this.#latest = exchange.query.boolean('latest') === true;
  }

  async replyJson(items: readonly Item[]): Promise<void> {
    const out = this.#exchange.stream(200);
    await out.text('{"results":[');
    for (const [index, item] of items.entries()) {
      await out.text(`${index === 0 ? '' : ','}\n{"id":${JSON.stringify(item.id)},"docs":[`);
      let separator = '';
      for await (const found of this.#found(item)) {
        await out.text(separator);
        separator = ',';
        await writeFound(out, found);
      }
      await out.text(']}');
      if (index % SLICE_ITEMS === SLICE_ITEMS - 1) await this.#services.world.host.yieldTurn();
    }
    await out.text('\n]}\n');
    await out.end();
  }

  async replyMultipart(items: readonly Item[], kind: 'mixed' | 'related'): Promise<void> {
    await replyMultipart(this.#services, this.#exchange, kind, this.#parts(items));
  }

  async *#parts(items: readonly Item[]): AsyncGenerator<OutgoingPart, void> {
    for (const item of items) {
      for await (const found of this.#found(item)) {
        if (found.error !== undefined) yield missingPart(found.error);
        else {
          const { document, leaf, view } = found;
          yield await revisionPart(this.#services, document, leaf, view);
        }
      }
    }
  }

  /** What there is to tell of an item. The shard is held open between one and the next, so that what was given can be read. */
  async *#found(item: Item): AsyncGenerator<Found, void> {
    if (item.error !== undefined) {
      yield { error: item.error };
      return;
    }
    const id = Buffer.from(item.id);
    yield* this.#database.readEach(id, (snapshot) => this.#opened(item, id, snapshot));
  }

  async *#opened(item: GoodItem, id: Uint8Array, snapshot: Snapshot): AsyncGenerator<Found, void> {
    const document = await ReadDocument.find(snapshot, id);
    const { revision, attsSince } = item;
    const view = attsSince === undefined ? this.#view : { ...this.#view, attachments: attsSince };
    const revisions = revision === undefined ? undefined : [revision];
    const found = findRevisions(document, revisions, this.#latest);
    for (const { leaf } of found) {
      if (leaf === undefined || document === undefined) yield { error: missing(item) };
      else yield { document, leaf, view };
    }
    if (found.length === 0) yield { error: missing(item) };
  }
}

/** CouchDB's word for a revision that was not named is `undefined`. */
function missing({ id, rev }: GoodItem): ItemError {
  return { id, rev: rev ?? 'undefined', error: 'not_found', reason: 'missing' };
}

async function writeFound(out: ReplyStream, found: Found): Promise<void> {
  if (found.error !== undefined) {
    await out.text(JSON.stringify({ error: found.error }));
    return;
  }
  await out.text('{"ok":');
  await out.all(found.document.chunks(found.leaf, found.view));
  await out.text('}');
}
