/**
 * The switch that stops all jobs that split, merge or move shards. Each node that stops them has a record of its own, `splits/<identity>`, and
 * jobs are stopped while any of these says so. A start ends each of the stops that its node knows of. So a stop that was made on one side of
 * a cut stays in force though jobs were stopped and started again on the other; only a start that knew of it ends it.
 */
import { memberOf } from '../http/json-value.js';
import type { SharedRecords } from './shared-records.js';

export const SPLITS_PREFIX = 'splits/';

/** Why they are stopped; undefined if they are not. */
export function stopReason(records: SharedRecords): string | undefined {
  for (const key of records.keys(SPLITS_PREFIX)) {
    const reason = memberOf(records.get(key) ?? {}, 'stopped');
    if (typeof reason === 'string') return reason;
  }
  return undefined;
}

/** Stops them, on this node when it resolves. Resolves with the keys that changed, for `toMembers`. Throws what `change` throws. */
export async function stopSplits(
  records: SharedRecords,
  self: string,
  reason: string,
): Promise<string[]> {
  // A second stop counts too: against a start that knew the first one only.
  await records.change(SPLITS_PREFIX + self, () => ({ stopped: reason }));
  return [SPLITS_PREFIX + self];
}

/** Ends all stops that are known here. As `stopSplits`. */
export async function startSplits(records: SharedRecords): Promise<string[]> {
  const keys = records.keys(SPLITS_PREFIX);
  for (const key of keys) {
    await records.change(key, (value) =>
      memberOf(value ?? {}, 'stopped') === undefined ? undefined : { started: true },
    );
  }
  return keys;
}
