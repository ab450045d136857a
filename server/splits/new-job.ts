/** A job as it is made of its plan. */
import type { SplitJob } from './job.js';
import type { JobPlan, JobRequest } from './plan-job.js';

/** `time` in microseconds since 1970. */
export function newJob(
  { type, rate, verify, keepSource }: JobRequest,
  { map, sources, targets, to }: JobPlan,
  { id, node, time }: { readonly id: string; readonly node: string; readonly time: number },
): SplitJob {
  return {
    id,
    type,
    node,
    database: map.name,
    incarnation: map.incarnation,
    sources,
    targets,
    to,
    handover: undefined,
    rate,
    verify,
    keepSource,
    state: 'new',
    phase: 'new',
    reason: undefined,
    error: undefined,
    retries: 0,
    copied: undefined,
    writePauseMs: undefined,
    created: time,
    started: undefined,
    updated: time,
    events: [{ time, type: 'new', detail: undefined }],
  };
}
