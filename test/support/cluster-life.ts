/**
 * The life of a cluster: records change on all nodes, nodes are added and removed, cut off, crash, come back, have their clocks moved, and in
 * some lives are set back to a backup. In the end all is healed, and `ClusterModel` says what is wrong.
 */

import { isDivanError } from '../../engine/errors.js';
import {
  type Incarnation,
  liveIncarnations,
  withoutIncarnations,
} from '../../server/cluster/incarnations.js';
import { startSplits, stopSplits } from '../../server/cluster/split-switch.js';
import { type JsonObject, memberOf } from '../../server/http/json-value.js';
import { ClusterModel } from './cluster-model.js';
import { whileEnding } from './ended-stops.js';
import { nextSuffix, withIncarnation } from './incarnations.js';
import {
  isOfCrash,
  type RunningNode,
  SimulatedCluster,
  type SimulatedNode,
} from './simulated-cluster.js';
import { FAIR, FOUL } from './simulated-network.js';

export interface LifeOptions {
  readonly seed: number;
  /** Messages, timers and writes. */
  readonly events: number;
  readonly nodes?: number;
  readonly disks?: 'lossy' | 'simulated';
  /** A node may be set back to a backup. */
  readonly restores?: boolean;
}

export interface LifeResult {
  readonly violations: readonly string[];
  readonly fingerprint: string;
  readonly events: number;
  /** How often what happened. */
  readonly counts: ReadonlyMap<string, number>;
}

const HEALING_MS = 90_000;
const NAMES = ['a', 'b'];

export async function playLife(options: LifeOptions): Promise<LifeResult> {
  const life = new ClusterLife(options);
  try {
    await life.play();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    life.model.violate(`${error.stack}`);
  }
  const { scheduler, network } = life.cluster;
  return {
    violations: life.model.violations,
    fingerprint: scheduler.fingerprint,
    events: scheduler.steps,
    counts: new Map([...life.counts, ...network.fates]),
  };
}

class ClusterLife {
  readonly model = new ClusterModel();
  readonly counts = new Map<string, number>();
  readonly cluster: SimulatedCluster;
  readonly #options: LifeOptions;
  /** Those that may be members; one that left never is again. */
  readonly #members: SimulatedNode[] = [];
  readonly #spare: SimulatedNode[] = [];
  readonly #backups = new Map<SimulatedNode, ReadonlyMap<string, string>>();
  #isRestored = false;
  #next = 1;

  constructor(options: LifeOptions) {
    this.#options = options;
    const { seed, nodes = 5, disks = 'lossy' } = options;
    this.cluster = new SimulatedCluster({ seed, nodes, disks, failures: 0.002 });
    this.#spare.push(...this.cluster.nodes);
  }

  async play(): Promise<void> {
    const { scheduler, network } = this.cluster;
    this.#members.push(...this.#spare.splice(0, 1));
    for (const first of this.#members) await this.#start(first);
    for (let node = 1; node < 3; node++) await this.#add();
    network.weather = FOUL;
    while (scheduler.steps < this.#options.events && this.model.violations.length === 0) {
      await this.#event();
      await scheduler.pass(scheduler.chance(0.2) ? scheduler.below(8000) : scheduler.below(300));
    }
    await this.#calm(HEALING_MS);
    const running = this.#members.flatMap((node) => node.running ?? []);
    // What only a node knew that was set back is lost: that another was added may be.
    const isKnown = ({ node }: RunningNode) =>
      running.some((other) => other.node !== node && other.members.find(node.identity));
    const known = this.#isRestored ? running.filter(isKnown) : running;
    this.model.checkEnd(known, this.#isRestored);
  }

  async #event(): Promise<void> {
    const { scheduler } = this.cluster;
    const at = scheduler.random();
    if (at < 0.7) return this.#onANode();
    if (at < 0.76) return this.#cut();
    if (at < 0.82) return this.cluster.network.heal();
    if (at < 0.88) return this.#crash();
    if (at < 0.95) return this.#restart();
    if (at < 0.97) return this.#jump();
    if (at < 0.98) return this.#add();
    if (at < 0.985) return this.#remove();
    if (this.#options.restores === true && this.#options.disks !== 'simulated')
      return this.#backUpOrRestore();
  }

  #count(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  /** Goes on in the background. What a node throws that dies meanwhile, or whose disk failed, is nothing. */
  #onANode(): void {
    const running = this.#members.flatMap((node) => node.running ?? []);
    if (running.length === 0) return;
    const { scheduler } = this.cluster;
    const node = scheduler.pick(running);
    const works = [this.#admin, this.#switch, this.#database, this.#row, this.#row, this.#identity];
    const work = scheduler.pick(works);
    work.call(this, node).catch((error) => {
      if (isOfCrash(error) || isDivanError(error, 'IO') || isDivanError(error, 'CONFLICT')) return;
      if (isDivanError(error, 'FAILED') || isDivanError(error, 'CLOSED')) return;
      this.model.violate(`${node.node.name}: ${error.stack}`);
    });
  }

  /** Changes, and has a majority know it, now and then. Undefined if it is not known to be at one. */
  async #change(
    node: RunningNode,
    key: string,
    change: (value: JsonObject | undefined) => JsonObject | undefined,
    whenDurable = () => {},
  ): Promise<boolean> {
    this.#count('change');
    await node.records.change(key, change);
    whenDurable();
    return this.#ack(node, key);
  }

  async #ack(node: RunningNode, key: string): Promise<boolean> {
    const record = node.records.record(key);
    if (record === undefined || this.cluster.scheduler.chance(0.3)) return false;
    const { reached, isMajority } = await node.spread.toMembers([key], 3000);
    // A row that is stale meanwhile is told to nobody.
    if (node.records.record(key) === undefined) return false;
    for (const { identity } of reached) this.#mustHave(identity, key, record.counter);
    if (!isMajority || !this.#members.some(({ running }) => running === node)) return false;
    this.model.acked(key, record.counter);
    this.#count('acknowledged');
    return true;
  }

  /** That it was said to have it is of no use unless it is durable there. */
  #mustHave(identity: string, key: string, counter: number): void {
    const node = this.cluster.nodes.find((one) => one.node.identity === identity);
    const records = node?.running?.records;
    if (records === undefined || this.#isRestored) return;
    const record = records.record(key);
    if (record === undefined && key.startsWith('row/')) return;
    if (record === undefined || record.counter < counter)
      this.model.violate(`${node?.node.name} does not have ${key} ${counter} as it said`);
  }

  async #admin(node: RunningNode): Promise<void> {
    const key = `admin/${this.cluster.scheduler.pick(NAMES)}`;
    const birth = this.#next++;
    const isDeletion = this.cluster.scheduler.chance(0.3);
    let deleted: number | undefined;
    await this.#change(node, key, (value) => {
      const password = memberOf(value ?? {}, 'password');
      if (typeof password !== 'number') return isDeletion ? undefined : { password: birth };
      if (isDeletion) {
        this.#count('deletion of an admin');
        deleted = Math.floor(password);
      }
      return isDeletion ? { deleted: true } : { password: Math.floor(password) + birth / 1e6 };
    }).then((isAcked) => {
      if (isAcked && deleted !== undefined && node.records.get(key) !== undefined)
        this.model.birthDeleted(deleted);
    });
  }

  async #switch(node: RunningNode): Promise<void> {
    const { identity } = node.node;
    // One who goes to and fro is not to outdo one who does not know of it.
    const times = this.cluster.scheduler.chance(0.3) ? 4 : 1;
    for (let time = 0; time < times; time++) await this.#flip(node, identity);
  }

  async #flip(node: RunningNode, identity: string): Promise<void> {
    if (this.cluster.scheduler.chance(0.5)) {
      this.#count('start');
      await whileEnding(node.records, this.model, () => startSplits(node.records));
      return;
    }
    const reason = `reason ${this.#next++}`;
    this.model.stopAttempted(identity, reason);
    await stopSplits(node.records, identity, reason);
    this.#count('stop');
    this.model.stopAcked(identity, reason);
  }

  async #database(node: RunningNode): Promise<void> {
    const database = this.cluster.scheduler.pick(NAMES);
    const key = `database/${database}`;
    const made = `i${this.#next++}`;
    let deleted: string[] = [];
    let created: Incarnation | undefined;
    const seconds = Math.floor(node.host.timeOfDay() / 1000);
    const isAcked = await this.#change(
      node,
      key,
      (value) => {
        deleted = liveIncarnations(value).map(({ incarnation }) => incarnation);
        for (const one of deleted) this.model.deletionAttempted(one);
        if (value !== undefined && deleted.length > 0) return withoutIncarnations(value, deleted);
        const suffix = nextSuffix(value, seconds);
        const by = node.node.identity;
        const description = { by, suffix, q: 2 };
        created = { incarnation: made, by, suffix, description };
        return withIncarnation(value, made, description);
      },
      () => {
        if (created !== undefined && !this.#isRestored)
          this.model.incarnationMade(database, created);
      },
    );
    this.#count(created === undefined ? 'deletion' : 'creation');
    if (!isAcked) return;
    if (created !== undefined) this.model.incarnationAcked(made);
    else for (const one of deleted) this.model.deletionAcked(one);
  }

  async #row(node: RunningNode): Promise<void> {
    const database = this.cluster.scheduler.pick(NAMES);
    const [live] = liveIncarnations(node.records.get(`database/${database}`));
    if (live === undefined) return;
    const { incarnation, by, suffix } = live;
    const row = {
      ...{ database, incarnation, by, suffix },
      shards: [{ range: '00000000-ffffffff', file: `f${this.#next++}` }],
    };
    const isContested = node.rows.own(database, incarnation)?.isContested === true;
    if (isContested) this.#count('contested row');
    // Whoever knows what is whose says so, some time.
    const isSettled = isContested && this.cluster.scheduler.chance(0.5);
    this.model.rowWritten(node.node.identity, row);
    await (isSettled ? node.rows.settle(row) : node.rows.write(row));
    this.#count('row');
    await this.#ack(node, `row/${node.node.identity}/${database}/${incarnation}`);
  }

  async #identity(node: RunningNode): Promise<void> {
    await this.#change(node, 'identity', () => ({ uuid: `u${this.#next++}`, secret: 's' }));
    // Changes that know nothing of a removal, or of a deletion, are not to outdo it by their number.
    for (let time = 0; time < 3; time++) {
      await this.#change(node, `member/${node.node.identity}`, (value) =>
        memberOf(value ?? {}, 'state') === 'member'
          ? { ...value, url: `http://u${time}.test` }
          : undefined,
      );
      await this.#change(node, 'admin/a', (value) => {
        const password = memberOf(value ?? {}, 'password');
        return typeof password === 'number' ? { password: password + 1e-7 } : undefined;
      });
    }
  }

  #cut(): void {
    const { scheduler, network } = this.cluster;
    const identities = this.#members.map(({ node }) => node.identity);
    if (scheduler.chance(0.4)) {
      this.#count('one-sided cut');
      network.cut(scheduler.pick(identities), scheduler.pick(identities));
      return;
    }
    this.#count('two-sided cut');
    const side = identities.filter(() => scheduler.chance(0.5));
    network.part(
      side,
      identities.filter((identity) => !side.includes(identity)),
    );
  }

  async #start(node: SimulatedNode): Promise<void> {
    for (;;) {
      try {
        const running = await this.cluster.scheduler.until(node.start());
        this.model.watch(running);
        this.#catchUp(running);
        return;
      } catch (error) {
        if (!isOfCrash(error) && !isDivanError(error, 'IO')) throw error;
        node.crash();
      }
    }
  }

  /** Once it says that it knows what was changed while it was away, it must. */
  #catchUp(running: RunningNode): void {
    const acked = this.model.ackedCounters();
    const isRestored = this.#isRestored;
    void running.spread.caughtUp(20_000).then(({ missed, reached }) => {
      if (missed.length > 0 || reached.length < 2 || running.host.isDead || isRestored) return;
      if (this.#isRestored) return;
      this.#count('caught up');
      for (const [key, counter] of acked) {
        const record = running.records.record(key);
        if (record === undefined ? !key.startsWith('row/') : record.counter < counter)
          this.model.violate(`${running.node.name} caught up, and does not know ${key} ${counter}`);
      }
    });
  }

  #crash(): void {
    const { scheduler } = this.cluster;
    const up = this.#members.filter((node) => node.isUp);
    if (up.length === 0) return;
    this.#count('crash');
    const node = scheduler.pick(up);
    if (this.#options.disks === 'simulated' && scheduler.chance(0.5)) node.crashSoon();
    else node.crash();
  }

  async #restart(): Promise<void> {
    for (const node of this.#members) {
      if (node.isUp || this.cluster.scheduler.chance(0.3)) continue;
      await this.#start(node);
      this.#count('restart');
    }
  }

  #jump(): void {
    this.#count('clock jump');
    const { scheduler } = this.cluster;
    scheduler.pick(this.cluster.nodes).clock.skewMs = (scheduler.below(3) - 1) * 7_200_000;
  }

  async #add(): Promise<void> {
    const { scheduler } = this.cluster;
    const coordinator = this.#members.find((node) => node.isUp)?.running;
    const node = this.#spare[0];
    if (coordinator === undefined || node === undefined) return;
    this.#spare.shift();
    await this.#start(node);
    node.running?.members.trust(coordinator.node.identity);
    try {
      await scheduler.until(coordinator.members.add(node.node));
    } catch (error) {
      this.#forgive(error);
      node.crash();
      this.#spare.push(node);
      return;
    }
    this.#members.push(node);
    this.#count('added');
    // What was acknowledged stays so if majorities overlap: nodes are added and removed when the others are there.
    await this.#calm(20_000);
  }

  /** Disks fail; and what was added may be forgotten by who was set back. */
  #forgive(error: unknown): void {
    if (isOfCrash(error) || isDivanError(error, 'IO')) return;
    if (!this.#isRestored || !isDivanError(error, 'NOT_FOUND')) throw error;
  }

  async #remove(): Promise<void> {
    if (this.#members.length < 3) return;
    await this.#calm(20_000);
    const { scheduler } = this.cluster;
    const node = scheduler.pick(this.#members);
    const by = this.#members.find((other) => other !== node)?.running;
    if (by === undefined) return;
    const { identity } = node.node;
    try {
      if (scheduler.chance(0.5)) await this.#changeUnheard(node, by);
      await scheduler.until(by.members.remove(identity));
    } catch (error) {
      this.#forgive(error);
      return;
    }
    this.#members.splice(this.#members.indexOf(node), 1);
    this.model.left(identity);
    this.#count('removed');
    this.cluster.network.heal();
    await scheduler.pass(8000);
    // It may go on for a while, and is to be no trouble.
    if (scheduler.chance(0.5)) node.crash();
  }

  /** All but the one that is about to remove a node hear that it has changed, again and again: that is not to outdo the removal. */
  async #changeUnheard(node: SimulatedNode, by: RunningNode): Promise<void> {
    const { scheduler, network } = this.cluster;
    const others = this.#members.map((other) => other.node.identity);
    network.part([by.node.identity], others);
    this.#count('removed unheard');
    const records = node.running?.records;
    for (let time = 0; records !== undefined && time < 3; time++) {
      const change = records.change(`member/${node.node.identity}`, (value) =>
        value === undefined ? undefined : { ...value, url: `http://unheard${time}.test` },
      );
      await scheduler.until(change);
    }
    await scheduler.pass(2000);
  }

  async #backUpOrRestore(): Promise<void> {
    const { scheduler } = this.cluster;
    const node = scheduler.pick(this.#members);
    // So that others know a row of it that the backup does not have.
    if (node.running !== undefined)
      await scheduler.until(this.#row(node.running)).catch(() => undefined);
    const backup = this.#backups.get(node);
    if (backup === undefined) {
      if (node.isUp) this.#backups.set(node, node.backup());
      return;
    }
    this.#count('set back');
    this.#isRestored = true;
    node.crash();
    node.restore(backup);
    this.model.setBack(node.node.identity);
    await this.#start(node);
  }

  /** All is healed and runs, for so long. */
  async #calm(ms: number): Promise<void> {
    const { network, scheduler } = this.cluster;
    const { weather } = network;
    network.heal();
    network.weather = FAIR;
    for (const node of this.#members) {
      node.spare();
      if (!node.isUp) await this.#start(node);
    }
    await scheduler.pass(ms);
    const running = this.#members.flatMap((node) => node.running ?? []);
    if (!this.#isRestored) for (const node of running) this.model.checkSwitches(node);
    network.weather = weather;
  }
}
