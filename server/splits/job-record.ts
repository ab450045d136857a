/** Jobs as records of the node. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { formatRange, parseRange } from '../../engine/shard/hash.js';
import type { Seqs } from '../../engine/shard/state.js';
import { RecordMembers } from '../databases/record-members.js';
import {
  type Handover,
  JOB_TYPES,
  type JobDestination,
  type JobEvent,
  type JobState,
  type JobTarget,
  PHASES,
  type SplitJob,
} from './job.js';

const WHAT = 'job';
const STATES: readonly JobState[] = ['new', 'running', 'stopped', 'failed', 'completed'];
const FILE = /^shards\/[0-9a-f]{8}-[0-9a-f]{8}\/[^/]+\.divan$/;

/** A job as it is stored. */
export function jobRecord(job: SplitJob): object {
  const targets = job.targets.map(({ range, file }) => ({ range: formatRange(range), file }));
  return { ...job, targets };
}

/** Reads a stored job. Throws `CORRUPT`. */
export function readJob(record: unknown): SplitJob {
  const value = new RecordMembers(record, WHAT);
  return {
    id: value.text('id'),
    type: value.oneOf('type', JOB_TYPES),
    node: value.text('node'),
    database: value.text('database'),
    incarnation: value.text('incarnation'),
    sources: value.list('sources').map(readFileName),
    targets: value.list('targets').map(readTarget),
    to: value.has('to') ? readDestination(value.member('to')) : undefined,
    handover: value.has('handover') ? readHandover(value.member('handover')) : undefined,
    rate: value.optionalWhole('rate'),
    verify: value.boolean('verify'),
    keepSource: value.boolean('keepSource'),
    state: value.oneOf('state', STATES),
    phase: value.oneOf('phase', PHASES),
    reason: value.optionalText('reason'),
    error: value.optionalText('error'),
    retries: value.whole('retries'),
    copied: value.has('copied') ? value.list('copied').map(readSeqs) : undefined,
    writePauseMs: value.optionalNumber('writePauseMs'),
    created: value.whole('created'),
    started: value.optionalWhole('started'),
    updated: value.whole('updated'),
    events: value.list('events').map(readEvent),
  };
}

function readTarget(record: unknown): JobTarget {
  const value = new RecordMembers(record, WHAT);
  try {
    return { range: parseRange(value.text('range')), file: readFileName(value.text('file')) };
  } catch (error) {
    if (!isDivanError(error, 'INVALID_RANGE')) throw error;
    throw new DivanError('CORRUPT', `a stored job has a bad range: ${error.message}`, {}, error);
  }
}

function readDestination(record: unknown): JobDestination {
  const value = new RecordMembers(record, WHAT);
  return { name: value.text('name'), identity: value.text('identity') };
}

function readHandover(record: unknown): Handover {
  const value = new RecordMembers(record, WHAT);
  return { run: value.text('run'), length: value.whole('length'), crc: value.whole('crc') };
}

function readFileName(value: unknown): string {
  if (typeof value === 'string' && FILE.test(value)) return value;
  throw new DivanError('CORRUPT', `a stored job names the file ${String(value)}`);
}

function readSeqs(record: unknown): Seqs {
  const value = new RecordMembers(record, WHAT);
  return {
    updateSeq: value.whole('updateSeq'),
    purgeSeq: value.whole('purgeSeq'),
    localSeq: value.whole('localSeq'),
  };
}

function readEvent(record: unknown): JobEvent {
  const value = new RecordMembers(record, WHAT);
  return {
    time: value.whole('time'),
    type: value.oneOf('type', STATES),
    detail: value.optionalText('detail'),
  };
}
