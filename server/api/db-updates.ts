/** `_db_updates`: what happens to databases, once or as it happens. A feed of the changes of `_global_changes` with rows of its own. */
import { DivanError } from '../../engine/errors.js';
import { UpdateFilter } from '../databases/database-updates.js';
import { UPDATES_DATABASE } from '../databases/update-writer.js';
import type { Exchange } from '../http/exchange.js';
import type { Route } from '../http/router.js';
import { serveFeed } from './changes.js';
import { changesQuery } from './changes-query.js';
import type { Services } from './services.js';

export function dbUpdatesRoutes(services: Services): Route[] {
  return [
    {
      method: 'GET',
      path: '/_db_updates',
      access: 'server_admin',
      handle: (exchange) => serve(services, exchange),
    },
  ];
}

async function serve(services: Services, exchange: Exchange): Promise<void> {
  const { catalog, config } = services;
  const database = catalog.find(UPDATES_DATABASE);
  if (database === undefined) {
    throw new DivanError('NOT_FOUND', `Database does not exist: ${UPDATES_DATABASE}`);
  }
  const asked = await changesQuery(exchange, {
    waitMsMax: config.get('chttpd/changes_timeout'),
    idsMax: config.get('chttpd/max_all_docs_keys'),
  });
  const query = { ...asked, view: undefined, allLeaves: false, filter: new UpdateFilter() };
  await serveFeed(services, exchange, database, { ...query, rows: 'databases' });
}
