/** `batch=ok`: a document is accepted now and written in the background; nobody waits until it is durable. */
import { isDivanError } from '../../engine/errors.js';
import type { Database } from '../databases/database.js';
import type { DocumentWrite } from '../databases/shard-writer.js';
import type { Exchange } from '../http/exchange.js';
import type { Query } from '../http/query.js';
import type { Services } from './services.js';

/** True if the query asks for it. */
export function isBatch(query: Query): boolean {
  return query.string('batch') === 'ok';
}

/** Queues a write and says that it was accepted. What becomes of it is only in the log, unless all goes well. */
export async function putLater(
  services: Services,
  exchange: Exchange,
  database: Database,
  write: DocumentWrite,
): Promise<void> {
  await database.putLater(write, (idBytes, error) => {
    const facts = { db: database.name, id: Buffer.from(idBytes).toString(), err: error };
    const isRefused = isDivanError(error, 'CONFLICT') || database.ended.aborted;
    if (isRefused) services.log.warn(facts, 'a write with batch=ok was refused');
    else services.log.error(facts, 'a write with batch=ok failed');
  });
  const id = Buffer.from(write.id).toString();
  exchange.reply(202, { ok: true, id });
}
