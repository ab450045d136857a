/** With what a node calls others and is called: who it is, and the secret of the cluster. */
import { DivanError } from '../../engine/errors.js';
import type { NodeRecords } from '../node-records.js';
import type { ServerWorld } from '../world.js';
import type { CallAccess, Node } from './peers.js';

/** The setup changes these while the server runs; whoever uses them reads them anew for each call. */
export interface ClusterCredentials {
  self: Node;
  /** Undefined as long as there is none: no call is made then, and each that comes is refused. */
  cookie: string | undefined;
  /** Whether the node of this identity, which has the cookie, may make a call of that access: one that was removed makes none. */
  mayCall: (identity: string, access: CallAccess) => boolean;
}

/** Of the records of a node. */
const RECORD = 'identity';
const IDENTITY_BYTES = 16;

/**
 * The random identity of this node, made at its first start and durable when it resolves. Unlike the uuid of the server, which all nodes of a
 * cluster share, it is of this node alone. Throws `CORRUPT` for one that is malformed: under another one the node would be a stranger to its
 * own cluster; and what writing a record throws.
 */
export async function openNodeIdentity(
  { host }: Pick<ServerWorld, 'host'>,
  records: Pick<NodeRecords, 'get' | 'set'>,
): Promise<string> {
  const record = records.get(RECORD);
  if (record === undefined) {
    const identity = Buffer.from(host.randomBytes(IDENTITY_BYTES)).toString('hex');
    await records.set(RECORD, { identity });
    return identity;
  }
  const identity = new Map<string, unknown>(Object.entries(record ?? {})).get('identity');
  if (typeof identity === 'string' && /^[0-9a-f]{32}$/.test(identity)) return identity;
  throw new DivanError('CORRUPT', 'the record of what this node is to others is malformed');
}

/** True for a URL over which a secret would travel so that others can read it: neither https nor this very machine. */
export function isInTheClear(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  if (protocol === 'https:') return false;
  const isLoopback =
    hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);
  return !isLoopback;
}
