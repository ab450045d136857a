/** The directory of a node alone: its catalog. */
import type { Node } from '../cluster/peers.js';
import type { Catalog, NewDatabase } from './catalog.js';
import type { Directory, MadeListener, Placement } from './placement.js';
import type { ShardMap } from './shard-map.js';

export class CatalogDirectory implements Directory {
  readonly #catalog: Catalog;
  readonly #self: () => Node;
  readonly #onMade: MadeListener;
  /** Each is asked for with every request. */
  readonly #placements = new WeakMap<ShardMap, Placement>();

  constructor(catalog: Catalog, self: () => Node, onMade: MadeListener) {
    this.#catalog = catalog;
    this.#self = self;
    this.#onMade = onMade;
  }

  find(name: string): Placement | undefined {
    const map = this.#catalog.find(name)?.map;
    if (map === undefined) return undefined;
    let placement = this.#placements.get(map);
    if (placement === undefined) {
      placement = placementOf(map, this.#self());
      this.#placements.set(map, placement);
    }
    return placement;
  }

  names(): string[] {
    return this.#catalog.names();
  }

  onChange(listener: (name: string) => void): () => void {
    return this.#catalog.onChange((name) => listener(name));
  }

  async create(name: string, options: NewDatabase): Promise<boolean> {
    await this.#catalog.create(name, options);
    this.#onMade('created', name);
    return true;
  }

  async remove(name: string): Promise<boolean> {
    await this.#catalog.remove(name);
    this.#onMade('deleted', name);
    return true;
  }

  async close(): Promise<void> {}
}

function placementOf(map: ShardMap, node: Node): Placement {
  const { name, incarnation, hashRule, copies, timestamp, epoch, shards } = map;
  const parts = [{ node, epoch, shards }];
  return { name, incarnation, hashRule, q: shards.length, copies, timestamp, parts };
}
