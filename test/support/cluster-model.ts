/**
 * What a cluster promises of its records, checked by what was done and seen, with none of the code that decides it: no counter or mark of a
 * deletion falls, what was said to be at a majority is not lost, a deletion removes what it meant and a stop holds until a start that knew
 * of it, and in the end all nodes have the same.
 */

import type { Incarnation } from '../../server/cluster/incarnations.js';
import { isDeleted, liveIncarnations } from '../../server/cluster/incarnations.js';
import { memberOf } from '../../server/http/json-value.js';
import { RecordWatch } from './record-watch.js';
import type { NewRow } from './rows.js';
import type { RunningNode } from './simulated-cluster.js';

interface Stop {
  readonly reason: string;
  isAcked: boolean;
}

export class ClusterModel {
  readonly violations: string[] = [];
  readonly #watch = new RecordWatch((text) => this.violate(text));
  /** The counters that a majority had. */
  readonly #acked = new Map<string, number>();
  readonly #deletedBirths = new Set<number>();
  readonly #madeIncarnations = new Map<string, { database: string; made: Incarnation }>();
  readonly #deletedIncarnations = new Set<string>();
  readonly #ackedIncarnations = new Set<string>();
  readonly #ackedDeletions = new Set<string>();
  readonly #left = new Set<string>();
  /** What each node remembers that it wrote, or was about to. */
  readonly #ownRows = new Map<string, Set<string>>();
  readonly #stops = new Map<string, Stop>();
  readonly #endedStops = new Set<string>();

  /** That a node begins to live, or does so again. */
  watch({ node, records, rows }: RunningNode): void {
    for (const row of rows.ofNode(node.identity))
      if (!row.isContested) this.rowWritten(node.identity, row);
    this.#watch.begin(node, records);
    records.onChange((key) => {
      if (key.startsWith(`row/${node.identity}/`)) this.#checkOwnRows({ node, rows });
    });
  }

  /** A node was set back: what it had is not to be expected of it any more, and it may use an epoch twice. */
  setBack(identity: string): void {
    this.#watch.setBack(identity);
    this.#ownRows.delete(identity);
  }

  /** A node is about to write its row, or finds it as its own when it starts. */
  rowWritten(identity: string, row: NewRow): void {
    const own = this.#ownRows.get(identity) ?? new Set<string>();
    this.#ownRows.set(identity, own.add(textOf(row)));
  }

  violate(text: string): undefined {
    if (this.violations.length < 20) this.violations.push(text);
  }

  // What was done.

  acked(key: string, counter: number): void {
    this.#acked.set(key, Math.max(counter, this.#acked.get(key) ?? 0));
  }

  ackedCounters(): ReadonlyMap<string, number> {
    return new Map(this.#acked);
  }

  birthDeleted(birth: number): void {
    this.#deletedBirths.add(birth);
  }

  incarnationMade(database: string, made: Incarnation): void {
    for (const { database: name, made: other } of this.#madeIncarnations.values()) {
      const isOfSame = name === database && other.by === made.by;
      if (isOfSame && made.suffix <= other.suffix)
        this.violate(`${made.by} made ${database} with the suffix ${made.suffix} again`);
    }
    this.#madeIncarnations.set(made.incarnation, { database, made });
  }

  incarnationAcked(incarnation: string): void {
    this.#ackedIncarnations.add(incarnation);
  }

  deletionAttempted(incarnation: string): void {
    this.#deletedIncarnations.add(incarnation);
  }

  deletionAcked(incarnation: string): void {
    this.#ackedDeletions.add(incarnation);
  }

  left(identity: string): void {
    this.#left.add(identity);
  }

  stopAttempted(node: string, reason: string): void {
    this.#stops.set(node, { reason, isAcked: false });
  }

  stopAcked(node: string, reason: string): void {
    const stop = this.#stops.get(node);
    if (stop?.reason === reason) stop.isAcked = true;
  }

  stopsEnded(reasons: readonly string[]): void {
    for (const reason of reasons) this.#endedStops.add(reason);
  }

  // What must be so in the end.

  /** Of nodes that could talk for long enough. `isRestored`: some node was set back, which may lose what it alone had. */
  checkEnd(members: readonly RunningNode[], isRestored: boolean): undefined {
    const [first, ...others] = members;
    if (first === undefined) return this.violate('there are no members');
    for (const other of others) this.#checkSame(first, other);
    for (const member of members) this.#checkOwnRows(member);
    if (isRestored) return undefined;
    this.#checkMembers(first, members);
    this.#checkBirths(first);
    this.#checkIncarnations(first);
    for (const [key, counter] of this.#acked) {
      const record = first.records.record(key);
      if (record === undefined) {
        if (!key.startsWith('row/')) this.violate(`${key} was acknowledged and is lost`);
      } else if (record.counter < counter)
        this.violate(`${key} ${counter} was acknowledged, and is ${record.counter}`);
    }
    this.#checkStops(first);
  }

  #checkSame(a: RunningNode, b: RunningNode): void {
    const names = `${a.node.name} and ${b.node.name}`;
    const kinds = ['member', 'admin', 'identity', 'setup', 'splits', 'database', 'row'];
    for (const kind of kinds) {
      const keys = new Set([...a.records.keys(kind), ...b.records.keys(kind)]);
      for (const key of keys) {
        const [left, right] = [a.records.record(key), b.records.record(key)];
        if (left?.counter === right?.counter && left?.text === right?.text) continue;
        this.violate(`${names} differ in ${key}: ${left?.text} and ${right?.text}`);
      }
    }
    if (a.records.index.digests.total !== b.records.index.digests.total)
      this.violate(`${names} have other digests`);
  }

  #checkMembers(first: RunningNode, members: readonly RunningNode[]): void {
    const listed = first.members.list().map(({ identity }) => identity);
    for (const identity of this.#left)
      if (listed.includes(identity)) this.violate(`${identity} left and is a member`);
    for (const { node } of members)
      if (!listed.includes(node.identity)) this.violate(`${node.name} is no member`);
  }

  #checkBirths({ records }: RunningNode): void {
    for (const key of records.keys('admin/')) {
      const birth = memberOf(records.get(key) ?? {}, 'password');
      if (typeof birth === 'number' && this.#deletedBirths.has(Math.floor(birth)))
        this.violate(`${key} was deleted and lives`);
    }
  }

  /** A node acts on a row that is not contested: it must be its own. */
  #checkOwnRows({ node, rows }: Pick<RunningNode, 'node' | 'rows'>): void {
    for (const row of rows.ofNode(node.identity)) {
      if (row.isContested || this.#ownRows.get(node.identity)?.has(textOf(row)) === true) continue;
      this.violate(`${node.name} takes the row of ${row.database} for its own, and never wrote it`);
    }
  }

  #checkIncarnations({ records }: RunningNode): void {
    for (const [incarnation, { database, made }] of this.#madeIncarnations) {
      const value = records.get(`database/${database}`);
      const isLive = liveIncarnations(value).some((one) => one.incarnation === incarnation);
      if (this.#ackedDeletions.has(incarnation) && isLive)
        this.violate(`${database} ${incarnation} was deleted and lives`);
      const mustLive =
        this.#ackedIncarnations.has(incarnation) && !this.#deletedIncarnations.has(incarnation);
      if (mustLive && !isLive)
        this.violate(`${database} ${incarnation} was not deleted and is gone`);
      if (isLive === isDeleted(value, made.by, made.suffix) && isLive)
        this.violate(`${database} ${incarnation} is live and deleted`);
    }
    for (const key of records.keys('row/')) {
      const row = records.get(key) ?? {};
      const incarnation = String(memberOf(row, 'incarnation'));
      if (this.#ackedDeletions.has(incarnation)) this.violate(`${key} is of a deleted database`);
    }
  }

  /** REQUIRES: the node had time to hear of everything. */
  checkSwitches(node: RunningNode): void {
    this.#checkBirths(node);
    this.#checkStops(node);
  }

  #checkStops({ records }: RunningNode): void {
    const reasons = records
      .keys('splits/')
      .map((key) => memberOf(records.get(key) ?? {}, 'stopped'))
      .filter((reason) => reason !== undefined);
    for (const [node, { reason, isAcked }] of this.#stops) {
      if (isAcked && !this.#endedStops.has(reason) && !reasons.includes(reason))
        this.violate(`the stop ${reason} of ${node} was never ended and is not in force`);
    }
  }
}

function textOf({ database, incarnation, shards }: NewRow): string {
  return JSON.stringify([database, incarnation, shards]);
}
