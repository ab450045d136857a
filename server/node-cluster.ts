/** What a server is to others: its cluster and its setup, put together. */
import { firstSecurity } from './auth/first-security.js';
import type { NodeIdentity } from './auth/node-identity.js';
import { CallServer } from './cluster/call-server.js';
import { type ClusterCredentials, openNodeIdentity } from './cluster/credentials.js';
import { httpCluster } from './cluster/http-cluster.js';
import type { ClusterFactory, ClusterParts } from './cluster/parts.js';
import type { Config } from './config/config.js';
import type { Catalog } from './databases/catalog.js';
import { ClusterDirectory } from './databases/directory.js';
import type { Directory, MadeListener } from './databases/placement.js';
import { UpdateWriter } from './databases/update-writer.js';
import type { NodeRecords } from './node-records.js';
import { advertisedUrl, type Binding, bindingInForce } from './setup/binding.js';
import { Setup, type SetupOptions } from './setup/setup.js';
import { type SetupHttp, UndiciSetupHttp } from './setup/setup-http.js';
import { SetupRecord } from './setup/setup-record.js';
import { readAuthorities } from './tls-files.js';
import type { Uuids } from './uuids.js';
import type { ServerWorld } from './world.js';

/** How a server reaches other nodes; without it over the network. */
export interface ClusterOptions {
  readonly open?: ClusterFactory;
  /** Requests to nodes that have no cookie yet. */
  readonly http?: SetupHttp;
}

export interface NodeCluster {
  readonly record: SetupRecord;
  readonly credentials: ClusterCredentials;
  readonly cluster: ClusterParts;
  readonly callServer: CallServer;
  readonly http: SetupHttp;
}

type Base = Pick<SetupOptions, 'config' | 'log' | 'records'> & {
  readonly world: ServerWorld;
  readonly uuids: Uuids;
};

/** Where a server is to listen. Throws `CORRUPT`. */
export function bindingOf(config: Config, records: NodeRecords): Binding {
  return bindingInForce(config, new SetupRecord(records).state.binding);
}

/** Throws `CORRUPT`, `INVALID_SETTING` for authorities that are none, and what opening the records of the cluster throws. */
export async function openCluster(
  { uuids, ...base }: Base,
  options: ClusterOptions = {},
): Promise<NodeCluster> {
  const { world, config, log, records } = base;
  const ca = await readAuthorities(world.storage, config);
  const { open = httpCluster(ca), http = new UndiciSetupHttp(ca) } = options;
  const { host } = world;
  const record = new SetupRecord(records);
  const { port } = bindingInForce(config, record.state.binding);
  const credentials: ClusterCredentials = {
    self: {
      name: config.get('node/name'),
      identity: await openNodeIdentity(world, records),
      url: advertisedUrl(config, port),
    },
    cookie: record.state.cookie,
    // Until it is known who the members are.
    mayCall: () => false,
  };
  const cluster = await open({ ...base, credentials });
  const { handlers } = cluster;
  const onError = (call: string, err: unknown) => {
    const ref = uuids.next();
    log.error({ ref, err, call }, 'a call of another node failed');
    return ref;
  };
  const callServer = new CallServer({ host, credentials, handlers, onError });
  return { record, credentials, cluster, callServer, http };
}

/** Which databases there are, and where. The directory is to be closed before the shards are. Throws what the disk throws. */
export function openDirectory(
  { log, world }: Pick<Base, 'log' | 'world'>,
  { cluster }: NodeCluster,
  { catalog, onMade }: { readonly catalog: Catalog; readonly onMade: MadeListener },
): Promise<Directory> {
  const onError = (name: string, err: unknown) =>
    log.warn(
      { err, name },
      'a database is not yet what the cluster says it is; this is tried again',
    );
  const { records, members: membership, calls, handlers } = cluster;
  return ClusterDirectory.open(
    { world, catalog, records, membership, calls, onError, onMade },
    handlers,
  );
}

/** Writes what happens to databases, wherever the documents are. */
export function newUpdateWriter(
  { world: { host }, log }: Pick<Base, 'log' | 'world'>,
  { cluster: { calls, handlers }, credentials }: NodeCluster,
  { catalog, directory }: { readonly catalog: Catalog; readonly directory: Directory },
): UpdateWriter {
  const self = () => credentials.self;
  const peers = { calls, handlers };
  return new UpdateWriter({ host, log, catalog, placements: directory, self, peers });
}

/** The setup of a node whose parts are open. */
export function newSetup(
  node: NodeCluster,
  parts: Omit<SetupOptions, keyof NodeCluster | 'createDatabase' | 'databases' | 'heldBy'> & {
    readonly directory: Directory;
    readonly identity: NodeIdentity;
  },
): Setup {
  const { directory, config } = parts;
  return new Setup({
    ...parts,
    ...node,
    createDatabase: async (name) => {
      const security = firstSecurity(name, config.get('couchdb/default_security'));
      const q = config.get('cluster/q');
      const copies = config.get('cluster/n');
      await directory.create(name, { q, copies, hashRule: 'document', security });
    },
    databases: () => directory.names(),
    heldBy: (identity) => heldBy(directory, identity),
  });
}

/** The shards of a member, as many of each database as it has. */
function heldBy(directory: Directory, identity: string): string[] {
  return directory.names().flatMap((name) => {
    const parts = directory.find(name)?.parts ?? [];
    const shards = parts.flatMap((part) => (part.node.identity === identity ? part.shards : []));
    return shards.length === 0 ? [] : [`${shards.length} shards of ${name}`];
  });
}
