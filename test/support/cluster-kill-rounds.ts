/** Splits and moves the shards of a cluster of two nodes under load, kills one of them meanwhile, and judges what is there afterwards. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { ClusterLoad, DB } from './cluster-load.js';
import { arm, countedCalls, type KillCall } from './kill-orders.js';
import { RunningCluster } from './running-cluster.js';
import { randomInt, seededRandom } from './seed.js';

const JOBS = '/_shard_splits/jobs';
const DOCUMENTS = 800;
const DOCUMENT_BYTES = 400;
const WRITERS = 4;
const READERS = 3;
/** A shard is copied for a second or more. */
const SPLIT_RATE = 200_000;
const POLLS_MAX = 3000;
const POLL_MS = 20;
/** A node that was killed is away for so long at most. */
const AWAY_MS = 300;

/** Which side of a move is killed, and when: at a call, or a while after the job was made. */
export interface MoveKill {
  readonly victim: 'source' | 'target';
  readonly at: KillCall | { readonly afterMs: number };
}

export interface MoveRound {
  readonly wasKilled: boolean;
  readonly end: JobEnd;
  /** Of source and target, if nobody was to be killed. */
  readonly calls: readonly [number, number];
  readonly ms: number;
}

/** `none`: the node was killed before there was a job. */
type JobEnd = 'completed' | 'failed' | 'none';

interface Job {
  readonly id: string;
  readonly job_state: string;
  readonly split_state: string;
  readonly state_info?: { readonly bytes_done?: number | null };
}

export class ClusterKillBed {
  readonly problems: string[] = [];
  readonly rounds: MoveRound[] = [];
  readonly cluster: RunningCluster;
  readonly load: ClusterLoad;
  readonly #random: () => number;
  readonly #known = new Set<string>();

  private constructor(cluster: RunningCluster, random: () => number) {
    this.cluster = cluster;
    this.#random = random;
    this.load = new ClusterLoad(cluster, random);
  }

  /** Two nodes with a shard each. */
  static async open(t: Test, seed: number): Promise<ClusterKillBed> {
    const cluster = await RunningCluster.open(t, 2, {
      DIVAN_RESHARD_RETRY_INTERVAL: '200',
      DIVAN_CHTTPD_AUTH_ITERATIONS: '100',
    });
    const bed = new ClusterKillBed(cluster, seededRandom(seed));
    await bed.load.prepare(2, DOCUMENTS, DOCUMENT_BYTES);
    return bed;
  }

  /** Splits a shard on each node, one of which is killed in the middle: the other's comes to its end, and then that one's. */
  async splitBoth(): Promise<void> {
    const victim = randomInt(this.#random, 2);
    const other = 1 - victim;
    this.load.isDisturbed = true;
    this.load.start(WRITERS, READERS);
    const ids: string[] = [];
    for (const index of [0, 1]) {
      const [shard] = this.cluster.shards(index, DB);
      const body = { type: 'split', node: this.cluster.at(index).name, shard, rate: SPLIT_RATE };
      ids.push((await this.cluster.ask<Job>(other, 'POST', JOBS, body, 201)).id);
    }
    for (const id of ids) await this.#copying(other, id);
    await this.cluster.at(victim).end('SIGKILL');
    const [own = '', lost = ''] = victim === 0 ? ids.reverse() : ids;
    const end = await this.#endOf(other, own);
    if (end !== 'completed') this.problems.push(`the split of the other node has ${end}`);
    const { status, text } = await this.cluster.call(other, 'GET', `${JOBS}/${lost}`);
    if (status !== 503 || !text.includes(this.cluster.at(victim).name)) {
      this.problems.push(`the job of a node that is away: ${status} ${text}`);
    }
    await this.cluster.revive(victim);
    const later = await this.#endOf(other, lost);
    if (later !== 'completed')
      this.problems.push(`the split of the node that was killed: ${later}`);
    await this.#judge(`splits, ${this.cluster.at(victim).name} killed`);
    for (const id of ids) this.#known.add(id);
    for (const index of [0, 1]) {
      const { length } = this.cluster.shards(index, DB);
      if (length !== 2) this.problems.push(`${this.cluster.at(index).name} has ${length} shards`);
    }
  }

  /** Moves a shard to the other node. */
  async move(kill: MoveKill | undefined): Promise<MoveRound> {
    const startedAt = performance.now();
    const from = this.#random() < this.#shareOf(0) ? 0 : 1;
    const shards = this.cluster.shards(from, DB);
    const shard = shards[randomInt(this.#random, shards.length)] ?? '';
    const victim = kill?.victim === 'source' ? from : 1 - from;
    const other = kill === undefined ? from : 1 - victim;
    this.load.isDisturbed = kill !== undefined;
    this.load.start(WRITERS, READERS);
    if (kill === undefined) for (const node of this.cluster.nodes) await arm(node, NEVER);
    else if ('call' in kill.at) await arm(this.cluster.at(victim), kill.at);
    const names = [from, 1 - from].map((index) => this.cluster.at(index).name);
    // What has come is looked through every other time: that takes longer than all else.
    const verify = this.rounds.length % 2 === 0;
    const body = { type: 'move', node: names[0], shard, target: names[1], verify };
    const posted = this.cluster
      .ask<Job>(other, 'POST', JOBS, body, 201)
      // The one that has the job, or that is asked for its room, may be killed before it answers.
      .catch((error: unknown) => this.#lost(kill, error));
    const wasKilled = kill !== undefined && (await this.#killed(kill, victim, other, posted));
    if (wasKilled) {
      await delay(randomInt(this.#random, AWAY_MS));
      await this.cluster.revive(victim);
    }
    const id = (await posted)?.id ?? (await this.#newJob(other));
    const end = id === undefined ? 'none' : await this.#endOf(other, id);
    const what = `the move of ${shard} to ${names[1]}, ${describe(kill)}: ${end}`;
    await this.#judge(what);
    if (id !== undefined) this.#known.add(id);
    const hasMoved = this.cluster
      .shards(1 - from, DB)
      .some((name) => name.startsWith(rangeOf(shard)));
    if (hasMoved !== (end === 'completed')) this.problems.push(`${what}, moved: ${hasMoved}`);
    const calls = await this.#calls(kill, from);
    const round = { wasKilled, end, calls, ms: performance.now() - startedAt };
    this.rounds.push(round);
    return round;
  }

  /** A moment in which a move is likely to be under way. */
  randomKill(): MoveKill {
    const longest = Math.max(100, ...this.rounds.map(({ ms }) => ms));
    const victim = this.#random() < 0.5 ? 'source' : 'target';
    return { victim, at: { afterMs: randomInt(this.#random, longest / 3) } };
  }

  #shareOf(index: number): number {
    const own = this.cluster.shards(index, DB).length;
    return own / (own + this.cluster.shards(1 - index, DB).length);
  }

  #lost(kill: MoveKill | undefined, error: unknown): undefined {
    if (kill === undefined) throw error;
    return undefined;
  }

  async #killed(
    { at }: MoveKill,
    victim: number,
    other: number,
    posted: Promise<Job | undefined>,
  ): Promise<boolean> {
    const node = this.cluster.at(victim);
    if ('afterMs' in at) {
      await delay(at.afterMs);
      await node.end('SIGKILL');
      return true;
    }
    const job = await posted;
    for (let poll = 0; poll < POLLS_MAX && node.isRunning; poll++) {
      if (job === undefined || isOver(await this.#job(other, job.id))) break;
      await delay(POLL_MS);
    }
    if (!node.isRunning) return true;
    // It may be dying. If it is not, there were not so many calls, and it is not killed by later ones.
    return arm(node, NEVER).then(
      () => false,
      () => true,
    );
  }

  async #calls(kill: MoveKill | undefined, from: number): Promise<[number, number]> {
    if (kill !== undefined) return [0, 0];
    const source = await countedCalls(this.cluster.at(from));
    return [source, await countedCalls(this.cluster.at(1 - from))];
  }

  /** The job that was made last, though nobody was told so. */
  async #newJob(through: number): Promise<string | undefined> {
    for (let poll = 0; poll < POLLS_MAX; poll++) {
      const list = await this.cluster.ask<{ jobs: Job[]; unreachable?: string[] }>(
        through,
        'GET',
        JOBS,
      );
      const found = list.jobs.find(({ id }) => !this.#known.has(id));
      if (found !== undefined) return found.id;
      if ((list.unreachable ?? []).length === 0) return undefined;
      await delay(POLL_MS);
    }
    throw new Error('a node is not reached any more');
  }

  /** Undefined if its node does not answer. */
  async #job(through: number, id: string): Promise<Job | undefined> {
    const { status, text } = await this.cluster.call(through, 'GET', `${JOBS}/${id}`);
    if (status === 503) return undefined;
    if (status !== 200) throw new Error(`the job ${id}: ${status} ${text}`);
    return JSON.parse(text);
  }

  async #copying(through: number, id: string): Promise<void> {
    for (let poll = 0; poll < POLLS_MAX; poll++) {
      const job = await this.#job(through, id);
      if (job?.split_state === 'initial_copy' && (job.state_info?.bytes_done ?? 0) > 0) return;
      if (isOver(job)) break;
      await delay(POLL_MS);
    }
    throw new Error(`the job ${id} was too fast`);
  }

  async #endOf(through: number, id: string): Promise<JobEnd> {
    for (let poll = 0; poll < POLLS_MAX; poll++) {
      const job = await this.#job(through, id);
      if (job?.job_state === 'completed') return 'completed';
      if (job?.job_state === 'failed') return 'failed';
      await delay(POLL_MS);
    }
    throw new Error(`the job ${id} comes to no end`);
  }

  async #judge(what: string): Promise<void> {
    await this.load.stop();
    this.load.isDisturbed = false;
    await this.cluster.reached(DB);
    const layout = await this.cluster.problems();
    const found = [...layout, ...this.load.problems.splice(0), ...(await this.load.judge())];
    this.problems.push(...found.map((problem) => `${what}: ${problem}`));
  }
}

const NEVER: KillCall = { call: 0, when: 'before' };

function isOver(job: Job | undefined): boolean {
  return job?.job_state === 'completed' || job?.job_state === 'failed';
}

/** `shards/<range>` of the name of a shard. */
function rangeOf(shard: string): string {
  return shard.slice(0, shard.lastIndexOf('/') + 1);
}

function describe(kill: MoveKill | undefined): string {
  if (kill === undefined) return 'nobody killed';
  const { victim, at } = kill;
  return `${victim} killed ${'call' in at ? `${at.when} call ${at.call}` : `after ${at.afterMs} ms`}`;
}
