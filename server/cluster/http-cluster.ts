/** The cluster of a server: calls over HTTP, and the records that every node keeps. */

import { PROTOCOL } from './call-signature.js';
import { ClusterRecords } from './cluster-records.js';
import { HttpPeerCalls } from './http-peer-calls.js';
import { Members } from './members.js';
import type { ClusterFactory } from './parts.js';
import { CallHandlers } from './peers.js';
import { Spread } from './spread.js';

/** `ca`: the authorities whose certificates are taken, in PEM; undefined for those that Node.js trusts. */
export function httpCluster(ca: string | undefined): ClusterFactory {
  return async ({ world: { host }, log, records: stored, credentials }) => {
    const records = await ClusterRecords.open(stored, credentials.self.identity);
    const members = new Members(credentials, records);
    credentials.mayCall = members.mayCall.bind(members);
    const handlers = new CallHandlers();
    const calls = new HttpPeerCalls({ host, credentials, ca });
    const onError = ({ name }: { readonly name: string }, err: unknown) =>
      log.debug({ err, node: name }, 'another node could not be told, or compared with');
    const spread = new Spread({ host, records, members, calls, handlers, onError });
    return {
      credentials,
      calls,
      handlers,
      members,
      records,
      protocol: PROTOCOL,
      trust: (identity) => members.trust(identity),
      yieldToOthers: () => records.yieldToOthers(),
      close: async () => {
        spread.close();
        await calls.close();
      },
    };
  };
}
