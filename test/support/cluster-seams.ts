/** What a server has of its cluster, from the seams that a test brings. */
import { PROTOCOL } from '../../server/cluster/call-signature.js';
import type { ClusterSeams } from '../../server/cluster/parts.js';
import type { ClusterOptions } from '../../server/node-cluster.js';

export function clusterOf({ records, membership, calls, handlers }: ClusterSeams): ClusterOptions {
  return {
    open: async ({ credentials }) => {
      credentials.self = membership.self;
      return {
        ...{ credentials, calls, handlers, members: membership, records },
        protocol: PROTOCOL,
        trust: () => undefined,
        yieldToOthers: async () => undefined,
        close: async () => undefined,
      };
    },
  };
}
