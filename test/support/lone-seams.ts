/** The cluster of a node that there is no other one of: its records are as those of a server, and go nowhere. */
import { DivanError } from '../../engine/errors.js';
import { ClusterRecords, type StoredRecords } from '../../server/cluster/cluster-records.js';
import { Members } from '../../server/cluster/members.js';
import type { ClusterSeams } from '../../server/cluster/parts.js';
import { CallHandlers, type Node } from '../../server/cluster/peers.js';

const SELF: Node = {
  name: 'node1@test',
  identity: '1'.padStart(32, '0'),
  url: 'http://node1.test',
};

/** Throws what `ClusterRecords.open` throws. */
export async function loneSeams(stored: StoredRecords): Promise<ClusterSeams> {
  const records = await ClusterRecords.open(stored, SELF.identity);
  const unreachable = () => Promise.reject(new DivanError('UNREACHABLE', 'there is no other node'));
  return {
    records,
    membership: new Members({ self: SELF }, records),
    calls: { call: unreachable, open: unreachable },
    handlers: new CallHandlers(),
  };
}
