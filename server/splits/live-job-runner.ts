/** Does the work of jobs on the shards that the server has open. */
import { DivanError } from '../../engine/errors.js';
import type { JobContext, JobRunner, SplitJob } from './job.js';

export class LiveJobRunner implements JobRunner {
  async run(context: JobContext): Promise<void> {
    throw new DivanError('FAILED', `the job ${context.job().id} can not be done yet`);
  }

  async discard(_job: SplitJob): Promise<void> {}

  setRate(_job: SplitJob, _rate: number | undefined): void {}
}
