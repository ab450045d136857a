/** Runs the power losses of jobs against copies of the program, edited or not. */
import { type Edit, runEdited } from './edited-copy.js';
import { JOB_STEPS } from './job-bugs.js';
import type { JobPowerLossOptions, JobPowerLossResult } from './job-power-loss.js';

export function simulateJobs(
  edits: readonly Edit[],
  options: JobPowerLossOptions,
): Promise<JobPowerLossResult> {
  const all = [...JOB_STEPS, ...edits];
  return runEdited(all, 'job-power-loss.js', 'runJobPowerLoss', options);
}
