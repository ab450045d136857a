/**
 * `_changes` of a database on several nodes: the feeds of its parts, merged as they come. Each row carries a token of the whole. What a client
 * does not take is not taken from the nodes either.
 */
import { DivanError } from '../../engine/errors.js';
import type { ChangesQuery } from '../api/changes-query.js';
import { changesQuery } from '../api/changes-query.js';
import { type FeedFormat, feedFormat } from '../api/feed-format.js';
import type { FeedLimits } from '../api/feed-limits.js';
import type { Config } from '../config/config.js';
import type { Exchange } from '../http/exchange.js';
import { objectOf, parseJson } from '../http/json-value.js';
import type { ReplyStream } from '../http/reply-stream.js';
import type { ServerHost } from '../world.js';
import { MergedToken } from './merged-token.js';
import { PartFeed, type PartLine } from './part-feed.js';
import { wholeReply } from './replies.js';
import type { Instead, PartReply, Requests } from './requests.js';

export interface MergedChangesParts {
  readonly host: ServerHost;
  readonly config: Config;
  readonly limits: FeedLimits;
  readonly stopping: AbortSignal;
  readonly requests: Requests;
}

/** Which feed it is. */
export interface MergedKind {
  readonly database: string;
  /** That the nodes serve their parts at. */
  readonly path: string;
  /** As in `ChangesQuery`. */
  readonly rows: 'documents' | 'databases';
}

/** More than one says that is about a database. */
const DATABASE_ROW_BYTES_MAX = 64 * 1024;
/** A reply that only says how many changes there are. */
const COUNT_BYTES_MAX = 512 * 1024;

/** Serves `GET` and `POST` of `_changes` of a database. */
export function mergedChanges(parts: MergedChangesParts, exchange: Exchange): Promise<void> {
  const database = exchange.param('db');
  const path = `/${encodeURIComponent(database)}/_changes`;
  return mergedFeed(parts, exchange, { database, path, rows: 'documents' });
}

/** Serves a feed. */
export async function mergedFeed(
  parts: MergedChangesParts,
  exchange: Exchange,
  kind: MergedKind,
): Promise<void> {
  const { config, limits } = parts;
  const isPost = exchange.request.method === 'POST';
  if (isPost) exchange.assertJsonType();
  const bytes = await bodyOf(exchange);
  const query = await changesQuery(
    exchange,
    {
      waitMsMax: config.get('chttpd/changes_timeout'),
      idsMax: config.get('chttpd/max_all_docs_keys'),
    },
    bytes === undefined ? undefined : objectOf(parseJson(bytes), 'the request body'),
  );
  // A feed may go on for days, though the body that asked for it is what is asked of the nodes.
  exchange.finish();
  const instead: Instead = {
    ...(exchange.isHead ? { method: 'GET' } : {}),
    ...(bytes === undefined ? {} : { body: [bytes] }),
  };
  const isWaiting = query.feed !== 'normal' && !exchange.isHead;
  const close = isWaiting
    ? limits.open(exchange.caller.name, {
        total: config.get('chttpd/max_changes_feeds'),
        perUser: config.get('chttpd/max_changes_feeds_per_user'),
      })
    : () => undefined;
  try {
    await new MergedFeed(parts, exchange, { kind, query, instead }).run();
  } finally {
    close();
  }
}

function bodyOf(exchange: Exchange): Promise<Uint8Array | undefined> {
  if (!exchange.hasBody) return Promise.resolve(undefined);
  exchange.assertJsonType();
  return exchange.body(exchange.limits.documentBytesMax);
}

/** The feed of one part. */
interface Source {
  readonly index: number;
  readonly feed: PartFeed;
  readonly reply: PartReply;
  token: string;
  /** All that there was is read, and nothing came since. */
  isCaughtUp: boolean;
  isDone: boolean;
  /** Its next line, which is on its way or among the events. */
  listening: Promise<Event> | undefined;
}

/** What a source gave, or how it failed. */
type Event = { readonly source: Source } & (
  | { readonly line: PartLine }
  | { readonly line?: undefined; readonly error: unknown }
);

interface MergedAsked {
  readonly kind: MergedKind;
  readonly query: ChangesQuery;
  readonly instead: Instead;
}

/** One feed being merged. */
class MergedFeed {
  readonly #parts: MergedChangesParts;
  readonly #exchange: Exchange;
  readonly #kind: MergedKind;
  readonly #query: ChangesQuery;
  readonly #instead: Instead;
  readonly #format: FeedFormat;
  #sources: Source[] = [];
  #token = new MergedToken([]);
  /** What came and was not written yet: at most one line of each source. */
  readonly #events: Event[] = [];
  #wake: () => void = () => undefined;
  #rows = 0;
  #rowMs: number;
  #sentMs: number;

  constructor(
    parts: MergedChangesParts,
    exchange: Exchange,
    { kind, query, instead }: MergedAsked,
  ) {
    this.#parts = parts;
    this.#exchange = exchange;
    this.#kind = kind;
    this.#query = query;
    this.#instead = instead;
    this.#format = feedFormat(query);
    this.#rowMs = parts.host.now();
    this.#sentMs = this.#rowMs;
  }

  async run(): Promise<void> {
    const wake = () => this.#wake();
    const { stopping } = this.#parts;
    stopping.addEventListener('abort', wake);
    this.#exchange.signal.addEventListener('abort', wake);
    try {
      await this.#open();
      const out = this.#exchange.stream(200, { 'Content-Type': this.#format.contentType });
      if (out.closed) return;
      if (this.#query.feed !== 'normal') this.#exchange.response.flushHeaders();
      await out.text(this.#format.head);
      await out.flush();
      await this.#write(out);
      if (out.closed) return;
      await out.text(this.#format.end(this.#token.text(), await this.#pending()));
      await out.end();
    } finally {
      stopping.removeEventListener('abort', wake);
      this.#exchange.signal.removeEventListener('abort', wake);
      for (const { feed } of this.#sources) void feed.close().catch(() => undefined);
    }
  }

  /** Begins all feeds, each of which says where it begins: only then is a token of the whole known. */
  async #open(): Promise<void> {
    const { feed, limit } = this.#query;
    const shape = { feed: feed === 'normal' ? feed : 'continuous', limit } as const;
    const instead = { ...this.#instead, shape };
    const replies = await this.#parts.requests.ofAll(this.#exchange, () => instead, {
      name: this.#kind.database,
    });
    this.#sources = replies.map((reply, index) => {
      const feed = new PartFeed(this.#parts.host, reply.part.node, reply.reply);
      return {
        index,
        feed,
        reply,
        token: '',
        isCaughtUp: false,
        isDone: false,
        listening: undefined,
      };
    });
    await Promise.all(
      this.#sources.map(async (source) => {
        source.token = (await source.feed.next()).token;
      }),
    );
    this.#token = new MergedToken(this.#sources.map(({ token }) => token));
  }

  async #write(out: ReplyStream): Promise<void> {
    for (const source of this.#sources) this.#listen(source);
    while (!this.#isComplete()) {
      const event = this.#events.shift();
      if (event === undefined) {
        await out.flush();
        if (!(await this.#waited(out))) return;
        continue;
      }
      if (event.line === undefined) throw event.error;
      await this.#take(out, event.source, event.line);
      if (out.closed || this.#parts.stopping.aborted) return;
      if (!event.source.isDone) this.#listen(event.source);
    }
  }

  /** Has the next line of a source come among the events. */
  #listen(source: Source): void {
    source.listening = next(source).then((event) => {
      this.#events.push(event);
      this.#wake();
      return event;
    });
  }

  #isComplete(): boolean {
    const { feed, limit } = this.#query;
    if (this.#rows >= limit) return true;
    const sources = this.#sources;
    if (feed === 'normal') return sources.every(({ isDone }) => isDone);
    // One that was ended where it is, since its database is gone or the caller is shut out, ends all.
    if (sources.some(({ isDone }) => isDone)) return true;
    return feed === 'longpoll' && this.#rows > 0 && sources.every((source) => source.isCaughtUp);
  }

  async #take(out: ReplyStream, source: Source, line: PartLine): Promise<void> {
    source.listening = undefined;
    source.token = line.token;
    this.#token.set(source.index, line.token);
    source.isCaughtUp = line.kind !== 'row';
    source.isDone = line.kind === 'end';
    if (line.kind !== 'row') return;
    const token = this.#token.text();
    const start = this.#rows++ === 0 ? this.#format.first : this.#format.next;
    const seq = this.#rows % this.#query.seqInterval === 0 ? `"${token}"` : 'null';
    if (this.#kind.rows === 'databases') {
      // The members of a part are `,"db_name":…,"type":…}`: small, and the token comes after them.
      const members = (await textOf(line.rest)).slice(1, -1);
      await out.text(`${start}{${members},"seq":${seq}}`);
    } else {
      await out.text(`${start}{"seq":${seq}`);
      await out.all(line.rest);
    }
    await out.text(this.#format.rowEnd(token));
    this.#rowMs = this.#parts.host.now();
    this.#sentMs = this.#rowMs;
  }

  /** Waits for something to come; false if the feed is to end. */
  async #waited(out: ReplyStream): Promise<boolean> {
    const { heartbeatMs, timeoutMs, feed } = this.#query;
    const { host, stopping } = this.#parts;
    const endsItself = feed === 'normal' && heartbeatMs === undefined;
    const due = heartbeatMs === undefined ? this.#rowMs + timeoutMs : this.#sentMs + heartbeatMs;
    let isDue = false;
    await new Promise<void>((resolve) => {
      const dueMs = Math.max(0, due - host.now());
      const late = () => {
        isDue = true;
        resolve();
      };
      const cancelTimer = endsItself ? () => undefined : host.setTimer(late, dueMs);
      this.#wake = () => {
        cancelTimer();
        resolve();
      };
      if (this.#events.length > 0 || stopping.aborted || out.closed) this.#wake();
    });
    this.#wake = () => undefined;
    if (stopping.aborted || out.closed) return false;
    if (!isDue) return true;
    if (heartbeatMs === undefined) return false;
    await out.text(this.#format.heartbeat);
    await out.flush();
    this.#sentMs = host.now();
    return true;
  }

  /** How many rows are left, where the feed ended before all were read. */
  async #pending(): Promise<number> {
    if (this.#rows < this.#query.limit) return 0;
    const counts = await Promise.all(
      this.#sources.map((source) =>
        this.#query.descending ? this.#restOf(source) : this.#pendingOf(source),
      ),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  async #pendingOf({ reply: { part }, token }: Source): Promise<number> {
    const { database, path } = this.#kind;
    const url = `${path}?since=${encodeURIComponent(token)}`;
    const shape = { feed: 'normal', limit: 0 } as const;
    const { node, cover } = part;
    const { requests } = this.#parts;
    const instead = { method: 'GET', url, shape, database };
    const reply = await requests.toNode(this.#exchange, node, instead, cover);
    const text = (await wholeReply(reply, COUNT_BYTES_MAX)).toString();
    return Number(/ ([0-9]+)\n$/.exec(text)?.[1] ?? 0);
  }

  /** What goes down has no token from which it could be counted: what was not taken is, and its node says what is left then. */
  async #restOf(source: Source): Promise<number> {
    let count = 0;
    for (;;) {
      if (source.isDone) return count;
      const event = await (source.listening ?? next(source));
      source.listening = undefined;
      const { line } = event;
      if (line === undefined) throw event.error;
      if (line.kind === 'end') return count + line.pending;
      if (line.kind !== 'row') continue;
      count++;
      for await (const _ of line.rest);
    }
  }
}

/** What is left of a line that is not long. Throws `PEER` if it is. */
async function textOf(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    length += chunk.length;
    if (length > DATABASE_ROW_BYTES_MAX) throw new DivanError('PEER', 'a node sent a long row');
    parts.push(Buffer.from(chunk));
  }
  return Buffer.concat(parts).toString();
}

/** The next line of a source, or how it failed. */
function next(source: Source): Promise<Event> {
  return source.feed.next().then(
    (line): Event => ({ source, line }),
    (error: unknown): Event => ({ source, error }),
  );
}
