/** `POST /{db}` and `_bulk_docs` of a database on several nodes. */
import { DivanError, ERROR_CODES, isDivanError } from '../../engine/errors.js';
import { DocumentScanner, isLocalId } from '../../engine/shard/document.js';
import { readDocsBody, readNewEdits } from '../api/docs-member.js';
import { scanDocument } from '../api/scan-document.js';
import type { Services } from '../api/services.js';
import { checkSize, documentWrite, localWrite } from '../databases/document-write.js';
import { checkPartition } from '../databases/partition.js';
import { errorReply } from '../http/error-table.js';
import type { Exchange } from '../http/exchange.js';
import { splitElements } from '../http/json-members.js';
import { isObject, memberOf, parseJson } from '../http/json-value.js';
import { type Item, joined, placesOf } from './divided-requests.js';
import type { OwnedPart, Owners } from './owners.js';
import { sendOn, wholeReply } from './replies.js';
import { outcomeUnknown, type Requests } from './requests.js';

/** A document of a request, and the row that tells what became of it. */
interface Row extends Item {
  readonly id: Uint8Array;
  answer: Uint8Array | undefined;
}

/** So many bytes are scanned between two turns of the event loop. */
const SLICE_BYTES = 512 * 1024;
/** A row has an id and a little more. */
const ROW_BYTES_MAX = 64 * 1024;
const SMALL_BYTES = 64 * 1024;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

export class DividedWrites {
  readonly #services: Pick<Services, 'config' | 'world' | 'uuids'>;
  readonly #owners: Owners;
  readonly #requests: Requests;
  readonly #scanner = new DocumentScanner();

  constructor(
    services: Pick<Services, 'config' | 'world' | 'uuids'>,
    owners: Owners,
    requests: Requests,
  ) {
    this.#services = services;
    this.#owners = owners;
    this.#requests = requests;
  }

  /** Serves `POST /{db}`: the document gets its id here, by which its node is known. */
  async postOne(exchange: Exchange): Promise<void> {
    exchange.assertJsonType();
    const bytes = await exchange.body(this.#bytesMax);
    const name = exchange.param('db');
    const { id, text } = await this.#item(name, bytes, 0, bytes.length, true);
    const { url = '' } = exchange.request;
    const instead = { method: 'POST', url, body: text };
    const reply = await this.#owners.retrying(name, async (attempt) =>
      this.#requests.writeTo(exchange, this.#owners.ofDocument(name, id, attempt), instead),
    );
    await sendOn(exchange, reply);
  }

  /** Serves `POST /{db}/_bulk_docs`. A node that does not answer is told of in the rows of its documents. */
  async postMany(exchange: Exchange): Promise<void> {
    exchange.assertJsonType();
    const name = exchange.param('db');
    const { config, world } = this.#services;
    const bytes = await exchange.body(this.#bytesMax);
    const countMax = config.get('couchdb/max_bulk_docs_count');
    const missing = 'POST body must include `docs` parameter.';
    const { docs, others } = await readDocsBody(world.host, bytes, countMax, missing);
    const newEdits = readNewEdits(bytes, others);
    const rows: Row[] = [];
    let sliceStart = 0;
    for (let index = 0; index < docs.length; index++) {
      const end = docs.end(index);
      const item = await this.#item(name, bytes, docs.start(index), end, newEdits);
      rows.push({ ...item, answer: undefined });
      if (end - sliceStart < SLICE_BYTES) continue;
      sliceStart = end;
      await world.host.yieldTurn();
    }
    await this.#write(exchange, name, rows, newEdits);
    const answers = rows.flatMap(({ answer }) => answer ?? []);
    const shown = newEdits ? answers : answers.filter((answer) => !isOk(answer));
    const text = Buffer.concat(
      shown.flatMap((answer, index) => [Buffer.from(index === 0 ? '' : ','), answer]),
    );
    exchange.replyText(201, Buffer.concat([Buffer.from('['), text, Buffer.from(']\n')]));
  }

  get #bytesMax(): number {
    return this.#services.config.get('chttpd/max_http_request_size');
  }

  /** Holds a document to what its node will, so that of a request with one that is malformed nothing is written anywhere. */
  async #item(
    name: string,
    bytes: Uint8Array,
    start: number,
    end: number,
    newEdits: boolean,
  ): Promise<{ readonly id: Uint8Array; readonly text: readonly Uint8Array[] }> {
    const { config, world, uuids } = this.#services;
    const scanned = await scanDocument(world.host, this.#scanner, bytes, start, end);
    checkSize(scanned, config.get('couchdb/max_document_size'));
    const id = scanned.id === undefined ? Buffer.from(uuids.next()) : Buffer.from(scanned.id);
    if (isLocalId(id)) localWrite(scanned, id);
    else {
      checkPartition(id, this.#owners.placement(name).hashRule);
      const attachmentBytesMax = config.get('couchdb/max_attachment_size');
      documentWrite(scanned, { id, newEdits, copy: (part) => part, attachmentBytesMax });
    }
    const text = bytes.subarray(start, end);
    return { id, text: scanned.id === undefined ? withId(text, id) : [text] };
  }

  /** Writes rows, and those again that came to a node that has not their documents any more. */
  async #write(exchange: Exchange, name: string, rows: readonly Row[], newEdits: boolean) {
    let left = rows;
    if (rows.length === 0) return this.#writeAll(exchange, name, left, newEdits);
    try {
      await this.#owners.retrying(name, async () => {
        await this.#writeAll(exchange, name, left, newEdits);
        left = left.filter(({ answer }) => answer === undefined);
        if (left.length > 0) throw new DivanError('MOVED', 'some documents were moved');
      });
    } catch (error) {
      if (!isDivanError(error) || left.length === rows.length) throw error;
      refuse(left, error);
    }
  }

  async #writeAll(exchange: Exchange, name: string, rows: readonly Row[], newEdits: boolean) {
    const parts = this.#owners.parts(name);
    const places = placesOf(this.#owners, name, parts, rows);
    const results = await Promise.allSettled(
      parts.map(async (part, index) => {
        const own = rows.filter((_, at) => places[at] === index);
        // A request without documents is refused by whoever would refuse one with some.
        if (own.length > 0 || (rows.length === 0 && index === 0)) {
          await this.#writePart(exchange, part, own, newEdits);
        }
      }),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async #writePart(exchange: Exchange, part: OwnedPart, rows: readonly Row[], newEdits: boolean) {
    const tail = newEdits ? ']}' : '],"new_edits":false}';
    const { url = '' } = exchange.request;
    const instead = { method: 'POST', url, body: joined('{"docs":[', rows, tail) };
    try {
      // Whatever ranges the node has by the time it is done, its rows say which documents it has written.
      const reply = await this.#requests.toNode(exchange, part.node, instead);
      const text = await wholeReply(reply, rows.length * ROW_BYTES_MAX + SMALL_BYTES);
      const { host } = this.#services.world;
      const options = { countMax: rows.length, yieldTurn: () => host.yieldTurn() };
      const answers = await splitElements(text, { start: 0, end: text.length }, options);
      for (const [index, row] of rows.entries()) {
        const answer = text.subarray(answers.start(index), answers.end(index));
        row.answer = isMoved(answer) ? undefined : answer;
      }
    } catch (error) {
      // Its rows are without answers and so are written again.
      if (isDivanError(error, 'MOVED')) return;
      if (!isDivanError(error, 'UNREACHABLE')) throw error;
      refuse(rows, outcomeUnknown(error));
    }
  }
}

/** A document that has none with an id. */
function withId(text: Uint8Array, id: Uint8Array): Uint8Array[] {
  const open = text.indexOf(OPEN_OBJECT) + 1;
  const rest = text.subarray(open);
  const isEmpty = rest.find((byte) => byte > 0x20) === CLOSE_OBJECT;
  const member = `{"_id":${JSON.stringify(Buffer.from(id).toString())}${isEmpty ? '' : ','}`;
  return [Buffer.from(member), rest];
}

function refuse(rows: readonly Row[], error: DivanError): void {
  const { error: name, reason } = errorReply(error);
  for (const row of rows) {
    const id = Buffer.from(row.id).toString();
    row.answer = Buffer.from(JSON.stringify({ id, error: name, reason }));
  }
}

const OK = Buffer.from('{"ok":true,');

function isOk(answer: Uint8Array): boolean {
  return OK.equals(answer.subarray(0, OK.length));
}

/** What a row says of a document whose range went away just before it was written. */
function isMoved(answer: Uint8Array): boolean {
  if (isOk(answer)) return false;
  const row = parseJson(answer);
  return isObject(row) && memberOf(row, 'reason') === ERROR_CODES.MOVED;
}
