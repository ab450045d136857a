/** The rows of a feed of changes as text. */
import type { Entry } from '../../engine/btree/tree.js';
import { readSeq } from '../../engine/file/byte-reader.js';
import { ChangeText } from '../../engine/shard/change-text.js';
import { withMembers } from '../../engine/shard/document-text.js';
import { revText } from '../../engine/shard/revision.js';
import { readRow } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { ChangeRun } from '../databases/changes.js';
import { ReadDocument, type ViewOptions } from '../databases/document-view.js';
import type { Position } from '../databases/since-token.js';
import type { ReplyStream } from '../http/reply-stream.js';
import type { ChangesQuery } from './changes-query.js';
import { type FeedFormat, feedFormat, PART_MARK } from './feed-format.js';

/** What whoever writes must wait for before it goes on. */
export interface Written {
  readonly waiting: Promise<unknown> | undefined;
}

export class FeedWriter {
  readonly out: ReplyStream;
  /** How many rows were written. */
  rows = 0;
  readonly #query: ChangesQuery;
  readonly #format: FeedFormat;
  readonly #text = new ChangeText();

  constructor(out: ReplyStream, query: ChangesQuery) {
    this.out = out;
    this.#query = query;
    this.#format = feedFormat(query);
  }

  /** Sends the beginning, even if there is nothing more to send yet. */
  async begin(): Promise<void> {
    await this.out.text(this.#format.head);
    await this.out.flush();
  }

  /** Of a part: says how far all of it is read. */
  async mark(seq: string): Promise<void> {
    await this.out.text(`${PART_MARK}${seq}\n`);
    await this.out.flush();
  }

  async heartbeat(): Promise<void> {
    await this.out.text(this.#format.heartbeat);
    await this.out.flush();
  }

  async end(lastSeq: string, pending: number): Promise<void> {
    await this.out.text(this.#format.end(lastSeq, pending));
    await this.out.end();
  }

  /** Writes a row without its document; a promise if the next one must wait. */
  row(position: Position, run: ChangeRun, row: Entry): Promise<void> | undefined {
    const token = position.tokenAt(run.index, readSeq(row.key, 0));
    return this.out.text(`${this.#members(row, token)}}${this.#format.rowEnd(token)}`);
  }

  /** Writes a row with its document; what it returns resolves before the client has taken it. */
  async rowWithDocument(
    position: Position,
    run: ChangeRun,
    row: Entry,
    view: ViewOptions,
  ): Promise<Written> {
    const document = await documentOf(run.snapshot, row, view);
    const token = position.tokenAt(run.index, readSeq(row.key, 0));
    const head = `${this.#members(row, token)},"doc":`;
    const tail = `}${this.#format.rowEnd(token)}`;
    if (!(document instanceof Uint8Array)) {
      // Its attachments may be larger than memory: it is read as slowly as the client takes it.
      await this.out.text(head);
      await this.out.all(document);
      return { waiting: this.out.text(tail) };
    }
    const waits = [this.out.text(head), this.out.bytes(document), this.out.text(tail)].filter(
      (wait) => wait !== undefined,
    );
    return { waiting: waits.length === 0 ? undefined : Promise.all(waits) };
  }

  #members(row: Entry, token: string): string {
    const text = this.#text;
    text.read(row.value, this.#query.allLeaves);
    const start = this.rows++ === 0 ? this.#format.first : this.#format.next;
    const seq = this.rows % this.#query.seqInterval === 0 ? `"${token}"` : 'null';
    if (this.#query.rows === 'databases') {
      const members = databaseMembers(text.id);
      // Whoever makes one feed of several puts the token of the whole where it belongs.
      return this.#query.isPart
        ? `${start}{"seq":${seq},${members}`
        : `${start}{${members},"seq":${seq}`;
    }
    const deleted = text.deleted ? ',"deleted":true' : '';
    return `${start}{"seq":${seq},"id":${text.id},"changes":[${text.revs}]${deleted}`;
  }
}

/** `created:name` as members of a row. `id` is a JSON string. */
function databaseMembers(id: string): string {
  const [, type, name] = /^"(\w+):(.*)$/s.exec(id) ?? [];
  return `"db_name":"${name},"type":"${type}"`;
}

const NULL = Buffer.from('null');

/** The winner of a row as JSON text; piece by piece if it has attachments in it. */
async function documentOf(
  snapshot: Snapshot,
  { value }: Entry,
  view: ViewOptions,
): Promise<Uint8Array | AsyncIterable<Uint8Array>> {
  const { id, leaves } = readRow(value);
  const [winner] = leaves;
  if (winner === undefined) return NULL;
  if (winner.attachments.length > 0 || (view.conflicts === true && leaves.length > 1)) {
    const document = await ReadDocument.find(snapshot, id);
    if (document === undefined) return NULL;
    return document.hasInlineContent(document.winner, view)
      ? document.chunks(document.winner, view)
      : document.text(document.winner, view);
  }
  const text = JSON.stringify(Buffer.from(id.buffer, id.byteOffset, id.length).toString());
  const members = `"_id":${text},"_rev":${revText(winner.revision)}`;
  const deleted = winner.deleted ? ',"_deleted":true' : '';
  return withMembers(members + deleted, await snapshot.body(winner));
}
