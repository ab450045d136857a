/**
 * What a cluster promises of its records, checked by what was done and seen, with none of the code that decides it: no counter or mark of a
 * deletion falls, what was said to be at a majority is not lost, a deletion removes what it meant and a stop holds until a start that knew
 * of it, and in the end all nodes have the same.
 */

import { nodeOfRow } from '../../server/cluster/cluster-records.js';
import type { Incarnation } from '../../server/cluster/incarnations.js';
import { isDeleted, liveIncarnations } from '../../server/cluster/incarnations.js';
import { type JsonObject, memberOf } from '../../server/http/json-value.js';
import type { NewRow } from './rows.js';
import type { RunningNode } from './simulated-cluster.js';

interface Seen {
  readonly counter: number;
  readonly value: JsonObject;
}

interface Stop {
  readonly reason: string;
  isAcked: boolean;
}

export class ClusterModel {
  readonly violations: string[] = [];
  /** By node and key, what it had last: durable, so that it is there after a crash. */
  readonly #seen = new Map<string, Map<string, Seen>>();
  /** The text of each epoch of each row that any node had. */
  readonly #epochs = new Map<string, string>();
  /** The counters that a majority had. */
  readonly #acked = new Map<string, number>();
  readonly #deletedBirths = new Set<number>();
  readonly #madeIncarnations = new Map<string, { database: string; made: Incarnation }>();
  readonly #deletedIncarnations = new Set<string>();
  readonly #ackedIncarnations = new Set<string>();
  readonly #ackedDeletions = new Set<string>();
  readonly #left = new Set<string>();
  readonly #setBack = new Set<string>();
  /** What each node remembers that it wrote. */
  readonly #ownRows = new Map<string, Map<string, string>>();
  readonly #stops = new Map<string, Stop>();
  readonly #endedStops = new Set<string>();

  /** That a node begins to live, or does so again. */
  watch(running: RunningNode): void {
    const { identity, name } = running.node;
    const { records } = running;
    const had = this.#seen.get(identity) ?? new Map<string, Seen>();
    this.#seen.set(identity, had);
    for (const row of running.rows.ofNode(identity))
      if (!row.isContested) this.rowWritten(identity, row);
    for (const [key, before] of had) {
      const record = records.record(key);
      if (record === undefined) this.#vanished(running, key, before);
      else this.#see(name, key, before, { counter: record.counter, value: records.get(key) ?? {} });
    }
    records.onChange((key) => {
      const record = records.record(key);
      const before = had.get(key);
      if (record === undefined) {
        if (before !== undefined) this.#vanished(running, key, before);
        had.delete(key);
        return;
      }
      const now = { counter: record.counter, value: records.get(key) ?? {} };
      this.#see(name, key, before, now);
      had.set(key, now);
      if (!key.startsWith('row/')) return;
      const epoch = `${key} ${record.counter}`;
      if (this.#setBack.has(nodeOfRow(key))) return;
      if ((this.#epochs.get(epoch) ?? record.text) !== record.text)
        this.violate(`${name} has another row for ${epoch}`);
      this.#epochs.set(epoch, record.text);
    });
  }

  /** A node was set back: what it had is not to be expected of it any more, and it may use an epoch twice. */
  setBack(identity: string): void {
    this.#seen.delete(identity);
    this.#ownRows.delete(identity);
    this.#setBack.add(identity);
  }

  /** A node has written its row, or finds it as its own when it starts. */
  rowWritten(identity: string, { database, incarnation, shards }: NewRow): void {
    const own = this.#ownRows.get(identity) ?? new Map<string, string>();
    this.#ownRows.set(identity, own.set(`${database}/${incarnation}`, JSON.stringify(shards)));
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
  #checkOwnRows({ node, rows }: RunningNode): void {
    for (const row of rows.ofNode(node.identity)) {
      const own = this.#ownRows.get(node.identity)?.get(`${row.database}/${row.incarnation}`);
      if (!row.isContested && own !== JSON.stringify(row.shards))
        this.violate(
          `${node.name} takes the row of ${row.database} for its own, and never wrote it`,
        );
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

  #see(name: string, key: string, before: Seen | undefined, now: Seen): void {
    if (before === undefined) return;
    const isFinal = ['state', 'finished'].some(
      (member) => memberOf(now.value, member) !== memberOf(before.value, member),
    );
    if (now.counter < before.counter && !isFinal)
      this.violate(`${name}: the counter of ${key} fell from ${before.counter} to ${now.counter}`);
    if (memberOf(before.value, 'state') === 'left' && memberOf(now.value, 'state') !== 'left')
      this.violate(`${name}: ${key} came back`);
    const marks = Object.entries(memberOf(before.value, 'deleted') ?? {});
    for (const [by, suffix] of marks) {
      const deleted = new Map(Object.entries(memberOf(now.value, 'deleted') ?? {}));
      if (Number(deleted.get(by) ?? -1) < suffix)
        this.violate(`${name}: ${key} forgot what is deleted`);
    }
  }

  /** Rows may go, for a reason that stays. */
  #vanished({ node, records }: RunningNode, key: string, before: Seen): void {
    const owner = records.get(`member/${key.split('/')[1]}`) ?? {};
    const database = records.get(`database/${memberOf(before.value, 'database')}`);
    const isStale =
      key.startsWith('row/') &&
      (memberOf(owner, 'state') === 'left' ||
        isDeleted(
          database,
          String(memberOf(before.value, 'by')),
          Number(memberOf(before.value, 'suffix')),
        ));
    if (!isStale) this.violate(`${node.name} has lost ${key}`);
  }
}
