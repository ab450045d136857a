/** Which nodes hold which ranges of a database, as far as this node knows. */
import type { HashRule, ShardRange } from '../../engine/shard/hash.js';
import type { Node } from '../cluster/peers.js';

/** The part of a database that one node holds, as its row says. */
export interface PlacedPart {
  readonly node: Node;
  /** Of the node's row; it rises whenever the shards of the part change. */
  readonly epoch: number;
  /** In their order, without overlaps. */
  readonly shards: readonly PlacedShard[];
}

export interface PlacedShard {
  readonly range: ShardRange;
  /** As `ShardPlace.file`. */
  readonly file: string;
}

export interface Placement {
  readonly name: string;
  readonly incarnation: string;
  readonly hashRule: HashRule;
  /** How many shards it was made with, and how many copies each was to have. */
  readonly q: number;
  readonly copies: number;
  /** As it stands in the file names, unless a node had such files before. */
  readonly timestamp: number;
  /** Of all nodes that hold some of it, in the order of their identities. While it is being made, or moved, ranges may be missing or twice there. */
  readonly parts: readonly PlacedPart[];
}

/** Where databases are. */
export interface Placements {
  /** Undefined if there is no such database. */
  find(name: string): Placement | undefined;
  /** In the order of their bytes. */
  names(): string[];
  /** Calls the listener, which must not throw, when the placement of a database changes, begins or ends. Returns what ends that. */
  onChange(listener: (name: string) => void): () => void;
}

/** Told of a database that this node made, or removed, wherever its parts are. Must not throw. */
export type MadeListener = (what: 'created' | 'deleted', name: string) => void;

export interface NewDatabase {
  /** Into how many shards it is divided. */
  readonly q: number;
  readonly copies: number;
  readonly hashRule: HashRule;
  /** JSON text of its first security object; empty for none. */
  readonly security: Uint8Array;
}

/** Makes and removes databases, wherever they are. */
export interface Directory extends Placements {
  /**
   * Makes a database, durable here when it resolves: with true if a majority of the members has it and every range is on a node, false if
   * that is still to come. Throws `INVALID_NAME`, `EXISTS` if a member that is reached has one of this name, and what the disk throws.
   */
  create(name: string, options: NewDatabase): Promise<boolean>;
  /** Removes a database, durable here when it resolves, with true if a majority of the members has that. Throws `INVALID_NAME`, `NOT_FOUND`. */
  remove(name: string): Promise<boolean>;
  close(): Promise<void>;
}
