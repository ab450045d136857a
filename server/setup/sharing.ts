/**
 * What all nodes of a finished cluster have in common besides databases: the admins, the uuid of the server, the secret of its sessions. They are
 * records of the cluster, which every node follows once the record says that the cluster is finished, and not before, so that a setup that
 * does not come to its end changes no other node.
 */
import type { Logger } from 'pino';
import type { Admins } from '../auth/admins.js';
import type { NodeIdentity } from '../auth/node-identity.js';
import { formatHashText, type PasswordRecord, parseHashText } from '../auth/password.js';
import type { ClusterParts } from '../cluster/parts.js';
import type { Reached } from '../cluster/shared-records.js';
import { memberOf } from '../http/json-value.js';
import type { ServerHost } from '../world.js';

export interface SharingParts {
  readonly host: ServerHost;
  readonly log: Logger;
  readonly admins: Admins;
  readonly identity: NodeIdentity;
  readonly cluster: Pick<ClusterParts, 'records'>;
  /** Called when the secret of sessions has become another one. */
  readonly secretChanged: () => void;
}

const ADMIN_PREFIX = 'admin/';
const IDENTITY_KEY = 'identity';
const FINISHED_KEY = 'setup';
/** How long members are waited for. */
const SPREAD_MS = 10_000;
/** A disk that fails is tried again. */
const RETRY_MS = 5000;

export class Sharing {
  readonly #parts: SharingParts;
  readonly #stopListening: () => void;
  /** Settles when all that was heard of is in force here, or could not be made durable; never rejects. */
  #following: Promise<void> | undefined;
  #isBehind = false;
  #cancelRetry: (() => void) | undefined;
  #isClosed = false;

  constructor(parts: SharingParts) {
    this.#parts = parts;
    this.#stopListening = parts.cluster.records.onChange((key) => {
      if (key === IDENTITY_KEY || key === FINISHED_KEY || key.startsWith(ADMIN_PREFIX)) {
        void this.followLater();
      }
    });
  }

  /** True for a node of a cluster that is finished. */
  get isFinished(): boolean {
    const record = this.#parts.cluster.records.get(FINISHED_KEY);
    return record !== undefined && memberOf(record, 'finished') === true;
  }

  /**
   * At the start: takes over what all nodes have by now, and gives them the admins whom the configuration made or changed. Throws `CORRUPT`, and
   * what writing throws.
   */
  async start(changed: readonly string[]): Promise<void> {
    if (!this.isFinished) return;
    const { admins } = this.#parts;
    for (const name of changed) {
      const password = admins.find(name);
      if (password !== undefined) await this.#putAdmin(name, password);
    }
    await this.#follow();
  }

  /** Makes records of what this node has, for all nodes to follow. Returns who has them. Throws what writing throws. */
  async publish(): Promise<Reached> {
    const { admins, identity, cluster } = this.#parts;
    const { records } = cluster;
    await records.change(IDENTITY_KEY, () => identity.shared);
    for (const name of records.keys(ADMIN_PREFIX)) {
      // Of an attempt before this one.
      if (!admins.chosen.has(name.slice(ADMIN_PREFIX.length))) {
        await records.change(name, () => ({ deleted: true }));
      }
    }
    for (const [name, password] of admins.chosen) await this.#putAdmin(name, password);
    return await records.toMembers([IDENTITY_KEY, ...records.keys(ADMIN_PREFIX)], SPREAD_MS);
  }

  /** The cluster is finished: durable here when it resolves with who has heard of it. Throws what writing throws. */
  async finish(): Promise<Reached> {
    const { records } = this.#parts.cluster;
    await records.change(FINISHED_KEY, () => (this.isFinished ? undefined : { finished: true }));
    await this.followLater();
    return await records.toMembers([FINISHED_KEY], SPREAD_MS);
  }

  /** Takes over what all nodes have by now. Never rejects. */
  followLater(): Promise<void> {
    this.#isBehind = true;
    this.#following ??= this.#catchUp().finally(() => {
      this.#following = undefined;
    });
    return this.#following;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stopListening();
    this.#cancelRetry?.();
    await this.#following;
  }

  async #catchUp(): Promise<void> {
    // What changes while this is written comes with the next round.
    while (this.#isBehind && !this.#isClosed) {
      this.#isBehind = false;
      try {
        await this.#follow();
      } catch (err) {
        this.#parts.log.error({ err }, 'the admins of the cluster could not be taken over');
        this.#cancelRetry?.();
        this.#cancelRetry = this.#parts.host.setTimer(() => void this.followLater(), RETRY_MS);
        return;
      }
    }
  }

  async #follow(): Promise<void> {
    if (!this.isFinished) return;
    const { admins, identity, cluster, log, secretChanged } = this.#parts;
    admins.share({ put: (name, password) => this.#putAdmin(name, password) });
    const shared = cluster.records.get(IDENTITY_KEY);
    const taking = shared === undefined ? undefined : identity.taking(shared);
    const gone = await admins.follow(
      () => this.#sharedAdmins(),
      taking === undefined ? [] : [taking.record],
    );
    if (gone.length > 0) log.warn({ gone }, 'these admins are none in the cluster, so not here');
    if (taking === undefined) return;
    taking.done();
    secretChanged();
  }

  async #putAdmin(name: string, password: PasswordRecord | undefined): Promise<void> {
    const value =
      password === undefined ? { deleted: true } : { password: formatHashText(password) };
    await this.#parts.cluster.records.change(ADMIN_PREFIX + name, (old) =>
      JSON.stringify(old) === JSON.stringify(value) ? undefined : value,
    );
  }

  /** A record that can not be read changes nothing of its admin, and must not keep the others from being followed. */
  #sharedAdmins(): Map<string, PasswordRecord> {
    const { admins, log, cluster } = this.#parts;
    const { records } = cluster;
    const found = new Map<string, PasswordRecord>();
    for (const key of records.keys(ADMIN_PREFIX)) {
      const record = records.get(key);
      if (record === undefined || memberOf(record, 'deleted') === true) continue;
      const text = memberOf(record, 'password');
      const told = typeof text === 'string' ? parseHashText(text) : undefined;
      if (told === undefined) log.error({ key }, 'the record of an admin is malformed');
      const name = key.slice(ADMIN_PREFIX.length);
      const password = told ?? admins.chosen.get(name);
      if (password !== undefined) found.set(name, password);
    }
    return found;
  }
}
