/** What a server is to others: its cluster and its setup, put together. */
import { firstSecurity } from './auth/first-security.js';
import type { NodeIdentity } from './auth/node-identity.js';
import { aloneCluster } from './cluster/alone.js';
import { type ClusterCredentials, openNodeIdentity } from './cluster/credentials.js';
import type { ClusterFactory, ClusterParts } from './cluster/parts.js';
import type { Config } from './config/config.js';
import type { Catalog } from './databases/catalog.js';
import { memberOf } from './http/json-value.js';
import type { NodeRecords } from './node-records.js';
import { advertisedUrl, type Binding, bindingInForce } from './setup/binding.js';
import { Setup, type SetupOptions } from './setup/setup.js';
import { type SetupHttp, UndiciSetupHttp } from './setup/setup-http.js';
import { SetupRecord } from './setup/setup-record.js';
import type { ServerWorld } from './world.js';

/** What a server is given of its cluster; without it it is alone. */
export interface ClusterOptions {
  readonly open: ClusterFactory;
  /** Requests to nodes that have no cookie yet; undefined for those over the network. */
  readonly http?: SetupHttp;
}

export interface NodeCluster {
  readonly record: SetupRecord;
  readonly credentials: ClusterCredentials;
  readonly cluster: ClusterParts;
  readonly http: SetupHttp;
}

/** Where a server is to listen. Throws `CORRUPT`. */
export function bindingOf(config: Config, records: NodeRecords): Binding {
  return bindingInForce(config, new SetupRecord(records).state.binding);
}

/** Throws `CORRUPT`, and what opening the records of the cluster throws. */
export async function openCluster(
  world: ServerWorld,
  base: Pick<SetupOptions, 'config' | 'log' | 'records'>,
  options: ClusterOptions | undefined,
): Promise<NodeCluster> {
  const { config, records } = base;
  const record = new SetupRecord(records);
  const { port } = bindingInForce(config, record.state.binding);
  const credentials: ClusterCredentials = {
    self: {
      name: config.get('node/name'),
      identity: await openNodeIdentity(world, records),
      url: advertisedUrl(config, port),
    },
    cookie: record.state.cookie,
    mayCall: () => true,
  };
  const cluster = await (options?.open ?? aloneCluster)({ world, ...base, credentials });
  // Who was removed still has the cookie.
  credentials.mayCall = (identity) => {
    const member = cluster.records.get(`member/${identity}`);
    return member === undefined || memberOf(member, 'state') !== 'left';
  };
  return { record, credentials, cluster, http: options?.http ?? new UndiciSetupHttp() };
}

/** The setup of a node whose parts are open. */
export function newSetup(
  node: NodeCluster,
  parts: Omit<SetupOptions, keyof NodeCluster | 'createDatabase' | 'databases'> & {
    readonly catalog: Catalog;
    readonly identity: NodeIdentity;
  },
): Setup {
  const { catalog, config } = parts;
  const createHere = async (name: string) => {
    const security = firstSecurity(name, config.get('couchdb/default_security'));
    const q = config.get('cluster/q');
    const copies = config.get('cluster/n');
    await catalog.create(name, { q, copies, hashRule: 'document', security });
  };
  return new Setup({
    ...parts,
    ...node,
    createDatabase: (name) => node.cluster.createDatabase?.(name) ?? createHere(name),
    databases: () => catalog.names(),
  });
}
