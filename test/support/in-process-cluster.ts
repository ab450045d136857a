/**
 * Nodes of a cluster in this process: real servers with ports of their own, whose calls to one another go through memory, piece by piece, and
 * which have their records in common at once. A node can be cut off, in the middle of a call too.
 */
import type { Test } from 'tap';
import { DivanError } from '../../engine/errors.js';
import { MemoryStorage } from '../../engine/file/memory-storage.js';
import {
  type Call,
  type CallHandler,
  CallHandlers,
  type Node,
  type PeerCalls,
} from '../../server/cluster/peers.js';
import type {
  Membership,
  RecordChange,
  SharedRecords,
} from '../../server/cluster/shared-records.js';
import type { SettingName } from '../../server/config/settings.js';
import type { JsonObject } from '../../server/http/json-value.js';
import { carriedCalls, fixedMembers, jsonCopy } from './calls-in-memory.js';
import { clusterOf } from './cluster-seams.js';
import { listOf, TestServer } from './server.js';

export interface ClusterOptions {
  readonly settings?: Readonly<Partial<Record<SettingName, string>>>;
}

export class InProcessCluster {
  readonly nodes: readonly TestServer[];
  readonly network: MemoryNetwork;

  private constructor(nodes: readonly TestServer[], network: MemoryNetwork) {
    this.nodes = nodes;
    this.network = network;
  }

  /** Starts nodes, of which each counts all others as members; they run until the test ends. */
  static async start(
    t: Test,
    count: number,
    options: ClusterOptions = {},
  ): Promise<InProcessCluster> {
    const network = new MemoryNetwork(
      Array.from({ length: count }, (_, index) => {
        const identity = String(index).repeat(32);
        return { name: `n${index}@127.0.0.1`, identity, url: `http://n${index}` };
      }),
    );
    const nodes: TestServer[] = [];
    for (const node of network.nodes) {
      const { settings = {} } = options;
      const storage = new MemoryStorage();
      const cluster = clusterOf(network.seamsOf(node));
      const rest = { settings: { ...settings, 'node/name': node.name }, dataDir: '/data' };
      nodes.push(await TestServer.open(t, { ...rest, storage, cluster, mayLogErrors: true }));
    }
    return new InProcessCluster(nodes, network);
  }

  /** A cluster with a database `db` of 8 shards, with documents `0` to `99`. */
  static async withDocuments(t: Test, count: number): Promise<InProcessCluster> {
    const cluster = await InProcessCluster.start(t, count);
    const node = cluster.node(0);
    t.equal((await node.put('/db?q=8')).status, 201);
    const docs = Array.from({ length: 100 }, (_, n) => ({ _id: String(n), n }));
    t.equal((await node.post('/db/_bulk_docs', { docs })).status, 201);
    return cluster;
  }

  /** The number of the node that has a document of `db`. */
  async ownerOf(id: string): Promise<number> {
    const { body } = await this.node(0).get(`/db/_shards/${id}`);
    const [name] = listOf(body, 'nodes');
    return this.network.nodes.findIndex((node) => node.name === name);
  }

  /** Ids of documents of `withDocuments` that a node has, or has not. */
  async idsOf(index: number, isThere: boolean): Promise<string[]> {
    const ids: string[] = [];
    for (let n = 0; n < 100; n++) {
      if (((await this.ownerOf(String(n))) === index) === isThere) ids.push(String(n));
    }
    return ids;
  }

  /** The node of a number. */
  node(index: number): TestServer {
    const node = this.nodes[index];
    if (node === undefined) throw new RangeError('there is no such node');
    return node;
  }
}

/** Carries calls. */
export class MemoryNetwork {
  readonly nodes: readonly Node[];
  readonly #handlers = new Map<string, CallHandlers>();
  /** Aborted when the node is cut off. */
  readonly #cuts = new Map<string, AbortController>();
  readonly #records = new Map<string, JsonObject>();
  readonly #listeners = new Set<(key: string) => void>();
  /** Bytes that went over it in bodies, and calls by their names. */
  bytes = 0;
  readonly calls = new Map<string, number>();
  /** So many requests that are passed on are refused as if their documents were moved; with `readFirst` after their bodies were read. */
  moved = 0;
  readFirst = false;
  /** So many are served, and their replies lost. */
  lost = 0;

  constructor(nodes: readonly Node[]) {
    this.nodes = nodes;
    for (const { identity } of nodes) {
      this.#handlers.set(identity, new CallHandlers());
      this.#cuts.set(identity, new AbortController());
    }
  }

  seamsOf(self: Node) {
    const handlers = this.#handlers.get(self.identity) ?? new CallHandlers();
    return {
      records: this.#recordsOf(),
      membership: this.#membershipOf(self),
      calls: this.#callsOf(self),
      handlers,
    };
  }

  /** Nobody reaches a node any more, and what was under way breaks off. */
  cutOff(index: number): void {
    this.#cuts.get(this.nodes[index]?.identity ?? '')?.abort();
  }

  mend(index: number): void {
    this.#cuts.set(this.nodes[index]?.identity ?? '', new AbortController());
  }

  #callsOf(self: Node): PeerCalls {
    return carriedCalls(
      (peer, name, call) => this.#ask(self, peer, name, call),
      (peer, body) => this.#relay(body, this.#cutBetween(self, peer)),
    );
  }

  async #ask(
    self: Node,
    peer: Node,
    name: string,
    call: Pick<Call, 'head' | 'body' | 'signal'>,
  ): ReturnType<CallHandler> {
    const cut = this.#cutBetween(self, peer);
    const handler = this.#handlers.get(peer.identity)?.find(name);
    if (cut.aborted || handler === undefined) {
      throw new DivanError('UNREACHABLE', 'cut off', { errno: 'ECONNREFUSED' });
    }
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
    const signal = AbortSignal.any([cut, call.signal]);
    const lost = new Promise<never>((_, reject) => {
      const fail = () => reject(new DivanError('UNREACHABLE', 'the connection was lost'));
      signal.addEventListener('abort', fail, { once: true });
    });
    lost.catch(() => undefined);
    const body = this.#relay(call.body, signal);
    if (name === 'request' && this.moved > 0) {
      this.moved--;
      if (this.readFirst) for await (const _ of body);
      throw new DivanError('MOVED', 'not here any more');
    }
    const carried = { from: self.identity, head: call.head, body, signal };
    const answer = await Promise.race([handler(carried), lost]);
    if (name !== 'request' || this.lost === 0) return answer;
    this.lost--;
    throw new DivanError('UNREACHABLE', 'the reply was lost');
  }

  #cutBetween(self: Node, peer: Node): AbortSignal {
    const cuts = [self, peer].flatMap(({ identity }) => this.#cuts.get(identity)?.signal ?? []);
    return AbortSignal.any(cuts);
  }

  async *#relay(
    body: AsyncIterable<Uint8Array>,
    cut: AbortSignal,
  ): AsyncGenerator<Uint8Array, void> {
    const source = body[Symbol.asyncIterator]();
    let fail: () => void = () => undefined;
    const lost = new Promise<never>((_, reject) => {
      fail = () => reject(new DivanError('UNREACHABLE', 'the connection was lost'));
      if (cut.aborted) fail();
      cut.addEventListener('abort', fail, { once: true });
    });
    lost.catch(() => undefined);
    let isWhole = false;
    try {
      for (;;) {
        const next = await Promise.race([source.next(), lost]);
        isWhole = next.done === true;
        if (next.done === true) return;
        this.bytes += next.value.length;
        yield next.value;
      }
    } finally {
      cut.removeEventListener('abort', fail);
      if (!isWhole) void source.return?.();
    }
  }

  #membershipOf(self: Node): Membership {
    const isReached = (identity: string) => this.#cuts.get(identity)?.signal.aborted === false;
    return { ...fixedMembers(self, this.nodes), isReached };
  }

  #recordsOf(): SharedRecords {
    const records = this.#records;
    const get = (key: string) => {
      const value = records.get(key);
      return value === undefined ? undefined : jsonCopy(value);
    };
    const change = async (key: string, make: RecordChange) => {
      const value = make(get(key));
      if (value === undefined) return;
      records.set(key, jsonCopy(value));
      for (const listener of [...this.#listeners]) listener(key);
    };
    const all = async () => ({ reached: this.nodes, missed: [], isMajority: true });
    return {
      get,
      change,
      settleRow: change,
      keys: (prefix) => [...records.keys()].filter((key) => key.startsWith(prefix)).sort(),
      toMembers: all,
      caughtUp: all,
      onChange: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    };
  }
}
