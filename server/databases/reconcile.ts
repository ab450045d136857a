/**
 * Makes what this node has of databases what their records say: the part of a new one is made, one that is deleted is removed, one that is not
 * in force any more is set aside, flows into the one that is, and goes. Runs at the start, and when a record changes; whatever is half done, after a
 * crash or an error, is gone on with, since each step looks at what is there. For one name, one thing is done after another.
 *
 * A database that is set aside goes when all members know of both: then nobody deletes the one in force without the other, which would be in
 * force again, and empty.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { FULL_RANGE, formatRange, PARTS_MAX, parseRange } from '../../engine/shard/hash.js';
import type { CallHandlers, PeerCalls } from '../cluster/peers.js';
import type { Membership, SharedRecords } from '../cluster/shared-records.js';
import { memberOf, requiredString } from '../http/json-value.js';
import type { ServerWorld } from '../world.js';
import type { Catalog } from './catalog.js';
import type { Database } from './database.js';
import {
  DATABASE_KEY_PREFIX,
  type DatabaseValue,
  databaseJson,
  databaseKey,
  type Incarnation,
  inForce,
  isDeleted,
  nameOfDatabaseKey,
  readDatabaseValue,
  withIncarnation,
} from './database-record.js';
import { partsOfRowKey, RowTeller, rowPrefix } from './database-row.js';
import { type DocumentSink, type FlowingItem, itemsOf } from './flow.js';
import type { ShardMap } from './shard-map.js';
import { readTogether } from './shard-set.js';

/** What could not be done is tried again after so long, and twice as long each time. */
const AGAIN_MS = 500;
const AGAIN_MS_MAX = 30_000;
/** At a start so many names are looked at at once. */
const NAMES_AT_ONCE = 8;
const ASK_MS = 3000;

const AGREED = 'database/agreed';

export interface ReconcilerParts {
  readonly world: ServerWorld;
  readonly catalog: Catalog;
  readonly records: SharedRecords;
  readonly membership: Membership;
  readonly calls: PeerCalls;
  readonly sink: DocumentSink;
  /** Told of what is tried again later. Must not throw. */
  readonly onError: (name: string, error: unknown) => void;
}

/** What flows from databases that are set aside into the one in force. */
interface Flow {
  /** True when the record has changed: whoever flows looks again. */
  isStale: boolean;
}

export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #rows: RowTeller;
  /** By name: resolves when what is to be done with it now is done. */
  readonly #turns = new Map<string, Promise<void>>();
  /** Names that wait for their turn because their record changed. */
  readonly #waiting = new Set<string>();
  readonly #flows = new Map<string, Flow>();
  /** Names that could not be brought to their end. */
  readonly #unfinished = new Set<string>();
  /** Names of databases whose deletion failed, so that it is not known whether it is on the disk; with why they take no writes. */
  readonly #doubted = new Map<string, DivanError>();
  #againMs = AGAIN_MS;
  #cancelTimer: (() => void) | undefined;
  #stops: (() => void)[] = [];
  readonly #background = new Set<Promise<void>>();
  #isClosed = false;

  constructor(parts: ReconcilerParts, handlers: CallHandlers) {
    this.#parts = parts;
    this.#rows = new RowTeller(parts.records, parts.membership.self.identity);
    handlers.on(AGREED, async ({ head }) => {
      const value = this.#valueOf(requiredString(head, 'name'));
      const isSame = inForce(value)?.incarnation === requiredString(head, 'incarnation');
      return { agreed: isSame && value.incarnations.has(requiredString(head, 'aside')) };
    });
  }

  /**
   * Does what there is to do at a start, as far as it needs no other node; the rest goes on in the background. Of databases that were made before
   * there were records, records are made. What fails is tried again, and told of by `onError`.
   */
  async begin(): Promise<void> {
    const { catalog, records } = this.#parts;
    const names = new Set(catalog.names());
    for (const key of records.keys(DATABASE_KEY_PREFIX)) {
      const name = nameOfDatabaseKey(key);
      if (name !== undefined) names.add(name);
    }
    for (const { name } of catalog.aside.all()) names.add(name);
    this.#stops = [
      catalog.onChange((name, what) => {
        if (what === 'moved') this.#start(name);
      }),
      records.onChange((key) => this.#recordChanged(key)),
    ];
    const left = [...names];
    const work = async () => {
      for (let name = left.pop(); name !== undefined; name = left.pop()) await this.#attempt(name);
    };
    await Promise.all(Array.from({ length: NAMES_AT_ONCE }, work));
  }

  /** Ends it, when what goes on has ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelTimer?.();
    for (const stop of this.#stops) stop();
    for (const flow of this.#flows.values()) flow.isStale = true;
    await Promise.allSettled([...this.#turns.values(), ...this.#background]);
  }

  /**
   * Resolves when this node has what the record of a name says now. Throws what making and removing files and writing records throws; it is
   * tried again by itself.
   */
  async reconcile(name: string): Promise<void> {
    try {
      await this.#turn(name, () => this.#look(name));
      this.#finished(name);
    } catch (error) {
      this.#failed(name);
      throw error;
    } finally {
      this.#startFlow(name);
    }
  }

  /**
   * The record could not be changed, and the disk may have the change: nothing is acknowledged that might go with the database at the next
   * start, until it is durable that it stays. That is tried now, and again by itself. Never rejects.
   */
  async doubt(name: string, cause: unknown): Promise<void> {
    const message = 'no writes for a moment: it is not known whether the database was deleted';
    const refusal = new DivanError('FAILED', message, {}, cause);
    this.#doubted.set(name, refusal);
    for (const { slot } of this.#parts.catalog.find(name)?.shards ?? []) {
      if (slot.suspension === undefined) slot.suspend(cause, refusal);
    }
    await this.reconcile(name).catch(() => undefined);
  }

  /** Writes the record of a name as it is known here once more. Throws what writing throws. */
  async #settle(name: string, refusal: DivanError): Promise<void> {
    const { catalog, records } = this.#parts;
    await records.change(databaseKey(name), (value) => value);
    this.#doubted.delete(name);
    for (const { slot } of catalog.find(name)?.shards ?? []) {
      if (slot.suspension === refusal) slot.resume();
    }
  }

  /** As `reconcile`, in the background. */
  #start(name: string): void {
    if (this.#waiting.has(name) || this.#isClosed) return;
    this.#waiting.add(name);
    this.#run(this.#attempt(name));
  }

  #recordChanged(key: string): void {
    const { catalog, membership } = this.#parts;
    const name = nameOfDatabaseKey(key);
    if (name !== undefined) {
      const flow = this.#flows.get(name);
      if (flow !== undefined) flow.isStale = true;
      this.#start(name);
    } else if (key.startsWith(rowPrefix(membership.self.identity))) {
      // Others may have a row of this node that it does not remember.
      const { name = '' } = partsOfRowKey(key) ?? {};
      if (catalog.find(name) !== undefined) this.#start(name);
    }
  }

  async #attempt(name: string): Promise<void> {
    try {
      await this.reconcile(name);
    } catch (error) {
      if (!this.#isClosed) this.#parts.onError(name, error);
    }
  }

  #run(work: Promise<void>): void {
    this.#background.add(work);
    work.finally(() => this.#background.delete(work));
  }

  #finished(name: string): void {
    this.#unfinished.delete(name);
    if (this.#unfinished.size === 0) this.#againMs = AGAIN_MS;
  }

  #failed(name: string): void {
    this.#unfinished.add(name);
    if (this.#cancelTimer !== undefined || this.#isClosed) return;
    this.#cancelTimer = this.#parts.world.host.setTimer(() => {
      this.#cancelTimer = undefined;
      this.#againMs = Math.min(2 * this.#againMs, AGAIN_MS_MAX);
      for (const unfinished of [...this.#unfinished]) this.#start(unfinished);
    }, this.#againMs);
  }

  /** Runs `work` when what goes on with a name is over. */
  async #turn(name: string, work: () => Promise<void>): Promise<void> {
    const before = this.#turns.get(name) ?? Promise.resolve();
    const turn = before.then(work, work);
    this.#turns.set(name, turn);
    try {
      await turn;
    } finally {
      if (this.#turns.get(name) === turn) this.#turns.delete(name);
    }
  }

  #valueOf(name: string): DatabaseValue {
    return readDatabaseValue(this.#parts.records.get(databaseKey(name)));
  }

  async #look(name: string): Promise<void> {
    this.#waiting.delete(name);
    if (this.#isClosed) return;
    const { catalog } = this.#parts;
    const refusal = this.#doubted.get(name);
    if (refusal !== undefined) await this.#settle(name, refusal);
    const local = catalog.find(name);
    if (local !== undefined) await this.#adopt(local.map);
    const value = this.#valueOf(name);
    const force = inForce(value);
    if (local !== undefined && local.map.incarnation !== force?.incarnation) {
      await this.#leave(local, value);
    }
    for (const map of catalog.aside.of(name)) {
      if (map.state === 'deleting' || this.#isDeleted(value, map)) await this.#forget(map);
      else if (map.incarnation === force?.incarnation) await catalog.bringBack(map.incarnation);
    }
    if (force !== undefined) await this.#hold(name, force);
  }

  /** Makes a record of a database that was made before there were records. */
  async #adopt(map: ShardMap): Promise<void> {
    const { records, membership } = this.#parts;
    const { identity } = membership.self;
    if (isKnown(this.#valueOf(map.name), map, identity)) return;
    await records.change(databaseKey(map.name), (json) => {
      const value = readDatabaseValue(json);
      if (isKnown(value, map, identity)) return undefined;
      return databaseJson(withIncarnation(value, adopted(map, identity)));
    });
  }

  #isDeleted(value: DatabaseValue, map: ShardMap): boolean {
    return isDeleted(value, nameOfMaking(map, this.#parts.membership.self.identity));
  }

  /** Of a database that is not in force any more. */
  async #leave({ name, map }: Database, value: DatabaseValue): Promise<void> {
    const { catalog } = this.#parts;
    if (!this.#isDeleted(value, map)) return catalog.setAside(name);
    await catalog.remove(name);
  }

  async #forget(map: ShardMap): Promise<void> {
    await this.#parts.catalog.removeAside(map.incarnation);
  }

  /** Has what the record places here, and tells of it. */
  async #hold(name: string, force: Incarnation): Promise<void> {
    const { catalog, membership } = this.#parts;
    let database = catalog.find(name);
    if (database === undefined) {
      const ranges = [...force.placement]
        .filter(([, owners]) => owners.includes(membership.self.identity))
        .map(([range]) => parseRange(range))
        .sort((a, b) => a.start - b.start);
      if (ranges.length === 0) return;
      const { incarnation, maker, suffix: timestamp, copies, hashRule, security } = force;
      const part = { incarnation, maker, timestamp, copies, hashRule, ranges };
      database = await catalog.make(name, part, Buffer.from(security));
    }
    const epoch = this.#rows.epochBeyond(database.map);
    if (epoch !== undefined) await catalog.raiseEpoch(database, epoch);
    await this.#rows.tell(database.map);
  }

  #startFlow(name: string): void {
    if (this.#isClosed || this.#flows.has(name)) return;
    if (this.#parts.catalog.aside.of(name).length === 0) return;
    const flow: Flow = { isStale: false };
    this.#flows.set(name, flow);
    this.#run(this.#flowed(name, flow));
  }

  /** It goes on later if it must wait for other nodes, or for what has changed. */
  async #flowed(name: string, flow: Flow): Promise<void> {
    try {
      const { aside } = this.#parts.catalog;
      for (const map of aside.of(name)) await this.#flow(map, flow);
      // Those that must wait are still there, and those that were set aside meanwhile.
      if (aside.of(name).length > 0) this.#failed(name);
    } catch (error) {
      this.#failed(name);
      if (!flow.isStale) this.#parts.onError(name, error);
    } finally {
      this.#flows.delete(name);
    }
  }

  /** Has the documents of a database that was set aside flow into the one in force, and removes it, if it can go yet. */
  async #flow(map: ShardMap, flow: Flow): Promise<void> {
    const { catalog, sink } = this.#parts;
    const { name, incarnation: aside } = map;
    const into = inForce(this.#valueOf(name))?.incarnation;
    if (into === undefined || into === aside || map.state !== 'live') return;
    if (catalog.aside.flowedInto(aside) !== into) {
      for (const slot of await catalog.asideSlots(aside)) {
        await readTogether([slot], async ([snapshot]) => {
          if (snapshot !== undefined) await sink(name, into, whileFresh(itemsOf(snapshot), flow));
        });
      }
      if (flow.isStale) return;
      await catalog.aside.setFlowed(aside, into);
    }
    if (!(await this.#isAgreed(name, into, aside))) return;
    await this.#turn(name, async () => {
      const value = this.#valueOf(name);
      const isSame = inForce(value)?.incarnation === into && value.incarnations.has(aside);
      if (isSame && catalog.aside.has(aside)) await this.#forget(map);
    });
  }

  /** Whether all members know both, and which is in force. */
  async #isAgreed(name: string, incarnation: string, aside: string): Promise<boolean> {
    const { calls, membership } = this.#parts;
    const head = { name, incarnation, aside };
    const answers = await Promise.all(
      membership.others().map(async (node) => {
        try {
          const answer = await calls.call(node, AGREED, head, { timeoutMs: ASK_MS });
          return memberOf(answer, 'agreed') === true;
        } catch (error) {
          if (!isDivanError(error)) throw error;
          return false;
        }
      }),
    );
    return answers.every((isAgreed) => isAgreed);
  }
}

async function* whileFresh(items: AsyncIterable<FlowingItem>, flow: Flow) {
  for await (const item of items) {
    if (flow.isStale) throw new DivanError('ABORTED', 'another database may be in force');
    yield item;
  }
}

/** What a record calls the making of a database that has a map. */
function nameOfMaking({ incarnation, maker, timestamp }: ShardMap, self: string) {
  return { incarnation, maker: maker ?? self, suffix: timestamp };
}

function isKnown(value: DatabaseValue, map: ShardMap, self: string): boolean {
  return value.incarnations.has(map.incarnation) || isDeleted(value, nameOfMaking(map, self));
}

/** Where its shards are is in the row of this node; that it is placed here is all that is said of it for ever. */
function adopted(map: ShardMap, self: string): Incarnation {
  const { copies, hashRule, shards } = map;
  return {
    ...nameOfMaking(map, self),
    ...{ copies, hashRule, security: '' },
    q: Math.min(shards.length, PARTS_MAX),
    placement: new Map([[formatRange(FULL_RANGE), [self]]]),
  };
}
