/**
 * Where what flows between databases arrives: in the shards of this node, or at the nodes that hold the others, which take it by the call
 * `database/absorb`.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { StoredBytes } from '../../engine/shard/attachment-list.js';
import { hashOf, isInRange } from '../../engine/shard/hash.js';
import { LOCAL_PREFIX } from '../../engine/shard/local-tree.js';
import type { Call, CallHandlers, Node, PeerCalls } from '../cluster/peers.js';
import { requiredString } from '../http/json-value.js';
import type { Catalog } from './catalog.js';
import type { Database, DatabaseUpload } from './database.js';
import type { DocumentSink, FlowingItem, FlowingRevision } from './flow.js';
import { itemsFromBytes, itemsToBytes } from './flow-bytes.js';
import type { Placement, Placements } from './placement.js';
import type { DocumentWrite } from './shard-writer.js';

/** So much is written, or sent to one node, at once. */
const BATCH_ITEMS_MAX = 100;
const BATCH_BYTES_MAX = 1024 * 1024;
/** To the answer of a node, which comes when all that it was sent is durable. */
const ANSWER_MS = 60_000;

const CALL = 'database/absorb';

export interface AbsorberParts {
  readonly catalog: Catalog;
  readonly placements: Placements;
  readonly calls: PeerCalls;
  /** This node. */
  readonly self: string;
  /** Aborted when no more is to be sent. */
  readonly signal: AbortSignal;
}

export class Absorber {
  readonly #parts: AbsorberParts;

  constructor(parts: AbsorberParts, handlers: CallHandlers) {
    this.#parts = parts;
    handlers.on(CALL, (call) => this.#answer(call));
  }

  /** As `DocumentSink`. */
  readonly sink: DocumentSink = async (name, incarnation, documents) => {
    let batch: FlowingItem[] = [];
    let bytes = 0;
    for await (const item of documents) {
      batch.push(item);
      bytes += bytesOf(item);
      if (batch.length < BATCH_ITEMS_MAX && bytes < BATCH_BYTES_MAX) continue;
      await this.#send(name, incarnation, batch);
      batch = [];
      bytes = 0;
    }
    if (batch.length > 0) await this.#send(name, incarnation, batch);
  };

  async #send(name: string, incarnation: string, items: readonly FlowingItem[]): Promise<void> {
    const placement = this.#parts.placements.find(name);
    if (placement?.incarnation !== incarnation) throw notInForce(name);
    const byNode = new Map<string, { readonly node: Node; readonly items: FlowingItem[] }>();
    for (const item of items) {
      const node = ownerOf(placement, item);
      const group = byNode.get(node.identity) ?? { node, items: [] };
      byNode.set(node.identity, group);
      group.items.push(item);
    }
    for (const { node, items } of byNode.values()) {
      if (node.identity === this.#parts.self) {
        await absorbInto(databaseOf(this.#parts.catalog, name, incarnation), items);
      } else await this.#sendTo(node, name, incarnation, items);
    }
  }

  async #sendTo(
    node: Node,
    name: string,
    incarnation: string,
    items: readonly FlowingItem[],
  ): Promise<void> {
    const head = { name, incarnation };
    const options = { timeoutMs: ANSWER_MS, signal: this.#parts.signal };
    const reply = await this.#parts.calls.open(node, CALL, head, itemsToBytes(items), options);
    for await (const _ of reply.body) throw new DivanError('PEER', `${CALL} is answered by a head`);
  }

  async #answer({ head, body }: Call) {
    const name = requiredString(head, 'name');
    const database = databaseOf(this.#parts.catalog, name, requiredString(head, 'incarnation'));
    await absorbInto(database, itemsFromBytes(body));
    return { ok: true };
  }
}

function bytesOf(item: FlowingItem): number {
  return item.kind === 'purge' ? 1024 : item.body.length + 1024;
}

function ownerOf({ name, hashRule, parts }: Placement, item: FlowingItem): Node {
  const id = item.kind === 'local' ? Buffer.concat([LOCAL_ID_PREFIX, item.id]) : item.id;
  const hash = hashOf(id, hashRule);
  const owner = parts.find(({ shards }) => shards.some(({ range }) => isInRange(hash, range)));
  if (owner !== undefined) return owner.node;
  throw new DivanError('UNAVAILABLE', `a range of ${name} is on no node that is known`);
}

const LOCAL_ID_PREFIX = Buffer.from(LOCAL_PREFIX);

function databaseOf(catalog: Catalog, name: string, incarnation: string): Database {
  const database = catalog.find(name);
  if (database?.map.incarnation === incarnation) return database;
  throw notInForce(name);
}

function notInForce(name: string): DivanError {
  return new DivanError('MOVED', `${name} is another database here, or none`);
}

/**
 * Writes what flows into a database on this node, durable when it resolves; what is there already stays as it is. Throws `MOVED` for a document of
 * a range that is not here, and what a write throws.
 */
export async function absorbInto(
  database: Database,
  items: Iterable<FlowingItem> | AsyncIterable<FlowingItem>,
): Promise<void> {
  let batch: DocumentWrite[] = [];
  let bytes = 0;
  const flush = async () => {
    const writes = batch;
    batch = [];
    bytes = 0;
    if (writes.length === 0) return;
    for (const outcome of await database.updateStored(writes)) if (!outcome.ok) throw outcome.error;
  };
  for await (const item of items) {
    if (item.kind === 'revision' && item.attachments.length === 0) {
      const { id, path, deleted, body } = item;
      batch.push({ id, path, deleted, body });
      bytes += bytesOf(item);
      if (batch.length >= BATCH_ITEMS_MAX || bytes >= BATCH_BYTES_MAX) await flush();
      continue;
    }
    await flush();
    if (item.kind === 'revision') await absorbUploaded(database, item);
    else if (item.kind === 'purge') await database.purge(item);
    else await absorbLocal(database, item);
  }
  await flush();
}

async function absorbUploaded(database: Database, item: FlowingRevision): Promise<void> {
  const { id, path, deleted, body } = item;
  await database.putUploaded(id, async (store) => {
    const attachments = new Map<string, StoredAttachment>();
    for (const attachment of item.attachments) {
      const { name, contentType, revpos } = attachment;
      attachments.set(name, { contentType, revpos, content: await stored(store, attachment) });
    }
    return { id, path, deleted, body, attachments };
  });
}

interface StoredAttachment {
  readonly contentType: string;
  readonly revpos: number;
  readonly content: StoredBytes;
}

function stored(
  store: DatabaseUpload,
  { chunks, encoding, digest, length, decodedLength }: FlowingRevision['attachments'][number],
): Promise<StoredBytes> {
  const source = { chunks: chunks(), encoding, bytesMax: ATTACHMENT_BYTES_MAX, digest };
  return store({ ...source, encodedLength: length, length: decodedLength });
}

/** As in FORMAT.md; it was within what was configured when it was written. */
const ATTACHMENT_BYTES_MAX = 2 ** 36;

/** One that is there stays: it belongs to the database that is in force. */
async function absorbLocal(
  database: Database,
  { id, body, revision }: Extract<FlowingItem, { kind: 'local' }>,
): Promise<void> {
  try {
    await database.putLocal({ id, body, revision: undefined, newRevision: revision });
  } catch (error) {
    if (!isDivanError(error, 'CONFLICT')) throw error;
  }
}
