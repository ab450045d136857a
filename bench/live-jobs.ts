/** Jobs that split, merge and move the shards of a database, made over HTTP and followed to their end. */
import type { BenchServer } from './http-servers.js';
import type { Stretch } from './live-times.js';

/** How often a job is looked at: seldom while the load is measured, which that takes something from, and often when it may cut over. */
const LOOK_COPYING_MS = 200;
const LOOK_MS = 10;
/** A job that takes longer has failed. */
const JOB_MS = 600_000;
/** Writes that were held may be answered so long after the cutover. */
const MARGIN_MS = 50;

interface JobJson {
  readonly job_state: string;
  readonly split_state: string;
  readonly state_info: { readonly write_pause_ms?: number | null; readonly error?: string | null };
  readonly targets: readonly string[];
}

interface EventJson {
  readonly time: string;
  readonly detail: string | null;
}

/** A job that is completed. */
export interface DoneJob {
  readonly targets: readonly string[];
  readonly copying: Stretch;
  readonly catchingUp: Stretch;
  readonly cutover: Stretch;
  /** Undefined if the job was gone on too fast to be asked. */
  readonly pauseMs: number | undefined;
}

export class LiveJobs {
  readonly #server: BenchServer;
  readonly #database: string;
  #node = '';

  constructor(server: BenchServer, database: string) {
    this.#server = server;
    this.#database = database;
  }

  /** The name of the first shard that the database has when it was just made, and whose it is. */
  async firstShard(): Promise<string> {
    const path = `/${this.#database}`;
    const { shards } = await this.#get<{ shards: Record<string, string[]> }>(`${path}/_shards`);
    const info = await this.#get<{ instance_start_time: string }>(path);
    const [range = '', nodes] = Object.entries(shards).sort()[0] ?? [];
    this.#node = nodes?.[0] ?? '';
    return `shards/${range}/${this.#database}.${info.instance_start_time}`;
  }

  /** The node whose shards are split, merged and moved. */
  get node(): string {
    return this.#node;
  }

  split(shard: string, rate?: number): Promise<string> {
    return this.#post({ type: 'split', shard, ...(rate === undefined ? {} : { rate }) });
  }

  merge(shards: readonly string[]): Promise<string> {
    return this.#post({ type: 'merge', shards });
  }

  /** Moves a shard of this node to another one, whose the next jobs are. */
  async move(shard: string, target: string): Promise<string> {
    const id = await this.#post({ type: 'move', shard, target });
    this.#node = target;
    return id;
  }

  async phaseOf(id: string): Promise<string> {
    return (await this.#job(id)).split_state;
  }

  /** Follows a job to its end. Throws if it fails. */
  async finish(id: string): Promise<DoneJob> {
    let pauseMs: number | undefined;
    for (const end = performance.now() + JOB_MS; performance.now() < end; ) {
      const job = await this.#job(id);
      pauseMs = job.state_info.write_pause_ms ?? pauseMs;
      if (job.job_state === 'completed') return this.#done(id, job, pauseMs);
      if (job.job_state === 'failed') throw new Error(`a job failed: ${JSON.stringify(job)}`);
      const lookMs = job.split_state === 'initial_copy' ? LOOK_COPYING_MS : LOOK_MS;
      await new Promise((resolve) => setTimeout(resolve, lookMs));
    }
    throw new Error('a job takes too long');
  }

  async #done(id: string, { targets }: JobJson, pauseMs: number | undefined): Promise<DoneJob> {
    const { events } = await this.#get<{ events: EventJson[] }>(`/_shard_splits/jobs/${id}/events`);
    const at = (phase: string) => {
      const event = events.find(({ detail }) => detail === phase);
      if (event === undefined) throw new Error(`a job was never in ${phase}`);
      return Date.parse(event.time);
    };
    const phases = ['initial_copy', 'topoff1', 'update_shardmap', 'wait_source_close'];
    const [copy = 0, topOff = 0, map = 0, after = 0] = phases.map(at);
    return {
      targets,
      copying: { from: copy, to: topOff },
      catchingUp: { from: topOff, to: map },
      cutover: { from: map, to: after + MARGIN_MS },
      pauseMs,
    };
  }

  async #post(body: object): Promise<string> {
    const text = await this.#server.call('POST', '/_shard_splits/jobs', {
      node: this.#node,
      ...body,
    });
    const { id }: { id: string } = JSON.parse(text);
    return id;
  }

  #job(id: string): Promise<JobJson> {
    return this.#get<JobJson>(`/_shard_splits/jobs/${id}`);
  }

  async #get<T>(path: string): Promise<T> {
    return JSON.parse(await this.#server.call('GET', path));
  }
}
