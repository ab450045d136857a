/**
 * The life of a cluster of whole servers: databases are made, written and removed on all of its nodes, shards are split, merged and moved, nodes are
 * cut off, lose power in the middle of what they do, are stopped and started, have their clocks moved, come and go. In the end all is healed, and
 * the models say what is wrong.
 */
import type { LifeResult } from './cluster-life.js';
import { DatabaseEvents } from './database-events.js';
import { HandoverEvents } from './handover-events.js';
import { JobEvents } from './job-events.js';
import { NodeEvents } from './node-events.js';
import { RangeWatch } from './range-watch.js';
import { FOUL } from './simulated-network.js';
import { checkEnd, unfinished } from './whole-checks.js';
import { WholeCluster } from './whole-cluster.js';

export interface WholeLifeOptions {
  readonly seed: number;
  /** Messages, timers and syncs. */
  readonly events: number;
  readonly nodes?: number;
}

const HEALING_MS = 30_000;
/** What is not done after so long never is. */
const HEALING_MS_MAX = 600_000;
const PAUSE_MS_MAX = 250;
const LONG_PAUSE_MS_MAX = 4000;
const MEMBERS_AT_FIRST = 3;
/** Calls that come again do so long after, when the node may have been started anew. */
const STORM = { ...FOUL, replayMsMax: 20_000 };

export async function playWholeLife(options: WholeLifeOptions): Promise<LifeResult> {
  const life = new WholeLife(options);
  const { model, scheduler, network, counts } = life.cluster;
  try {
    await life.play();
  } catch (error) {
    model.violate(`${error instanceof Error ? error.stack : error}`);
  }
  for (const defect of network.defects) model.violate(defect);
  life.end();
  return {
    violations: model.violations,
    fingerprint: scheduler.fingerprint,
    events: scheduler.steps,
    counts: new Map([...counts, ...network.fates]),
  };
}

class WholeLife {
  readonly cluster: WholeCluster;
  readonly #options: WholeLifeOptions;
  readonly #databases: DatabaseEvents;
  readonly #jobs: JobEvents;
  readonly #nodes: NodeEvents;
  readonly #ranges: RangeWatch;

  constructor(options: WholeLifeOptions) {
    const { seed, nodes = 6 } = options;
    this.#options = options;
    this.cluster = new WholeCluster(seed, nodes);
    const { cluster } = this;
    this.#ranges = new RangeWatch(
      (text) => cluster.model.violate(text),
      (what) => cluster.count(what),
    );
    this.#databases = new DatabaseEvents(cluster);
    this.#jobs = new JobEvents(cluster);
    this.#nodes = new NodeEvents(cluster, this.#jobs, this.#ranges);
    const handovers = new HandoverEvents(cluster, this.#databases);
    cluster.scheduler.onStep = () => {
      this.#ranges.look(cluster.newest);
      handovers.look();
    };
  }

  async play(): Promise<void> {
    const { scheduler, network, model } = this.cluster;
    for (const node of this.cluster.spare.slice(0, MEMBERS_AT_FIRST)) await this.cluster.add(node);
    await scheduler.pass(2000);
    network.weather = STORM;
    while (scheduler.steps < this.#options.events && model.violations.length === 0) {
      await this.#event();
      await scheduler.pass(
        scheduler.below(scheduler.chance(0.1) ? LONG_PAUSE_MS_MAX : PAUSE_MS_MAX),
      );
      this.#jobs.look();
    }
    if (model.violations.length === 0) await this.#heal();
    if (model.violations.length === 0) await checkEnd(this.cluster);
  }

  /** Nothing of it goes on. */
  end(): void {
    const { members, spare, left } = this.cluster;
    for (const node of [...members, ...spare, ...left]) node.crash();
  }

  async #event(): Promise<void> {
    const { scheduler, network } = this.cluster;
    const at = scheduler.random();
    if (at < 0.38) return this.#databases.write();
    if (at < 0.42) return this.#databases.create();
    if (at < 0.435) return this.#databases.remove();
    if (at < 0.442) return this.#databases.rivals();
    if (at < 0.447) return this.#databases.betrayal();
    if (at < 0.62) return this.#jobs.create();
    if (at < 0.65) return this.#jobs.control();
    if (at < 0.667) return this.#jobs.flip();
    if (at < 0.671) return this.#jobs.comeBack();
    if (at < 0.7) return this.#nodes.cut();
    if (at < 0.77) return network.heal();
    if (at < 0.8) return this.#nodes.crash();
    if (at < 0.9) return this.#nodes.restart();
    if (at < 0.91) return this.#nodes.stop();
    if (at < 0.93) return this.#nodes.jump();
    if (at < 0.935) return this.#nodes.add();
    if (at < 0.94) return this.#nodes.remove();
    this.#nodes.changeWeather(STORM);
  }

  async #heal(): Promise<void> {
    const { scheduler, model } = this.cluster;
    this.cluster.isCalm = true;
    await this.cluster.calm(HEALING_MS);
    for (const { node, records } of this.cluster.running) model.checkStops(node.name, records);
    const [first] = this.cluster.running;
    if (first !== undefined) await scheduler.until(this.#jobs.start(first));
    const end = scheduler.now + HEALING_MS_MAX;
    let left = unfinished(this.cluster.running);
    while (left.length > 0 && scheduler.now < end && model.violations.length === 0) {
      this.#resumeJobs();
      await this.cluster.calm(5000);
      left = unfinished(this.cluster.running);
    }
    for (const text of left) model.violate(`unfinished: ${text}`);
  }

  /** Those that were stopped one by one go on. */
  #resumeJobs(): void {
    for (const { node, services } of this.cluster.running) {
      for (const { job } of services.jobs.list()) {
        if (job.state !== 'stopped') continue;
        this.cluster.background(node.name, services.jobs.resumeJob(job.id));
      }
    }
  }
}
