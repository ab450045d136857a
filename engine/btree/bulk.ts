/**
 * Building a tree from entries in key order: nodes are packed full, and only the right edge is in memory.
 */
import type { Ref } from '../file/ref.js';
import { NODE_BYTES_DEFAULT, NodeRun, type RunEdge } from './node-run.js';
import type { NodeSink, TreeRoot, TreeShape } from './tree.js';

/** One level of a tree that is being built: how many nodes it has, and the last of them. */
interface Level {
  readonly run: NodeRun;
  made: number;
  last: TreeRoot | undefined;
}

/** What a half-built tree holds, for a checkpoint; the leaf level first. */
export type TreeEdge = readonly {
  readonly run: RunEdge;
  readonly made: number;
  readonly last: TreeRoot | undefined;
}[];

/** The levels of a tree from `base` up. Nodes of level `base` are made by its run, those above follow by themselves. */
export class TreeLevels {
  readonly #sink: NodeSink;
  readonly #shape: TreeShape;
  readonly #nodeBytes: number;
  readonly #base: number;
  readonly #levels: Level[] = [];

  constructor(sink: NodeSink, shape: TreeShape, nodeBytes: number, base: number) {
    this.#sink = sink;
    this.#shape = shape;
    this.#nodeBytes = nodeBytes;
    this.#base = base;
  }

  /** The run that entries of level `base` are added to. */
  get baseRun(): NodeRun {
    return this.#level(0).run;
  }

  /** Makes nodes of what is left and returns the root: the node of the lowest level that has only one. */
  finish(): TreeRoot | undefined {
    for (let index = 0; ; index++) {
      const level = this.#level(index);
      level.run.cut(true);
      if (level.made <= 1) return level.last;
    }
  }

  edge(): TreeEdge {
    return this.#levels.map(({ run, made, last }) => ({ run: run.edge(), made, last }));
  }

  /** Goes on from an edge. REQUIRES: nothing was added yet. */
  resume(edge: TreeEdge): void {
    for (const [index, { run, made, last }] of edge.entries()) {
      const level = this.#level(index);
      level.run.resume(run);
      level.made = made;
      level.last = last;
    }
  }

  #level(index: number): Level {
    const existing = this.#levels[index];
    if (existing !== undefined) return existing;
    const level = this.#base + index;
    const run = new NodeRun(
      this.#sink,
      this.#shape,
      { nodeBytes: this.#nodeBytes, level, nodesHeld: 1 },
      (separator, ref, totals) => this.#made(index, separator, ref, totals),
    );
    const made: Level = { run, made: 0, last: undefined };
    this.#levels.push(made);
    return made;
  }

  #made(index: number, separator: Uint8Array, ref: Ref, totals: Float64Array): void {
    const level = this.#level(index);
    level.made++;
    level.last = { ref, level: this.#base + index, totals: Array.from(totals) };
    this.#level(index + 1).run.addChild(separator, ref, totals);
  }
}

/** Builds a tree from its entries. */
export class BulkBuilder {
  readonly #levels: TreeLevels;

  constructor(sink: NodeSink, shape: TreeShape, nodeBytes: number = NODE_BYTES_DEFAULT) {
    this.#levels = new TreeLevels(sink, shape, nodeBytes, 0);
  }

  /** Adds an entry. REQUIRES: keys ascend strictly. The caller drains the sink when it is full. */
  add(key: Uint8Array, value: Uint8Array): void {
    this.#levels.baseRun.add(key, value);
  }

  /** The run that entries are added to, for those that copy them as they are. */
  get leafRun(): NodeRun {
    return this.#levels.baseRun;
  }

  /** Makes nodes of what is left and returns the root; undefined if nothing was added. */
  finish(): TreeRoot | undefined {
    return this.#levels.finish();
  }

  /** The unfinished right edge, for a checkpoint. */
  edge(): TreeEdge {
    return this.#levels.edge();
  }

  /** Goes on from an edge, to the same nodes as without the interruption. REQUIRES: nothing was added yet. */
  resume(edge: TreeEdge): void {
    this.#levels.resume(edge);
  }
}
