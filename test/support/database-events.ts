/** What clients do with the databases of a cluster of whole servers: make them, remove them, write documents. */
import type { Database } from '../../server/databases/database.js';
import { numberIn } from './whole-checks.js';
import type { WholeCluster } from './whole-cluster.js';
import type { RunningServer } from './whole-node.js';

export const NAMES = ['a', 'b', 'c'];
const IDS = 12;
const Q_MAX = 3;
const DELETIONS = 0.2;

export class DatabaseEvents {
  readonly #cluster: WholeCluster;

  constructor(cluster: WholeCluster) {
    this.#cluster = cluster;
  }

  create(): void {
    const node = this.#cluster.pickRunning();
    if (node !== undefined) this.#background(node, this.#create(node, this.#pickName()));
  }

  remove(): void {
    const node = this.#cluster.pickRunning();
    if (node !== undefined) this.#background(node, this.#remove(node, this.#pickName()));
  }

  /** Two nodes that do not hear each other make a database of the same name, and it is written on both sides. */
  rivals(): void {
    const { network, scheduler, members } = this.#cluster;
    const a = this.#cluster.pickRunning();
    const b = a === undefined ? undefined : this.#cluster.pickRunning(a);
    if (a === undefined || b === undefined) return;
    const rest = members.flatMap(({ running }) =>
      running === a || running === b ? [] : (running ?? []),
    );
    const sides: RunningServer[][] = [[a], [b]];
    for (const node of rest) sides[scheduler.below(2)]?.push(node);
    const [one = [], other = []] = sides.map((side) => side.map(({ node }) => node.identity));
    network.part(one, other);
    this.#cluster.count('two-sided cut');
    const name = this.#pickName();
    for (const node of [a, b]) this.#background(node, this.#makeAnew(node, name));
    this.#cluster.count('rivals');
  }

  /**
   * Of two rivals each is known on its side only; two of three nodes hear of both, so that one is set aside, and then the third one removes the
   * one that it knows.
   */
  async betrayal(): Promise<void> {
    const { network, scheduler } = this.#cluster;
    const a = this.#cluster.pickRunning();
    const b = a === undefined ? undefined : this.#cluster.pickRunning(a);
    const c = a === undefined || b === undefined ? undefined : this.#cluster.pickRunning(a, b);
    if (a === undefined || b === undefined || c === undefined) return;
    network.heal();
    const name = this.#pickName();
    const others = this.#cluster.running.filter((node) => node !== a);
    const identities = others.map(({ node }) => node.identity);
    network.part([a.node.identity], identities);
    for (const node of [a, b]) this.#background(node, this.#makeAnew(node, name));
    await scheduler.pass(scheduler.below(4000));
    for (let times = 0; times < 6; times++) this.write();
    network.heal();
    const rest = this.#cluster.running.flatMap(({ node }) =>
      node === c.node ? [] : node.identity,
    );
    network.part([c.node.identity], rest);
    await scheduler.pass(scheduler.below(9000));
    this.#background(c, this.#remove(c, name));
    await scheduler.pass(scheduler.below(2000));
    network.heal();
    this.#cluster.count('betrayal');
  }

  /** A document of a database, of some one if it is not named, is written where it is. */
  write(name = this.#pickName()): void {
    const { scheduler } = this.#cluster;
    const id = `d${scheduler.below(IDS)}`;
    const key = Buffer.from(id);
    const owners = this.#cluster.running.filter(({ services }) => {
      const database = services.catalog.find(name);
      return database !== undefined && database.current.find(key) >= 0;
    });
    if (owners.length === 0) return;
    const node = scheduler.pick(owners);
    const database = node.services.catalog.find(name);
    if (database !== undefined) this.#background(node, this.#write(database, id));
  }

  async #makeAnew(node: RunningServer, name: string): Promise<void> {
    if (node.services.directory.find(name) !== undefined) await this.#remove(node, name);
    await this.#create(node, name);
  }

  async #create({ node, services }: RunningServer, name: string): Promise<void> {
    const { scheduler, model } = this.#cluster;
    const done = model.changes(node, 'create', name);
    const q = 1 + scheduler.below(Q_MAX);
    const security = scheduler.chance(0.5)
      ? Buffer.from('{"admins":{"names":["x"]}}')
      : Buffer.of();
    try {
      await services.directory.create(name, { q, copies: 1, hashRule: 'document', security });
      this.#cluster.count('creation');
    } finally {
      done();
    }
  }

  async #remove({ node, services }: RunningServer, name: string): Promise<void> {
    const done = this.#cluster.model.changes(node, 'remove', name);
    try {
      await services.directory.remove(name);
      this.#cluster.count('deletion');
    } finally {
      done();
    }
  }

  async #write(database: Database, id: string): Promise<void> {
    const { scheduler, model } = this.#cluster;
    const { name, map } = database;
    const key = Buffer.from(id);
    const before = await database.read(key, async (snapshot) => {
      const leaf = (await snapshot.document(key))?.leaves[0];
      if (leaf === undefined) return undefined;
      return { revision: leaf.revision, number: numberIn(await snapshot.body(leaf)) };
    });
    const isDeletion = before !== undefined && scheduler.chance(DELETIONS);
    const { incarnation } = map;
    const parent = before?.number;
    const number = model.documents.tried({ database: name, incarnation, id, parent, isDeletion });
    this.#cluster.count('write');
    const body = Buffer.from(JSON.stringify({ number }));
    await database.put({ id: key, body, deleted: isDeletion, parent: before?.revision });
    model.documents.acked(number);
    this.#cluster.count('acknowledged write');
  }

  #pickName(): string {
    return this.#cluster.scheduler.pick(NAMES);
  }

  #background({ node }: RunningServer, work: Promise<void>): void {
    this.#cluster.background(node.name, work);
  }
}
