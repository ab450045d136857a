/** The history of a job, by CouchDB's rules (mem3_reshard_job.erl, `update_history`). */
import type { JobEvent } from './job.js';

export const EVENTS_MAX = 100;

/** A history with one more event; what only happened again gets its new time. */
export function withEvent(events: readonly JobEvent[], event: JobEvent): readonly JobEvent[] {
  const last = events.at(-1);
  const isAgain = last?.type === event.type && last.detail === event.detail;
  const before = isAgain ? events.slice(0, -1) : events;
  return [...before, event].slice(-EVENTS_MAX);
}
