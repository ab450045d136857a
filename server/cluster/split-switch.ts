/**
 * The switch that stops all jobs that split, merge or move shards. Each node that stops them has a record of its own, `splits/<identity>`, and
 * jobs are stopped while any of these says so. A start ends each of the stops that its node knows of when it is asked for. So a stop that was
 * made on one side of a cut stays in force though jobs were stopped and started again on the other; only a start that knew of it ends it.
 */
import { type JsonObject, memberOf } from '../http/json-value.js';
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
  // Each stop has a number, so that a start that knew only the one before, with the same reason perhaps, does not end it.
  await records.change(SPLITS_PREFIX + self, (value) => ({
    stopped: reason,
    number: numberOf(value) + 1,
  }));
  return [SPLITS_PREFIX + self];
}

/** Ends all stops that are known here when it is called, and none that comes meanwhile. As `stopSplits`. */
export async function startSplits(records: SharedRecords): Promise<string[]> {
  const known = new Map(
    records.keys(SPLITS_PREFIX).map((key) => [key, numberOf(records.get(key))]),
  );
  for (const [key, number] of known) {
    await records.change(key, (value) => {
      const isStop = memberOf(value ?? {}, 'stopped') !== undefined;
      return isStop && numberOf(value) === number ? { started: true, number } : undefined;
    });
  }
  return [...known.keys()];
}

/** How many stops the node of a record has made. */
function numberOf(value: JsonObject | undefined): number {
  const number = memberOf(value ?? {}, 'number');
  return typeof number === 'number' ? number : 0;
}
