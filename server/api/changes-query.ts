/** What a feed of changes is asked for. */
import { DivanError } from '../../engine/errors.js';
import { type ChangeFilter, DesignFilter, IdFilter } from '../databases/change-filter.js';
import type { ViewOptions } from '../databases/document-view.js';
import { parseSince, type SeenSeqs } from '../databases/since-token.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonObject, memberOf, stringsOf } from '../http/json-value.js';
import type { Query } from '../http/query.js';

export type FeedKind = 'normal' | 'longpoll' | 'continuous' | 'eventsource';

export interface ChangesQuery {
  readonly feed: FeedKind;
  readonly since: SeenSeqs | 'now';
  readonly limit: number;
  /** Only of a feed that does not wait. */
  readonly descending: boolean;
  /** How often something is sent to a client that waits; undefined for never. */
  readonly heartbeatMs: number | undefined;
  /** How long a change is waited for when there are no heartbeats. */
  readonly timeoutMs: number;
  /** How documents are shown; undefined for not at all. */
  readonly view: ViewOptions | undefined;
  /** Rows name all leaf revisions, not just the winner. */
  readonly allLeaves: boolean;
  readonly filter: ChangeFilter | undefined;
  /** Only each so many rows have their `seq`. */
  readonly seqInterval: number;
  /** What a row is about: a document, or, in the database of those, what happened to a database. Documents if it is left out. */
  readonly rows?: 'documents' | 'databases';
  /** The feed is one of several that another node makes one of. */
  readonly isPart: boolean;
}

export interface ChangesBounds {
  /** Of `heartbeat` and `timeout`, which is their default, too. */
  readonly waitMsMax: number;
  readonly idsMax: number;
}

const FEEDS: ReadonlyMap<string, FeedKind> = new Map([
  ['normal', 'normal'],
  ['longpoll', 'longpoll'],
  ['continuous', 'continuous'],
  ['live', 'continuous'],
  ['eventsource', 'eventsource'],
]);

const COUNT_MAX = Number.MAX_SAFE_INTEGER;
/** A node that says nothing for longer is taken for one that does not answer. */
const PART_HEARTBEAT_MS = 2000;
/** Heartbeats are not sent more often, whatever a client asks for. */
const HEARTBEAT_MS_MIN = 50;

/**
 * Reads query, headers and, of a POST, body, unless it was read and is `sent`. Throws `BAD_REQUEST`, `NOT_FOUND`, `TOO_LARGE`, `INVALID_JSON`,
 * `UNSUPPORTED_TYPE`.
 */
export async function changesQuery(
  exchange: Exchange,
  { waitMsMax, idsMax }: ChangesBounds,
  sent?: JsonObject,
): Promise<ChangesQuery> {
  const { query } = exchange;
  const body = sent ?? (exchange.hasBody ? await exchange.jsonObject() : undefined);
  const asked = feedOf(query);
  const shape = exchange.peer?.shape;
  const feed = shape?.feed ?? asked;
  const timeout = query.integer('timeout', { min: 0, max: COUNT_MAX });
  const limit = query.integer('limit', { min: 0, max: COUNT_MAX });
  const interval = query.integer('seq_interval', { min: 0, max: COUNT_MAX });
  return {
    feed,
    since: sinceOf(exchange, asked),
    // As in CouchDB, where a limit of 0 is one of 1.
    limit: shape?.limit ?? Math.max(1, limit ?? COUNT_MAX),
    descending: query.boolean('descending') === true && feed === 'normal',
    heartbeatMs: shape === undefined ? heartbeatOf(query, waitMsMax) : PART_HEARTBEAT_MS,
    timeoutMs: Math.min(timeout ?? waitMsMax, waitMsMax),
    view: viewOf(query),
    allLeaves: isAllDocs(query),
    filter: filterOf(query, body, idsMax),
    seqInterval: shape === undefined ? Math.max(1, interval ?? 1) : 1,
    isPart: shape !== undefined,
  };
}

function feedOf(query: Query): FeedKind {
  const feed = FEEDS.get(query.string('feed') ?? 'normal');
  if (feed !== undefined) return feed;
  const kinds = [...FEEDS.keys()].join(', ');
  throw new DivanError('BAD_REQUEST', `Supported \`feed\` types: ${kinds}`);
}

/** An EventSource that connects again says in a header where it was; its URL is that of the first time. */
function sinceOf(exchange: Exchange, feed: FeedKind): SeenSeqs | 'now' {
  const { query } = exchange;
  const header = feed === 'eventsource' ? exchange.header('last-event-id') : undefined;
  const text = header ?? query.string('since') ?? query.string('last-event-id') ?? '0';
  return text === 'now' ? text : parseSince(text);
}

function heartbeatOf(query: Query, most: number): number | undefined {
  const text = query.string('heartbeat');
  if (text === undefined || text === 'false') return undefined;
  if (text === 'true') return most;
  const wanted = query.integer('heartbeat', { min: 1, max: COUNT_MAX }) ?? most;
  return Math.min(Math.max(wanted, HEARTBEAT_MS_MIN), most);
}

function viewOf(query: Query): ViewOptions | undefined {
  const options = {
    conflicts: query.boolean('conflicts') === true,
    attachments: query.boolean('attachments') === true,
    encodingInfo: query.boolean('att_encoding_info') === true,
  };
  return query.boolean('include_docs') === true ? options : undefined;
}

function isAllDocs(query: Query): boolean {
  const style = query.string('style') ?? 'main_only';
  if (style === 'all_docs' || style === 'main_only') return style === 'all_docs';
  throw new DivanError('BAD_REQUEST', '`style` is main_only or all_docs');
}

function filterOf(
  query: Query,
  body: JsonObject | undefined,
  idsMax: number,
): ChangeFilter | undefined {
  const name = query.string('filter') ?? '';
  switch (name) {
    case '':
      return undefined;
    case '_doc_ids':
      return new IdFilter(docIds(query, body, idsMax));
    case '_design':
      return new DesignFilter();
    case '_selector':
    case '_view':
      throw new DivanError('BAD_REQUEST', `the filter ${name} is not supported`);
    default:
      // No function of a design document is ever run, so that none is there.
      if (name.includes('/')) throw new DivanError('NOT_FOUND', 'missing');
      throw new DivanError(
        'BAD_REQUEST',
        '`filter` is _doc_ids, _design, or of the form designname/filtername',
      );
  }
}

function docIds(query: Query, body: JsonObject | undefined, idsMax: number): readonly string[] {
  const listed = body === undefined ? undefined : memberOf(body, 'doc_ids');
  const ids =
    listed === undefined
      ? query.strings('doc_ids', idsMax)
      : stringsOf(listed, '`doc_ids`', idsMax);
  if (ids !== undefined) return ids;
  throw new DivanError('BAD_REQUEST', '`doc_ids` must be given for the filter _doc_ids');
}
