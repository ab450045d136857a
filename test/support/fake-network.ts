/**
 * Several nodes in one process: their calls go from one to the other as values, if both have the same cookie, and their records are pushed to
 * all members at once. Setups are driven over it; how calls and records really travel is tested elsewhere.
 */
import { DivanError } from '../../engine/errors.js';
import type { ClusterCredentials } from '../../server/cluster/credentials.js';
import { Members } from '../../server/cluster/members.js';
import type { ClusterFactory, ClusterParts } from '../../server/cluster/parts.js';
import { CallHandlers, type Node, type PeerCalls } from '../../server/cluster/peers.js';
import type { Reached, RecordChange, SharedRecords } from '../../server/cluster/shared-records.js';
import { isObject, type JsonObject } from '../../server/http/json-value.js';
import type { NodeRecords } from '../../server/node-records.js';
import { carriedCalls, handlerOf, jsonCopy } from './calls-in-memory.js';

interface Attached {
  readonly credentials: ClusterCredentials;
  readonly handlers: CallHandlers;
  readonly records: FakeRecords;
}

export class FakeNetwork {
  /** Of the calls between nodes, for nodes that start from now on. */
  protocol = 1;
  /** Identities whom coordinators were said to be, in the order in which they were trusted. */
  readonly trusted: string[] = [];
  readonly #attached = new Map<string, Attached>();
  /** Where each listens, by identity. */
  readonly #places = new Map<string, string>();
  /** Names of nodes that do not answer calls. */
  readonly #silent = new Set<string>();
  /** Names of nodes that answer calls and take no records. */
  readonly deaf = new Set<string>();

  readonly open: ClusterFactory = async ({ records: kept, credentials }) => {
    const handlers = new CallHandlers();
    const { protocol } = this;
    const records = new FakeRecords(this, kept, credentials);
    this.#attached.set(credentials.self.identity, { credentials, handlers, records });
    const parts: ClusterParts = {
      calls: this.#callsOf(credentials),
      handlers,
      members: records.members,
      records,
      protocol,
      trust: (identity) => this.trusted.push(identity),
      credentials,
      yieldToOthers: async () => undefined,
      close: async () => undefined,
    };
    return parts;
  };

  /** A node that answers no calls for a while. */
  silence(name: string, isSilent = true): void {
    if (isSilent) this.#silent.add(name);
    else this.#silent.delete(name);
  }

  /** A node listens there. */
  place(identity: string, url: string): void {
    this.#places.set(identity, url);
  }

  /** The process of a node is gone. */
  detach(identity: string): void {
    this.#attached.delete(identity);
  }

  /** Every member gets what any other has: as when two compare. */
  async compare(): Promise<void> {
    for (const { records } of [...this.#attached.values()]) {
      for (const key of records.keys('')) await records.push([key]);
    }
  }

  /** The records of a member that can be reached. */
  recordsOf(from: ClusterCredentials, identity: string): FakeRecords | undefined {
    const peer = this.#attached.get(identity);
    const { name } = peer?.credentials.self ?? {};
    if (peer === undefined || name === undefined) return undefined;
    if (this.#silent.has(name) || this.deaf.has(name)) return undefined;
    const { cookie } = peer.credentials;
    return cookie !== undefined && cookie === from.cookie ? peer.records : undefined;
  }

  #callsOf(from: ClusterCredentials): PeerCalls {
    return carriedCalls(async (peer, name, call) => {
      const [identity = ''] = [...this.#places].find(([, url]) => url === peer.url) ?? [];
      const found = this.#attached.get(identity);
      if (found === undefined || this.#silent.has(found.credentials.self.name)) {
        const facts = { errno: 'ECONNREFUSED' };
        throw new DivanError('UNREACHABLE', `${peer.name} does not answer`, facts);
      }
      const { cookie, self } = found.credentials;
      if (cookie === undefined || cookie !== from.cookie) {
        throw new DivanError('UNAUTHORIZED', 'another cookie, or none');
      }
      if (self.identity !== peer.identity) throw new DivanError('PEER', 'that is another node');
      return handlerOf(found.handlers, name)({ from: from.self.identity, ...call });
    });
  }
}

const PREFIX = 'cluster/';

export class FakeRecords implements SharedRecords {
  readonly members: Members;
  readonly #network: FakeNetwork;
  readonly #kept: NodeRecords;
  readonly #credentials: ClusterCredentials;
  readonly #listeners = new Set<(key: string) => void>();

  constructor(network: FakeNetwork, kept: NodeRecords, credentials: ClusterCredentials) {
    this.#network = network;
    this.#kept = kept;
    this.#credentials = credentials;
    this.members = new Members(credentials, this);
  }

  get(key: string): JsonObject | undefined {
    const value = this.#row(key)?.['value'];
    return isObject(value) ? value : undefined;
  }

  keys(prefix: string): string[] {
    return this.#kept
      .keys(PREFIX + prefix)
      .map((key) => key.slice(PREFIX.length))
      .sort();
  }

  async change(key: string, change: RecordChange): Promise<void> {
    const value = change(this.get(key));
    if (value === undefined) return;
    await this.take(key, { counter: this.#counter(key) + 1, value });
    await this.push([key]);
  }

  settleRow(key: string, change: RecordChange): Promise<void> {
    return this.change(key, change);
  }

  async toMembers(keys: readonly string[]): Promise<Reached> {
    const missed = await this.push(keys);
    const all = this.members.list();
    const reached = all.filter((node) => !missed.includes(node));
    return { reached, missed, isMajority: reached.length > all.length / 2 };
  }

  caughtUp(): Promise<Reached> {
    return this.toMembers([]);
  }

  onChange(listener: (key: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Gives records to all members; those that do not take them. */
  async push(keys: readonly string[]): Promise<Node[]> {
    const missed: Node[] = [];
    for (const node of this.members.others()) {
      const peer = this.#network.recordsOf(this.#credentials, node.identity);
      try {
        if (peer === undefined) throw new DivanError('UNREACHABLE', node.name);
        for (const key of keys) {
          const row = this.#row(key);
          if (row !== undefined) await peer.take(key, row);
        }
      } catch {
        missed.push(node);
      }
    }
    return missed;
  }

  /** Keeps a record if it is newer. */
  async take(key: string, row: JsonObject): Promise<void> {
    const { counter } = row;
    const isNewer = typeof counter === 'number' && counter > this.#counter(key);
    if (!isNewer) return;
    await this.#kept.set(PREFIX + key, row);
    for (const listener of this.#listeners) listener(key);
  }

  #counter(key: string): number {
    const counter = this.#row(key)?.['counter'];
    return typeof counter === 'number' ? counter : 0;
  }

  #row(key: string): JsonObject | undefined {
    const row = this.#kept.get(PREFIX + key);
    return row === undefined ? undefined : jsonCopy(row);
  }
}
