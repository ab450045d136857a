/**
 * Writes the documents that say what happened to databases: those of this node here, the others at the nodes that have them, by the call
 * `updates/note`. A node that could not write some is left alone for a while, longer each time.
 */
import type { Logger } from 'pino';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { hashOf, isInRange } from '../../engine/shard/hash.js';
import type { CallHandlers, Node, PeerCalls } from '../cluster/peers.js';
import { type JsonObject, optionalStrings, requiredStrings } from '../http/json-value.js';
import { Turns } from '../turns.js';
import type { ServerHost } from '../world.js';
import type { Catalog } from './catalog.js';
import type { Database } from './database.js';
import { ReadDocument } from './document-view.js';
import type { Placements } from './placement.js';
import type { DocumentWrite } from './shard-writer.js';

export const UPDATES_DATABASE = '_global_changes';

/** So many are written at once. */
export const UPDATES_BATCH = 100;

export interface UpdateWriterParts {
  readonly host: ServerHost;
  readonly log: Logger;
  readonly catalog: Catalog;
  readonly placements: Placements;
  readonly self: () => Node;
  readonly peers: { readonly calls: PeerCalls; readonly handlers: CallHandlers };
}

const CALL = 'updates/note';
/** To the answer, which comes when all is durable. A server that is being closed waits for so long, too. */
const ANSWER_MS = 5000;
/** A node is left alone for so long, and twice as long each time that it could not write all. */
const PAUSE_MS = 500;
const PAUSE_MS_MAX = 30_000;
const EMPTY = Buffer.from('{}');
const ID = /^(created|updated|deleted):/;
/** Nodes are away at times, and shards and the database on the move. */
const ORDINARY = new Set(['MOVED', 'NOT_FOUND', 'UNREACHABLE', 'UNAVAILABLE', 'ABORTED']);

interface Pause {
  readonly ms: number;
  /** By `host.now`. */
  readonly endMs: number;
}

export class UpdateWriter {
  readonly #parts: UpdateWriterParts;
  /** By the identity of the node. */
  readonly #pauses = new Map<string, Pause>();
  /** Other nodes may tell of the same at the same time: one after another is written. */
  readonly #turns = new Turns();

  constructor(parts: UpdateWriterParts) {
    this.#parts = parts;
    parts.peers.handlers.on(CALL, ({ head }) => this.#answer(head));
  }

  /** False if there is no database to write to. Asked for with every write to a shard. */
  get isWanted(): boolean {
    return this.#parts.placements.find(UPDATES_DATABASE) !== undefined;
  }

  /** After how long some can be written that could not be. */
  get pauseMs(): number {
    const now = this.#parts.host.now();
    const left = [...this.#pauses.values()].map(({ endMs }) => endMs - now);
    return left.length === 0 ? PAUSE_MS : Math.max(1, Math.min(...left));
  }

  /** Writes documents by their ids; those that it resolves with are done, the others are to be written later. Never rejects. */
  async write(ids: readonly string[]): Promise<readonly string[]> {
    const groups = new Map<string, { readonly node: Node; readonly ids: string[] }>();
    for (const id of ids) {
      const node = this.#ownerOf(id);
      if (node === undefined) continue;
      const group = groups.get(node.identity) ?? { node, ids: [] };
      groups.set(node.identity, group);
      group.ids.push(id);
    }
    const done = await Promise.all([...groups.values()].map((group) => this.#send(group)));
    return done.flat();
  }

  /** While a shard is moved two nodes may say that they have it; one that could not write is not asked again at once. */
  #ownerOf(id: string): Node | undefined {
    const placement = this.#parts.placements.find(UPDATES_DATABASE);
    if (placement === undefined) return undefined;
    const hash = hashOf(Buffer.from(id), placement.hashRule);
    const now = this.#parts.host.now();
    const part = placement.parts.find(({ node, shards }) => {
      const isPaused = (this.#pauses.get(node.identity)?.endMs ?? now) > now;
      return !isPaused && shards.some(({ range }) => isInRange(hash, range));
    });
    return part?.node;
  }

  async #send({ node, ids }: { node: Node; ids: readonly string[] }): Promise<readonly string[]> {
    const isHere = node.identity === this.#parts.self().identity;
    try {
      const left = new Set(await (isHere ? this.#writeHere(ids) : this.#call(node, ids)));
      if (left.size === 0) this.#pauses.delete(node.identity);
      else this.#pause(node);
      return ids.filter((id) => !left.has(id));
    } catch (err) {
      const isNew = !this.#pauses.has(node.identity);
      this.#pause(node);
      if (isNew && !(isDivanError(err) && ORDINARY.has(err.code))) {
        const level = isHere ? 'error' : 'warn';
        const text = 'what happened to databases is not written yet; this is tried again';
        this.#parts.log[level]({ err, node: node.name }, text);
      }
      return [];
    }
  }

  #pause({ identity }: Node): void {
    const before = this.#pauses.get(identity)?.ms ?? PAUSE_MS / 2;
    const ms = Math.min(2 * before, PAUSE_MS_MAX);
    this.#pauses.set(identity, { ms, endMs: this.#parts.host.now() + ms });
  }

  async #call(node: Node, ids: readonly string[]): Promise<readonly string[]> {
    const { calls } = this.#parts.peers;
    const head = { notes: [...ids] };
    const answer = await calls.call(node, CALL, head, { timeoutMs: ANSWER_MS });
    return optionalStrings(answer, 'left', UPDATES_BATCH) ?? [];
  }

  async #answer(head: JsonObject): Promise<JsonObject> {
    const ids = requiredStrings(head, 'notes', UPDATES_BATCH);
    if (!ids.every((id) => ID.test(id))) {
      throw new DivanError('BAD_REQUEST', `${CALL} is of things that happened`);
    }
    return { left: [...(await this.#writeHere(ids))] };
  }

  /** Resolves with the ids that could not be written, and can be later. Throws `MOVED`, and what reading and writing throws. */
  #writeHere(ids: readonly string[]): Promise<readonly string[]> {
    return this.#turns.run(() => this.#writeNow(ids));
  }

  async #writeNow(ids: readonly string[]): Promise<readonly string[]> {
    const { catalog, log } = this.#parts;
    const database = catalog.find(UPDATES_DATABASE);
    if (database === undefined) throw new DivanError('MOVED', `no ${UPDATES_DATABASE} is here`);
    const left: string[] = [];
    const here: string[] = [];
    const writes: DocumentWrite[] = [];
    await Promise.all(
      ids.map(async (id) => {
        try {
          writes.push(await writeOf(database, Buffer.from(id)));
          here.push(id);
        } catch (error) {
          if (!isDivanError(error, 'MOVED')) throw error;
          left.push(id);
        }
      }),
    );
    if (writes.length === 0) return left;
    for (const [index, outcome] of (await database.update(writes)).entries()) {
      const id = here[index];
      if (outcome.ok || id === undefined) continue;
      const { error } = outcome;
      // A client may have written the same meanwhile.
      if (isDivanError(error, 'CONFLICT') || isDivanError(error, 'MOVED')) left.push(id);
      else log.error({ err: error, id }, 'what happened to a database is not written');
    }
    return left;
  }
}

async function writeOf(database: Database, id: Uint8Array): Promise<DocumentWrite> {
  const found = await database.read(id, (snapshot) => ReadDocument.find(snapshot, id));
  const winner = found?.winner;
  const parent = winner === undefined || winner.deleted ? undefined : winner.revision;
  return { id, body: EMPTY, deleted: false, parent };
}
