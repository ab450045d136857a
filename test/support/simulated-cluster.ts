/**
 * Nodes of a cluster in one process: each has a disk that can lose power, a clock that can jump, and what a server has of the cluster: records,
 * members, their spread, rows.
 *
 * There are two kinds of disks: `LossyRecords`, records alone, which are quick; and a `SimulatedDisk` below the records of a real node.
 */
import { DivanError } from '../../engine/errors.js';
import { ClusterRecords, type StoredRecords } from '../../server/cluster/cluster-records.js';
import { Members } from '../../server/cluster/members.js';
import { CallHandlers, type Node } from '../../server/cluster/peers.js';
import { Spread } from '../../server/cluster/spread.js';
import { NodeRecords } from '../../server/node-records.js';
import { Rows } from './rows.js';
import { CrashError, SimulatedDisk } from './simulated-disk.js';
import { SimulatedNetwork } from './simulated-network.js';
import { SimulatedHost, SimulatedScheduler } from './simulated-scheduler.js';

/** One life of a node. */
export interface RunningNode {
  readonly node: Node;
  readonly host: SimulatedHost;
  readonly stored: StoredRecords;
  readonly handlers: CallHandlers;
  readonly records: ClusterRecords;
  readonly members: Members;
  readonly spread: Spread;
  readonly rows: Rows;
}

export interface ClusterOptions {
  readonly seed: number;
  /** How many nodes there are, members or not. */
  readonly nodes: number;
  readonly disks?: 'lossy' | 'simulated';
  /** How likely a write of a lossy disk fails; never, if it is not given. */
  readonly failures?: number;
}

export class SimulatedCluster {
  readonly scheduler: SimulatedScheduler;
  readonly network: SimulatedNetwork;
  readonly nodes: readonly SimulatedNode[];

  constructor(options: ClusterOptions) {
    this.scheduler = new SimulatedScheduler(options.seed);
    this.network = new SimulatedNetwork(this.scheduler);
    this.nodes = Array.from(
      { length: options.nodes },
      (_, index) => new SimulatedNode(index, this, options),
    );
    for (const node of this.nodes) this.network.attach(node.node.identity, node);
  }

  get running(): RunningNode[] {
    return this.nodes.flatMap(({ running }) => running ?? []);
  }
}

export class SimulatedNode {
  readonly node: Node;
  running: RunningNode | undefined;
  readonly clock = { skewMs: 0 };
  readonly #cluster: SimulatedCluster;
  readonly #options: ClusterOptions;
  #lossy = new Map<string, string>();
  #lossyRecords: LossyRecords | undefined;
  #disk = new SimulatedDisk();

  constructor(index: number, cluster: SimulatedCluster, options: ClusterOptions) {
    const digits = (index + 1).toString(16).padStart(32, '0');
    this.node = { name: `n${index}@host`, identity: digits, url: `http://n${index}:5984` };
    this.#cluster = cluster;
    this.#options = options;
    this.#disk.syncTurns = 0;
  }

  get isUp(): boolean {
    return this.running !== undefined;
  }

  get handlers(): CallHandlers {
    if (this.running === undefined) throw new Error(`${this.node.name} does not run`);
    return this.running.handlers;
  }

  /** REQUIRES: it does not run. */
  async start(): Promise<RunningNode> {
    const { scheduler, network } = this.#cluster;
    scheduler.trace(`${this.node.name} starts`);
    const host = new SimulatedHost(scheduler, this.clock);
    const stored = await this.#open(host);
    const records = await ClusterRecords.open(stored, this.node.identity);
    const members = new Members({ self: this.node }, records);
    const handlers = new CallHandlers();
    const calls = network.callsOf(this.node.identity, () => !host.isDead);
    const spread = new Spread({ host, records, members, calls, handlers });
    const rows = new Rows(records);
    this.running = { node: this.node, host, stored, handlers, records, members, spread, rows };
    return this.running;
  }

  /** The power fails: what was not durable is lost, or not. */
  crash(): void {
    const { scheduler } = this.#cluster;
    const { running } = this;
    if (running === undefined) return;
    scheduler.trace(`${this.node.name} crashes`);
    running.host.isDead = true;
    running.spread.close();
    this.running = undefined;
    if (this.#lossyRecords !== undefined) {
      this.#lossyRecords.crash();
      this.#lossy = this.#lossyRecords.durable;
      return;
    }
    const before = this.#disk;
    this.#disk = before.crash(before.ops.length, scheduler.random).open();
    // What the dead process still tries is in vain.
    before.haltAfter = 0;
  }

  /** The power fails in the middle of what the disk is about to do; `SimulatedDisk` only. */
  crashSoon(): void {
    this.#disk.haltAfter = this.#disk.ops.length + 1 + this.#cluster.scheduler.below(12);
  }

  /** If the power is about to fail it does not; if the disk has stopped the node crashes. */
  spare(): void {
    if (this.#disk.ops.length >= this.#disk.haltAfter) this.crash();
    this.#disk.haltAfter = Number.POSITIVE_INFINITY;
  }

  /** What a backup of the disk holds that is made now. */
  backup(): ReadonlyMap<string, string> {
    return new Map(this.#lossyRecords?.durable);
  }

  /** REQUIRES: it does not run, and its disk is lossy. */
  restore(backup: ReadonlyMap<string, string>): void {
    this.#cluster.scheduler.trace(`${this.node.name} is restored`);
    this.#lossy = new Map(backup);
  }

  async #open(host: SimulatedHost): Promise<StoredRecords> {
    if (this.#options.disks !== 'simulated') {
      const { failures = 0 } = this.#options;
      const world = { scheduler: this.#cluster.scheduler, host, failures };
      this.#lossyRecords = new LossyRecords(this.#lossy, world);
      return this.#lossyRecords;
    }
    const world = { storage: this.#disk, host };
    return NodeRecords.open(world, 'data');
  }
}

/** True for what a node throws whose disk was stopped. */
export function isOfCrash(error: unknown): boolean {
  if (error instanceof CrashError) return true;
  return error instanceof Error && error.cause !== undefined && isOfCrash(error.cause);
}

const WRITE_MS_MAX = 15;

/** What a lossy disk is part of. */
interface LossyWorld {
  readonly scheduler: SimulatedScheduler;
  readonly host: SimulatedHost;
  readonly failures: number;
}

/** Records of a node on a disk that takes time, fails now and then, and loses what was not durable when the power fails. */
export class LossyRecords implements StoredRecords {
  readonly durable: Map<string, string>;
  readonly #scheduler: SimulatedScheduler;
  readonly #host: SimulatedHost;
  readonly #failures: number;
  readonly #texts: Map<string, string>;
  readonly #pending: { readonly key: string; readonly text: string | undefined }[] = [];
  #lastAt = 0;

  constructor(durable: ReadonlyMap<string, string>, { scheduler, host, failures }: LossyWorld) {
    this.durable = new Map(durable);
    this.#texts = new Map(durable);
    this.#scheduler = scheduler;
    this.#host = host;
    this.#failures = failures;
  }

  get(key: string): unknown {
    const text = this.#texts.get(key);
    return text === undefined ? undefined : JSON.parse(text);
  }

  keys(prefix: string): string[] {
    return [...this.#texts.keys()].filter((key) => key.startsWith(prefix));
  }

  set(key: string, value: object): Promise<void> {
    return this.#write(key, JSON.stringify(value));
  }

  remove(key: string): Promise<void> {
    return this.#write(key, undefined);
  }

  /** Of what was being written, a part from its beginning is there. */
  crash(): void {
    const kept = this.#scheduler.below(this.#pending.length + 1);
    for (const { key, text } of this.#pending.splice(0).slice(0, kept))
      apply(this.durable, key, text);
  }

  #write(key: string, text: string | undefined): Promise<void> {
    const write = { key, text };
    this.#pending.push(write);
    // One after another, as commits are.
    const soonest = this.#scheduler.now + this.#scheduler.below(WRITE_MS_MAX);
    this.#lastAt = Math.max(soonest, this.#lastAt + 0.001);
    const hasFailed = this.#scheduler.chance(this.#failures);
    return new Promise((resolve, reject) => {
      this.#host.setTimer(() => {
        this.#pending.splice(this.#pending.indexOf(write), 1);
        // Whether a write that failed is there is not known.
        if (!hasFailed || this.#scheduler.chance(0.5)) apply(this.durable, key, text);
        if (hasFailed) return reject(new DivanError('IO', 'the disk failed'));
        apply(this.#texts, key, text);
        resolve();
      }, this.#lastAt - this.#scheduler.now);
    });
  }
}

function apply(records: Map<string, string>, key: string, text: string | undefined): void {
  if (text === undefined) records.delete(key);
  else records.set(key, text);
}
