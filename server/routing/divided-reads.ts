/** `_bulk_get`, `_revs_diff`, `_missing_revs` and `_purge` of a database on several nodes. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { checkId, isLocalId } from '../../engine/shard/document.js';
import { parseRev } from '../../engine/shard/revision.js';
import { readDocsBody } from '../api/docs-member.js';
import { REVISIONS_MAX } from '../api/documents.js';
import type { Services } from '../api/services.js';
import { quality } from '../http/accept.js';
import { errorReply } from '../http/error-table.js';
import type { Exchange } from '../http/exchange.js';
import { splitMembers } from '../http/json-members.js';
import { isObject, memberOf, parseJson, stringsOf } from '../http/json-value.js';
import { multipartType } from '../http/multipart-writer.js';
import type { ReplyStream } from '../http/reply-stream.js';
import { ByteFeed } from './byte-feed.js';
import { type Item, joined, memberItem, placesOf } from './divided-requests.js';
import type { OwnedPart, Owners } from './owners.js';
import { assertServed, wholeReply } from './replies.js';
import { outcomeUnknown, type Requests } from './requests.js';
import type { WholeDatabase } from './whole-database.js';

const ITEM_BYTES_MAX = 1024 * 1024;
const HEAD_BYTES_MAX = 1024;
const BOUNDARY_BYTES = 16;
/** Answers have what was asked for, and possible ancestors. */
const ANSWER_FACTOR = 4;
const SMALL_BYTES = 1024 * 1024;

export class DividedReads {
  readonly #services: Pick<Services, 'config' | 'world'>;
  readonly #owners: Owners;
  readonly #requests: Requests;
  readonly #whole: WholeDatabase;

  constructor(
    services: Pick<Services, 'config' | 'world'>,
    owners: Owners,
    requests: Requests,
    whole: WholeDatabase,
  ) {
    this.#services = services;
    this.#owners = owners;
    this.#requests = requests;
    this.#whole = whole;
  }

  /** Serves `POST /{db}/_bulk_get`. */
  async bulkGet(exchange: Exchange): Promise<void> {
    exchange.assertJsonType();
    const { config, world } = this.#services;
    const bytes = await exchange.body(config.get('chttpd/max_http_request_size'));
    const countMax = config.get('couchdb/max_bulk_get_count');
    const missing = 'Missing JSON list of `docs`.';
    const { docs } = await readDocsBody(world.host, bytes, countMax, missing);
    const items: Item[] = [];
    for (let index = 0; index < docs.length; index++) {
      items.push(itemOf(bytes.subarray(docs.start(index), docs.end(index))));
    }
    const accept = exchange.header('accept');
    const isJson = quality(accept, 'application/json') > 0;
    const kind = (['mixed', 'related'] as const).find((kind) => {
      return quality(accept, `multipart/${kind}`) > 0;
    });
    if (isJson || kind === undefined) await this.#bulkGetJson(exchange, items);
    else await this.#bulkGetMultipart(exchange, items, kind);
  }

  async #bulkGetJson(exchange: Exchange, items: readonly Item[]): Promise<void> {
    const unreachable = new Map<number, DivanError>();
    const { places, replies } = await this.#ask(
      exchange,
      items,
      (own) => joined('{"docs":[', own, ']}'),
      (index, error) => unreachable.set(index, error),
    );
    const feeds = new Map([...replies].map(([index, reply]) => [index, new ByteFeed(reply.body)]));
    try {
      for (const feed of feeds.values()) await feed.until('"results":[', HEAD_BYTES_MAX);
      const out = exchange.stream(200);
      await out.text('{"results":[');
      for (const [index, place] of places.entries()) {
        const feed = feeds.get(place);
        const error = unreachable.get(place);
        if (error !== undefined) {
          await out.text(`${index === 0 ? '' : ','}\n${unreachableRow(items[index], error)}`);
          continue;
        }
        if (feed === undefined || !(await feed.nextElement())) {
          throw new DivanError('PEER', 'a node answered less than it was asked');
        }
        await out.text(index === 0 ? '\n' : ',\n');
        await out.all(feed.value());
      }
      await out.text('\n]}\n');
      await out.end();
    } finally {
      for (const feed of feeds.values()) await feed.close();
    }
  }

  /** Items that are next to one another and on one node are asked for together; all replies have the same boundary. */
  async #bulkGetMultipart(
    exchange: Exchange,
    items: readonly Item[],
    kind: 'mixed' | 'related',
  ): Promise<void> {
    const name = exchange.param('db');
    // With none no node is asked that could refuse.
    if (items.length === 0) {
      await this.#whole.assertReader(exchange);
    }
    const random = this.#services.world.host.randomBytes(BOUNDARY_BYTES);
    const boundary = Buffer.from(random).toString('hex');
    const ending = Buffer.from(`--${boundary}--`);
    const { url = '' } = exchange.request;
    let out: ReplyStream | undefined;
    for (let from = 0; from < items.length; ) {
      let to = from;
      const reply = await this.#owners.retrying(name, async () => {
        const parts = this.#owners.parts(name);
        const places = placesOf(this.#owners, name, parts, items);
        const [place = 0] = places.slice(from);
        for (to = from + 1; to < items.length && places[to] === place; ) to++;
        const body = joined('{"docs":[', items.slice(from, to), ']}');
        const part = partAt(parts, place);
        const instead = { method: 'POST', url, body, shape: { boundary } };
        return this.#requests.toNode(exchange, part.node, instead, part.cover);
      });
      await assertServed(reply);
      try {
        out ??= exchange.stream(200, { 'Content-Type': multipartType(kind, boundary) });
        if (from > 0) await out.text('\r\n');
        await out.all(withoutEnd(reply.body, ending.length + 2));
      } finally {
        await reply.body.return();
      }
      from = to;
    }
    out ??= exchange.stream(200, { 'Content-Type': multipartType(kind, boundary) });
    await out.text(items.length === 0 ? '' : '\r\n');
    await out.bytes(ending);
    await out.end();
  }

  /** Serves `POST /{db}/_revs_diff`, and with `member` `_missing_revs`, whose answer is in that member. */
  async revisions(exchange: Exchange, member: 'missing_revs' | undefined): Promise<void> {
    exchange.assertJsonType();
    const bytes = await exchange.body(this.#services.config.get('chttpd/max_http_request_size'));
    const members = await this.#members(bytes);
    const items = members.map((one) => memberItem(bytes, one));
    const answers = await this.#answers(exchange, items, member);
    const text = Buffer.concat(joined('{', answers, '}'));
    const head = member === undefined ? '' : `{${JSON.stringify(member)}:`;
    const tail = member === undefined ? '\n' : '}\n';
    exchange.replyText(200, Buffer.concat([Buffer.from(head), text, Buffer.from(tail)]));
  }

  /** Serves `POST /{db}/_purge`. */
  async purge(exchange: Exchange): Promise<void> {
    exchange.assertJsonType();
    const bytes = await exchange.body(exchange.limits.documentBytesMax);
    const members = await this.#members(bytes);
    this.#checkPurges(bytes, members);
    const items = members.map((one) => memberItem(bytes, one));
    const answers = await this.#answers(exchange, items, 'purged');
    const text = joined('{"purge_seq":null,"purged":{', answers, '}}\n');
    exchange.replyText(201, Buffer.concat(text));
  }

  #members(bytes: Uint8Array) {
    const { config, world } = this.#services;
    const countMax = config.get('couchdb/max_bulk_docs_count');
    const yieldTurn = () => world.host.yieldTurn();
    return splitMembers(bytes, { start: 0, end: bytes.length }, { countMax, yieldTurn });
  }

  /** Before anything is purged anywhere. Throws `BAD_REQUEST`, `INVALID_DOCUMENT`. */
  #checkPurges(
    bytes: Uint8Array,
    members: readonly { readonly name: string; readonly start: number; readonly end: number }[],
  ): void {
    const { config } = this.#services;
    if (members.length > config.get('purge/max_document_id_number')) {
      throw new DivanError('BAD_REQUEST', 'Exceeded maximum number of documents.');
    }
    const revsMax = config.get('purge/max_revisions_number');
    let count = 0;
    for (const { name, start, end } of members) {
      const id = Buffer.from(name);
      checkId(id);
      if (isLocalId(id)) {
        throw new DivanError('BAD_REQUEST', 'a _local document can not be purged: delete it');
      }
      const list = parseJson(bytes.subarray(start, end));
      count += stringsOf(list, 'the list of revisions', Math.max(revsMax, REVISIONS_MAX)).map(
        parseRev,
      ).length;
    }
    if (count > revsMax) {
      throw new DivanError('BAD_REQUEST', 'Exceeded maximum number of revisions.');
    }
  }

  /** Asks about members of an object; the members of the answers, which are in a member of theirs if one is named, in their order. */
  async #answers(
    exchange: Exchange,
    items: readonly Item[],
    member: string | undefined,
  ): Promise<Item[]> {
    const asked = items.reduce((sum, { text }) => sum + Buffer.concat(text).length, 0);
    const bytesMax = asked * ANSWER_FACTOR + SMALL_BYTES;
    const { replies } = await this.#ask(exchange, items, (own) => joined('{', own, '}'));
    const found = new Map<string, Item>();
    for (const reply of replies.values()) {
      const bytes = await wholeReply(reply, bytesMax);
      const outer = await this.#members(bytes);
      const inner = member === undefined ? undefined : outer.find(({ name }) => name === member);
      const list =
        inner === undefined ? outer : await this.#members(bytes.subarray(inner.start, inner.end));
      const base = inner === undefined ? bytes : bytes.subarray(inner.start, inner.end);
      for (const one of list) found.set(one.name, memberItem(base, one));
    }
    return items.flatMap(({ id }) => found.get(Buffer.from(id ?? []).toString()) ?? []);
  }

  /** Asks each node about its items; the replies by the index of their part. Those without items are not asked, unless nobody has any. */
  async #ask(
    exchange: Exchange,
    items: readonly Item[],
    bodyOf: (own: readonly Item[]) => readonly Uint8Array[],
    onUnreachable?: (index: number, error: DivanError) => void,
  ) {
    const { url = '' } = exchange.request;
    const name = exchange.param('db');
    let places: number[] = [];
    let asked: readonly OwnedPart[] = [];
    const options = onUnreachable === undefined ? {} : { onUnreachable };
    try {
      const replies = await this.#requests.ofAll(
        exchange,
        (index, parts) => {
          if (parts !== asked) {
            asked = parts;
            places = placesOf(this.#owners, name, parts, items);
          }
          const own = items.filter((_, at) => places[at] === index);
          if (own.length === 0 && (items.length > 0 || index > 0)) return undefined;
          return { method: 'POST', url, body: bodyOf(own) };
        },
        options,
      );
      const byIndex = new Map(replies.map(({ part, reply }) => [asked.indexOf(part), reply]));
      return { places, replies: byIndex };
    } catch (error) {
      const isWrite = url.includes('/_purge') && isDivanError(error, 'UNREACHABLE');
      throw isWrite ? outcomeUnknown(error) : error;
    }
  }
}

/** An entry of `docs` of `_bulk_get`. */
function itemOf(text: Uint8Array): Item {
  if (text.length > ITEM_BYTES_MAX) {
    throw new DivanError('TOO_LARGE', `an entry of \`docs\` has at most ${ITEM_BYTES_MAX} bytes`);
  }
  const entry = parseJson(text);
  const id = isObject(entry) ? memberOf(entry, 'id') : undefined;
  return { id: typeof id === 'string' ? Buffer.from(id) : undefined, text: [text] };
}

/** What is told of a document whose node does not answer. */
function unreachableRow(item: Item | undefined, error: DivanError): string {
  const entry = item === undefined ? null : parseJson(Buffer.concat(item.text));
  const rev = isObject(entry) ? memberOf(entry, 'rev') : undefined;
  const id = item?.id === undefined ? null : Buffer.from(item.id).toString();
  const reply = errorReply(error);
  const told = { id, rev: rev ?? 'undefined', error: reply.error, reason: reply.reason };
  return JSON.stringify({ id, docs: [{ error: told }] });
}

function partAt(parts: readonly OwnedPart[], index: number): OwnedPart {
  const part = parts[index];
  if (part === undefined) throw new RangeError('an item has a part');
  return part;
}

/** Chunks without the last so many bytes. */
async function* withoutEnd(
  chunks: AsyncIterable<Uint8Array>,
  count: number,
): AsyncGenerator<Uint8Array, void> {
  let kept: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const all = Buffer.concat([kept, chunk]);
    const end = Math.max(0, all.length - count);
    if (end > 0) yield all.subarray(0, end);
    kept = all.subarray(end);
  }
}
