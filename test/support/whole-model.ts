/**
 * What a cluster of whole servers promises of its databases and of the switch of its jobs, kept by what was asked for and answered, with none of the
 * code that decides it. What the documents are to be is in `document-model.ts`.
 */
import type { ClusterRecords } from '../../server/cluster/cluster-records.js';
import type { Node } from '../../server/cluster/peers.js';
import {
  DATABASE_KEY_PREFIX,
  databaseKey,
  inForce,
  isDeleted,
  nameOfDatabaseKey,
  readDatabaseValue,
} from '../../server/databases/database-record.js';
import { DocumentModel } from './document-model.js';
import { reasonsIn } from './ended-stops.js';
import { RecordWatch } from './record-watch.js';

const VIOLATIONS_MAX = 20;

/** One making of a database that was durable somewhere. */
export interface Making {
  readonly name: string;
  readonly maker: string;
  readonly suffix: number;
  /** Those that its maker knew to be deleted when it made this one: nothing of them may be in it. */
  readonly deletedBefore: ReadonlySet<string>;
}

/** A change of a database that a node was asked for and is making. */
interface Changing {
  readonly node: string;
  readonly name: string;
  readonly what: 'create' | 'remove';
}

interface Stop {
  readonly reason: string;
  isDurable: boolean;
}

export class WholeModel {
  readonly violations: string[] = [];
  readonly documents = new DocumentModel((text) => this.violate(text));
  readonly #records = new RecordWatch((text) => this.violate(text));
  /** By incarnation. */
  readonly #makings = new Map<string, Making>();
  readonly #deleted = new Set<string>();
  readonly #changing = new Set<Changing>();
  readonly #stops = new Map<string, Stop>();
  readonly #endedStops = new Set<string>();

  violate(text: string): void {
    if (this.violations.length < VIOLATIONS_MAX) this.violations.push(text);
  }

  making(incarnation: string): Making | undefined {
    return this.#makings.get(incarnation);
  }

  /** That a node begins to live, or does so again. */
  watch(node: Node, records: ClusterRecords): void {
    this.#records.begin(node, records);
    const look = (key: string) => {
      const name = nameOfDatabaseKey(key);
      if (name !== undefined) this.#databaseChanged(node, name, records);
    };
    for (const key of records.keys(DATABASE_KEY_PREFIX)) look(key);
    // What its process before was about to do is done by now, or never is.
    for (const one of this.#changing) if (one.node === node.identity) this.#changing.delete(one);
    records.onChange(look);
  }

  /** A node is asked to change a database; what is returned is called when it has answered. */
  changes({ identity: node }: Node, what: Changing['what'], name: string): () => void {
    const changing = { node, what, name };
    this.#changing.add(changing);
    return () => this.#changing.delete(changing);
  }

  #databaseChanged({ identity, name: node }: Node, name: string, records: ClusterRecords): void {
    const value = readDatabaseValue(records.get(databaseKey(name)));
    for (const [incarnation, made] of value.incarnations) {
      if (this.#makings.has(incarnation)) continue;
      const { maker, suffix } = made;
      for (const other of this.#makings.values()) {
        if (other.name === name && other.maker === maker && other.suffix >= suffix)
          this.violate(`${node} made ${name} with ${suffix} after ${other.suffix}`);
      }
      const deletedBefore = new Set(
        [...this.#makings].flatMap(([before, making]) =>
          making.name === name && isDeleted(value, making) ? [before] : [],
        ),
      );
      this.#makings.set(incarnation, { name, maker, suffix, deletedBefore });
    }
    for (const [incarnation, making] of this.#makings) {
      if (making.name !== name || this.#deleted.has(incarnation)) continue;
      if (!isDeleted(value, making)) continue;
      this.#deleted.add(incarnation);
      if (!this.#mayDelete(identity, making))
        this.violate(`${node} deleted ${name} ${incarnation}, and was not asked to`);
    }
  }

  /** A creation that fails takes back what it made. */
  #mayDelete(node: string, { name, maker }: Making): boolean {
    return [...this.#changing].some(
      (one) => one.node === node && one.name === name && (one.what === 'remove' || maker === node),
    );
  }

  // The switch.

  stopAsked(node: string, reason: string): void {
    this.#stops.set(node, { reason, isDurable: false });
  }

  stopAnswered(node: string, reason: string): void {
    const stop = this.#stops.get(node);
    if (stop?.reason === reason) stop.isDurable = true;
  }

  /** A start was asked for where these were known. */
  stopsEnded(reasons: readonly string[]): void {
    for (const reason of reasons) this.#endedStops.add(reason);
  }

  // What must be so in the end.

  /** The databases that must be there, by name: the one in force, and all whose documents it must have. */
  checkDatabases(records: ClusterRecords): Map<string, { force: string; live: Set<string> }> {
    const found = new Map<string, { force: string; live: Set<string> }>();
    for (const [incarnation, making] of this.#makings) {
      const { name } = making;
      const value = readDatabaseValue(records.get(databaseKey(name)));
      const isLive = value.incarnations.has(incarnation);
      const isGone = this.#deleted.has(incarnation);
      if (isLive === isGone)
        this.violate(`${name} ${incarnation} was ${isGone ? '' : 'not '}deleted, and is wrong`);
      const force = inForce(value)?.incarnation;
      if (force !== undefined) found.set(name, { force, live: new Set(value.incarnations.keys()) });
    }
    return found;
  }

  /** REQUIRES: the node had time to hear of everything. */
  checkStops(node: string, records: ClusterRecords): void {
    const reasons = reasonsIn(records);
    for (const [by, { reason, isDurable }] of this.#stops) {
      if (isDurable && !this.#endedStops.has(reason) && !reasons.includes(reason))
        this.violate(`${node}: the stop ${reason} of ${by} was never ended and is not in force`);
    }
  }
}
