/**
 * What a node does with its own jobs when it is asked by its name: by another node, in a call `jobs/<name>`, or by itself. What is passed is
 * JSON, so that both are the same.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { CallHandlers } from '../cluster/peers.js';
import type { Catalog } from '../databases/catalog.js';
import { namesOfShardFile } from '../databases/shard-map.js';
import {
  type JsonObject,
  type JsonValue,
  memberOf,
  objectOf,
  optionalArray,
  requiredString,
  requiredStrings,
} from '../http/json-value.js';
import { eventsJson, reshardJobJson, splitJobJson } from './job-json.js';
import type { JobManager } from './job-manager.js';
import { parseJobRate, parseJobRequest, planJson } from './job-request.js';
import type { JobStatus } from './job-status.js';

/** In which of the APIs a job is to be shown; `state`: its state alone. */
export const JOB_FORMS = ['splits', 'reshard', 'state'] as const;
export type JobForm = (typeof JOB_FORMS)[number];

export const JOB_OPERATIONS = [
  'summary',
  'keys',
  'read',
  'events',
  'shards',
  'plan',
  'create',
  'stop',
  'resume',
  'rate',
  'remove',
  'obeyed',
] as const;
export type JobOperation = (typeof JOB_OPERATIONS)[number];

/** One answer has so many keys of jobs at most, or jobs of about so many bytes. */
const KEYS_MAX = 5000;
const BYTES_MAX = 384 * 1024;
/** Jobs that are asked for at once. */
export const READ_MAX = 500;

type Operation = (head: JsonObject) => JsonObject | Promise<JsonObject>;

export class OwnJobs {
  readonly jobs: JobManager;
  readonly #catalog: Catalog;
  readonly #operations: Readonly<Record<JobOperation, Operation>> = {
    summary: () => this.#summary(),
    keys: (head) => this.#keys(head),
    read: (head) => this.#read(head),
    events: (head) => ({ events: eventsJson(this.#status(head).job) }),
    shards: (head) => this.#shards(requiredString(head, 'database')),
    plan: (head) => this.#plan(bodyOf(head)),
    create: (head) => this.#create(head),
    stop: (head) => done(this.jobs.stopJob(idOf(head), requiredString(head, 'reason'))),
    resume: (head) => done(this.jobs.resumeJob(idOf(head))),
    rate: (head) => {
      const rate = parseJobRate(memberOf(head, 'rate') ?? undefined);
      return done(this.jobs.setRate(idOf(head), rate));
    },
    remove: (head) => done(this.jobs.remove(idOf(head))),
    obeyed: () => done(this.jobs.obeyed()),
  };

  constructor(jobs: JobManager, catalog: Catalog) {
    this.jobs = jobs;
    this.#catalog = catalog;
  }

  /** Has other nodes ask. */
  answer(handlers: CallHandlers): void {
    for (const name of JOB_OPERATIONS) {
      handlers.on(`jobs/${name}`, async ({ head }) => this.do(name, head));
    }
  }

  /** Throws what the operation throws, and `BAD_REQUEST` for a head that is not its own. */
  async do(name: JobOperation, head: JsonObject): Promise<JsonObject> {
    return this.#operations[name](head);
  }

  #summary(): JsonObject {
    const all = this.jobs.list();
    const counts = new Map<string, number>();
    for (const { state } of all) counts.set(state, (counts.get(state) ?? 0) + 1);
    return {
      total: all.length,
      working: all.filter(({ isWorking }) => isWorking).length,
      counts: Object.fromEntries(counts),
      stopped: this.jobs.stopReason ?? null,
    };
  }

  /** When each job was made and its id, in that order, from after one on. */
  #keys(head: JsonObject): JsonObject {
    const [created, id] = optionalArray(head, 'after', 2) ?? [];
    const rest = this.jobs
      .list()
      .map(({ job }) => job)
      .filter(
        (job) =>
          typeof created !== 'number' ||
          job.created > created ||
          (job.created === created && job.id > String(id)),
      );
    const keys = rest.slice(0, KEYS_MAX).map((job): JsonValue => [job.created, job.id]);
    return { keys, more: rest.length > KEYS_MAX };
  }

  /** As many of the jobs that are asked for as there is room for, at least one; those that are not there any more are null. */
  #read(head: JsonObject): JsonObject {
    const form = formOf(head);
    const jobs: JsonValue[] = [];
    let bytes = 0;
    for (const id of requiredStrings(head, 'ids', READ_MAX)) {
      const json = this.#find(id, form);
      bytes += JSON.stringify(json).length;
      if (jobs.length > 0 && bytes > BYTES_MAX) break;
      jobs.push(json);
    }
    return { jobs };
  }

  #find(id: string, form: JobForm): JsonValue {
    try {
      return shown(this.jobs.get(id), form);
    } catch (error) {
      if (isDivanError(error, 'NOT_FOUND')) return null;
      throw error;
    }
  }

  #status(head: JsonObject): JobStatus {
    return this.jobs.get(idOf(head));
  }

  /** The shards of a database that are here. */
  #shards(database: string): JsonObject {
    const shards = this.#catalog.find(database)?.map.shards;
    return { shards: shards?.map(({ file }) => namesOfShardFile(file).shard) ?? null };
  }

  async #plan(body: JsonObject): Promise<JsonObject> {
    const request = parseJobRequest(body);
    return planJson(request, await this.jobs.plan(request));
  }

  async #create(head: JsonObject): Promise<JsonObject> {
    const request = parseJobRequest(bodyOf(head));
    const whileStopped = memberOf(head, 'whileStopped') === true;
    const { id } = await this.jobs.create(request, { whileStopped });
    return { id };
  }
}

function shown(status: JobStatus, form: JobForm): JsonObject {
  if (form === 'splits') return splitJobJson(status);
  if (form === 'reshard') return reshardJobJson(status);
  return { state: status.state, reason: status.reason ?? null };
}

function formOf(head: JsonObject): JobForm {
  const form = JOB_FORMS.find((name) => name === memberOf(head, 'form'));
  if (form !== undefined) return form;
  throw new DivanError('BAD_REQUEST', 'there is no such form of a job');
}

function idOf(head: JsonObject): string {
  return requiredString(head, 'id');
}

function bodyOf(head: JsonObject): JsonObject {
  return objectOf(memberOf(head, 'body') ?? null, '`body`');
}

async function done(work: Promise<void>): Promise<JsonObject> {
  await work;
  return { ok: true };
}
