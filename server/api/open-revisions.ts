/** `GET /{db}/{docid}?open_revs=`: several revisions of a document in one reply. */
import { DivanError } from '../../engine/errors.js';
import { parseRev, type Revision } from '../../engine/shard/revision.js';
import type { ReadDocument, ViewOptions } from '../databases/document-view.js';
import { namedQuality, quality } from '../http/accept.js';
import type { Exchange } from '../http/exchange.js';
import type { OutgoingPart } from '../http/multipart-writer.js';
import type { Query } from '../http/query.js';
import {
  type FoundRevision,
  findRevisions,
  missingPart,
  replyMultipart,
  revisionPart,
} from './revision-parts.js';
import type { Services } from './services.js';

/** Replies with the revisions that the query names; `document` is undefined if there is none of that id. */
export async function replyOpenRevisions(
  services: Services,
  exchange: Exchange,
  document: ReadDocument | undefined,
  options: ViewOptions,
  revisionsMax: number,
): Promise<void> {
  const { query } = exchange;
  const revisions = openRevisions(query, revisionsMax);
  const latest = query.boolean('latest') === true;
  const found = findRevisions(document, revisions, latest);
  if (revisions === undefined && found.length === 0) {
    throw new DivanError('NOT_FOUND', 'missing');
  }
  const rows = new OpenRevisions(services, document, options, found);
  if (isJsonWanted(exchange.header('accept'))) await rows.replyJson(exchange);
  else await replyMultipart(services, exchange, 'mixed', rows.parts());
}

/** Undefined for all. Throws `BAD_REQUEST`, `TOO_LARGE`, `INVALID_DOCUMENT`. */
function openRevisions(query: Query, revisionsMax: number): Revision[] | undefined {
  const text = query.string('open_revs');
  if (text === 'all' || text === '"all"') return undefined;
  return query.strings('open_revs', revisionsMax)?.map(parseRev);
}

/** As CouchDB, multipart is for whoever takes it; but JSON that is named outright is meant. */
function isJsonWanted(accept: string | undefined): boolean {
  const json = namedQuality(accept, 'application/json');
  if (json > 0 && json >= namedQuality(accept, 'multipart/mixed')) return true;
  return quality(accept, 'multipart/mixed') === 0;
}

class OpenRevisions {
  readonly #services: Services;
  readonly #document: ReadDocument | undefined;
  readonly #options: ViewOptions;
  readonly #found: readonly FoundRevision[];

  constructor(
    services: Services,
    document: ReadDocument | undefined,
    options: ViewOptions,
    found: readonly FoundRevision[],
  ) {
    this.#services = services;
    this.#document = document;
    this.#options = options;
    this.#found = found;
  }

  async replyJson(exchange: Exchange): Promise<void> {
    const out = exchange.stream(200);
    if (out.closed) return;
    let separator = '[';
    for (const found of this.#found) {
      if (found.leaf === undefined) {
        await out.text(`${separator}${JSON.stringify({ missing: found.missing })}`);
      } else if (this.#document !== undefined) {
        await out.text(`${separator}{"ok":`);
        await out.all(this.#document.chunks(found.leaf, this.#options));
        await out.text('}');
      }
      separator = ',';
    }
    await out.text(separator === '[' ? '[]\n' : ']\n');
    await out.end();
  }

  async *parts(): AsyncGenerator<OutgoingPart, void> {
    for (const found of this.#found) {
      if (found.leaf === undefined) yield missingPart({ missing: found.missing });
      else if (this.#document !== undefined) {
        yield await revisionPart(this.#services, this.#document, found.leaf, this.#options);
      }
    }
  }
}
