/**
 * `_changes`: what was updated since, once or as it happens.
 *
 * A feed holds snapshots only while it writes what is in them. One that waits, for changes or for a client that reads slowly, holds
 * nothing but its position.
 */
import { isDivanError } from '../../engine/errors.js';
import { readSeq } from '../../engine/file/byte-reader.js';
import { ChangeWatch } from '../databases/change-watch.js';
import { type ChangeRun, Changes, type ChangesReading } from '../databases/changes.js';
import type { Database } from '../databases/database.js';
import type { ShardSlot } from '../databases/shard-slot.js';
import type { Exchange } from '../http/exchange.js';
import type { Route } from '../http/router.js';
import type { ServerHost } from '../world.js';
import { type ChangesQuery, changesQuery } from './changes-query.js';
import { feedFormat } from './feed-format.js';
import { FeedWriter } from './feed-writer.js';
import type { Services } from './services.js';

/** After so many rows at once, others have their turn. */
const TURN_ROWS = 1000;
/** If a client takes longer to take what was sent, the feed lets go of what it reads, and reads it again from there. */
const STALLED_MS = 3000;

export function changesRoutes(services: Services): Route[] {
  const handle = (exchange: Exchange) => serve(services, exchange);
  const path = '/:db/_changes';
  return [
    { method: 'GET', path, access: 'database_member', handle },
    { method: 'POST', path, access: 'database_member', handle },
  ];
}

async function serve(services: Services, exchange: Exchange): Promise<void> {
  const { catalog, config } = services;
  const database = catalog.get(exchange.param('db'));
  if (exchange.request.method === 'POST') exchange.assertJsonType();
  const query = await changesQuery(exchange, {
    waitMsMax: config.get('chttpd/changes_timeout'),
    idsMax: config.get('chttpd/max_all_docs_keys'),
  });
  await serveFeed(services, exchange, database, query);
}

/** Writes the changes of a database as a query asks for them. Throws `UNAVAILABLE`, `NOT_FOUND`, and what reading throws. */
export async function serveFeed(
  services: Services,
  exchange: Exchange,
  database: Database,
  query: ChangesQuery,
): Promise<void> {
  const { config, feeds: limits, world, stopping } = services;
  // A feed may go on for days: the body that asked for it is done with.
  exchange.finish();
  const feed = { host: world.host, database, exchange, query };
  if (query.feed === 'normal' || exchange.isHead) {
    await new Feed({ ...feed, watch: undefined }).run();
    return;
  }
  // It is counted where the client is.
  const { isPart } = query;
  const close = isPart
    ? () => undefined
    : limits.open(exchange.caller.name, {
        total: config.get('chttpd/max_changes_feeds'),
        perUser: config.get('chttpd/max_changes_feeds_per_user'),
      });
  const watch = new ChangeWatch(world.host, database, [stopping, exchange.signal]);
  try {
    await new Feed({ ...feed, watch }).run();
  } finally {
    watch.close();
    close();
  }
}

interface FeedParts {
  readonly host: ServerHost;
  readonly database: Database;
  readonly exchange: Exchange;
  readonly query: ChangesQuery;
  /** Undefined for a feed that ends with what is there. */
  readonly watch: ChangeWatch | undefined;
}

/** Why a reading was left: there is more to read once the client has taken what was sent. */
interface Stalled {
  readonly waiting: Promise<unknown>;
}

/** One feed being written. */
class Feed {
  readonly #host: ServerHost;
  readonly #exchange: Exchange;
  readonly #query: ChangesQuery;
  readonly #watch: ChangeWatch | undefined;
  readonly #changes: Changes;
  #writer: FeedWriter | undefined;
  #isFinished = false;
  #pending = 0;
  /** Rows since others had their turn. */
  #turnRows = 0;
  /** When the last row, and when anything, was sent. */
  #rowMs: number;
  #sentMs: number;

  constructor({ host, database, exchange, query, watch }: FeedParts) {
    this.#host = host;
    this.#exchange = exchange;
    this.#query = query;
    this.#watch = watch;
    const { since, descending, filter } = query;
    this.#changes = new Changes(database, { since, descending, filter, ends: watch === undefined });
    this.#rowMs = host.now();
    this.#sentMs = this.#rowMs;
  }

  async run(): Promise<void> {
    await this.#read(undefined);
    while (!this.#isFinished) {
      const changed = await this.#nextChanged();
      if (changed === undefined) break;
      await this.#read(changed);
    }
    const writer = this.#writer;
    if (writer === undefined || writer.out.closed) return;
    await writer.end(this.#changes.position.token(), this.#pending);
  }

  /** Writes all that there is to read of some shards, by default of all. */
  async #read(changed: readonly ShardSlot[] | undefined): Promise<void> {
    try {
      for (;;) {
        const stalled = await this.#changes.read((reading) => this.#write(reading), changed);
        if (stalled === undefined) return await this.#caughtUp();
        await stalled.waiting;
        this.#sentMs = this.#host.now();
      }
    } catch (error) {
      // The database was deleted while the feed waited, which ends it as any other.
      const isGone = isDivanError(error, 'NOT_FOUND') && this.#watch?.ended === true;
      if (!isGone || this.#writer === undefined) throw error;
      this.#isFinished = true;
    }
  }

  async #caughtUp(): Promise<void> {
    const isTold = this.#query.isPart && !this.#isFinished;
    if (isTold) await this.#writer?.mark(this.#changes.position.token());
  }

  async #write(reading: ChangesReading): Promise<Stalled | undefined> {
    this.#writer ??= await this.#begin();
    if (this.#query.limit === 0) {
      this.#pending = await reading.pending();
      this.#isFinished = true;
      return undefined;
    }
    for await (const run of reading.runs()) {
      if (this.#writer.out.closed || this.#watch?.ended === true) this.#isFinished = true;
      const stalled = this.#isFinished
        ? undefined
        : await this.#writeRun(this.#writer, reading, run);
      if (stalled !== undefined) return stalled;
      if (this.#isFinished) {
        this.#pending = await reading.pending();
        return undefined;
      }
      await this.#othersTurn(this.#writer, run);
    }
    return undefined;
  }

  /** The reply begins when something could be read, so that a failure before has its status. */
  async #begin(): Promise<FeedWriter> {
    const out = this.#exchange.stream(200, {
      'Content-Type': feedFormat(this.#query).contentType,
    });
    const writer = new FeedWriter(out, this.#query);
    if (out.closed) this.#isFinished = true;
    else {
      if (this.#watch !== undefined) this.#exchange.response.flushHeaders();
      await writer.begin();
      if (this.#query.isPart) await writer.mark(this.#changes.position.token());
    }
    return writer;
  }

  async #writeRun(
    writer: FeedWriter,
    reading: ChangesReading,
    run: ChangeRun,
  ): Promise<Stalled | undefined> {
    const { view, limit } = this.#query;
    const { position } = this.#changes;
    for (const row of run.rows) {
      const waiting =
        view === undefined
          ? writer.row(position, run, row)
          : (await writer.rowWithDocument(position, run, row, view)).waiting;
      if (writer.rows >= limit) {
        reading.take(run, readSeq(row.key, 0));
        this.#isFinished = true;
        // What follows is sent to a client that is gone, and fails itself.
        waiting?.catch(() => undefined);
        return undefined;
      }
      if (waiting !== undefined && !(await this.#isSoon(waiting))) {
        reading.take(run, readSeq(row.key, 0));
        return { waiting };
      }
    }
    reading.take(run);
    return undefined;
  }

  /** Waits, but not for long; true if that sufficed. */
  async #isSoon(waiting: Promise<unknown>): Promise<boolean> {
    let cancelTimer: (() => void) | undefined;
    const late = new Promise<false>((resolve) => {
      cancelTimer = this.#host.setTimer(() => resolve(false), STALLED_MS);
    });
    try {
      return await Promise.race([waiting.then(() => true), late]);
    } finally {
      cancelTimer?.();
    }
  }

  async #othersTurn(writer: FeedWriter, run: ChangeRun): Promise<void> {
    const now = this.#host.now();
    if (run.rows.length > 0) {
      this.#rowMs = now;
      this.#sentMs = now;
    }
    // Filtered rows count as well: it is the reading that takes time.
    this.#turnRows += Math.max(run.rows.length, run.read);
    if (this.#turnRows >= TURN_ROWS) {
      this.#turnRows = 0;
      await this.#host.yieldTurn();
    }
    const { heartbeatMs } = this.#query;
    if (heartbeatMs !== undefined && now - this.#sentMs >= heartbeatMs) await this.#beat(writer);
  }

  async #beat(writer: FeedWriter): Promise<void> {
    await writer.heartbeat();
    this.#sentMs = this.#host.now();
  }

  /** Waits for changes; the shards that have some, or undefined if the feed is to end. */
  async #nextChanged(): Promise<readonly ShardSlot[] | undefined> {
    const { feed, heartbeatMs, timeoutMs } = this.#query;
    const writer = this.#writer;
    const watch = this.#watch;
    if (watch === undefined || writer === undefined) return undefined;
    if (feed === 'longpoll' && writer.rows > 0) return undefined;
    await writer.out.flush();
    for (;;) {
      const now = this.#host.now();
      const due = heartbeatMs === undefined ? this.#rowMs + timeoutMs : this.#sentMs + heartbeatMs;
      const woken = await watch.next(Math.max(0, due - now));
      if (woken === 'ended') return undefined;
      // Who is shut out while it waits is not told of what comes after that.
      if (woken === 'changed') {
        return (await this.#exchange.mayGoOn()) ? watch.takeChanged() : undefined;
      }
      if (heartbeatMs === undefined) return undefined;
      await this.#beat(writer);
    }
  }
}
