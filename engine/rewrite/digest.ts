/**
 * The digest of a shard file: the hash of the set of all that a rewrite must keep, whatever file it stands in. Its members are
 * documents (id, hash, sizes, revision tree), rows (leaves, the bytes of bodies and attachments), local docs and purge infos;
 * seqs and file positions, which a rewrite changes, are left out.
 */
import assert from 'node:assert';
import type { TreeNode } from '../btree/node.js';
import { ByteWriter, SEQ_BYTES } from '../file/byte-writer.js';
import type { Storage } from '../file/storage.js';
import { encodeAttachments } from '../shard/attachment-list.js';
import { writeRevision } from '../shard/revision.js';
import { type Leaf, readRow } from '../shard/seq-tree.js';
import { MergedRuns } from './merged-runs.js';
import type { RewriteControl } from './pipeline.js';
import type { SourcePlan } from './plan.js';
import { type RowWindow, rowWindows } from './row-windows.js';
import { SetHasher } from './set-hash.js';
import { Source } from './source.js';
import { stemmedDocument } from './stemming.js';

/** What one worker digests. Plain data: it travels between threads. */
export interface DigestTask {
  readonly path: string;
  readonly plan: SourcePlan;
  readonly key: Uint8Array;
  /** Revision trees count as if stemmed to so many revisions; infinite for as they are. */
  readonly revsLimit: number;
}

export interface Digest {
  /** Members of each kind. */
  readonly documents: number;
  readonly rows: number;
  readonly localDocs: number;
  readonly purges: number;
  /** The hash of the set of them all. */
  readonly sum: bigint;
}

const KINDS = { document: 1, row: 2, localDoc: 3, purge: 4 } as const;
const STEP_ENTRIES = 4096;

/** Reads everything that the flushed state of a file points to. Throws `CHECKSUM`, `CORRUPT`, `REPLACED`, `IO`, `ABORTED`. */
export async function digest(
  storage: Storage,
  task: DigestTask,
  control: RewriteControl,
): Promise<Digest> {
  const source = await Source.open(storage, task.path, task.plan);
  try {
    return await new Digester(source, task, control).run();
  } finally {
    await source.close();
  }
}

class Digester {
  readonly #source: Source;
  readonly #task: DigestTask;
  readonly #control: RewriteControl;
  readonly #hasher: SetHasher;
  readonly #scratch = new ByteWriter();
  #pass = 0;
  #entriesDone = 0;
  #bodyBytesDone = 0;

  constructor(source: Source, task: DigestTask, control: RewriteControl) {
    this.#source = source;
    this.#task = task;
    this.#control = control;
    this.#hasher = new SetHasher(task.key);
  }

  async run(): Promise<Digest> {
    const rows = await this.#counted(() => this.#rows());
    const documents = await this.#counted(() =>
      this.#entries('byId', (node, index) => this.#document(node, index)),
    );
    const localDocs = await this.#counted(() =>
      this.#entries('local', (node, index) => this.#localDoc(node, index)),
    );
    const purges = await this.#counted(() =>
      this.#entries('purgeBySeq', (node, index) => this.#purge(node, index)),
    );
    return { documents, rows, localDocs, purges, sum: this.#hasher.sum };
  }

  /** How many members a pass adds. */
  async #counted(pass: () => Promise<void>): Promise<number> {
    const before = this.#hasher.count;
    this.#entriesDone = 0;
    await pass();
    this.#pass++;
    return this.#hasher.count - before;
  }

  async #rows(): Promise<void> {
    const options = { seqMaps: undefined, after: undefined, route: () => 0 };
    for await (const window of rowWindows([this.#source], options)) {
      for (let row = 0; row < window.rows; row++) {
        if (window.isPlain(row)) this.#plainRow(window, row);
        else await this.#row(window, row);
      }
      await this.#step(window.read, window.bodyBytes);
    }
  }

  /** A row of one leaf: id, hash, flags and revision as they are packed, then the body. */
  #plainRow(window: RowWindow, row: number): void {
    const node = window.node(row);
    this.#hasher.begin(KINDS.row);
    this.#hasher.part(node.bytes, node.keyEnd(window.index(row)), window.refAt(row));
    const body = window.body(row);
    if (body !== undefined) this.#hasher.part(body, 0, body.length);
    this.#hasher.end();
  }

  async #row(window: RowWindow, row: number): Promise<void> {
    const { id, hash, deleted, leaves } = readRow(window.node(row).value(window.index(row)));
    const out = this.#scratch;
    out.clear();
    out.u32(hash);
    out.u8(deleted ? 1 : 0);
    out.prefixed(id);
    this.#hasher.begin(KINDS.row);
    this.#hasher.part(out.bytes, 0, out.length);
    for (const leaf of leaves) await this.#leaf(window, row, leaf);
    this.#hasher.end();
  }

  async #leaf(window: RowWindow, row: number, leaf: Leaf): Promise<void> {
    const out = this.#scratch;
    out.clear();
    out.u8(leaf.deleted ? 1 : 0);
    writeRevision(out, leaf.revision);
    out.append(encodeAttachments(leaf.attachments.map((one) => ({ ...one, refs: [] }))));
    this.#hasher.part(out.bytes, 0, out.length);
    const runs = [leaf.body, ...leaf.attachments.flatMap(({ refs }) => refs)];
    for (const ref of runs) {
      if (ref.length === 0) continue;
      const bytes = await window.run(row, ref);
      this.#hasher.part(bytes, 0, bytes.length);
    }
  }

  async #entries(
    tree: 'byId' | 'local' | 'purgeBySeq',
    add: (node: TreeNode, index: number) => void,
  ): Promise<void> {
    const runs = new MergedRuns([this.#source], tree, { seqMaps: undefined, after: undefined });
    let entries = 0;
    while (runs.next() || (await runs.load())) {
      const { node, from, to } = runs;
      // After loading there is a leaf, but no run of it yet.
      if (from === to) continue;
      assert(node !== undefined);
      for (let index = from; index < to; index++) add(node, index);
      entries += to - from;
      runs.from = to;
      if (entries < STEP_ENTRIES) continue;
      await this.#step(entries, 0);
      entries = 0;
    }
    await this.#step(entries, 0);
  }

  #document(node: TreeNode, index: number): void {
    const { bytes } = node;
    this.#hasher.begin(KINDS.document);
    this.#hasher.part(bytes, node.keyStart(index), node.keyEnd(index));
    const stemmed = stemmedDocument(
      bytes,
      node.keyEnd(index),
      node.entryEnd(index),
      this.#task.revsLimit,
    );
    if (stemmed === undefined) {
      this.#hasher.part(bytes, node.keyEnd(index) + SEQ_BYTES, node.entryEnd(index));
    } else this.#hasher.part(stemmed, SEQ_BYTES, stemmed.length);
    this.#hasher.end();
  }

  #localDoc(node: TreeNode, index: number): void {
    this.#hasher.begin(KINDS.localDoc);
    this.#hasher.part(node.bytes, node.keyStart(index), node.keyEnd(index));
    this.#hasher.part(node.bytes, node.keyEnd(index) + SEQ_BYTES, node.entryEnd(index));
    this.#hasher.end();
  }

  #purge(node: TreeNode, index: number): void {
    this.#hasher.begin(KINDS.purge);
    this.#hasher.part(node.bytes, node.keyEnd(index), node.entryEnd(index));
    this.#hasher.end();
  }

  async #step(entries: number, bodyBytes: number): Promise<void> {
    this.#entriesDone += entries;
    this.#bodyBytesDone += bodyBytes;
    const paused = this.#control.progress({
      pass: this.#pass,
      entriesDone: this.#entriesDone,
      bodyBytesDone: this.#bodyBytesDone,
      bytesWritten: 0,
    });
    if (paused !== undefined) await paused;
  }
}
