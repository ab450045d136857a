/** `_all_docs`, `_design_docs`, `_local_docs` of a database on several nodes: the lists of its parts, merged as they come. */
import { compareBytes } from '../../engine/file/bytes.js';
import { type ListQuery, listQuery, NO_QUERY } from '../api/list-query.js';
import type { Config } from '../config/config.js';
import type { Exchange } from '../http/exchange.js';
import {
  isObject,
  type JsonValue,
  memberOf,
  objectOf,
  parseJson,
  requiredArray,
} from '../http/json-value.js';
import type { ReplyStream } from '../http/reply-stream.js';
import { ByteFeed } from './byte-feed.js';
import { MergedToken } from './merged-token.js';
import type { OwnedPart, Owners } from './owners.js';
import type { Requests } from './requests.js';
import type { WholeDatabase } from './whole-database.js';

/** What stands before the rows of a list, most of it a token. */
const HEAD_BYTES_MAX = 256 * 1024;
/** An id with each of its bytes escaped, and what stands around it. */
const ROW_HEAD_BYTES_MAX = 64 * 1024;
const ROW_HEAD = /^\{"id":("(?:[^"\\]|\\.)*")/;

/** The list of one part. */
interface PartList {
  readonly feed: ByteFeed;
  readonly total: number | null;
  readonly token: string | undefined;
}

export class MergedLists {
  readonly #config: Config;
  readonly #owners: Owners;
  readonly #requests: Requests;
  readonly #whole: WholeDatabase;

  constructor(config: Config, owners: Owners, requests: Requests, whole: WholeDatabase) {
    this.#config = config;
    this.#owners = owners;
    this.#requests = requests;
    this.#whole = whole;
  }

  /** Serves `GET` and `POST` of a list; `kind` is the last segment of its path. */
  async list(exchange: Exchange, kind: string): Promise<void> {
    const body = exchange.request.method === 'POST' ? await exchange.jsonObject() : undefined;
    const query = listQuery(exchange.query, body, this.#keysMax);
    await this.#reply(exchange, kind, [query], false);
  }

  /** Serves several queries. */
  async queries(exchange: Exchange, kind: string): Promise<void> {
    const body = await exchange.jsonObject();
    const queries = requiredArray(body, 'queries', this.#keysMax).map((query) =>
      listQuery(NO_QUERY, objectOf(query, 'a query'), this.#keysMax),
    );
    // With none no node is asked that could refuse.
    if (queries.length === 0) {
      await this.#whole.assertReader(exchange);
    }
    await this.#reply(exchange, kind, queries, true);
  }

  get #keysMax(): number {
    return this.#config.get('chttpd/max_all_docs_keys');
  }

  async #reply(
    exchange: Exchange,
    kind: string,
    queries: readonly ListQuery[],
    several: boolean,
  ): Promise<void> {
    let out: ReplyStream | undefined;
    for (const [index, query] of queries.entries()) {
      const list = new MergedList(this.#owners, this.#requests, exchange, kind, query);
      await list.open();
      try {
        // The reply begins when all nodes have answered, so that a failure before has its status.
        out ??= exchange.stream(200);
        if (out.closed) return;
        await out.text(index > 0 ? ',\n' : several ? '{"results":[\n' : '');
        await list.write(out);
      } finally {
        await list.close();
      }
    }
    out ??= exchange.stream(200);
    if (out.closed) return;
    if (queries.length === 0) await out.text('{"results":[\n');
    await out.text(several ? '\n]}\n' : '\n');
    await out.end();
  }
}

/** One list being merged. */
class MergedList {
  readonly #owners: Owners;
  readonly #requests: Requests;
  readonly #exchange: Exchange;
  readonly #kind: string;
  readonly #query: ListQuery;
  /** Those that are asked for, of `keys`. */
  readonly #keys: readonly JsonValue[] | undefined;
  #lists: readonly PartList[] = [];
  /** For each of the keys, the list that tells of it. */
  #places: readonly number[] = [];
  #rows = 0;

  constructor(
    owners: Owners,
    requests: Requests,
    exchange: Exchange,
    kind: string,
    query: ListQuery,
  ) {
    this.#owners = owners;
    this.#requests = requests;
    this.#exchange = exchange;
    this.#kind = kind;
    this.#query = query;
    const { keys, skip, limit, descending } = query;
    const ordered = keys === undefined || !descending ? keys : [...keys].reverse();
    this.#keys = ordered?.slice(skip, skip + limit);
  }

  async open(): Promise<void> {
    const name = this.#exchange.param('db');
    const url = `/${encodeURIComponent(name)}/${this.#kind}`;
    let asked: readonly OwnedPart[] = [];
    const replies = await this.#requests.ofAll(this.#exchange, (index, parts) => {
      if (parts !== asked) {
        asked = parts;
        this.#places = this.#keys?.map((key) => this.#placeOf(name, parts, key)) ?? [];
      }
      const keys = this.#keys?.filter((_, at) => this.#places[at] === index);
      const text = JSON.stringify(this.#partQuery(keys));
      return { method: 'POST', url, body: [Buffer.from(text)] };
    });
    const feeds = replies.map(({ reply }) => new ByteFeed(reply.body));
    this.#lists = feeds.map((feed) => ({ feed, total: null, token: undefined }));
    this.#lists = await Promise.all(feeds.map(opened));
  }

  async write(out: ReplyStream): Promise<void> {
    const { updateSeq, skip } = this.#query;
    const head = [
      `"total_rows":${this.#total()}`,
      `"offset":${this.#keys === undefined ? skip : null}`,
    ];
    if (updateSeq) {
      const token = new MergedToken(this.#lists.map(({ token }) => token ?? '0-'));
      head.push(`"update_seq":${JSON.stringify(token.text())}`);
    }
    await out.text(`{${head.join(',')},"rows":[`);
    if (this.#keys === undefined) await this.#merge(out);
    else for (const place of this.#places) await this.#keyRow(out, place);
    await out.text('\n]}');
  }

  async close(): Promise<void> {
    for (const { feed } of this.#lists) await feed.close();
  }

  #total(): number | null {
    let sum = 0;
    for (const { total } of this.#lists) {
      if (total === null) return null;
      sum += total;
    }
    return sum;
  }

  #partQuery(keys: readonly JsonValue[] | undefined): { [name: string]: JsonValue } {
    const { startKey, endKey, skip, limit, ...query } = this.#query;
    const wanted = {
      inclusive_end: query.inclusiveEnd,
      descending: keys === undefined && query.descending,
      limit: Math.min(skip + limit, Number.MAX_SAFE_INTEGER),
      include_docs: query.includeDocs,
      conflicts: query.conflicts,
      attachments: query.attachments,
      att_encoding_info: query.encodingInfo,
      update_seq: query.updateSeq,
    };
    if (keys !== undefined) return { ...wanted, keys: [...keys] };
    return {
      ...wanted,
      ...(startKey === undefined ? {} : { startkey: startKey }),
      ...(endKey === undefined ? {} : { endkey: endKey }),
    };
  }

  /** The part that tells of a key; of what is no id any of them does. */
  #placeOf(name: string, parts: readonly OwnedPart[], key: JsonValue): number {
    return typeof key === 'string' ? this.#owners.indexOf(name, parts, Buffer.from(key)) : 0;
  }

  async #keyRow(out: ReplyStream, place: number): Promise<void> {
    const feed = this.#lists[place]?.feed;
    if (feed === undefined || !(await feed.nextElement())) {
      throw new RangeError('a list of keys has a row for each');
    }
    await this.#row(out, feed);
  }

  async #merge(out: ReplyStream): Promise<void> {
    let { skip } = this.#query;
    const heads: { feed: ByteFeed; id: Buffer }[] = [];
    const add = async (feed: ByteFeed) => {
      if (await feed.nextElement()) heads.push({ feed, id: await idOf(feed) });
    };
    if (this.#query.limit === 0) return;
    await Promise.all(this.#lists.map(({ feed }) => add(feed)));
    while (heads.length > 0) {
      const sign = this.#query.descending ? -1 : 1;
      heads.sort((a, b) => sign * compareBytes(a.id, 0, a.id.length, b.id, 0, b.id.length));
      const [first] = heads.splice(0, 1);
      if (first === undefined) return;
      if (skip-- > 0) for await (const _ of first.feed.value());
      else await this.#row(out, first.feed);
      if (this.#rows >= this.#query.limit) return;
      await add(first.feed);
    }
  }

  async #row(out: ReplyStream, feed: ByteFeed): Promise<void> {
    await out.text(this.#rows++ === 0 ? '\n' : ',\n');
    await out.all(feed.value());
  }
}

async function opened(feed: ByteFeed): Promise<PartList> {
  const text = await feed.until('"rows":[', HEAD_BYTES_MAX);
  const head = parseJson(Buffer.from(`${text}]}`));
  const members = isObject(head) ? head : {};
  const total = memberOf(members, 'total_rows');
  const token = memberOf(members, 'update_seq');
  return {
    feed,
    total: typeof total === 'number' ? total : null,
    token: typeof token === 'string' ? token : undefined,
  };
}

/** The id of the row that comes next, in UTF-8. */
async function idOf(feed: ByteFeed): Promise<Buffer> {
  const [, text = '""'] = await feed.lookAt(ROW_HEAD, ROW_HEAD_BYTES_MAX);
  const id = parseJson(Buffer.from(text, 'latin1'));
  return Buffer.from(typeof id === 'string' ? id : '');
}
