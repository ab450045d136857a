/**
 * The seam between the parts of a cluster and where the records live that belong to no node. Here every node keeps them all; a cluster could
 * keep them in etcd instead.
 */
import type { JsonObject } from '../http/json-value.js';
import type { Node } from './peers.js';

/** Makes a new value of the one that there is; undefined to leave it as it is. */
export type RecordChange = (value: JsonObject | undefined) => JsonObject | undefined;

/** How many members have a record durably. */
export interface Reached {
  readonly reached: readonly Node[];
  readonly missed: readonly Node[];
  /** More than half of all members, this one counted. */
  readonly isMajority: boolean;
}

export interface SharedRecords {
  /** The newest value that is known here; each call gives one of its own. */
  get(key: string): JsonObject | undefined;
  /** In the order of their bytes. */
  keys(prefix: string): string[];
  /**
   * Changes a record on what this node has; durable here when it resolves, on its way to the other members. Changes are made one after another.
   * Throws what writing throws, with nothing changed.
   */
  change(key: string, change: RecordChange): Promise<void>;
  /**
   * As `change`, of a row of this node of which others know a newer one, as they do after this node was set back to an older state: `change`
   * throws `CONFLICT` for that. REQUIRES: what it says is true of this node even so.
   */
  settleRow(key: string, change: RecordChange): Promise<void>;
  /** Resolves when every member has the present values of these, or did not answer in time. */
  toMembers(keys: readonly string[], timeoutMs?: number): Promise<Reached>;
  /**
   * Resolves when what this node has was compared with what every member has since it started, or they did not answer in time: only then does it
   * know what was changed while it was away, such as that jobs were stopped.
   */
  caughtUp(timeoutMs?: number): Promise<Reached>;
  /** Calls the listener, which must not throw, after every change, whoever made it. Returns what ends that. */
  onChange(listener: (key: string) => void): () => void;
}

/** The nodes of the cluster. Before a cluster is set up there is only this one. */
export interface Membership {
  readonly self: Node;
  /** All members, this node among them, in the order of their names. */
  list(): readonly Node[];
  /** The members without this node. */
  others(): readonly Node[];
  find(identity: string): Node | undefined;
  named(name: string): Node | undefined;
  /** Counts a node as a member from now on; durable here when it resolves. Throws `CONFLICT` for a name that another identity has. */
  add(node: Node): Promise<void>;
  /**
   * Has the record of this node, if there is one, say what its name and URL are now, for all members. Throws `CONFLICT` for a name that another
   * identity has, and what writing throws.
   */
  announce(): Promise<void>;
  /** The node is a member no more, and does not come back under this identity. Durable here when it resolves. Throws `NOT_FOUND`. */
  remove(identity: string): Promise<void>;
  /** True if the node was a member, and is none any more. */
  hasLeft(identity: string): boolean;
  /** True if a node answered lately, or was not asked yet. */
  isReached(identity: string): boolean;
}
