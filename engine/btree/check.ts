/**
 * Checking a tree: walks every node and reports every problem, never only the first.
 */
import { isDivanError } from '../errors.js';
import { compareBytes } from '../file/bytes.js';
import type { Ref } from '../file/ref.js';
import type { TreeNode } from './node.js';
import { measureEntries } from './reduce.js';
import type { NodeSource, TreeRoot, TreeShape } from './tree.js';

/** What the check of a tree found out besides problems. */
export interface TreeStatistics {
  nodes: number;
  /** Bytes of all nodes, without salvage frames. */
  bytes: number;
  entries: number;
  /** Levels, 0 for an empty tree. */
  depth: number;
}

export interface TreeCheck {
  /** Called with one sentence for each problem, and the position of the node if there is one. */
  problem(text: string, pos: number | undefined): void;
  /** Called for every leaf entry that could be read, in key order. */
  entry?(node: TreeNode, index: number): void;
}

/** Walks the whole tree. Rejects only with what is no damage, such as `IO`. */
export async function checkTree(
  source: NodeSource,
  shape: TreeShape,
  root: TreeRoot | undefined,
  check: TreeCheck,
): Promise<TreeStatistics> {
  const statistics = { nodes: 0, bytes: 0, entries: 0, depth: 0 };
  if (root === undefined) return statistics;
  statistics.depth = root.level + 1;
  const walk = new Walk(source, shape, check, statistics);
  const totals = await walk.node(root.ref, root.level, undefined, undefined);
  if (totals !== undefined) walk.compareTotals(totals, root.totals, 'the root', root.ref.pos);
  return statistics;
}

class Walk {
  readonly #source: NodeSource;
  readonly #shape: TreeShape;
  readonly #check: TreeCheck;
  readonly #statistics: TreeStatistics;

  constructor(source: NodeSource, shape: TreeShape, check: TreeCheck, statistics: TreeStatistics) {
    this.#source = source;
    this.#shape = shape;
    this.#check = check;
    this.#statistics = statistics;
  }

  /** Checks a node and all below it; returns its recomputed totals, undefined if some of it can't be read. */
  async node(
    ref: Ref,
    level: number,
    lower: Uint8Array | undefined,
    upper: Uint8Array | undefined,
  ): Promise<Float64Array | undefined> {
    const node = await this.#read(ref, level);
    if (node === undefined) return undefined;
    this.#statistics.nodes++;
    this.#statistics.bytes += ref.length;
    this.#checkKeys(node, ref, lower, upper);
    return level === 0 ? this.#leaf(node) : this.#interior(node, ref, lower, upper);
  }

  compareTotals(
    actual: Float64Array,
    stated: readonly number[] | Float64Array,
    what: string,
    pos: number,
  ): void {
    const same =
      actual.length === stated.length && actual.every((total, index) => total === stated[index]);
    if (same) return;
    this.#problem(`${what} states the totals [${stated}], but they are [${actual}]`, pos);
  }

  async #read(ref: Ref, level: number): Promise<TreeNode | undefined> {
    try {
      return await this.#source.load(ref, level);
    } catch (error) {
      if (!isDivanError(error, 'CHECKSUM') && !isDivanError(error, 'CORRUPT')) throw error;
      this.#problem(error.message, ref.pos);
      return undefined;
    }
  }

  #leaf(node: TreeNode): Float64Array {
    const totals = new Float64Array(this.#shape.measures);
    this.#statistics.entries += node.count;
    measureEntries(this.#shape, node, 0, node.count, totals);
    for (let index = 0; index < node.count; index++) this.#check.entry?.(node, index);
    return totals;
  }

  async #interior(
    node: TreeNode,
    ref: Ref,
    lower: Uint8Array | undefined,
    upper: Uint8Array | undefined,
  ): Promise<Float64Array | undefined> {
    const sums = new Float64Array(this.#shape.measures);
    let complete = true;
    for (let index = 0; index < node.count; index++) {
      const childLower = index === 0 ? lower : node.key(index);
      const childUpper = index + 1 < node.count ? node.key(index + 1) : upper;
      const actual = await this.node(node.childRef(index), node.level - 1, childLower, childUpper);
      if (actual === undefined) {
        complete = false;
        continue;
      }
      const stated = new Float64Array(this.#shape.measures);
      node.addChildTotals(index, stated);
      this.compareTotals(actual, stated, 'an interior node', ref.pos);
      for (const [measure, total] of actual.entries()) sums[measure] = (sums[measure] ?? 0) + total;
    }
    return complete ? sums : undefined;
  }

  /** Keys must ascend strictly and lie between the separators around the node; the first of an interior node is not used. */
  #checkKeys(
    node: TreeNode,
    ref: Ref,
    lower: Uint8Array | undefined,
    upper: Uint8Array | undefined,
  ): void {
    const first = node.level === 0 ? 0 : 1;
    for (let index = first + 1; index < node.count; index++) {
      if (node.compareKey(index, node.key(index - 1)) <= 0) {
        this.#problem(`the keys of a node do not ascend at entry ${index}`, ref.pos);
      }
    }
    if (first >= node.count) return;
    const low = node.key(first);
    if (lower !== undefined && compareBytes(low, 0, low.length, lower, 0, lower.length) < 0) {
      this.#problem('a key stands before the separator of its node', ref.pos);
    }
    if (upper !== undefined && node.compareKey(node.count - 1, upper) >= 0) {
      this.#problem('a key stands at or after the separator of the next node', ref.pos);
    }
  }

  #problem(text: string, pos: number): void {
    this.#check.problem(`${this.#shape.name}: ${text}`, pos);
  }
}
