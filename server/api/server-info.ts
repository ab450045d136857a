/** `/`, `/_up`, `/_uuids`: what the server says of itself. */
import type { Exchange } from '../http/exchange.js';
import type { Route } from '../http/router.js';
import type { Services } from './services.js';

export function serverInfoRoutes(services: Services): Route[] {
  return [
    {
      method: 'GET',
      path: '/',
      access: 'reader',
      handle: (exchange) => welcome(services, exchange),
    },
    { method: 'GET', path: '/_up', access: 'anyone', handle: (exchange) => up(services, exchange) },
    {
      method: 'GET',
      path: '/_uuids',
      access: 'reader',
      handle: (exchange) => uuids(services, exchange),
    },
    {
      method: 'GET',
      path: '/favicon.ico',
      access: 'reader',
      handle: (exchange) => exchange.replyBytes(204, '', {}),
    },
  ];
}

function welcome({ identity, version }: Services, exchange: Exchange): void {
  exchange.reply(200, {
    couchdb: 'Welcome',
    version: COUCHDB_VERSION,
    uuid: identity.uuid,
    features: FEATURES,
    vendor: { name: 'Divan', version },
  });
}

/** Clients decide by it what they may ask for. */
const COUCHDB_VERSION = '3.5.0';
const FEATURES = ['partitioned', 'reshard'];

function up({ config, stopping, cluster: { members } }: Services, exchange: Exchange): void {
  const mode = config.get('couchdb/maintenance_mode');
  if (stopping.aborted) exchange.reply(503, { status: 'stopping' });
  else if (members.hasLeft(members.self.identity)) exchange.reply(404, { status: 'removed' });
  else if (mode !== 'false') {
    exchange.reply(404, { status: mode === 'true' ? 'maintenance_mode' : mode });
  } else exchange.reply(200, { status: 'ok', seeds: {} });
}

function uuids({ config, uuids }: Services, exchange: Exchange): void {
  const max = config.get('uuids/max_count');
  const count = exchange.query.integer('count', { min: 0, max }) ?? 1;
  exchange.reply(
    200,
    { uuids: Array.from({ length: count }, () => uuids.next()) },
    { 'Cache-Control': 'no-store', Pragma: 'no-cache' },
  );
}
