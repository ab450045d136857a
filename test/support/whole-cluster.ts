/** Whole servers in one process that are a cluster, with what is counted of their life and what is wrong with it. */
import { type ErrorCode, isDivanError } from '../../engine/errors.js';
import { FAIR, SimulatedNetwork } from './simulated-network.js';
import { SimulatedScheduler } from './simulated-scheduler.js';
import { WholeModel } from './whole-model.js';
import { type RunningServer, WholeNode } from './whole-node.js';

/** Whoever throws one of these has found something on a disk that can not be there. */
const DAMAGE: ReadonlySet<ErrorCode> = new Set([
  'CHECKSUM',
  'CORRUPT',
  'FORMAT_VERSION',
  'NOT_A_SHARD',
  'NO_COMMIT',
  'TRUNCATED',
  'VERIFY_FAILED',
]);
const START_MS_MAX = 120_000;

export class WholeCluster {
  readonly scheduler: SimulatedScheduler;
  readonly network: SimulatedNetwork;
  readonly model: WholeModel;
  readonly counts = new Map<string, number>();
  /** One that left never is a member again. */
  readonly members: WholeNode[] = [];
  readonly spare: WholeNode[];
  readonly left: WholeNode[] = [];
  /** No power fails: who is added or removed is so while the others are there. */
  isCalm = false;

  constructor(seed: number, nodes: number) {
    this.scheduler = new SimulatedScheduler(seed);
    this.network = new SimulatedNetwork(this.scheduler);
    this.model = new WholeModel();
    const { scheduler, network, model } = this;
    const watch = model.watch.bind(model);
    const onDefect = (text: string) => model.violate(text);
    const parts = { scheduler, network, watch, onDefect };
    this.spare = Array.from({ length: nodes }, (_, index) => new WholeNode(index, parts));
  }

  /** The members that run. */
  get running(): RunningServer[] {
    return this.members.flatMap(({ running }) => running ?? []);
  }

  /** The newest lives of all members, which may be over. */
  get newest(): RunningServer[] {
    return this.members.flatMap(({ newest }) => newest ?? []);
  }

  /** One of those that run, but not of those; undefined if there is no other. */
  pickRunning(...but: readonly RunningServer[]): RunningServer | undefined {
    const others = this.running.filter((node) => !but.includes(node));
    return others.length === 0 ? undefined : this.scheduler.pick(others);
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** Goes on by itself; what may be refused at any time is nothing. */
  background(what: string, work: Promise<unknown>): void {
    work.catch((error) => this.judge(what, error));
  }

  /** Whether an error is one that a client of a cluster hears now and then; anything else is wrong. */
  judge(what: string, error: unknown): boolean {
    const isOrdinary = isDivanError(error) && !DAMAGE.has(error.code);
    if (!isOrdinary) this.model.violate(`${what}: ${error instanceof Error ? error.stack : error}`);
    return isOrdinary;
  }

  /** Starts it until it serves. */
  async start(node: WholeNode): Promise<void> {
    while (!(await this.scheduler.until(node.start(), START_MS_MAX)))
      this.count('crash at a start');
  }

  /** All is healed, runs and knows what time it is, for so long. */
  async calm(ms: number): Promise<void> {
    const { network, scheduler } = this;
    const { weather } = network;
    network.heal();
    network.weather = FAIR;
    for (const node of this.members) {
      node.machine.spare();
      node.machine.clock.skewMs = 0;
      if (node.running !== undefined) continue;
      // It may be about to stop.
      node.crash();
      await this.start(node);
    }
    await scheduler.pass(ms);
    network.weather = weather;
  }

  /** REQUIRES: a spare node, and a member that runs. */
  async add(node: WholeNode): Promise<void> {
    const by = this.running[0];
    await this.start(node);
    const { running } = node;
    if (running === undefined) throw new Error(`${node.name} does not run`);
    this.spare.splice(this.spare.indexOf(node), 1);
    if (by === undefined) {
      this.members.push(node);
      return;
    }
    node.trust(by.node.identity);
    await this.scheduler.until(by.members.add(running.node));
    this.members.push(node);
    this.count('added');
  }
}
