/** What is told of a job: its record, and what the state of the node makes of it. */
import type { JobReport, JobState, SplitJob } from './job.js';
import type { ManagedJob } from './managed-job.js';

export interface JobStatus {
  readonly job: SplitJob;
  /** A job that waits is `new`; one that would run if the switch did not stop it is `stopped`. */
  readonly state: JobState;
  readonly reason: string | undefined;
  /** It does something at this very moment: it neither waits for its turn nor to be tried again. */
  readonly isWorking: boolean;
  /** Of the last run, if there was one since the start of the server. */
  readonly report: JobReport | undefined;
}

/** `stopReason` is that of the switch, undefined while it does not stop anything. */
export function statusOf(managed: ManagedJob, stopReason: string | undefined): JobStatus {
  const { job, run, report, cancelRetry } = managed;
  const isWorking = run !== undefined && managed.isUnfinished;
  const rest = { job, isWorking, report };
  if (isWorking || !managed.wantsToRun || managed.isForward) {
    return { ...rest, state: isWorking ? 'running' : job.state, reason: job.reason };
  }
  if (stopReason !== undefined) return { ...rest, state: 'stopped', reason: stopReason };
  return { ...rest, state: cancelRetry === undefined ? 'new' : 'running', reason: job.reason };
}
