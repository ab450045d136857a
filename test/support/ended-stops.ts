/** Which stops of all jobs a start ends: those that its node knows of. */
import type { ClusterRecords } from '../../server/cluster/cluster-records.js';
import { memberOf } from '../../server/http/json-value.js';

/** Of the stops that are in force as far as a node knows. */
export function reasonsIn(records: Pick<ClusterRecords, 'get' | 'keys'>): string[] {
  return records
    .keys('splits/')
    .map((key) => memberOf(records.get(key) ?? {}, 'stopped'))
    .filter((reason) => typeof reason === 'string');
}

/** While a start goes on all stops that its node hears of may be ended. */
export async function whileEnding(
  records: ClusterRecords,
  model: { stopsEnded(reasons: readonly string[]): void },
  start: () => Promise<unknown>,
): Promise<void> {
  const tell = () => model.stopsEnded(reasonsIn(records));
  tell();
  const stop = records.onChange(tell);
  await start();
  stop();
}
