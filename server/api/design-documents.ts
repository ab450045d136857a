/** Design documents: what is in them concerns all who use the database, so members read them and its admins write them, as in CouchDB. */
import { DivanError } from '../../engine/errors.js';
import type { Exchange } from '../http/exchange.js';

const DESIGN_PREFIX = Buffer.from('_design/');

/**
 * Refuses the write of a design document by somebody who is no admin of the database. The routes of `_design/` say so themselves; this is
 * for ids that come otherwise: encoded, in a body, as a destination. `id` in UTF-8. Throws `UNAUTHORIZED`.
 */
export function assertMayWrite(exchange: Exchange, id: Uint8Array): void {
  if (exchange.isDatabaseAdmin || !DESIGN_PREFIX.equals(id.subarray(0, DESIGN_PREFIX.length))) {
    return;
  }
  throw new DivanError('UNAUTHORIZED', 'You are not a db or server admin.');
}
