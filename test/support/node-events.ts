/** What happens to the nodes of a cluster of whole servers, and to the network between them. */
import type { JobEvents } from './job-events.js';
import type { RangeWatch } from './range-watch.js';
import { FAIR, type Weather } from './simulated-network.js';
import type { WholeCluster } from './whole-cluster.js';

const CALM_MS = 15_000;
/** So long what a node has may take to be moved away. */
const EMPTYING_MS_MAX = 240_000;
const MEMBERS_MIN = 2;
const NEAR_MS = 20_000;
const FAR_MS = 7_200_000;
const FOUL_WEATHER = 0.5;

export class NodeEvents {
  readonly #cluster: WholeCluster;
  readonly #jobs: JobEvents;
  readonly #ranges: RangeWatch;

  constructor(cluster: WholeCluster, jobs: JobEvents, ranges: RangeWatch) {
    this.#cluster = cluster;
    this.#jobs = jobs;
    this.#ranges = ranges;
  }

  cut(): void {
    const { scheduler, network, members } = this.#cluster;
    const identities = members.flatMap(({ running }) => running?.node.identity ?? []);
    if (identities.length < 2) return;
    if (scheduler.chance(0.5)) {
      this.#cluster.count('one-sided cut');
      network.cut(scheduler.pick(identities), scheduler.pick(identities));
      return;
    }
    this.#cluster.count('two-sided cut');
    const side = identities.filter(() => scheduler.chance(0.5));
    const other = identities.filter((identity) => !side.includes(identity));
    network.part(side, other);
  }

  changeWeather(foul: Weather): void {
    const { scheduler, network } = this.#cluster;
    network.weather = scheduler.chance(FOUL_WEATHER) ? foul : FAIR;
  }

  /** The power fails, at once or in the middle of something. */
  crash(): void {
    const node = this.#cluster.pickRunning();
    if (node === undefined) return;
    this.#cluster.count('crash');
    if (this.#cluster.scheduler.chance(0.6)) node.whole.machine.crashSoon();
    else node.whole.crash();
  }

  async restart(): Promise<void> {
    for (const node of this.#cluster.members) {
      if (node.machine.process !== undefined || this.#cluster.scheduler.chance(0.3)) continue;
      await this.#cluster.start(node);
      this.#cluster.count('restart');
    }
  }

  /** It is asked to stop, which may take a while. */
  stop(): void {
    const node = this.#cluster.pickRunning();
    if (node === undefined) return;
    this.#cluster.count('stop of a node');
    this.#cluster.background(node.node.name, node.whole.stop());
  }

  /** Nodes whose clocks differ by more than a minute do not talk. */
  jump(): void {
    const { scheduler, members } = this.#cluster;
    this.#cluster.count('clock jump');
    const by = scheduler.chance(0.7) ? NEAR_MS : FAR_MS;
    const { machine } = scheduler.pick(members);
    machine.clock.skewMs = Math.floor((2 * scheduler.random() - 1) * by);
  }

  async add(): Promise<void> {
    const [node] = this.#cluster.spare;
    if (node === undefined) return;
    this.#cluster.isCalm = true;
    await this.#cluster.calm(CALM_MS);
    await this.#cluster.add(node);
    await this.#cluster.calm(CALM_MS);
    this.#cluster.isCalm = false;
  }

  /** What it has is moved to the others first, as `divan cluster remove` does. */
  async remove(): Promise<void> {
    if (this.#cluster.members.length <= MEMBERS_MIN) return;
    this.#cluster.isCalm = true;
    await this.#cluster.calm(CALM_MS);
    await this.#remove();
    this.#cluster.isCalm = false;
  }

  async #remove(): Promise<void> {
    const { scheduler } = this.#cluster;
    const node = this.#cluster.pickRunning();
    const by = node === undefined ? undefined : this.#cluster.pickRunning(node);
    if (node === undefined || by === undefined) return;
    await scheduler.until(this.#jobs.start(by));
    const end = scheduler.now + EMPTYING_MS_MAX;
    while (scheduler.now < end) {
      const moved = await scheduler
        .until(this.#jobs.moveFrom(node, by))
        .catch((error) => this.#cluster.judge('a move away', error));
      if (!moved) break;
      await this.#cluster.calm(2000);
    }
    await this.#takeOut(node, by);
  }

  async #takeOut(
    node: NonNullable<ReturnType<WholeCluster['pickRunning']>>,
    by: NonNullable<ReturnType<WholeCluster['pickRunning']>>,
  ): Promise<void> {
    const { scheduler, members, left } = this.#cluster;
    const { identity } = node.node;
    const { directory } = by.services;
    const holds = directory
      .names()
      .some((name) => directory.find(name)?.parts.some((part) => part.node.identity === identity));
    if (holds) return this.#cluster.count('removal given up');
    await scheduler.until(by.members.remove(identity));
    members.splice(members.indexOf(node.whole), 1);
    left.push(node.whole);
    this.#ranges.left(identity);
    this.#cluster.count('removed');
    // It may go on for a while, and is to be no trouble.
    if (scheduler.chance(0.5)) node.whole.crash();
    await this.#cluster.calm(CALM_MS);
  }
}
