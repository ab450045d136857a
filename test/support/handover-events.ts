/** What is bad for a job happens when it is: documents are written, and the power fails, while a shard is about to go to other files or nodes. */
import type { Phase, SplitJob } from '../../server/splits/job.js';
import type { DatabaseEvents } from './database-events.js';
import type { WholeCluster } from './whole-cluster.js';
import type { RunningServer } from './whole-node.js';

const CRITICAL: ReadonlySet<Phase> = new Set(['topoff1', 'update_shardmap']);
const PRESSURE = 0.5;
const WRITES = 6;
const CRASHES = 0.12;
const SOON_OPS = 16;

export class HandoverEvents {
  readonly #cluster: WholeCluster;
  readonly #databases: DatabaseEvents;
  /** The phase in which a job was when it was looked at last. */
  readonly #phases = new Map<string, Phase>();

  constructor(cluster: WholeCluster, databases: DatabaseEvents) {
    this.#cluster = cluster;
    this.#databases = databases;
  }

  /** To be called at every step. */
  look(): void {
    for (const node of this.#cluster.running) {
      for (const [id, { job }] of node.services.jobs.all) {
        if (this.#phases.get(id) === job.phase) continue;
        this.#phases.set(id, job.phase);
        if (CRITICAL.has(job.phase)) this.#disturb(node, job);
      }
    }
  }

  #disturb(node: RunningServer, { database }: SplitJob): void {
    const { scheduler } = this.#cluster;
    if (scheduler.chance(PRESSURE)) {
      for (let write = 0; write < WRITES; write++) {
        const soon = scheduler.random() * 8;
        scheduler.after(soon, () => this.#databases.write(database));
      }
    }
    if (this.#cluster.isCalm || !scheduler.chance(CRASHES)) return;
    this.#cluster.count('crash');
    const others = this.#cluster.running;
    const victim = scheduler.chance(0.6) ? node : scheduler.pick(others);
    victim.whole.machine.crashSoon(SOON_OPS);
  }
}
