/** What is kept of jobs: their records. */
import { DivanError } from '../../engine/errors.js';
import type { NodeRecords } from '../node-records.js';
import type { SplitJob } from './job.js';
import { jobRecord, readJob } from './job-record.js';

export type JobRecords = Pick<NodeRecords, 'get' | 'keys' | 'set' | 'remove'>;

const PREFIX = 'shard-job/';

export class JobStore {
  readonly #records: JobRecords;

  constructor(records: JobRecords) {
    this.#records = records;
  }

  /** All jobs, in no particular order. Throws `CORRUPT`. */
  jobs(): SplitJob[] {
    return this.#records.keys(PREFIX).map((key) => {
      const job = readJob(this.#records.get(key));
      if (key === PREFIX + job.id) return job;
      throw new DivanError('CORRUPT', `the record ${key} holds the job ${job.id}`);
    });
  }

  /** Durable when it resolves, as what follows. */
  put(job: SplitJob): Promise<void> {
    return this.#records.set(PREFIX + job.id, jobRecord(job));
  }

  remove(id: string): Promise<void> {
    return this.#records.remove(PREFIX + id);
  }
}
