/** The ids of partitioned databases: `partition:id`. */
import { DivanError } from '../../engine/errors.js';
import { checkId } from '../../engine/shard/document.js';
import type { HashRule } from '../../engine/shard/hash.js';

const COLON = 0x3a;
const UNDERSCORE = 0x5f;

/**
 * Refuses an id that no document of a database with this rule may have. Design and local documents are in no partition. REQUIRES: `id`
 * passed `checkId`. Throws `INVALID_DOCUMENT`.
 */
export function checkPartition(id: Uint8Array, rule: HashRule): void {
  if (rule !== 'partition' || id[0] === UNDERSCORE) return;
  const colon = id.indexOf(COLON);
  if (colon === -1) {
    throw new DivanError('INVALID_DOCUMENT', 'Doc id must be of form partition:id');
  }
  if (colon === 0) throw new DivanError('INVALID_DOCUMENT', 'Partition must not be empty');
  checkId(id.subarray(colon + 1));
}
