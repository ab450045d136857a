/** A cluster of one node: its records are kept as those of any other, and there is nobody to call. */
import { DivanError } from '../../engine/errors.js';
import { isObject, type JsonObject, type JsonValue, parseJson } from '../http/json-value.js';
import type { NodeRecords } from '../node-records.js';
import { PROTOCOL } from './call-signature.js';
import type { ClusterCredentials } from './credentials.js';
import type { ClusterFactory } from './parts.js';
import { CallHandlers, type Node, type PeerCalls } from './peers.js';
import type { Membership, Reached, RecordChange, SharedRecords } from './shared-records.js';

const RECORD_PREFIX = 'cluster/';

export const aloneCluster: ClusterFactory = async ({ records, credentials }) => ({
  credentials,
  calls: NOBODY_TO_CALL,
  handlers: new CallHandlers(),
  members: new OneMember(credentials),
  records: new KeptRecords(records, credentials),
  protocol: PROTOCOL,
  trust: () => undefined,
  yieldToOthers: async () => undefined,
  caughtUp: async () => undefined,
  close: async () => undefined,
});

const NOBODY_TO_CALL: PeerCalls = {
  call: (peer) => Promise.reject(unreachable(peer)),
  open: (peer) => Promise.reject(unreachable(peer)),
};

function unreachable({ name }: Node): DivanError {
  return new DivanError('UNREACHABLE', `this server was built without calls: not even to ${name}`);
}

/** Shared records that are durable here, and told to nobody. */
export class KeptRecords implements SharedRecords {
  readonly #records: NodeRecords;
  readonly #credentials: ClusterCredentials;
  readonly #listeners = new Set<(key: string) => void>();
  /** Resolves when no change is under way: they are made one after another. */
  #changed: Promise<unknown> = Promise.resolve();

  constructor(records: NodeRecords, credentials: ClusterCredentials) {
    this.#records = records;
    this.#credentials = credentials;
  }

  get(key: string): JsonObject | undefined {
    const value = jsonOf(this.#records.get(RECORD_PREFIX + key));
    return isObject(value) ? value : undefined;
  }

  keys(prefix: string): string[] {
    return this.#records
      .keys(RECORD_PREFIX + prefix)
      .map((key) => key.slice(RECORD_PREFIX.length))
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }

  change(key: string, change: RecordChange): Promise<void> {
    const result = this.#changed.then(async () => {
      const value = change(this.get(key));
      if (value === undefined) return;
      await this.#records.set(RECORD_PREFIX + key, value);
      for (const listener of this.#listeners) listener(key);
    });
    this.#changed = result.catch(() => undefined);
    return result;
  }

  settleRow(key: string, change: RecordChange): Promise<void> {
    return this.change(key, change);
  }

  async toMembers(): Promise<Reached> {
    return { reached: [this.#credentials.self], missed: [], isMajority: true };
  }

  onChange(listener: (key: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

class OneMember implements Membership {
  readonly #credentials: ClusterCredentials;

  constructor(credentials: ClusterCredentials) {
    this.#credentials = credentials;
  }

  get self(): Node {
    return this.#credentials.self;
  }

  list(): readonly Node[] {
    return [this.self];
  }

  others(): readonly Node[] {
    return [];
  }

  find(identity: string): Node | undefined {
    return identity === this.self.identity ? this.self : undefined;
  }

  named(name: string): Node | undefined {
    return name === this.self.name ? this.self : undefined;
  }

  async add({ identity, name }: Node): Promise<void> {
    if (identity !== this.self.identity) throw unreachable({ identity, name, url: '' });
  }

  async remove(): Promise<void> {
    throw new DivanError('NOT_FOUND', 'there are no other nodes');
  }

  isReached(): boolean {
    return true;
  }
}

function jsonOf(value: unknown): JsonValue | undefined {
  return value === undefined ? undefined : parseJson(Buffer.from(JSON.stringify(value)));
}
