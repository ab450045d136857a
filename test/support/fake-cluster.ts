/**
 * What nodes in one process have in common, in memory but for the records of each, which are on its disk: calls, members, and records that get
 * everywhere at once, unless nodes are cut off from one another.
 */
import { DivanError } from '../../engine/errors.js';
import { joinDatabases } from '../../server/cluster/incarnations.js';
import type { CallHandlers, Node, PeerCalls } from '../../server/cluster/peers.js';
import type {
  Membership,
  Reached,
  RecordChange,
  SharedRecords,
} from '../../server/cluster/shared-records.js';
import { readRow } from '../../server/databases/database-row.js';
import type { JsonObject } from '../../server/http/json-value.js';
import type { NodeRecords } from '../../server/node-records.js';
import { carriedCalls, fixedMembers, handlerOf, jsonCopy, testNodes } from './calls-in-memory.js';

const PREFIX = 'cluster/';

/** A node that runs. */
export interface FakeMember {
  readonly records: FakeRecords;
  readonly handlers: CallHandlers;
}

export class FakeCluster {
  readonly nodes: readonly Node[];
  /** Those that run, by identity. */
  readonly running = new Map<string, FakeMember>();
  /** The members that a node places new databases on, if these are not all. */
  readonly places = new Map<string, readonly Node[]>();
  /** Whether two nodes can not reach each other. */
  isCut: (a: string, b: string) => boolean = () => false;

  constructor(count: number) {
    this.nodes = testNodes(count);
  }

  /** A member that another one reaches. Throws `UNREACHABLE`. */
  reached(from: string, to: string): FakeMember {
    const member = this.running.get(to);
    if (member !== undefined && !this.isCut(from, to) && !this.isCut(to, from)) return member;
    throw new DivanError('UNREACHABLE', `${to} does not answer`);
  }

  /** Has all that reach each other have the same records. */
  async exchange(): Promise<void> {
    for (const { records } of this.running.values()) {
      for (const key of records.keys('')) await records.toMembers([key]);
    }
  }

  membership(self: Node): Membership {
    const isReached = (to: string) => {
      try {
        return this.reached(self.identity, to) !== undefined;
      } catch {
        return false;
      }
    };
    const list = () => this.places.get(self.identity) ?? this.nodes;
    return { ...fixedMembers(self, this.nodes), list, isReached };
  }

  calls(self: Node): PeerCalls {
    return carriedCalls(async (peer, name, call) => {
      const { handlers } = this.reached(self.identity, peer.identity);
      const reply = await handlerOf(handlers, name)({ from: self.identity, ...call });
      // It may have been cut off meanwhile: whether it was done is not known then.
      this.reached(self.identity, peer.identity);
      return reply;
    });
  }
}

/** Where a node keeps its records. */
export type RecordStore = Pick<NodeRecords, 'get' | 'keys' | 'set'>;

export class MemoryRecords implements RecordStore {
  readonly #values = new Map<string, object>();

  get(key: string): unknown {
    return this.#values.get(key);
  }

  keys(prefix: string): string[] {
    return [...this.#values.keys()].filter((key) => key.startsWith(prefix));
  }

  async set(key: string, value: object): Promise<void> {
    this.#values.set(key, value);
  }
}

export class FakeRecords implements SharedRecords {
  readonly #cluster: FakeCluster;
  readonly #self: Node;
  readonly #records: RecordStore;
  readonly #listeners = new Set<(key: string) => void>();
  #changed: Promise<unknown> = Promise.resolve();

  constructor(cluster: FakeCluster, self: Node, records: RecordStore) {
    this.#cluster = cluster;
    this.#self = self;
    this.#records = records;
  }

  get(key: string): JsonObject | undefined {
    const value = this.#records.get(PREFIX + key);
    return value === undefined ? undefined : jsonCopy(value);
  }

  keys(prefix: string): string[] {
    return this.#records
      .keys(PREFIX + prefix)
      .map((key) => key.slice(PREFIX.length))
      .sort();
  }

  async change(key: string, change: RecordChange): Promise<void> {
    const isChanged = await this.#inTurn(key, change);
    if (isChanged) void this.toMembers([key]).catch(() => undefined);
  }

  /** Takes what another node has. */
  async receive(key: string, value: JsonObject): Promise<void> {
    const isNews = await this.#inTurn(key, (own) => {
      const merged = own === undefined ? value : mergedOf(key, own, value);
      return JSON.stringify(merged) === JSON.stringify(own) ? undefined : merged;
    });
    if (isNews) void this.toMembers([key]).catch(() => undefined);
  }

  settleRow(key: string, change: RecordChange): Promise<void> {
    return this.change(key, change);
  }

  async toMembers(keys: readonly string[]): Promise<Reached> {
    const reached = [this.#self];
    const missed: Node[] = [];
    for (const node of this.#cluster.nodes) {
      if (node === this.#self) continue;
      try {
        const { records } = this.#cluster.reached(this.#self.identity, node.identity);
        for (const key of keys) await records.receive(key, this.get(key) ?? {});
        reached.push(node);
      } catch {
        missed.push(node);
      }
    }
    const isMajority = reached.length * 2 > this.#cluster.nodes.length;
    return { reached, missed, isMajority };
  }

  async caughtUp(): Promise<Reached> {
    await this.#cluster.exchange();
    return this.toMembers([]);
  }

  onChange(listener: (key: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #inTurn(key: string, change: RecordChange): Promise<boolean> {
    const result = this.#changed.then(async () => {
      const value = change(this.get(key));
      if (value === undefined) return false;
      await this.#records.set(PREFIX + key, value);
      for (const listener of [...this.#listeners]) listener(key);
      return true;
    });
    this.#changed = result.catch(() => undefined);
    return result;
  }
}

function mergedOf(key: string, a: JsonObject, b: JsonObject): JsonObject {
  if (key.startsWith('database/')) return joinDatabases(a, b);
  return readRow(b).epoch > readRow(a).epoch ? b : a;
}
