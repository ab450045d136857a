/**
 * The digest of a shard file: the hash of the set of what a rewrite must keep, whatever file it stands in. Its members are
 * documents (id, hash, sizes, revision tree), rows (leaves, the bytes of bodies and attachments), local docs and purge infos;
 * seqs and file positions, which a rewrite changes, are left out. But within a file the two trees of a pair (by-id and by-seq, local
 * and local-by-seq, purge-by-seq and purge-by-uuid) must say the same of what has which seq. Metadata is not part of it.
 */
import assert from 'node:assert';
import type { TreeNode } from '../btree/node.js';
import { DivanError } from '../errors.js';
import { ByteReader } from '../file/byte-reader.js';
import { ByteWriter, SEQ_BYTES } from '../file/byte-writer.js';
import type { Storage } from '../file/storage.js';
import { encodeAttachments } from '../shard/attachment-list.js';
import { decodePurgeInfo } from '../shard/purge-tree.js';
import { writeRevision } from '../shard/revision.js';
import { type Leaf, ROW_ID_AT, readRow, seqKey } from '../shard/seq-tree.js';
import type { TreeName } from '../shard/state.js';
import type { EntriesTree } from './entries-pass.js';
import { MergedRuns } from './merged-runs.js';
import type { RewriteControl } from './pipeline.js';
import type { SourcePlan } from './plan.js';
import { type RowWindow, rowWindows } from './row-windows.js';
import { EMPTY_SET, type SetHash, SetHasher } from './set-hash.js';
import { Source } from './source.js';
import { stemmedDocument } from './stemming.js';
import { PASSES } from './target.js';

/** What one worker digests. Plain data: it travels between threads. */
export interface DigestTask {
  readonly path: string;
  readonly plan: SourcePlan;
  readonly key: Uint8Array;
  /** Revision trees count as if stemmed to so many revisions; infinite for as they are. */
  readonly revsLimit: number;
  /** How far it was when it was interrupted. */
  readonly from: DigestState | undefined;
}

/** How far a digest is. Plain data: it travels between threads and stands in checkpoints. */
export interface DigestState {
  /** An index of `PASSES`; their number once it is complete. */
  readonly pass: number;
  /** The key of the last entry that this pass has read. */
  readonly cursor: Uint8Array | undefined;
  readonly entriesDone: number;
  readonly rowsDone: number;
  readonly bodyBytesDone: number;
  /** What each pass has found; nothing in the trees that only say where something is. */
  readonly sets: readonly SetHash[];
  /** What has which seq, by what each tree says. */
  readonly links: readonly SetHash[];
}

/** Members of different kinds never are the same. */
const KINDS = { row: 1, document: 2, localDoc: 3, purge: 4, link: 5 } as const;
const STEP_ENTRIES = 4096;
const REPORT_AFTER_MS = 1000;

const NEW_STATE: DigestState = {
  pass: 0,
  cursor: undefined,
  entriesDone: 0,
  rowsDone: 0,
  bodyBytesDone: 0,
  sets: PASSES.map(() => EMPTY_SET),
  links: PASSES.map(() => EMPTY_SET),
};

/**
 * Reads everything that the flushed state of a file points to. `onState` hears now and then how far it is. Throws `CHECKSUM`,
 * `CORRUPT` (also if by-id and by-seq do not fit each other), `REPLACED`, `IO`, `ABORTED`.
 */
export async function digest(
  storage: Storage,
  task: DigestTask,
  control: RewriteControl,
  onState: ((state: DigestState) => void) | undefined,
): Promise<DigestState> {
  const source = await Source.open(storage, task.path, task.plan);
  try {
    return await new Digester(source, task, control, onState).run();
  } finally {
    await source.close();
  }
}

class Digester {
  readonly #source: Source;
  readonly #task: DigestTask;
  readonly #control: RewriteControl;
  readonly #onState: ((state: DigestState) => void) | undefined;
  readonly #sets: readonly SetHasher[];
  readonly #links: readonly SetHasher[];
  readonly #scratch = new ByteWriter();
  readonly #reader = new ByteReader();
  /** Of the present pass. */
  #hasher: SetHasher;
  #linkHasher: SetHasher;
  #pass: number;
  #entriesDone: number;
  #rowsDone: number;
  #bodyBytesDone: number;
  /** Of this run: entries and bodies. */
  #bytesRead = 0;
  #reportedAtMs: number;

  constructor(
    source: Source,
    task: DigestTask,
    control: RewriteControl,
    onState: ((state: DigestState) => void) | undefined,
  ) {
    const { key, from = NEW_STATE } = task;
    this.#source = source;
    this.#task = task;
    this.#control = control;
    this.#onState = onState;
    this.#sets = PASSES.map((_, pass) => new SetHasher(key, from.sets[pass]));
    this.#links = PASSES.map((_, pass) => new SetHasher(key, from.links[pass]));
    this.#hasher = new SetHasher(key);
    this.#linkHasher = this.#hasher;
    this.#pass = from.pass;
    this.#entriesDone = from.entriesDone;
    this.#rowsDone = from.rowsDone;
    this.#bodyBytesDone = from.bodyBytesDone;
    this.#reportedAtMs = control.host.now();
  }

  async run(): Promise<DigestState> {
    let after = this.#task.from?.cursor;
    for (; this.#pass < PASSES.length; this.#pass++) {
      this.#hasher = this.#sets[this.#pass] ?? this.#hasher;
      this.#linkHasher = this.#links[this.#pass] ?? this.#linkHasher;
      await this.#runPass(PASSES[this.#pass], after);
      after = undefined;
      this.#entriesDone = 0;
    }
    this.#compareLinks();
    const state = this.#state(undefined);
    this.#onState?.(state);
    return state;
  }

  #state(cursor: Uint8Array | undefined): DigestState {
    return {
      pass: this.#pass,
      cursor,
      entriesDone: this.#entriesDone,
      rowsDone: this.#rowsDone,
      bodyBytesDone: this.#bodyBytesDone,
      sets: this.#sets.map(({ hash }) => hash),
      links: this.#links.map(({ hash }) => hash),
    };
  }

  #compareLinks(): void {
    const links = this.#links.map(({ hash }) => JSON.stringify(hash));
    // The trees of a pair are read one after the other.
    for (let pass = 0; pass < links.length; pass += 2) {
      if (links[pass] === links[pass + 1]) continue;
      const { path } = this.#task;
      const trees = `${PASSES[pass]} and ${PASSES[pass + 1]}`;
      throw new DivanError('CORRUPT', `${trees} of ${path} do not fit each other`, { path });
    }
  }

  async #runPass(pass: TreeName | undefined, after: Uint8Array | undefined): Promise<void> {
    if (pass === undefined) return;
    if (pass === 'bySeq') await this.#rows(after);
    else await this.#entries(pass, after, this.#reading(pass));
  }

  /** What is done with an entry of a tree. */
  #reading(pass: EntriesTree): (node: TreeNode, index: number) => void {
    switch (pass) {
      case 'byId':
        return (node, index) => this.#document(node, index);
      case 'local':
        return (node, index) => this.#localDoc(node, index);
      case 'localBySeq':
        return (node, index) => {
          const at = node.keyEnd(index);
          this.#link(node.bytes, at, node.entryEnd(index), node, node.keyStart(index));
        };
      case 'purgeBySeq':
        return (node, index) => this.#purge(node, index);
      case 'purgeByUuid':
        return (node, index) => {
          const at = node.keyStart(index);
          this.#link(node.bytes, at, node.keyEnd(index), node, node.keyEnd(index));
        };
    }
  }

  async #rows(after: Uint8Array | undefined): Promise<void> {
    const small = this.#control.background;
    const options = { seqMaps: undefined, after, small, route: () => 0 };
    for await (const window of rowWindows([this.#source], options)) {
      for (let row = 0; row < window.rows; row++) {
        if (window.isPlain(row)) this.#plainRow(window, row);
        else await this.#row(window, row);
        this.#linkOfRow(window.node(row), window.index(row));
      }
      this.#bytesRead += window.bodyBytes;
      this.#rowsDone += window.read;
      await this.#step(window.read, window.bodyBytes, seqKey(window.lastSeq));
    }
  }

  #linkOfRow(node: TreeNode, index: number): void {
    const { bytes } = node;
    const reader = this.#reader.reset(bytes, node.keyEnd(index) + ROW_ID_AT);
    const length = reader.varint();
    this.#bytesRead += node.entryEnd(index) - node.keyStart(index);
    this.#link(bytes, reader.at, reader.at + length, node, node.keyStart(index));
  }

  /** That what `bytes[start, end)` names has the seq that stands at `seqAt` of a node. */
  #link(bytes: Uint8Array, start: number, end: number, node: TreeNode, seqAt: number): void {
    const links = this.#linkHasher;
    links.begin(KINDS.link);
    links.part(bytes, start, end);
    links.part(node.bytes, seqAt, seqAt + SEQ_BYTES);
    links.end();
  }

  /** A row of one leaf: id, hash, flags and revision as they are packed, then the body. */
  #plainRow(window: RowWindow, row: number): void {
    const node = window.node(row);
    this.#hasher.begin(KINDS.row);
    this.#hasher.part(node.bytes, node.keyEnd(window.index(row)), window.refAt(row));
    const bodyAt = window.bodyAt(row);
    if (bodyAt !== undefined) {
      this.#hasher.part(window.bodies(row), bodyAt, bodyAt + window.bodyLength(row));
    }
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
    tree: EntriesTree,
    after: Uint8Array | undefined,
    add: (node: TreeNode, index: number) => void,
  ): Promise<void> {
    const runs = new MergedRuns([this.#source], tree, { seqMaps: undefined, after });
    let entries = 0;
    let last = after;
    while (runs.next() || (await runs.load())) {
      const { node, from, to } = runs;
      // After loading there is a leaf, but no run of it yet.
      if (from === to) continue;
      assert(node !== undefined);
      for (let index = from; index < to; index++) add(node, index);
      entries += to - from;
      this.#bytesRead += node.entryEnd(to - 1) - node.keyStart(from);
      runs.from = to;
      last = node.key(to - 1);
      if (entries < STEP_ENTRIES) continue;
      await this.#step(entries, 0, last);
      entries = 0;
    }
    await this.#step(entries, 0, last);
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
    this.#link(bytes, node.keyStart(index), node.keyEnd(index), node, node.keyEnd(index));
  }

  #localDoc(node: TreeNode, index: number): void {
    this.#hasher.begin(KINDS.localDoc);
    this.#hasher.part(node.bytes, node.keyStart(index), node.keyEnd(index));
    this.#hasher.part(node.bytes, node.keyEnd(index) + SEQ_BYTES, node.entryEnd(index));
    this.#hasher.end();
    this.#link(node.bytes, node.keyStart(index), node.keyEnd(index), node, node.keyEnd(index));
  }

  #purge(node: TreeNode, index: number): void {
    this.#hasher.begin(KINDS.purge);
    this.#hasher.part(node.bytes, node.keyEnd(index), node.entryEnd(index));
    this.#hasher.end();
    const { uuid } = decodePurgeInfo(node.value(index));
    this.#link(uuid, 0, uuid.length, node, node.keyStart(index));
  }

  async #step(entries: number, bodyBytes: number, cursor: Uint8Array | undefined): Promise<void> {
    this.#entriesDone += entries;
    this.#bodyBytesDone += bodyBytes;
    const now = this.#control.host.now();
    if (this.#onState !== undefined && now - this.#reportedAtMs >= REPORT_AFTER_MS) {
      this.#reportedAtMs = now;
      this.#onState(this.#state(cursor?.slice()));
    }
    const paused = this.#control.progress({
      pass: this.#pass,
      entriesDone: this.#entriesDone,
      rowsDone: this.#rowsDone,
      bodyBytesDone: this.#bodyBytesDone,
      bytesWritten: 0,
      bytesRead: this.#bytesRead,
    });
    if (paused !== undefined) await paused;
  }
}
