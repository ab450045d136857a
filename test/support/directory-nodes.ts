/** Some nodes of a `FakeCluster`, and what is often done with them. */
import type { Test } from 'tap';
import { MemoryStorage } from '../../engine/file/memory-storage.js';
import type { Storage } from '../../engine/file/storage.js';
import type { Database } from '../../server/databases/database.js';
import type { Placement } from '../../server/databases/placement.js';
import { formatCover } from '../../server/databases/shard-map.js';
import { DirectoryNode, eventually, ownerOf } from './directory-node.js';
import { FakeCluster } from './fake-cluster.js';

export class Nodes {
  readonly cluster: FakeCluster;
  readonly all: DirectoryNode[] = [];
  readonly storages: Storage[] = [];

  constructor(count: number) {
    this.cluster = new FakeCluster(count);
    for (let index = 0; index < count; index++) this.storages.push(new MemoryStorage());
  }

  static async start(t: Test, count: number): Promise<Nodes> {
    const nodes = new Nodes(count);
    for (let index = 0; index < count; index++) await nodes.start(index);
    t.teardown(() => nodes.close());
    return nodes;
  }

  async close(): Promise<void> {
    for (const node of this.all) {
      if (this.cluster.running.has(node.node.identity)) await node.close();
    }
  }

  async start(index: number, skewMs = 0): Promise<DirectoryNode> {
    const storage = this.storages[index] ?? new MemoryStorage();
    const { cluster } = this;
    const node = await DirectoryNode.start({ cluster, index, storage, seed: 1, skewMs });
    this.all[index] = node;
    await cluster.exchange();
    return node;
  }

  at(index: number): DirectoryNode {
    const node = this.all[index];
    if (node === undefined) throw new RangeError(`there is no node ${index}`);
    return node;
  }

  /** Cuts the first so many nodes off from the others. */
  cut(count: number): void {
    const isLeft = (identity: string) => Number(identity) <= count;
    this.cluster.isCut = (a, b) => isLeft(a) !== isLeft(b);
  }

  async heal(): Promise<boolean> {
    this.cluster.isCut = () => false;
    await this.cluster.exchange();
    return this.settled();
  }

  /** All agree on a whole, and nothing is set aside any more. */
  get isSettled(): boolean {
    const [first = '', ...others] = this.all.map((node) => viewOf(node));
    if (this.all.some(({ catalog }) => catalog.aside.all().length > 0)) return false;
    const areWhole = this.all.every(({ directory }) =>
      directory.names().every((name) => coverOf(directory.find(name)) === FULL),
    );
    return areWhole && others.every((other) => other === first);
  }

  settled(): Promise<boolean> {
    return eventually(() => this.isSettled);
  }

  /** Has a node place new databases on some nodes only, by their indexes, or on all again. */
  place(index: number, on: readonly number[] | undefined): void {
    const { identity } = this.at(index).node;
    if (on === undefined) this.cluster.places.delete(identity);
    else
      this.cluster.places.set(
        identity,
        on.map((other) => this.at(other).node),
      );
  }

  async put(name: string, id: string, body = '{}', on?: number): Promise<void> {
    const database = this.owner(name, id, on);
    await database.put({ id: Buffer.from(id), body: Buffer.from(body), deleted: false });
  }

  async get(name: string, id: string): Promise<string | undefined> {
    const key = Buffer.from(id);
    return this.owner(name, id).read(key, async (snapshot) => {
      const leaf = (await snapshot.document(key))?.leaves.find(({ deleted }) => !deleted);
      return leaf === undefined ? undefined : Buffer.from(await snapshot.body(leaf)).toString();
    });
  }

  /** The part of a database that has a document; with `on` that of one node. Throws `RangeError` if no node has it. */
  owner(name: string, id: string, on?: number): Database {
    const nodes = on === undefined ? this.all : [this.at(on)];
    const owner = ownerOf(nodes, name, id);
    if (owner === undefined) throw new RangeError(`no node has ${id}`);
    return owner;
  }
}

/** All that a node says of databases. */
function viewOf({ directory }: DirectoryNode): string {
  return JSON.stringify(directory.names().map((name) => directory.find(name)));
}

export const FULL = '00000000-ffffffff';

/** Which ranges are on nodes. */
export function coverOf(placement: Placement | undefined): string {
  const shards = placement?.parts.flatMap((part) => part.shards) ?? [];
  return formatCover([...shards].sort((a, b) => a.range.start - b.range.start));
}
