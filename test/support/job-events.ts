/** What operators do with the jobs of a cluster of whole servers: splits, merges and moves, through any node, and the switch that stops them all. */
import { namesOfShardFile } from '../../server/databases/shard-map.js';
import type { JsonObject } from '../../server/http/json-value.js';
import { isForward } from '../../server/splits/phases.js';
import { reasonsIn, whileEnding } from './ended-stops.js';
import { FAIR } from './simulated-network.js';
import type { WholeCluster } from './whole-cluster.js';
import type { RunningServer } from './whole-node.js';

/** A database has at most so many shards because of splits. */
const SHARDS_MAX = 8;
const WHILE_STOPPED = 0.2;
/** A node that came back is looked at so often. */
const LOOKS = 30;

export class JobEvents {
  readonly #cluster: WholeCluster;
  /** Those that were seen to be completed. */
  readonly #completed = new Set<string>();
  #stops = 0;

  constructor(cluster: WholeCluster) {
    this.#cluster = cluster;
  }

  /** Counts the jobs that were completed since it was called before. */
  look(): void {
    for (const { services } of this.#cluster.running) {
      for (const [id, { job }] of services.jobs.all) {
        if (job.state !== 'completed' || this.#completed.has(id)) continue;
        this.#completed.add(id);
        this.#cluster.count(job.type);
      }
    }
  }

  /** Makes a job of some kind, through any node. */
  create(): void {
    const { scheduler } = this.#cluster;
    const node = this.#cluster.pickRunning();
    if (node === undefined) return;
    const at = scheduler.random();
    const body = at < 0.35 ? this.#split(node) : at < 0.65 ? this.#merge(node) : this.#move(node);
    if (body === undefined) return;
    const { clusterJobs } = node.services;
    const made = clusterJobs.create(String(body['node']), body, scheduler.chance(WHILE_STOPPED));
    this.#background(node, made);
  }

  /** Stops, resumes or removes some job, through any node. */
  control(): void {
    const { scheduler } = this.#cluster;
    const holder = this.#cluster.pickRunning();
    const by = this.#cluster.pickRunning();
    const ids = [...(holder?.services.jobs.all.keys() ?? [])];
    if (by === undefined || ids.length === 0) return;
    const id = scheduler.pick(ids);
    const { clusterJobs } = by.services;
    const at = scheduler.random();
    const work =
      at < 0.3
        ? clusterJobs.stopJob(id, 'for a moment')
        : at < 0.8
          ? clusterJobs.resumeJob(id)
          : clusterJobs.remove(id);
    this.#background(by, work);
  }

  /** Stops or starts all. */
  flip(): void {
    const node = this.#cluster.pickRunning();
    if (node === undefined) return;
    const isStart = this.#cluster.scheduler.chance(0.7);
    this.#background(node, isStart ? this.start(node) : this.stop(node));
  }

  /** A node comes back, with jobs that would go on, after all others have stopped them: it has to ask before it begins. */
  async comeBack(): Promise<void> {
    const { scheduler, network } = this.#cluster;
    const node = this.#cluster.pickRunning();
    const by = node === undefined ? undefined : this.#cluster.pickRunning(node);
    const body = node === undefined ? undefined : this.#ownJob(node);
    if (node === undefined || by === undefined || body === undefined) return;
    network.heal();
    network.weather = FAIR;
    for (const { machine } of this.#cluster.members) machine.clock.skewMs = 0;
    this.#background(node, node.services.clusterJobs.create(node.node.name, body, true));
    await scheduler.pass(5 + scheduler.below(40));
    node.whole.crash();
    this.#cluster.count('crash');
    this.#background(by, this.stop(by));
    await scheduler.pass(300);
    const others = this.#cluster.running;
    await this.#cluster.start(node.whole);
    this.#cluster.count('restart');
    const known = others.map(({ records }) => reasonsIn(records).join());
    let ran: string | undefined;
    for (let look = 0; look < LOOKS; look++) {
      await scheduler.pass(2);
      ran ??= runningJob(node.whole.running);
    }
    // It may be the one that knew of a start which ends what the others know.
    await scheduler.pass(3000);
    const isInForce = others.every(
      ({ records }, index) => known[index] !== '' && reasonsIn(records).join() === known[index],
    );
    if (ran !== undefined && isInForce)
      this.#cluster.model.violate(`${node.node.name} came back and ran ${ran}`);
    this.#cluster.count('come back');
  }

  /** A job on one of its shards. */
  #ownJob(node: RunningServer): JsonObject | undefined {
    const { catalog } = node.services;
    const files = catalog.names().flatMap((name) => catalog.find(name)?.map.shards ?? []);
    if (files.length === 0) return undefined;
    const { file } = this.#cluster.scheduler.pick(files);
    return { type: 'split', node: node.node.name, shard: shardName(file) };
  }

  async stop({ node, services }: RunningServer): Promise<void> {
    const { model } = this.#cluster;
    const reason = `reason ${this.#stops++}`;
    model.stopAsked(node.identity, reason);
    this.#cluster.count('stop');
    await services.clusterJobs.stop(reason);
    model.stopAnswered(node.identity, reason);
  }

  async start({ services, records }: RunningServer): Promise<void> {
    this.#cluster.count('start');
    await whileEnding(records, this.#cluster.model, () => services.clusterJobs.start());
  }

  /** Moves some shard of a node to another one of the members; false if it has none. */
  async moveFrom(node: RunningServer, by: RunningServer): Promise<boolean> {
    const { directory, clusterJobs } = by.services;
    for (const name of directory.names()) {
      const part = directory
        .find(name)
        ?.parts.find((part) => part.node.identity === node.node.identity);
      const [shard] = part?.shards ?? [];
      if (shard === undefined) continue;
      const { scheduler, members } = this.#cluster;
      const others = members.filter((other) => other !== node.whole);
      const target = scheduler.pick(others).name;
      const body = { type: 'move', node: node.node.name, shard: shardName(shard.file), target };
      await clusterJobs.create(body.node, body, false);
      return true;
    }
    return false;
  }

  #split(node: RunningServer): JsonObject | undefined {
    const { scheduler } = this.#cluster;
    const found = this.#pickPart(node);
    if (found === undefined || found.total >= SHARDS_MAX) return undefined;
    const shard = shardName(scheduler.pick(found.shards).file);
    return { type: 'split', node: found.node, shard };
  }

  #merge(node: RunningServer): JsonObject | undefined {
    const found = this.#pickPart(node);
    const pairs = (found?.shards ?? []).flatMap((shard, index, shards) => {
      const next = shards[index + 1];
      return next?.range.start === shard.range.end + 1 ? [[shard, next]] : [];
    });
    if (found === undefined || pairs.length === 0) return undefined;
    const shards = this.#cluster.scheduler.pick(pairs).map(({ file }) => shardName(file));
    return { type: 'merge', node: found.node, shards };
  }

  #move(node: RunningServer): JsonObject | undefined {
    const { scheduler, members } = this.#cluster;
    const found = this.#pickPart(node);
    if (found === undefined) return undefined;
    const others = members.filter(({ name }) => name !== found.node);
    if (others.length === 0) return undefined;
    const shard = shardName(scheduler.pick(found.shards).file);
    return { type: 'move', node: found.node, shard, target: scheduler.pick(others).name };
  }

  /** Some part of some database that has shards. */
  #pickPart({ services: { directory } }: RunningServer) {
    const { scheduler } = this.#cluster;
    const parts = directory.names().flatMap((name) => {
      const parts = directory.find(name)?.parts ?? [];
      const total = parts.reduce((sum, { shards }) => sum + shards.length, 0);
      return parts.map(({ node, shards }) => ({ node: node.name, total, shards }));
    });
    return parts.length === 0 ? undefined : scheduler.pick(parts);
  }

  #background({ node }: RunningServer, work: Promise<unknown>): void {
    this.#cluster.background(node.name, work);
  }
}

function shardName(file: string): string {
  return namesOfShardFile(file).shard;
}

/** A job that a node runs though it could stop it. */
function runningJob(node: RunningServer | undefined): string | undefined {
  const jobs = node?.services.jobs.list() ?? [];
  return jobs.find(({ job, isWorking }) => isWorking && !isForward(job.phase))?.job.id;
}
