/**
 * Checking a shard: every node, every value, every body, and the laws between the trees. Reports every problem.
 */
import { checkTree, type TreeStatistics } from '../btree/check.js';
import { isDivanError } from '../errors.js';
import { SEQ_BYTES } from '../file/byte-writer.js';
import { checksumError, SteadyReader } from '../file/file-reader.js';
import { checksum, type Ref } from '../file/ref.js';
import { checkId } from './document.js';
import { sizesOf } from './edit.js';
import { TREE_SHAPES } from './flush.js';
import { hashOf, isInRange } from './hash.js';
import { readStoredDocument } from './id-tree.js';
import { JsonScanner } from './json-text.js';
import type { ReadOnlyShard } from './read-only-shard.js';
import { decodeTree, leavesOf } from './rev-tree.js';
import { revisionKey } from './revision.js';
import { type Leaf, seqKey } from './seq-tree.js';
import type { Change, Document, Snapshot } from './snapshot.js';
import { type PerTree, perTree, TREE_NAMES, type TreeName } from './state.js';

export interface Problem {
  readonly text: string;
  /** Position in the file, where there is one. */
  readonly pos?: number | undefined;
}

export interface CheckResult {
  readonly problems: readonly Problem[];
  readonly docs: number;
  readonly bodies: number;
  readonly trees: PerTree<TreeStatistics>;
}

/** Walks everything. `progress` hears of the documents checked so far. Rejects with `IO` and with `ABORTED`. */
export async function checkShard(
  shard: ReadOnlyShard,
  progress: (docs: number) => void = () => undefined,
): Promise<CheckResult> {
  const check = new ShardCheck(shard, progress);
  const trees: { [name in TreeName]: TreeStatistics } = perTree(() => ({
    nodes: 0,
    bytes: 0,
    entries: 0,
    depth: 0,
  }));
  for (const name of TREE_NAMES) {
    trees[name] = await checkTree(shard.nodes, TREE_SHAPES[name], shard.snapshot.roots[name], {
      problem: (text, pos) => check.problem(text, pos),
    });
  }
  // What follows reads through the trees, and would say of a damaged one again what was said already.
  if (check.problems.length === 0) await check.content();
  return { problems: check.problems, docs: check.docs, bodies: check.bodies, trees };
}

class ShardCheck {
  readonly problems: Problem[] = [];
  docs = 0;
  bodies = 0;
  readonly #snapshot: Snapshot;
  readonly #progress: (docs: number) => void;
  readonly #path: string;
  /** Bodies are checked in the order of updates, which is nearly the order in which they stand. */
  readonly #bodies: SteadyReader;
  readonly #json = new JsonScanner();
  #live = 0;
  #deleted = 0;
  #active = 0;
  #external = 0;

  constructor(shard: ReadOnlyShard, progress: (docs: number) => void) {
    this.#snapshot = shard.snapshot;
    this.#path = shard.path;
    this.#bodies = new SteadyReader(shard.file);
    this.#progress = progress;
  }

  problem(text: string, pos?: number): void {
    this.problems.push({ text, pos });
  }

  async content(): Promise<void> {
    for await (const change of this.#snapshot.changes()) await this.#change(change);
    await this.#documents();
    await this.#locals();
    await this.#purges();
    this.#counters();
  }

  /** A row: its document names it, its leaves are those of the revision tree, their content is whole. */
  async #change(change: Change): Promise<void> {
    const id = Buffer.from(change.id).toString();
    await this.#guard(id, async () => {
      const stored = await this.#snapshot.stored(change.id);
      if (stored?.seq !== change.seq) {
        this.problem(`by-seq has ${change.seq} for ${id}, by-id ${stored?.seq ?? 'nothing'}`);
        return;
      }
      const document: Document = {
        id: change.id,
        seq: change.seq,
        deleted: stored.deleted,
        tree: decodeTree(stored.tree),
        leaves: change.leaves,
      };
      this.#laws(id, document, change, stored);
      for (const leaf of change.leaves) await this.#leaf(id, leaf);
    });
    if (++this.docs % 1000 === 0) this.#progress(this.docs);
  }

  #laws(
    id: string,
    document: Document,
    change: Change,
    stored: { hash: number; activeBytes: number; externalBytes: number },
  ): void {
    checkId(change.id);
    const { metadata } = this.#snapshot;
    const hash = hashOf(change.id, metadata.hashRule);
    if (hash !== stored.hash || hash !== change.hash) this.problem(`${id} has a wrong hash`);
    if (!isInRange(hash, metadata.range)) this.problem(`${id} is outside of the shard's range`);
    const leaves = leavesOf(document.tree);
    const inTree = leaves.map(({ revision, deleted }) => `${revisionKey(revision)}${deleted}`);
    const inRow = change.leaves.map(
      ({ revision, deleted }) => `${revisionKey(revision)}${deleted}`,
    );
    if (inTree.join() !== inRow.join())
      this.problem(`the leaves of ${id} in by-id and by-seq differ`);
    if (document.deleted !== leaves[0]?.deleted || change.deleted !== document.deleted) {
      this.problem(`${id} is deleted in one place and not in another`);
    }
    const sizes = sizesOf(change.leaves);
    if (sizes.activeBytes !== stored.activeBytes || sizes.externalBytes !== stored.externalBytes) {
      this.problem(`${id} states wrong sizes`);
    }
  }

  async #leaf(id: string, leaf: Leaf): Promise<void> {
    await this.#guard(`a body of ${id}`, async () => {
      if (leaf.body.length === 0) return;
      const body = await this.#read(leaf.body);
      if (!isCanonical(this.#json, body)) {
        this.problem(`a body of ${id} is not the canonical JSON of an object`, leaf.body.pos);
      }
      this.bodies++;
    });
    for (const attachment of leaf.attachments) {
      await this.#guard(`the attachment ${attachment.name} of ${id}`, async () => {
        let length = 0;
        for await (const piece of this.#snapshot.attachment(attachment)) length += piece.length;
        if (length !== attachment.length) this.problem(`an attachment of ${id} has a wrong length`);
      });
    }
  }

  /** Every document's row was walked above; what is left is a document without a row. */
  async #documents(): Promise<void> {
    for await (const { key, value } of this.#snapshot.entries('byId')) {
      const id = Buffer.from(key).toString();
      await this.#guard(id, async () => {
        const stored = readStoredDocument(value);
        if (stored.deleted) this.#deleted++;
        else this.#live++;
        this.#active += stored.activeBytes;
        this.#external += stored.externalBytes;
        const row = await this.#snapshot.row(stored.seq);
        if (row === undefined) this.problem(`by-seq does not have the row ${stored.seq} of ${id}`);
      });
    }
  }

  async #locals(): Promise<void> {
    const bySeq = new Map<string, string>();
    for await (const { key, value } of this.#snapshot.entries('localBySeq')) {
      bySeq.set(Buffer.from(key).toString('hex'), Buffer.from(value).toString('latin1'));
    }
    for await (const { key, value } of this.#snapshot.entries('local')) {
      const seq = Buffer.from(value.subarray(0, SEQ_BYTES)).toString('hex');
      if (bySeq.get(seq) !== Buffer.from(key).toString('latin1')) {
        this.problem(`the local doc ${Buffer.from(key).toString()} is not where its seq says`);
      }
      bySeq.delete(seq);
    }
    if (bySeq.size > 0) this.problem(`${bySeq.size} changes of local docs name no local doc`);
  }

  async #purges(): Promise<void> {
    let count = 0;
    for await (const { seq, uuid } of this.#snapshot.purges()) {
      count++;
      const back = await firstEntry(this.#snapshot, uuid);
      if (back !== Buffer.from(seqKey(seq)).toString('hex'))
        this.problem(`the purge ${seq} has no uuid`);
    }
    this.#same('purge infos', count, this.#snapshot.counters.purgeInfos);
  }

  #counters(): void {
    const { counters } = this.#snapshot;
    this.#same('documents by seq', this.docs, counters.liveDocs + counters.deletedDocs);
    this.#same('documents', this.#live, counters.liveDocs);
    this.#same('deleted documents', this.#deleted, counters.deletedDocs);
    this.#same('active bytes', this.#active, counters.activeBytes);
    this.#same('external bytes', this.#external, counters.externalBytes);
  }

  #same(what: string, counted: number, stated: number): void {
    if (counted !== stated) this.problem(`there are ${counted} ${what}, but ${stated} are stated`);
  }

  async #read(ref: Ref): Promise<Uint8Array> {
    const body = await this.#bodies.read(ref.pos, ref.length);
    if (body.length === ref.length && checksum(body) === ref.crc) return body;
    throw checksumError(this.#path, ref, 'does not have its checksum');
  }

  /** Turns damage met while looking at something into a problem. */
  async #guard(what: string, look: () => Promise<void>): Promise<void> {
    try {
      await look();
    } catch (error) {
      if (!isDivanError(error) || error.code === 'IO' || error.code === 'ABORTED') throw error;
      this.problem(`${what}: ${error.message}`, error.facts.pos);
    }
  }
}

/** True for the JSON text of an object without insignificant white space. */
function isCanonical(json: JsonScanner, body: Uint8Array): boolean {
  json.begin(body, 0, body.length);
  if (json.peek() !== 0x7b) return false;
  json.value(0);
  json.expectEnd();
  return json.length === body.length;
}

async function firstEntry(snapshot: Snapshot, key: Uint8Array): Promise<string | undefined> {
  for await (const { value } of snapshot.entries('purgeByUuid', { gte: key, lte: key })) {
    return Buffer.from(value).toString('hex');
  }
  return undefined;
}
