/**
 * Watches the records of nodes as they change: no counter falls, no mark of a deletion does, who left stays away, a row has one text for each of its
 * epochs, and nothing goes but for a reason that stays. What a node had once it has after a crash.
 */
import { type ClusterRecords, nodeOfRow } from '../../server/cluster/cluster-records.js';
import { isDeleted } from '../../server/cluster/incarnations.js';
import type { Node } from '../../server/cluster/peers.js';
import { type JsonObject, memberOf } from '../../server/http/json-value.js';

interface Seen {
  readonly counter: number;
  readonly value: JsonObject;
}

type Watched = Pick<Node, 'name' | 'identity'>;

export class RecordWatch {
  readonly #violate: (text: string) => void;
  /** By node and key, what it had last: durable, so that it is there after a crash. */
  readonly #seen = new Map<string, Map<string, Seen>>();
  /** The text of each epoch of each row that any node had. */
  readonly #epochs = new Map<string, string>();
  readonly #setBack = new Set<string>();

  constructor(violate: (text: string) => void) {
    this.#violate = violate;
  }

  /** That a node begins to live, or does so again. */
  begin(node: Watched, records: ClusterRecords): void {
    const had = this.#seen.get(node.identity) ?? new Map<string, Seen>();
    this.#seen.set(node.identity, had);
    for (const [key, before] of had) {
      const record = records.record(key);
      if (record === undefined) this.#vanished(node, records, key, before);
      else
        this.#see(node.name, key, before, {
          counter: record.counter,
          value: records.get(key) ?? {},
        });
    }
    records.onChange((key) => this.#changed(node, records, key, had));
  }

  /** A node was set back: what it had is not to be expected of it any more, and it may use an epoch twice. */
  setBack(identity: string): void {
    this.#seen.delete(identity);
    this.#setBack.add(identity);
  }

  #changed(node: Watched, records: ClusterRecords, key: string, had: Map<string, Seen>): void {
    const record = records.record(key);
    const before = had.get(key);
    if (record === undefined) {
      if (before !== undefined) this.#vanished(node, records, key, before);
      had.delete(key);
      return;
    }
    const now = { counter: record.counter, value: records.get(key) ?? {} };
    this.#see(node.name, key, before, now);
    had.set(key, now);
    if (!key.startsWith('row/') || this.#setBack.has(nodeOfRow(key))) return;
    const epoch = `${key} ${record.counter}`;
    if ((this.#epochs.get(epoch) ?? record.text) !== record.text)
      this.#violate(`${node.name} has another row for ${epoch}`);
    this.#epochs.set(epoch, record.text);
  }

  #see(name: string, key: string, before: Seen | undefined, now: Seen): void {
    if (before === undefined) return;
    const isFinal = ['state', 'finished'].some(
      (member) => memberOf(now.value, member) !== memberOf(before.value, member),
    );
    if (now.counter < before.counter && !isFinal)
      this.#violate(`${name}: the counter of ${key} fell from ${before.counter} to ${now.counter}`);
    if (memberOf(before.value, 'state') === 'left' && memberOf(now.value, 'state') !== 'left')
      this.#violate(`${name}: ${key} came back`);
    const [epoch, epochNow] = [memberOf(before.value, 'epoch'), memberOf(now.value, 'epoch')];
    if (typeof epoch === 'number' && typeof epochNow === 'number' && epochNow < epoch)
      this.#violate(`${name}: the epoch of ${key} fell from ${epoch} to ${epochNow}`);
    const marks = Object.entries(memberOf(before.value, 'deleted') ?? {});
    for (const [by, suffix] of marks) {
      const deleted = new Map(Object.entries(memberOf(now.value, 'deleted') ?? {}));
      if (Number(deleted.get(by) ?? -1) < suffix)
        this.#violate(`${name}: ${key} forgot what is deleted`);
    }
  }

  /** Rows may go, for a reason that stays. */
  #vanished({ name }: Watched, records: ClusterRecords, key: string, before: Seen): void {
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
    if (!isStale) this.#violate(`${name} has lost ${key}`);
  }
}
