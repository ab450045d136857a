/** What a server has of its cluster, as one object that it is given: how it calls other nodes, who they are, what all of them keep. */
import type { Logger } from 'pino';
import type { Config } from '../config/config.js';
import type { NodeRecords } from '../node-records.js';
import type { ServerWorld } from '../world.js';
import type { ClusterCredentials } from './credentials.js';
import type { CallHandlers, PeerCalls } from './peers.js';
import type { Membership, SharedRecords } from './shared-records.js';

/** What a cluster is built on. */
export interface ClusterBase {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly log: Logger;
  readonly records: NodeRecords;
  /** The setup changes them while the server runs. */
  readonly credentials: ClusterCredentials;
}

export interface ClusterParts {
  readonly credentials: ClusterCredentials;
  readonly calls: PeerCalls;
  readonly handlers: CallHandlers;
  readonly members: Membership;
  readonly records: SharedRecords;
  /** Of the calls between nodes. A neighbour is understood. */
  readonly protocol: number;
  /** Takes records from this node though it is no member yet: it handed over the cookie. */
  trust(identity: string): void;
  /** What this node made for itself loses against what the cluster has that it joins. Throws what writing throws. */
  yieldToOthers(): Promise<void>;
  close(): Promise<void>;
}

/** Throws what opening its records throws. */
export type ClusterFactory = (base: ClusterBase) => Promise<ClusterParts>;

/** What is built on a cluster needs of it. */
export interface ClusterSeams {
  readonly records: SharedRecords;
  readonly membership: Membership;
  readonly calls: PeerCalls;
  readonly handlers: CallHandlers;
}

export function seamsOf({ records, members, calls, handlers }: ClusterParts): ClusterSeams {
  return { records, membership: members, calls, handlers };
}
