/**
 * Several nodes in one process, for those who build on what a cluster gives them: calls through memory, as JSON and bytes, and records that get to
 * whom they reach. A node can be cut off, and answers can get lost.
 */
import { DivanError } from '../../engine/errors.js';
import { joinDatabases } from '../../server/cluster/incarnations.js';
import { CallHandlers, type Node, type PeerCalls } from '../../server/cluster/peers.js';
import type { Reached, RecordChange, SharedRecords } from '../../server/cluster/shared-records.js';
import { type JsonObject, memberOf } from '../../server/http/json-value.js';
import type { ClusterOptions } from '../../server/node-cluster.js';
import { carriedCalls, fixedMembers, handlerOf, jsonCopy, testNodes } from './calls-in-memory.js';
import { clusterOf } from './cluster-seams.js';

interface Versioned {
  readonly counter: number;
  readonly value: JsonObject;
}

/** A node as others see it. */
interface Running {
  readonly handlers: CallHandlers;
  readonly isDead: () => boolean;
}

/** What becomes of a call: it arrives or not, and its answer does or not. */
export type CallFate = 'done' | 'not sent' | 'answer lost';

export class MemoryCluster {
  readonly nodes: readonly Node[];
  /** Identities of nodes that nobody reaches and that reach nobody. */
  readonly away = new Set<string>();
  /** Identities of nodes that are no members any more. */
  readonly left = new Set<string>();
  readonly calls: { readonly to: string; readonly name: string }[] = [];
  /** Asked before each call between nodes that reach each other. */
  fate: (to: Node, name: string, head: JsonObject) => CallFate = () => 'done';
  readonly #handlers = new Map<string, Running>();
  readonly #records = new Map<string, MemoryRecords>();

  constructor(count: number) {
    this.nodes = testNodes(count);
    for (const node of this.nodes) {
      this.#records.set(node.identity, new MemoryRecords(this, node));
    }
  }

  node(index: number): Node {
    const node = this.nodes[index];
    if (node === undefined) throw new RangeError(`there is no node ${index}`);
    return node;
  }

  /** The records of a node, which outlive it. */
  records(node: Node): MemoryRecords {
    const records = this.#records.get(node.identity);
    if (records === undefined) throw new RangeError(`there is no node ${node.name}`);
    return records;
  }

  /** What a node is started with. Once it is dead, as `isDead` says, it neither answers nor asks, and changes no record. */
  seams(index: number, isDead: () => boolean = () => false): ClusterOptions {
    const self = this.node(index);
    const handlers = new CallHandlers();
    this.#handlers.set(self.identity, { handlers, isDead });
    const records = this.records(self);
    records.begin(isDead);
    const calls = this.#calls(self, isDead);
    const membership = fixedMembers(self, this.nodes, (identity) => this.left.has(identity));
    return clusterOf({ records, membership, calls, handlers });
  }

  /** A node answers no more. */
  stopped(index: number): void {
    this.#handlers.delete(this.node(index).identity);
  }

  isCut(a: Node, b: Node): boolean {
    return this.away.has(a.identity) || this.away.has(b.identity);
  }

  #calls(self: Node, isSelfDead: () => boolean): PeerCalls {
    return carriedCalls(async (peer, name, call) => {
      const running = this.#handlers.get(peer.identity);
      const fate = this.fate(peer, name, call.head);
      const isAway = running === undefined || running.isDead() || this.isCut(self, peer);
      if (isAway || isSelfDead() || fate === 'not sent') {
        throw new DivanError('UNREACHABLE', `${peer.name} does not answer`);
      }
      const { handlers, isDead } = running;
      this.calls.push({ to: peer.name, name });
      const handler = handlerOf(handlers, name);
      const answer = await handler({ from: self.identity, ...call }).catch((error: unknown) => {
        if (!isDead()) throw error;
      });
      // It may have gone or been cut off meanwhile: whether it was done is not known then.
      const isGone = this.#handlers.get(peer.identity) !== running || this.isCut(self, peer);
      if (answer !== undefined && !isGone && !isDead() && fate === 'done') return answer;
      throw new DivanError('UNREACHABLE', `${peer.name} broke off`);
    });
  }
}

export class MemoryRecords implements SharedRecords {
  readonly #cluster: MemoryCluster;
  readonly #self: Node;
  readonly #records = new Map<string, Versioned>();
  readonly #listeners = new Set<(key: string) => void>();
  #isDead: () => boolean = () => false;

  constructor(cluster: MemoryCluster, self: Node) {
    this.#cluster = cluster;
    this.#self = self;
  }

  get(key: string): JsonObject | undefined {
    const record = this.#records.get(key);
    return record === undefined ? undefined : jsonCopy(record.value);
  }

  keys(prefix: string): string[] {
    return [...this.#records.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  async change(key: string, change: RecordChange): Promise<void> {
    const value = this.#isDead() ? undefined : change(this.get(key));
    if (value === undefined) return;
    this.#take(key, { counter: (this.#records.get(key)?.counter ?? 0) + 1, value });
    await this.toMembers([key]);
  }

  settleRow(key: string, change: RecordChange): Promise<void> {
    return this.change(key, change);
  }

  async toMembers(keys: readonly string[]): Promise<Reached> {
    const reached = [this.#self];
    const missed: Node[] = [];
    for (const node of this.#cluster.nodes) {
      if (node === this.#self) continue;
      if (this.#cluster.isCut(this.#self, node)) missed.push(node);
      else {
        this.#give(node, keys);
        reached.push(node);
      }
    }
    return { reached, missed, isMajority: reached.length > missed.length };
  }

  /** Has this node and all that it reaches know the same. */
  exchange(): void {
    for (const node of this.#cluster.nodes) {
      if (node === this.#self || this.#cluster.isCut(this.#self, node)) continue;
      const theirs = this.#cluster.records(node);
      this.#give(node, this.keys(''));
      theirs.#give(this.#self, theirs.keys(''));
    }
  }

  caughtUp(): Promise<Reached> {
    this.exchange();
    return this.toMembers([]);
  }

  onChange(listener: (key: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The node is started anew. */
  begin(isDead: () => boolean): void {
    this.#isDead = isDead;
    this.#listeners.clear();
  }

  #give(node: Node, keys: readonly string[]): void {
    for (const key of keys) {
      const record = this.#records.get(key);
      if (record !== undefined) this.#cluster.records(node).#merge(key, record);
    }
  }

  #merge(key: string, record: Versioned): void {
    const own = this.#records.get(key);
    const merged = own === undefined ? record : merge(key, own, record);
    if (JSON.stringify(merged) !== JSON.stringify(own)) this.#take(key, merged);
  }

  #take(key: string, record: Versioned): void {
    this.#records.set(key, record);
    for (const listener of [...this.#listeners]) listener(key);
  }
}

function merge(key: string, a: Versioned, b: Versioned): Versioned {
  if (key.startsWith('database/')) {
    const counter = Math.max(a.counter, b.counter);
    return { counter, value: joinDatabases(a.value, b.value) };
  }
  if (a.counter !== b.counter) return a.counter > b.counter ? a : b;
  return memberOf(b.value, 'stopped') === undefined ? a : b;
}
