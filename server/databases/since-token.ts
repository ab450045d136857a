/** temporary */
import type { Snapshot } from '../../engine/shard/snapshot.js';
export function updateSeqOf(snapshots: readonly Snapshot[]): string {
  return String(snapshots.reduce((sum, { counters }) => sum + counters.updateSeq, 0));
}
