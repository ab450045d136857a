/**
 * A job that puts shards of a database in the place of others while it is used: a split, 1 to N, or a merge, N to 1; or that moves one to another
 * node. What is here is kept as a record of the node, and is all that a restart knows of the job.
 */
import type { ShardRange } from '../../engine/shard/hash.js';
import type { Seqs } from '../../engine/shard/state.js';

export const JOB_TYPES = ['split', 'merge', 'move'] as const;
export type JobType = (typeof JOB_TYPES)[number];

/** `new` also while it waits for its turn. */
export type JobState = 'new' | 'running' | 'stopped' | 'failed' | 'completed';

/**
 * The phases in their order, with CouchDB's names for what means the same there. Up to `topoff1` a job can be undone; in `update_shardmap`
 * the map is written, and from then on it only goes forward.
 */
export const PHASES = [
  'new',
  'initial_copy',
  'topoff1',
  'update_shardmap',
  'wait_source_close',
  'source_delete',
  'completed',
] as const;

export type Phase = (typeof PHASES)[number];

/** Something that happened to a job. */
export interface JobEvent {
  /** Microseconds since 1970. */
  readonly time: number;
  readonly type: JobState;
  /** The phase, or why. */
  readonly detail: string | undefined;
}

export interface JobTarget {
  readonly range: ShardRange;
  /** As in the shard map: under the data directory, with `/` and suffix. */
  readonly file: string;
}

/** The node that a shard is moved to. */
export interface JobDestination {
  readonly name: string;
  readonly identity: string;
}

/** What the other node was to take: once this is kept, only that node knows whether it did. */
export interface Handover {
  /** Unique to the run of the job that sent it. */
  readonly run: string;
  /** Of the file, which ends with a commit, and the checksum of its record. */
  readonly length: number;
  readonly crc: number;
}

export interface SplitJob {
  readonly id: string;
  readonly type: JobType;
  readonly node: string;
  readonly database: string;
  /** Of the database: one that was made anew under its name has another. */
  readonly incarnation: string;
  /** As in the shard map, in the order of their ranges. */
  readonly sources: readonly string[];
  readonly targets: readonly JobTarget[];
  /** Of a move. */
  readonly to: JobDestination | undefined;
  /** Of a move in `update_shardmap` and afterwards. */
  readonly handover: Handover | undefined;
  /** Bytes a second that are copied at most; undefined for the rate of the configuration. */
  readonly rate: number | undefined;
  readonly verify: boolean;
  readonly keepSource: boolean;
  readonly state: JobState;
  readonly phase: Phase;
  /** Why it is stopped or failed. */
  readonly reason: string | undefined;
  /** The last error, while it is tried again, and afterwards. */
  readonly error: string | undefined;
  /** How often the present phase was tried again. */
  readonly retries: number;
  /** What the targets hold of each source, once the first copy is complete. */
  readonly copied: readonly Seqs[] | undefined;
  /** How long writes waited for the cutover, in milliseconds; undefined before. */
  readonly writePauseMs: number | undefined;
  /** Microseconds since 1970. */
  readonly created: number;
  readonly started: number | undefined;
  readonly updated: number;
  /** The newest at the end; bounded. */
  readonly events: readonly JobEvent[];
}

/** How far a running job is; not kept. */
export interface JobReport {
  readonly docsDone: number;
  readonly docsTotal: number;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** 0 to 100. */
  readonly percent: number;
  /** Bytes a second, lately. */
  readonly bytesPerSecond: number;
  /** Bytes a second that it may copy at present; undefined where nothing is held back. */
  readonly throttle: number | undefined;
  /** Undefined if not known. */
  readonly etaSeconds: number | undefined;
  /** Changes that the targets lack. */
  readonly behind: number | undefined;
}

/** What a run of a job tells, and asks for, while it goes on. */
export interface JobContext {
  /** Aborted to stop the job; a run that is past `topoff1` finishes all the same. */
  readonly signal: AbortSignal;
  /** True if what was copied is to be kept when `signal` is aborted, for a later run to go on with. */
  readonly keepPartial: () => boolean;
  /** Keeps what changed; durable when it resolves. */
  readonly update: (
    changes: Partial<Pick<SplitJob, 'phase' | 'copied' | 'writePauseMs' | 'targets' | 'handover'>>,
  ) => Promise<void>;
  readonly report: (report: JobReport) => void;
  /** The job as it is kept now. */
  readonly job: () => SplitJob;
}

/** Does the work of jobs. */
export interface JobRunner {
  /** Called for each job at the start of the server, before anybody is served: a shard that may be elsewhere takes no writes. */
  hold?(job: SplitJob): void;
  /** Takes a job from the phase in which it is to its end. Rejects with what stopped it; a later run goes on. */
  run(context: JobContext): Promise<void>;
  /** Removes what a job that has not come to `update_shardmap` left on the disk. REQUIRES: it does not run. */
  discard(job: SplitJob): Promise<void>;
  /** Bytes a second that the job may copy, from now on; undefined for the rate of the configuration. */
  setRate(job: SplitJob, rate: number | undefined): void;
}
