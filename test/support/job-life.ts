/**
 * A life of a database whose shard is split and whose shards are merged again while it is written, on a disk that can lose power; with a
 * process that is killed on the way, or a job that is stopped, removed, or loses its database.
 */
import { isDivanError } from '../../engine/errors.js';
import type { Database } from '../../server/databases/database.js';
import { namesOfShardFile } from '../../server/databases/shard-map.js';
import type { JobRequest } from '../../server/splits/plan-job.js';
import { JobNode } from './job-node.js';
import { JobWriter } from './job-writer.js';
import { makeWhole } from './kept-parts.js';
import { setTurns } from './rewrite-workload.js';
import { randomInt, seededRandom } from './seed.js';
import { CrashError, SimulatedDisk } from './simulated-disk.js';
import { VersionLog } from './version-log.js';

/** What happens while a job goes on. */
export const SCENARIOS = ['undisturbed', 'killed', 'stopped', 'removed', 'deleted'] as const;
export type Scenario = (typeof SCENARIOS)[number];

export const NAME = 'db';
/** Of each writer, before the first job; and while one goes on, for at most so many writes. */
const WRITES_BEFORE = 14;
const WRITES_MEANWHILE_MAX = 25;
/** A writer waits for so many turns of the event loop before it writes again, at most. */
const GAP_TURNS_MAX = 40;
/** Something is done after so many operations of a job, at most. */
const SOON_OPS = 220;

export class JobLife {
  readonly disk = new SimulatedDisk();
  readonly log = new VersionLog(() => this.disk.ops.length);
  /** States of the disk before this point are not of interest. */
  begun = 0;
  /** The phase in which the job was, and its type, at each point of the log. */
  readonly phases: string[] = [];
  readonly scenario: Scenario;
  readonly #seed: number;
  readonly #random: () => number;
  readonly #markers = { next: 0 };
  #node: JobNode | undefined;

  constructor(scenario: Scenario, seed: number) {
    this.scenario = scenario;
    this.#seed = seed;
    this.#random = seededRandom(seed);
  }

  async perform(): Promise<void> {
    await this.#start();
    await this.log.write('database', NAME, () => makeWhole(this.#running, NAME, { q: 1 }));
    const writers = ['a', 'b'].map((name) => this.#writer(name));
    await this.#untilKilled(async () => {
      // A job that was stopped finds then that it lacks purges which nobody can tell it of.
      if (this.scenario === 'stopped')
        await this.#database?.settings.change({ purgeInfosLimit: 1 });
      await writeAll(writers, WRITES_BEFORE);
    });
    this.begun = this.disk.ops.length;
    this.#watch();
    for (const type of ['split', 'merge'] as const) {
      if (this.#database === undefined || !this.#canDo(type)) break;
      await this.#job(type, writers);
    }
    this.disk.haltAfter = Number.POSITIVE_INFINITY;
    await this.#running.close();
  }

  get #running(): JobNode {
    if (this.#node === undefined) throw new Error('nothing runs');
    return this.#node;
  }

  get #database(): Database | undefined {
    return this.#running.catalog.find(NAME);
  }

  async #start(): Promise<void> {
    this.#node = await JobNode.start(this.disk, this.#seed + this.disk.ops.length);
  }

  #writer(name: string): JobWriter {
    const { log } = this;
    const parts = { log, random: this.#random, markers: this.#markers };
    return new JobWriter(name, () => this.#running.catalog.get(NAME), parts);
  }

  #watch(): void {
    setTurns(this.disk, this.#random);
    const slow = this.disk.hook;
    this.disk.hook = (index, kind, path) => {
      slow?.(index, kind, path);
      const job = this.#node?.jobs.list().at(-1)?.job;
      this.phases[index] = job === undefined ? 'none' : `${job.type} ${job.phase}`;
    };
  }

  #canDo(type: 'split' | 'merge'): boolean {
    const shards = this.#database?.shards.length;
    return type === 'split' ? shards === 1 : shards === 2;
  }

  async #job(type: 'split' | 'merge', writers: readonly JobWriter[]): Promise<void> {
    if (this.scenario === 'killed') {
      this.disk.haltAfter = this.disk.ops.length + 1 + randomInt(this.#random, SOON_OPS);
    }
    let id: string | undefined;
    await this.#untilKilled(async () => {
      id = await this.#create(type);
      await Promise.all([this.#disturb(id), ...writers.map((writer) => this.#goOnWriting(writer))]);
    });
    await this.#untilKilled(async () => {
      if (!(await this.#running.idle())) throw new Error(`the ${type} does not come to its end`);
    });
  }

  #create(type: 'split' | 'merge'): Promise<string> {
    const files = this.#database?.map.shards.map(({ file }) => file) ?? [];
    const shards = files.map((file) => namesOfShardFile(file).shard);
    const rest = { rate: undefined, verify: true, keepSource: false };
    const request: JobRequest = { type, shards, into: 2, ...rest };
    return this.log.write(type, 'there', async () => {
      const { id } = await this.#running.jobs.create(request, { whileStopped: false });
      return id;
    });
  }

  /** Deletion of the database ends the writing. */
  async #goOnWriting(writer: JobWriter): Promise<void> {
    const { jobs, host } = this.#running;
    try {
      for (let write = 0; write < WRITES_MEANWHILE_MAX && jobs.load.working > 0; write++) {
        await writer.write();
        const turns = randomInt(this.#random, GAP_TURNS_MAX);
        for (let turn = 0; turn < turns; turn++) await host.yieldTurn();
      }
    } catch (error) {
      if (this.scenario !== 'deleted' || !isDivanError(error, 'NOT_FOUND')) throw error;
    }
  }

  async #disturb(id: string): Promise<void> {
    if (this.scenario === 'undisturbed' || this.scenario === 'killed') return;
    const until = this.disk.ops.length + randomInt(this.#random, SOON_OPS);
    const { jobs, catalog, host } = this.#running;
    // A run that copies removes what it copied itself; what is left of a later one is for others to remove.
    const isLate = this.scenario === 'removed' && this.#random() < 0.5;
    const isTime = () =>
      isLate ? jobs.get(id).job.phase === 'topoff1' : this.disk.ops.length >= until;
    while (!isTime() && jobs.load.working > 0) await host.yieldTurn();
    if (this.scenario === 'deleted')
      await this.log.write('database', '', () => catalog.remove(NAME));
    else if (this.scenario === 'removed') await this.#remove(id);
    else await this.#stopAndGoOn(id);
  }

  /** One that is past the map gets to its end first, which the removal may not wait for. */
  async #remove(id: string): Promise<void> {
    const type = this.#running.jobs.get(id).job.type;
    await this.log.write(type, '', async () => {
      await this.#running.jobs.remove(id);
      await this.#running.idle();
    });
  }

  async #stopAndGoOn(id: string): Promise<void> {
    const { jobs } = this.#running;
    if (this.#random() < 0.5) {
      await this.log.write('switch', 'a reason', () => jobs.stop('a reason'));
      await this.#writer('c').purge(randomInt(this.#random, 4));
      await this.log.write('switch', '', () => jobs.start());
      return;
    }
    await jobs.stopJob(id, 'another reason');
    if (jobs.get(id).state !== 'stopped') return;
    await this.log.write(`stop ${id}`, 'stopped', async () => undefined);
    await this.#writer('c').purge(randomInt(this.#random, 4));
    await this.log.write(`stop ${id}`, '', () => jobs.resumeJob(id));
  }

  /** If the process is killed meanwhile, another one goes on with what it left. */
  async #untilKilled(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      if (this.disk.haltAfter > this.disk.ops.length) return;
    } catch (error) {
      if (!isOfCrash(error)) throw error;
    }
    this.#node?.host.die();
    // Those of the other writer and of the job find that out by themselves.
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.disk.restart();
    await this.#start();
  }
}

/** A file that met the kill fails, and says so, with that as the cause, to whoever writes to it before it is heard of. */
function isOfCrash(error: unknown): boolean {
  if (error instanceof CrashError) return true;
  return error instanceof Error && error.cause !== undefined && isOfCrash(error.cause);
}

async function writeAll(writers: readonly JobWriter[], count: number): Promise<void> {
  for (let write = 0; write < count; write++) {
    for (const writer of writers) await writer.write();
  }
}
