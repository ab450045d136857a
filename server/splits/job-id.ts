/** The id of a job, by CouchDB's formula (mem3_reshard.erl, `job_id`). */
import { createHash } from 'node:crypto';

const PREFIX = '001-';

/**
 * The id of a job of shards of a node: of the names of the shards and of the node. When a job has that id already, a number is added to
 * them, so that a shard can have another job after one that failed.
 */
export function jobIdOf(
  shards: readonly string[],
  node: string,
  isTaken: (id: string) => boolean,
): string {
  const input = [...shards, node].join('');
  for (let count = 0; ; count++) {
    const hash = createHash('sha256').update(count === 0 ? input : `${input}${count}`);
    const id = PREFIX + hash.digest('hex');
    if (!isTaken(id)) return id;
  }
}
