/** What the phases of a job mean for what can be done with it. */
import { PHASES, type Phase } from './job.js';

const FORWARD_FROM = PHASES.indexOf('update_shardmap');

/** True once the map may have been written: from then on the job can only be finished. */
export function isForward(phase: Phase): boolean {
  return PHASES.indexOf(phase) >= FORWARD_FROM;
}
