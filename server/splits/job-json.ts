/** Jobs as the two APIs show them. `server/splits/README.md` says what each member means. */

import { namesOfShardFile } from '../databases/shard-map.js';
import type { JsonObject, JsonValue } from '../http/json-value.js';
import type { SplitJob } from '../splits/job.js';
import type { JobStatus } from '../splits/job-status.js';
import { formatMicroseconds, formatSeconds } from '../splits/timestamp.js';

const MICROSECONDS = 1_000_000;
/** How CouchDB says that a job was never begun. */
const NEVER = 0;

/** As `/_shard_splits` shows it. */
export function splitJobJson({ job, state, reason, report }: JobStatus): JsonObject {
  return {
    id: job.id,
    ...typeMembers(job),
    job_state: state,
    node: job.node,
    ...sourceMember(job),
    split_state: job.phase,
    state_info: state === 'completed' ? {} : stateInfo({ job, reason, report }),
    targets: targetsOf(job),
    time_created: formatMicroseconds(job.created),
    time_started: job.started === undefined ? null : formatMicroseconds(job.started),
    time_updated: formatMicroseconds(job.updated),
  };
}

/** As `/_reshard` shows it. */
export function reshardJobJson({ job, state, reason }: JobStatus): JsonObject {
  const { error } = job;
  return {
    id: job.id,
    type: job.type,
    ...sourceMember(job),
    ...(job.type === 'merge' ? { sources: sourcesOf(job) } : {}),
    ...destinationMember(job),
    target: targetsOf(job),
    job_state: state,
    split_state: job.phase,
    state_info: {
      ...(reason === undefined ? {} : { reason }),
      ...(error === undefined ? {} : { error }),
    },
    node: job.node,
    start_time: secondsText(job.started ?? NEVER),
    update_time: secondsText(job.updated),
    history: job.events.map(({ time, type, detail }) => ({
      timestamp: secondsText(time),
      type,
      detail: detail ?? null,
    })),
  };
}

/** The history of a job, as `/_shard_splits` shows it. */
export function eventsJson(job: SplitJob): JsonValue[] {
  return job.events.map(({ time, type, detail }) => ({
    time: formatMicroseconds(time),
    type,
    detail: detail ?? null,
  }));
}

function stateInfo({
  job,
  reason,
  report,
}: Pick<JobStatus, 'job' | 'reason' | 'report'>): JsonObject {
  return {
    documents_done: report?.docsDone ?? null,
    documents_total: report?.docsTotal ?? null,
    bytes_done: report?.bytesDone ?? null,
    bytes_total: report?.bytesTotal ?? null,
    percent: report?.percent ?? null,
    bytes_per_second: report?.bytesPerSecond ?? null,
    eta_seconds: report?.etaSeconds ?? null,
    changes_behind: report?.behind ?? null,
    rate_limit: job.rate ?? null,
    throttle: report?.throttle ?? null,
    retries: job.retries,
    write_pause_ms: job.writePauseMs ?? null,
    error: job.error ?? null,
    reason: reason ?? null,
  };
}

/** The proposal knows splits only, whose members are as it shows them. */
function typeMembers(job: SplitJob): JsonObject {
  if (job.type === 'split') return {};
  if (job.type === 'merge') return { type: 'merge', sources: sourcesOf(job) };
  return { type: 'move', ...destinationMember(job) };
}

function destinationMember({ to }: SplitJob): JsonObject {
  return to === undefined ? {} : { target_node: to.name };
}

function sourceMember(job: SplitJob): JsonObject {
  return job.type === 'merge' ? {} : { source: sourcesOf(job)[0] ?? '' };
}

function sourcesOf({ sources }: SplitJob): string[] {
  return sources.map((file) => namesOfShardFile(file).shard);
}

function targetsOf({ targets }: SplitJob): string[] {
  return targets.map(({ file }) => namesOfShardFile(file).shard);
}

function secondsText(microseconds: number): string {
  return formatSeconds(Math.floor(microseconds / MICROSECONDS));
}
