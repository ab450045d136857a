/** `_all_docs`, `_design_docs`, `_local_docs`: documents in the order of their ids, or those of a list of ids. */
import { localDocText } from '../../engine/shard/document-text.js';
import { readStoredDocument } from '../../engine/shard/id-tree.js';
import { readLocalDoc } from '../../engine/shard/local-tree.js';
import { winnerOf } from '../../engine/shard/rev-tree.js';
import { revText } from '../../engine/shard/revision.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import { mergedEntries, type ShardEntry } from '../databases/all-documents.js';
import { ReadDocument, type ViewOptions } from '../databases/document-view.js';
import type { ShardSet } from '../databases/shard-set.js';
import { updateSeqOf } from '../databases/since-token.js';
import type { Exchange } from '../http/exchange.js';
import { type JsonValue, objectOf, requiredArray } from '../http/json-value.js';
import type { ReplyStream } from '../http/reply-stream.js';
import type { Route } from '../http/router.js';
import { idRange } from './id-range.js';
import { type ListQuery, listQuery, NO_QUERY } from './list-query.js';
import type { Services } from './services.js';

/** Which documents a route lists. */
interface Kind {
  readonly tree: 'byId' | 'local';
  /** Their ids begin with it. */
  readonly prefix: string;
  /** What their keys in the tree lack. */
  readonly hiddenPrefix: string;
}

const KINDS: readonly (readonly [string, Kind])[] = [
  ['_all_docs', { tree: 'byId', prefix: '', hiddenPrefix: '' }],
  ['_design_docs', { tree: 'byId', prefix: '_design/', hiddenPrefix: '' }],
  ['_local_docs', { tree: 'local', prefix: '', hiddenPrefix: '_local/' }],
];

export function allDocsRoutes(services: Services): Route[] {
  return KINDS.flatMap(([name, kind]): Route[] => {
    const lists = new DocumentLists(services, kind);
    const route = (method: 'GET' | 'POST', path: string, handle: Route['handle']): Route => ({
      method,
      path,
      access: 'database_member',
      handle,
    });
    return [
      route('GET', `/:db/${name}`, (exchange) => lists.get(exchange)),
      route('POST', `/:db/${name}`, (exchange) => lists.post(exchange)),
      route('POST', `/:db/${name}/queries`, (exchange) => lists.queries(exchange)),
    ];
  });
}

class DocumentLists {
  readonly #services: Services;
  readonly #kind: Kind;

  constructor(services: Services, kind: Kind) {
    this.#services = services;
    this.#kind = kind;
  }

  async get(exchange: Exchange): Promise<void> {
    await this.#reply(exchange, [listQuery(exchange.query, undefined, this.#keysMax)], false);
  }

  async post(exchange: Exchange): Promise<void> {
    const body = await exchange.jsonObject();
    await this.#reply(exchange, [listQuery(exchange.query, body, this.#keysMax)], false);
  }

  async queries(exchange: Exchange): Promise<void> {
    const body = await exchange.jsonObject();
    const queries = requiredArray(body, 'queries', this.#keysMax).map((query) =>
      listQuery(NO_QUERY, objectOf(query, 'a query'), this.#keysMax),
    );
    await this.#reply(exchange, queries, true);
  }

  get #keysMax(): number {
    return this.#services.config.get('chttpd/max_all_docs_keys');
  }

  async #reply(exchange: Exchange, queries: readonly ListQuery[], several: boolean): Promise<void> {
    const database = this.#services.catalog.get(exchange.param('db'));
    await database.readAll(async (snapshots, shards) => {
      const out = exchange.stream(200);
      if (out.closed) return;
      if (several) await out.text('{"results":[\n');
      for (const [index, query] of queries.entries()) {
        if (index > 0) await out.text(',\n');
        await new DocumentList(shards, snapshots, this.#kind, query, out).write();
      }
      await out.text(several ? '\n]}\n' : '\n');
      await out.end();
    });
  }
}

/** One list being written. */
class DocumentList {
  readonly #shards: ShardSet;
  readonly #snapshots: readonly Snapshot[];
  readonly #kind: Kind;
  readonly #query: ListQuery;
  readonly #view: ViewOptions;
  readonly #out: ReplyStream;
  #rows = 0;

  constructor(
    shards: ShardSet,
    snapshots: readonly Snapshot[],
    kind: Kind,
    query: ListQuery,
    out: ReplyStream,
  ) {
    this.#shards = shards;
    this.#snapshots = snapshots;
    this.#kind = kind;
    this.#query = query;
    this.#out = out;
    const { conflicts, attachments, encodingInfo } = query;
    this.#view = { conflicts, attachments, encodingInfo };
  }

  async write(): Promise<void> {
    const { keys, updateSeq } = this.#query;
    const head = [
      `"total_rows":${this.#total()}`,
      `"offset":${keys === undefined ? this.#query.skip : null}`,
    ];
    if (updateSeq) head.push(`"update_seq":${JSON.stringify(updateSeqOf(this.#snapshots))}`);
    await this.#out.text(`{${head.join(',')},"rows":[`);
    if (keys === undefined) await this.#range();
    else for (const key of this.#selected(keys)) await this.#key(key);
    await this.#out.text('\n]}');
  }

  #total(): number | null {
    if (this.#kind.tree === 'local' || this.#kind.prefix !== '') return null;
    return this.#snapshots.reduce((sum, { counters }) => sum + counters.liveDocs, 0);
  }

  #selected(keys: readonly JsonValue[]): readonly JsonValue[] {
    const { skip, limit, descending } = this.#query;
    const selected = descending ? [...keys].reverse() : keys;
    return selected.slice(skip, skip + limit);
  }

  async #range(): Promise<void> {
    const range = idRange(this.#query, this.#kind.prefix, this.#kind.hiddenPrefix);
    if (range === undefined || this.#query.limit === 0) return;
    let { skip } = this.#query;
    for await (const entry of mergedEntries(this.#snapshots, this.#kind.tree, range)) {
      const isLive =
        this.#kind.tree === 'byId'
          ? !readStoredDocument(entry.value).deleted
          : !readLocalDoc(entry.value).deleted;
      if (!isLive || skip-- > 0) continue;
      const waiting = this.#entry(entry);
      if (waiting !== undefined) await waiting;
      if (this.#rows >= this.#query.limit) return;
    }
  }

  #entry(entry: ShardEntry): Promise<void> | undefined {
    if (this.#kind.tree === 'local') return this.#localRow(entry.key, entry.value);
    const { tree } = readStoredDocument(entry.value);
    const id = JSON.stringify(textOf(entry.key));
    const row = `"id":${id},"key":${id},"value":{"rev":${revText(winnerOf(tree).revision)}}`;
    if (!this.#query.includeDocs) return this.#row(row);
    return this.#rowWithDocument(row, entry);
  }

  async #rowWithDocument(row: string, { snapshot, key, value }: ShardEntry): Promise<void> {
    const document = await ReadDocument.of(snapshot, key, value);
    const { winner } = document;
    // Attachments may be larger than memory: they are read as slowly as the client takes them.
    const doc = document.hasInlineContent(winner, this.#view)
      ? document.chunks(winner, this.#view)
      : await document.text(winner, this.#view);
    await this.#row(row, doc);
  }

  #localRow(key: Uint8Array, value: Uint8Array): Promise<void> | undefined {
    const { revision, body } = readLocalDoc(value);
    const name = textOf(key);
    const id = JSON.stringify(`_local/${name}`);
    const doc = this.#query.includeDocs ? localDocText(name, revision, body) : undefined;
    return this.#row(`"id":${id},"key":${id},"value":{"rev":"0-${revision}"}`, doc);
  }

  /** Writes a row; a promise if the next one must wait. */
  #row(members: string, doc?: Uint8Array | AsyncIterable<Uint8Array>): Promise<void> | undefined {
    const start = this.#rows++ === 0 ? '\n{' : ',\n{';
    if (doc === undefined) return this.#out.text(`${start}${members}}`);
    return this.#documentRow(`${start}${members},"doc":`, doc);
  }

  async #documentRow(head: string, doc: Uint8Array | AsyncIterable<Uint8Array>): Promise<void> {
    await this.#out.text(head);
    await (doc instanceof Uint8Array ? this.#out.bytes(doc) : this.#out.all(doc));
    await this.#out.text('}');
  }

  /** The row of one of `keys`, which also tells of what is deleted or missing. */
  async #key(key: JsonValue): Promise<void> {
    const text = JSON.stringify(key);
    const { prefix, hiddenPrefix, tree } = this.#kind;
    if (typeof key !== 'string' || !key.startsWith(prefix) || !key.startsWith(hiddenPrefix)) {
      return this.#row(`"key":${text},"error":"not_found"`);
    }
    const id = Buffer.from(key.slice(hiddenPrefix.length));
    const snapshot = this.#snapshotOf(Buffer.from(key));
    const value = await snapshot.value(tree, id);
    const isMissing = value === undefined || (tree === 'local' && readLocalDoc(value).deleted);
    if (isMissing) return this.#row(`"key":${text},"error":"not_found"`);
    if (tree === 'local') return this.#localRow(id, value);
    const stored = readStoredDocument(value);
    if (!stored.deleted) return this.#entry({ snapshot, key: id, value });
    const rev = revText(winnerOf(stored.tree).revision);
    const doc = this.#query.includeDocs ? ',"doc":null' : '';
    return this.#row(`"id":${text},"key":${text},"value":{"rev":${rev},"deleted":true}${doc}`);
  }

  #snapshotOf(id: Uint8Array): Snapshot {
    const snapshot = this.#snapshots[this.#shards.indexOf(id)];
    if (snapshot === undefined) throw new RangeError('there is a snapshot of every shard');
    return snapshot;
  }
}

function textOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString();
}
