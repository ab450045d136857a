/**
 * Copy-on-write modification of a tree by a sorted batch of operations.
 *
 * Only nodes on the way to a changed key are read and written anew; all others keep their refs. Memory is the path and the
 * children of one interior node at each level. A leaf node that has become small is joined with what follows it under
 * the same parent, and a tree whose root has one child loses a level.
 */
import { TreeLevels } from './bulk.js';
import type { TreeNode } from './node.js';
import { NODE_BYTES_DEFAULT, NodeRun } from './node-run.js';
import type { NodeSink, NodeSource, TreeRoot, TreeShape } from './tree.js';

const EMPTY_KEY = new Uint8Array(0);
/** After so many entries the sink is drained, which gives other work its turn. */
const SLICE_ENTRIES_DEFAULT = 4000;

/** A batch of operations, keys strictly ascending, read one at a time. */
export interface OpCursor {
  /** True when all operations have been read; the other members then mean nothing. */
  readonly ended: boolean;
  readonly key: Uint8Array;
  /** The new value, undefined to remove the key. Removing a key that is not there does nothing. */
  readonly value: Uint8Array | undefined;
  next(): void;
}

export interface ModifyOptions {
  readonly nodeBytes?: number;
  readonly sliceEntries?: number;
}

/** Returns the root of the modified tree, undefined if it is empty. Rejects with what the source and the sink reject with. */
export async function modify(
  source: NodeSource,
  sink: NodeSink,
  shape: TreeShape,
  root: TreeRoot | undefined,
  ops: OpCursor,
  options: ModifyOptions = {},
): Promise<TreeRoot | undefined> {
  if (ops.ended) return root;
  const batch = new Batch(source, sink, shape, ops, options);
  const changed = await batch.apply(root);
  return changed === undefined ? undefined : withoutLoneRoots(source, changed);
}

/** Goes down while the root has a single child. */
async function withoutLoneRoots(source: NodeSource, root: TreeRoot): Promise<TreeRoot> {
  let { ref, level } = root;
  while (level > 0) {
    const node = source.cached(ref, level) ?? (await source.load(ref, level));
    if (node.count > 1) break;
    ref = node.childRef(0);
    level--;
  }
  return { ref, level, totals: root.totals };
}

class Batch {
  readonly #source: NodeSource;
  readonly #sink: NodeSink;
  readonly #shape: TreeShape;
  readonly #ops: OpCursor;
  readonly #nodeBytes: number;
  readonly #sliceEntries: number;
  #sliceLeft: number;

  constructor(
    source: NodeSource,
    sink: NodeSink,
    shape: TreeShape,
    ops: OpCursor,
    options: ModifyOptions,
  ) {
    this.#source = source;
    this.#sink = sink;
    this.#shape = shape;
    this.#ops = ops;
    this.#nodeBytes = options.nodeBytes ?? NODE_BYTES_DEFAULT;
    this.#sliceEntries = options.sliceEntries ?? SLICE_ENTRIES_DEFAULT;
    this.#sliceLeft = this.#sliceEntries;
  }

  async apply(root: TreeRoot | undefined): Promise<TreeRoot | undefined> {
    const levels = new TreeLevels(this.#sink, this.#shape, this.#nodeBytes, root?.level ?? 0);
    const run = levels.baseRun;
    if (root === undefined) await this.#addOps(run, undefined);
    else {
      const { ref, level } = root;
      const node = this.#source.cached(ref, level) ?? (await this.#source.load(ref, level));
      await this.#modifyNode(node, run, EMPTY_KEY, undefined);
    }
    return levels.finish();
  }

  /** Adds to `run` what becomes of the entries of `node` by the operations before `upper`. `lower`: the lowest key it may hold. */
  async #modifyNode(
    node: TreeNode,
    run: NodeRun,
    lower: Uint8Array,
    upper: Uint8Array | undefined,
  ): Promise<void> {
    if (node.level === 0) await this.#modifyLeaf(node, run, upper);
    else await this.#modifyInterior(node, run, lower, upper);
  }

  async #modifyInterior(
    node: TreeNode,
    run: NodeRun,
    lower: Uint8Array,
    upper: Uint8Array | undefined,
  ): Promise<void> {
    const level = node.level - 1;
    const children = new NodeRun(
      this.#sink,
      this.#shape,
      { nodeBytes: this.#nodeBytes, level, nodesHeld: 2 },
      (separator, ref, totals) => run.addChild(separator, ref, totals),
    );
    for (let index = 0; index < node.count; index++) {
      const childLower = index === 0 ? lower : node.key(index);
      const childUpper = index + 1 < node.count ? node.key(index + 1) : upper;
      if (children.empty) {
        if (!this.#hasOpBefore(childUpper)) {
          this.#passChild(node, index, childLower, run);
          continue;
        }
        children.begin(childLower);
      }
      const ref = node.childRef(index);
      const child = this.#source.cached(ref, level) ?? (await this.#source.load(ref, level));
      await this.#modifyNode(child, children, childLower, childUpper);
      if (!children.underfull) children.cut(childUpper === undefined);
    }
    children.cut(upper === undefined);
  }

  /** Keeps a child that no operation concerns. */
  #passChild(node: TreeNode, index: number, lower: Uint8Array, run: NodeRun): void {
    if (index === 0) run.add(lower, node.value(0));
    else run.addRange(node, index, index + 1);
  }

  async #modifyLeaf(node: TreeNode, run: NodeRun, upper: Uint8Array | undefined): Promise<void> {
    let index = 0;
    while (this.#hasOpBefore(upper)) {
      const { key, value } = this.#ops;
      const bound = node.lowerBound(key, index);
      run.addRange(node, index, bound);
      const replaces = bound < node.count && node.compareKey(bound, key) === 0;
      if (value !== undefined) run.add(key, value);
      await this.#spend(bound - index + 1);
      index = replaces ? bound + 1 : bound;
      this.#ops.next();
    }
    run.addRange(node, index, node.count);
    await this.#spend(node.count - index);
  }

  async #addOps(run: NodeRun, upper: Uint8Array | undefined): Promise<void> {
    while (this.#hasOpBefore(upper)) {
      const { key, value } = this.#ops;
      if (value !== undefined) run.add(key, value);
      this.#ops.next();
      await this.#spend(1);
    }
  }

  #hasOpBefore(upper: Uint8Array | undefined): boolean {
    if (this.#ops.ended) return false;
    return upper === undefined || Buffer.compare(this.#ops.key, upper) < 0;
  }

  /** Counts work done and, now and then, lets the sink write and other work have its turn. */
  #spend(entries: number): Promise<void> | undefined {
    this.#sliceLeft -= entries;
    if (this.#sliceLeft > 0 && !this.#sink.full) return undefined;
    this.#sliceLeft = this.#sliceEntries;
    return this.#sink.drain();
  }
}
