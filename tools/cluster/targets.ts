/** Which shards a node holds, and which nodes take them. */
import type { AdminClient } from './admin-client.js';
import { memberOf } from './admin-client.js';
import { databasesOf, placesOf } from './report.js';

export interface HeldShard {
  readonly database: string;
  /** As jobs name it, `shards/<range>/<database>.<timestamp>`. */
  readonly shard: string;
}

/** The ranges of each database that a node holds, as the one that is asked knows it. Throws what `AdminClient.call` throws. */
export async function heldRanges(
  node: AdminClient,
  holder: string,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const held = new Map<string, readonly string[]>();
  for (const database of await databasesOf(node)) {
    const places = await placesOf(node, database);
    const ranges = [...(places ?? [])].filter(([, nodes]) => nodes.includes(holder));
    if (ranges.length > 0) {
      held.set(
        database,
        ranges.map(([range]) => range),
      );
    }
  }
  return held;
}

/** The same, as jobs name it, which the nodes that have these databases must be reached for. Throws what `AdminClient.call` throws. */
export async function heldShards(node: AdminClient, holder: string): Promise<HeldShard[]> {
  const held: HeldShard[] = [];
  for (const [database, ranges] of await heldRanges(node, holder)) {
    const reply = await node.ask('GET', `/${encodeURIComponent(database)}`);
    if (reply.status === 404) continue;
    if (reply.status !== 200) throw node.failure(`GET /${database}`, reply);
    const suffix = String(memberOf(reply.body, 'instance_start_time'));
    for (const range of ranges) {
      held.push({ database, shard: `shards/${range}/${database}.${suffix}` });
    }
  }
  return held;
}

/** Spreads shards evenly: each goes to the node that has the fewest of its database, of those to the one that has the fewest of all. */
export class Targets {
  /** How many shards each node has, by its name. */
  readonly #all: Map<string, number>;
  /** Likewise, of each database. */
  readonly #ofDatabase = new Map<string, Map<string, number>>();

  constructor(shards: ReadonlyMap<string, number>) {
    this.#all = new Map(shards);
  }

  /** Tells of a shard that a node has, which is counted among all of its shards already. */
  note(database: string, node: string): void {
    const counts = this.#ofDatabase.get(database) ?? new Map<string, number>();
    counts.set(node, (counts.get(node) ?? 0) + 1);
    this.#ofDatabase.set(database, counts);
  }

  /** The node that is to take another shard of a database, which is counted from now on; undefined if there is none. */
  take(database: string): string | undefined {
    const counts = this.#ofDatabase.get(database);
    const byFewest = [...this.#all].sort(
      ([a, allOfA], [b, allOfB]) =>
        (counts?.get(a) ?? 0) - (counts?.get(b) ?? 0) || allOfA - allOfB || (a < b ? -1 : 1),
    );
    const target = byFewest[0]?.[0];
    if (target === undefined) return undefined;
    this.note(database, target);
    this.#all.set(target, (this.#all.get(target) ?? 0) + 1);
    return target;
  }
}
