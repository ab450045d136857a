/** `/{db}` and `/{db}/_bulk_docs`: writing documents without an id in the path, one or many. */
import { type DivanError, isDivanError } from '../../engine/errors.js';
import { DocumentScanner, isLocalId } from '../../engine/shard/document.js';
import type { EditOutcome } from '../../engine/shard/document-writer.js';
import { formatRev } from '../../engine/shard/revision.js';
import type { Database, DocumentWrite } from '../databases/database.js';
import { documentWrite, localWrite } from '../databases/document-write.js';
import { errorReply } from '../http/error-table.js';
import type { Exchange } from '../http/exchange.js';
import type { Route } from '../http/router.js';
import { readBulkBody } from './bulk-body.js';
import type { Services } from './services.js';

export function bulkDocumentRoutes(services: Services): Route[] {
  const bulk = new BulkDocuments(services);
  return [
    {
      method: 'POST',
      path: '/:db',
      access: 'database_member',
      handle: (exchange) => bulk.postOne(exchange),
    },
    {
      method: 'POST',
      path: '/:db/_bulk_docs',
      access: 'database_member',
      handle: (exchange) => bulk.postMany(exchange),
    },
  ];
}
