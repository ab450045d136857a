/** What is kept of jobs: their records, and the switch that stops them all. */
import { DivanError } from '../../engine/errors.js';
import { RecordMembers } from '../databases/record-members.js';
import type { NodeRecords } from '../node-records.js';
import type { SplitJob } from './job.js';
import { jobRecord, readJob } from './job-record.js';

export type JobRecords = Pick<NodeRecords, 'get' | 'keys' | 'set' | 'remove'>;

const PREFIX = 'shard-job/';
const SWITCH_KEY = 'shard-jobs-stopped';

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

  /** Why all jobs are stopped; undefined while they are not. Throws `CORRUPT`. */
  stopReason(): string | undefined {
    const record = this.#records.get(SWITCH_KEY);
    return record === undefined ? undefined : new RecordMembers(record, 'switch').text('reason');
  }

  /** Durable when it resolves, as what follows. */
  put(job: SplitJob): Promise<void> {
    return this.#records.set(PREFIX + job.id, jobRecord(job));
  }

  remove(id: string): Promise<void> {
    return this.#records.remove(PREFIX + id);
  }

  setStopReason(reason: string | undefined): Promise<void> {
    return reason === undefined
      ? this.#records.remove(SWITCH_KEY)
      : this.#records.set(SWITCH_KEY, { reason });
  }
}
