/**
 * A move of a shard under writes, in which one of the two nodes is killed or loses power before an operation of its disk, and starts again. The job
 * must come to its end; each acknowledged write must be there, on one node; and nothing may be left over.
 */
import pino from 'pino';
import { isDivanError } from '../../engine/errors.js';
import type { Database } from '../../server/databases/database.js';
import { DivanServer } from '../../server/server.js';
import { EagerHost } from './eager-host.js';
import { MemoryCluster } from './memory-cluster.js';
import { configOf } from './server-world.js';
import { CrashError, SimulatedDisk } from './simulated-disk.js';

const DATA_DIR = '/data';
const NAME = 'db';
const TURNS_MAX = 60_000;
const DOCUMENTS = 12;

export type Side = 'source' | 'target';
/** How much of what was not synced is lost: nothing, as when the process is killed, all, or some. */
export type Loss = 'best' | 'worst' | 'random';

export interface MoveCrash {
  readonly side: Side;
  /** Before which operation of its disk, from when the move is asked for on; beyond the last one if it comes to its end before. */
  readonly operation: number;
  readonly loss: Loss;
  readonly seed: number;
}

export interface CrashOutcome {
  /** False if the move was over before. */
  readonly isCrashed: boolean;
  readonly problems: readonly string[];
  /** Of the job, when it crashed. */
  readonly phase: string;
}

class CrashNode {
  disk = new SimulatedDisk();
  server: DivanServer | undefined;
  #host: EagerHost | undefined;
  readonly #cluster: MemoryCluster;
  readonly #index: number;

  constructor(cluster: MemoryCluster, index: number) {
    this.#cluster = cluster;
    this.#index = index;
  }

  async start(disk: SimulatedDisk, seed: number): Promise<void> {
    this.disk = disk;
    this.#host?.die();
    const host = new EagerHost(seed);
    this.#host = host;
    this.server = await DivanServer.build({
      world: { storage: disk, host },
      config: configOf(
        '[node]',
        `name = ${this.#cluster.node(this.#index).name}`,
        '[couchdb]',
        `database_dir = ${DATA_DIR}`,
        '[reshard]',
        'rate = 0',
        'max_write_pause = 60000',
        'retry_interval = 100',
        'max_retries = 50',
      ),
      log: pino({ level: 'silent' }),
      version: '0',
      admin: 'a:secret-of-the-tests',
      hashThreads: 0,
      rewriteWorkers: 0,
      cluster: this.#cluster.seams(this.#index, () => disk.ops.length >= disk.haltAfter),
    });
  }

  get services(): DivanServer['services'] {
    if (this.server === undefined) throw new Error('the node was not started');
    return this.server.services;
  }

  get isDead(): boolean {
    return this.disk.ops.length >= this.disk.haltAfter;
  }

  get part(): Database | undefined {
    return this.isDead ? undefined : this.services.catalog.find(NAME);
  }

  /** The disk after a crash. */
  crashed({ loss, seed }: MoveCrash): SimulatedDisk {
    const { disk } = this;
    const point = disk.crashPoint(disk.ops.length);
    let state = seed;
    const random = () => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
      return state / 2 ** 31;
    };
    if (loss === 'random') return point.random(random).open();
    return (loss === 'best' ? point.best() : point.worst()).open();
  }

  async close(): Promise<void> {
    this.#cluster.stopped(this.#index);
    await this.server?.close();
    this.#host?.die();
  }
}

/** What killed processes still do fails, and nobody waits for it. Returns what ends the ignoring of that. */
export function ignoreCrashes(): () => void {
  const ignore = (error: unknown) => {
    if (!(error instanceof CrashError)) throw error;
  };
  process.on('unhandledRejection', ignore);
  return () => process.off('unhandledRejection', ignore);
}

/** Lives through one crash. REQUIRES: `ignoreCrashes`. */
export function crashMove(crash: MoveCrash): Promise<CrashOutcome> {
  return new CrashedMove(crash).live();
}

class CrashedMove {
  readonly #crash: MoveCrash;
  readonly #cluster = new MemoryCluster(2);
  readonly #source = new CrashNode(this.#cluster, 0);
  readonly #target = new CrashNode(this.#cluster, 1);
  /** What each document may be: what was acknowledged last, and what was tried since. */
  readonly #allowed = new Map<string, number[]>();
  #isOver = false;
  #next = 0;

  constructor(crash: MoveCrash) {
    this.#crash = crash;
  }

  async live(): Promise<CrashOutcome> {
    const { side, operation, seed } = this.#crash;
    await this.#source.start(this.#source.disk, seed);
    await this.#target.start(this.#target.disk, seed + 1);
    const { directory } = this.#source.services;
    await directory.create(NAME, {
      ...{ q: 2, copies: 1, hashRule: 'document' },
      security: new Uint8Array(0),
    });
    for (let count = 0; count < 3 * DOCUMENTS; count++) await this.#write();
    const node = side === 'source' ? this.#source : this.#target;
    node.disk.haltAfter = node.disk.ops.length + operation;
    const writing = this.#writing();
    const id = await this.#begun();
    const phase = await this.#crashedOrOver(node, id);
    const isCrashed = node.isDead;
    if (!isCrashed) node.disk.haltAfter = Number.MAX_SAFE_INTEGER;
    else await node.start(node.crashed(this.#crash), seed + 2);
    const problems = await this.#ended(id);
    this.#isOver = true;
    await writing;
    problems.push(...(await this.#compare()), ...this.#leftovers());
    await this.#source.close();
    await this.#target.close();
    return { isCrashed, problems, phase };
  }

  /** Asks for the move; undefined if a crash came before it was known whether there is a job. */
  async #begun(): Promise<string | undefined> {
    const { clusterJobs, catalog } = this.#source.services;
    const [place] = catalog.get(NAME).map.shards;
    const { nodes } = this.#cluster;
    const body = {
      type: 'move',
      node: nodes[0]?.name ?? '',
      shard: (place?.file ?? '').replace(/\.divan$/, ''),
      target: nodes[1]?.name ?? '',
    };
    try {
      return await clusterJobs.create(body.node, body, false);
    } catch (error) {
      if (error instanceof CrashError || isDivanError(error)) return undefined;
      throw error;
    }
  }

  async #crashedOrOver(node: CrashNode, id: string | undefined): Promise<string> {
    const { jobs } = this.#source.services;
    const jobOf = () => (id === undefined ? undefined : jobs.get(id).job);
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      if (node.isDead || jobOf()?.state === 'completed' || id === undefined) break;
      await turnOfTheLoop();
    }
    const phase = jobOf()?.phase ?? 'none';
    // What the dead process still does must have no effect.
    for (let turn = 0; node.isDead && turn < 50; turn++) await turnOfTheLoop();
    return phase;
  }

  /** The job of a node that was killed goes on by itself. */
  async #ended(id: string | undefined): Promise<string[]> {
    const { jobs, records } = this.#source.services;
    const arrivals = () => this.#target.services.records.keys('shard-arrival/');
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      const all = jobs.list();
      const isDone = all.every(({ job }) => job.state === 'completed') && records !== undefined;
      if (isDone && arrivals().length === 0) return [];
      await turnOfTheLoop();
    }
    const states = jobs.list().map(({ job }) => `${job.state} ${job.phase} ${job.error}`);
    return [`the job ${id} is not over: ${states.join()}; ${arrivals().join()}`];
  }

  async #writing(): Promise<void> {
    while (!this.#isOver) {
      await this.#write();
      await turnOfTheLoop();
    }
  }

  /** Replaces a document, wherever it is. */
  async #write(id = `d${this.#next % DOCUMENTS}`): Promise<void> {
    const value = this.#next++;
    const key = Buffer.from(id);
    const [owner] = this.#ownersOf(key);
    if (owner === undefined) return;
    const allowed = this.#allowed.get(id) ?? [];
    this.#allowed.set(id, allowed);
    allowed.push(value);
    try {
      const parent = await owner.read(key, async (snapshot) => {
        return (await snapshot.document(key))?.leaves[0]?.revision;
      });
      await owner.put({
        ...{ id: key, deleted: false, parent },
        body: Buffer.from(JSON.stringify({ value })),
      });
      this.#allowed.set(id, allowed.slice(allowed.indexOf(value)));
    } catch (error) {
      if (!(error instanceof CrashError) && !isDivanError(error)) throw error;
    }
  }

  #ownersOf(key: Uint8Array): Database[] {
    const parts = [this.#source.part, this.#target.part];
    return parts.flatMap((part) =>
      part !== undefined && part.current.find(key) >= 0 ? [part] : [],
    );
  }

  async #compare(): Promise<string[]> {
    const problems: string[] = [];
    for (const [id, allowed] of this.#allowed) {
      const key = Buffer.from(id);
      const owners = this.#ownersOf(key);
      if (owners.length !== 1) problems.push(`${id} is on ${owners.length} nodes`);
      const found = await owners[0]?.read(key, async (snapshot) => {
        const leaves = (await snapshot.document(key))?.leaves ?? [];
        const [leaf] = leaves;
        if (leaf === undefined) return 'not there';
        if (leaves.length > 1) return 'in conflict';
        return Buffer.from(await snapshot.body(leaf)).toString();
      });
      const fine = allowed.map((value) => JSON.stringify({ value }));
      if (!fine.includes(String(found))) problems.push(`${id} is ${found}, not ${fine.join()}`);
      await this.#write(id);
      if (this.#allowed.get(id)?.length !== 1) problems.push(`${id} can not be written`);
    }
    return problems;
  }

  #leftovers(): string[] {
    return [this.#source, this.#target].flatMap((node, index) => {
      const slots = node.part?.current.slots ?? [];
      const known = new Set([`${DATA_DIR}/node.divan`, ...slots.map(({ path }) => path)]);
      const names = [...node.disk.names.keys()].filter((name) => !known.has(name));
      return names.map((name) => `${name} is left on node ${index + 1}`);
    });
  }
}

function turnOfTheLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
