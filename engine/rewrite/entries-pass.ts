/** The passes over all trees but by-seq: entries are copied as they are, but for seqs that map and revisions that are stemmed. */
import assert from 'node:assert';
import { lookup } from '../btree/lookup.js';
import type { TreeNode } from '../btree/node.js';
import type { NodeRun } from '../btree/node-run.js';
import { DivanError } from '../errors.js';
import { readSeq } from '../file/byte-reader.js';
import { SEQ_BYTES, writeSeq } from '../file/byte-writer.js';
import { readU32 } from '../file/bytes.js';
import { LOCAL_PREFIX } from '../shard/local-tree.js';
import { decodePurgeInfo } from '../shard/purge-tree.js';
import type { Seqs, TreeName } from '../shard/state.js';
import type { Lineup } from './lineup.js';
import { MergedRuns } from './merged-runs.js';
import { UNWANTED } from './row-windows.js';
import type { SeqMap } from './seq-map.js';
import { mayBeStemmed, stemmedDocument } from './stemming.js';

export type EntriesTree = Exclude<TreeName, 'bySeq'>;

/** After a run of entries: how many, and the key in the target of the last of them. */
export type OnStep = (entries: number, bodyBytes: number, cursor: Uint8Array) => Promise<void>;

/** Which seqs are in the keys or values of a tree. */
const SEQ_OF_TREE: { readonly [tree in EntriesTree]: keyof Seqs } = {
  byId: 'updateSeq',
  local: 'localSeq',
  localBySeq: 'localSeq',
  purgeBySeq: 'purgeSeq',
  purgeByUuid: 'purgeSeq',
};

/** So many entries are copied between two steps. */
const STEP_ENTRIES = 4096;

/** Copies the entries of a tree whose key in the target is after `after`. */
export async function copyEntries(
  lineup: Lineup,
  tree: EntriesTree,
  after: Uint8Array | undefined,
  onStep: OnStep,
): Promise<void> {
  const pass = new EntriesPass(lineup, tree, after);
  await pass.run(onStep);
}

class EntriesPass {
  readonly #lineup: Lineup;
  readonly #tree: EntriesTree;
  readonly #runs: MergedRuns;
  /** Where keys are seqs, how they map. */
  readonly #keySeqs: readonly SeqMap[] | undefined;
  /** Where values begin with a seq, how it maps; undefined for a source all of whose seqs stay. */
  readonly #valueSeqs: readonly (SeqMap | undefined)[];
  /** Revision trees may be longer than this only if they are to be stemmed; infinite where they stay. */
  readonly #revsLimit: number;
  /** In the pass over purge-by-uuid: the hashes of the entries of the present run, by their indexes. */
  readonly #hashesOfPurges: number[] = [];

  constructor(lineup: Lineup, tree: EntriesTree, after: Uint8Array | undefined) {
    const { sources, seqMaps, plan } = lineup;
    this.#lineup = lineup;
    this.#tree = tree;
    const mapped = sources.length > 1;
    const keyIsSeq = tree === 'localBySeq' || tree === 'purgeBySeq';
    const name = SEQ_OF_TREE[tree];
    this.#keySeqs = mapped && keyIsSeq ? seqMaps.map((maps) => maps[name]) : undefined;
    this.#valueSeqs = sources.map(({ state }, index) => {
      if (!mapped || keyIsSeq) return undefined;
      const seqs = seqMaps[index]?.[name];
      return seqs?.changes(state.counters[name]) === true ? seqs : undefined;
    });
    this.#runs = new MergedRuns(sources, tree, { seqMaps: this.#keySeqs, after });
    const stems = tree === 'byId' && plan.kind === 'compact';
    this.#revsLimit = stems
      ? (sources[plan.settingsFrom]?.state.metadata.revsLimit ?? Number.POSITIVE_INFINITY)
      : Number.POSITIVE_INFINITY;
  }

  async run(onStep: OnStep): Promise<void> {
    const runs = this.#runs;
    let entries = 0;
    for (;;) {
      if (!runs.next()) {
        if (await runs.load()) continue;
        return;
      }
      const { node, from, to, source } = runs;
      if (node === undefined) return;
      // Nothing else is awaited for a run: in a merge most are of one or two entries.
      if (this.#tree === 'purgeByUuid') await this.#lookUpPurges(node, from, to, source);
      this.#copyRuns(node, from, to, source);
      entries += to - from;
      if (entries >= STEP_ENTRIES) {
        await onStep(entries, 0, this.#targetKey(node, to - 1, source));
        entries = 0;
      }
    }
  }

  /** Copies entries `[from, to)`: neighbours that go to one target at once. */
  #copyRuns(node: TreeNode, from: number, to: number, source: number): void {
    let first = from;
    let target = UNWANTED;
    for (let index = from; index < to; index++) {
      const next = this.#lineup.route(this.#hashOf(node, index));
      if (next === target) continue;
      if (target !== UNWANTED) this.#copyRun(target, node, first, index, source);
      first = index;
      target = next;
    }
    if (target !== UNWANTED) this.#copyRun(target, node, first, to, source);
  }

  /** What decides about the target of an entry. */
  #hashOf(node: TreeNode, index: number): number {
    switch (this.#tree) {
      case 'byId':
        return readU32(node.bytes, node.keyEnd(index) + SEQ_BYTES);
      case 'local':
        return this.#hashOfLocal(node.key(index));
      case 'localBySeq':
        return this.#hashOfLocal(node.value(index));
      case 'purgeBySeq':
        return this.#hashOfPurge(node.value(index));
      case 'purgeByUuid':
        return this.#hashesOfPurges[index] ?? assert.fail('purges are looked up before');
    }
  }

  /** Local docs go where their whole id, `_local/` included, hashes to. */
  #hashOfLocal(id: Uint8Array): number {
    return this.#lineup.hashOf(Buffer.concat([Buffer.from(LOCAL_PREFIX), id]));
  }

  #hashOfPurge(info: Uint8Array): number {
    return this.#lineup.hashOf(Buffer.from(decodePurgeInfo(info).id));
  }

  /** An entry of purge-by-uuid does not say of which id it is. */
  async #lookUpPurges(node: TreeNode, from: number, to: number, source: number): Promise<void> {
    for (let index = from; index < to; index++) {
      this.#hashesOfPurges[index] = await this.#hashOfPurgeSeq(node.value(index), source);
    }
  }

  async #hashOfPurgeSeq(seqKey: Uint8Array, source: number): Promise<number> {
    const from = this.#lineup.sources[source];
    const info =
      from === undefined ? undefined : await lookup(from, from.state.roots.purgeBySeq, seqKey);
    if (info === undefined) {
      const uuid = Buffer.from(seqKey).toString('hex');
      throw new DivanError('CORRUPT', `the purge seq ${uuid} of a purge uuid is not there`);
    }
    return this.#hashOfPurge(info);
  }

  /** Copies neighbouring entries to the target with this number. */
  #copyRun(number: number, node: TreeNode, from: number, to: number, source: number): void {
    const { run } = this.#lineup.targets[number] ?? assert.fail('entries have a target');
    const keySeqs = this.#keySeqs?.[source];
    const valueSeqs = this.#valueSeqs[source];
    if (this.#mayBeStemmed(node, from, to)) {
      for (let index = from; index < to; index++) this.#copyStemmed(run, node, index);
    } else if (keySeqs === undefined && valueSeqs === undefined) run.addRange(node, from, to);
    else {
      const shift = run.beginRange(node, from, to);
      for (let index = from; index < to; index++) {
        if (keySeqs !== undefined) mapSeq(keySeqs, run.entryBytes, node.keyStart(index) + shift);
        if (valueSeqs !== undefined) mapSeq(valueSeqs, run.entryBytes, node.keyEnd(index) + shift);
      }
      run.endEntry();
    }
  }

  /** False if certainly no entry is to be stemmed. Only a compaction stems, in which seqs stay. */
  #mayBeStemmed(node: TreeNode, from: number, to: number): boolean {
    if (this.#revsLimit === Number.POSITIVE_INFINITY) return false;
    for (let index = from; index < to; index++) {
      if (mayBeStemmed(node.entryEnd(index) - node.keyEnd(index), this.#revsLimit)) return true;
    }
    return false;
  }

  #copyStemmed(run: NodeRun, node: TreeNode, index: number): void {
    const end = node.entryEnd(index);
    const stemmed = stemmedDocument(node.bytes, node.keyEnd(index), end, this.#revsLimit);
    if (stemmed === undefined) run.addRange(node, index, index + 1);
    else run.add(node.key(index), stemmed);
  }

  #targetKey(node: TreeNode, index: number, source: number): Uint8Array {
    const key = node.key(index).slice();
    if (this.#keySeqs !== undefined) mapSeq(this.#keySeqs[source], key, 0);
    return key;
  }
}

function mapSeq(map: SeqMap | undefined, bytes: Uint8Array, at: number): void {
  if (map !== undefined) writeSeq(bytes, at, map.map(readSeq(bytes, at)));
}
