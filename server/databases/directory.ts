/**
 * The databases of a cluster: which there are, as their records say, and where their shards are, as the rows of the members say. What this node has
 * itself, its shard map says.
 */

import { DivanError, isDivanError } from '../../engine/errors.js';
import { evenRanges, FULL_RANGE } from '../../engine/shard/hash.js';
import type { CallHandlers, PeerCalls } from '../cluster/peers.js';
import type { Membership, SharedRecords } from '../cluster/shared-records.js';
import { isObject, memberOf, requiredString } from '../http/json-value.js';
import type { ServerWorld } from '../world.js';
import { Absorber } from './absorb.js';
import type { Catalog } from './catalog.js';
import { checkDatabaseName } from './database-name.js';
import {
  DATABASE_KEY_PREFIX,
  type DatabaseValue,
  databaseJson,
  databaseKey,
  type Incarnation,
  inForce,
  mergeValues,
  nameOfDatabaseKey,
  readDatabaseValue,
  suffixAfter,
  withIncarnation,
  withoutIncarnations,
} from './database-record.js';
import { partsOfRowKey, readRow, rowKey } from './database-row.js';
import type { Directory, MadeListener, NewDatabase, PlacedPart, Placement } from './placement.js';
import { placeRanges } from './placing.js';
import { Reconciler } from './reconcile.js';
import { formatCover } from './shard-map.js';

export interface ClusterDirectoryParts {
  readonly world: ServerWorld;
  readonly catalog: Catalog;
  readonly records: SharedRecords;
  readonly membership: Membership;
  readonly calls: PeerCalls;
  /** Told of what goes wrong with a database in the background, where it is tried again. Must not throw. */
  readonly onError: (name: string, error: unknown) => void;
  readonly onMade?: MadeListener;
  /** How long other nodes are waited for. */
  readonly waitMs?: number;
}

const WAIT_MS = 5000;
const RECORD = 'database/record';
const FULL = formatCover([{ range: FULL_RANGE }]);

export class ClusterDirectory implements Directory {
  readonly #parts: ClusterDirectoryParts;
  readonly #waitMs: number;
  readonly #reconciler: Reconciler;
  /** What is in force, by name. */
  readonly #known = new Map<string, Incarnation>();
  /** The incarnations that this node is about to make. */
  readonly #making = new Set<string>();
  /** As they were asked for last, until something changes. */
  readonly #placements = new Map<string, Placement>();
  readonly #listeners = new Set<(name: string) => void>();
  readonly #stops: (() => void)[] = [];
  readonly #ending = new AbortController();

  private constructor(parts: ClusterDirectoryParts, handlers: CallHandlers) {
    const { catalog, calls, membership, waitMs = WAIT_MS } = parts;
    this.#parts = parts;
    this.#waitMs = waitMs;
    const self = membership.self.identity;
    const { signal } = this.#ending;
    const { sink } = new Absorber({ catalog, calls, self, signal, placements: this }, handlers);
    this.#reconciler = new Reconciler({ ...parts, sink }, handlers);
    handlers.on(RECORD, async ({ head }) => {
      return { value: databaseJson(this.#valueOf(requiredString(head, 'name'))) };
    });
  }

  /**
   * Finishes what a crash left half done, and finds the rest; what can not be done is told to `onError` and tried again. The directory is to be
   * closed before the shards are.
   */
  static async open(
    parts: ClusterDirectoryParts,
    handlers: CallHandlers,
  ): Promise<ClusterDirectory> {
    const directory = new ClusterDirectory(parts, handlers);
    const { records, catalog } = parts;
    for (const key of records.keys(DATABASE_KEY_PREFIX)) directory.#recordChanged(key);
    directory.#stops.push(
      records.onChange((key) => directory.#recordChanged(key)),
      catalog.onChange((name) => directory.#changed(name)),
    );
    await directory.#reconciler.begin();
    return directory;
  }

  async close(): Promise<void> {
    this.#ending.abort();
    for (const stop of this.#stops) stop();
    await this.#reconciler.close();
  }

  find(name: string): Placement | undefined {
    const found = this.#placements.get(name);
    if (found !== undefined) return found;
    const force = this.#known.get(name);
    if (force === undefined || !this.#isMade(name, force)) return undefined;
    const placement = this.#placementOf(name, force);
    this.#placements.set(name, placement);
    return placement;
  }

  names(): string[] {
    const made = [...this.#known].filter(([name, force]) => this.#isMade(name, force));
    return made.map(([name]) => name).sort((a, b) => (a < b ? -1 : 1));
  }

  /** False while this node is making the database, and does not have its part of it: nobody finds it half made. */
  #isMade(name: string, { incarnation }: Incarnation): boolean {
    if (!this.#making.has(incarnation)) return true;
    return this.#parts.catalog.find(name)?.map.incarnation === incarnation;
  }

  onChange(listener: (name: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async create(name: string, options: NewDatabase): Promise<boolean> {
    checkDatabaseName(name);
    const told = await this.#askAll(name);
    if (inForce(mergeValues(told, this.#valueOf(name))) !== undefined) throw exists();
    const incarnation = this.#newIncarnation();
    this.#making.add(incarnation);
    try {
      await this.#make(name, incarnation, options, told);
    } finally {
      this.#making.delete(incarnation);
      this.#changed(name);
    }
    this.#parts.onMade?.('created', name);
    const [{ isMajority }, isCovered] = await Promise.all([
      this.#parts.records.toMembers([databaseKey(name)], this.#waitMs),
      this.#covered(name, incarnation),
    ]);
    return isMajority && isCovered;
  }

  /** Makes the record, and what of the database is to be on this node. */
  async #make(
    name: string,
    incarnation: string,
    options: NewDatabase,
    told: DatabaseValue,
  ): Promise<void> {
    let isFree = true;
    await this.#parts.records.change(databaseKey(name), (json) => {
      const value = mergeValues(told, readDatabaseValue(json));
      isFree = inForce(value) === undefined;
      if (!isFree) return undefined;
      const made = this.#made(name, incarnation, options, suffixAfter(value));
      return databaseJson(withIncarnation(value, made));
    });
    if (!isFree) throw exists();
    try {
      await this.#reconciler.reconcile(name);
    } catch (error) {
      // If that fails too, it is there when this node can make its files.
      await this.#delete(name, [incarnation]).catch(() => undefined);
      throw error;
    }
  }

  async remove(name: string): Promise<boolean> {
    checkDatabaseName(name);
    // Another node may have made it a moment ago.
    const told = this.#known.has(name) ? this.#valueOf(name) : await this.#askAll(name);
    const found = mergeValues(told, this.#valueOf(name));
    if (inForce(found) === undefined) throw missing();
    try {
      await this.#delete(name, [...found.incarnations.keys()], told);
    } catch (error) {
      await this.#reconciler.doubt(name, error);
      throw error;
    }
    this.#parts.onMade?.('deleted', name);
    // The deletion is durable: that files can not be removed yet does not undo it.
    await this.#reconciler.reconcile(name).catch((error) => this.#parts.onError(name, error));
    const { isMajority } = await this.#parts.records.toMembers([databaseKey(name)], this.#waitMs);
    return isMajority;
  }

  #delete(name: string, incarnations: readonly string[], told?: DatabaseValue): Promise<void> {
    return this.#parts.records.change(databaseKey(name), (json) => {
      const own = readDatabaseValue(json);
      const value = told === undefined ? own : mergeValues(told, own);
      return databaseJson(withoutIncarnations(value, incarnations));
    });
  }

  #newIncarnation(): string {
    return Buffer.from(this.#parts.world.host.randomBytes(16)).toString('hex');
  }

  #made(
    name: string,
    incarnation: string,
    { q, copies, hashRule, security }: NewDatabase,
    suffixMin: number,
  ): Incarnation {
    const { catalog, membership } = this.#parts;
    const ranges = evenRanges(FULL_RANGE, q);
    const identities = membership.list().map(({ identity }) => identity);
    return {
      incarnation,
      maker: membership.self.identity,
      suffix: Math.max(suffixMin, catalog.nextSuffix(name)),
      ...{ q, copies, hashRule },
      security: Buffer.from(security).toString(),
      placement: placeRanges(name, ranges, identities),
    };
  }

  /** What all members that are reached know of a name. */
  async #askAll(name: string): Promise<DatabaseValue> {
    const { calls, membership } = this.#parts;
    const asked = membership.others().filter(({ identity }) => membership.isReached(identity));
    const answers = await Promise.all(
      asked.map(async (node) => {
        try {
          const answer = await calls.call(node, RECORD, { name }, { timeoutMs: this.#waitMs });
          const value = memberOf(answer, 'value');
          return readDatabaseValue(isObject(value) ? value : undefined);
        } catch (error) {
          if (!isDivanError(error)) throw error;
          return readDatabaseValue(undefined);
        }
      }),
    );
    return answers.reduce(mergeValues, readDatabaseValue(undefined));
  }

  #valueOf(name: string): DatabaseValue {
    return readDatabaseValue(this.#parts.records.get(databaseKey(name)));
  }

  /** Resolves when all ranges of an incarnation are on nodes; with false if that takes too long, or it is not in force any more. */
  async #covered(name: string, incarnation: string): Promise<boolean> {
    const isCovered = () => {
      const placement = this.find(name);
      if (placement?.incarnation !== incarnation) return false;
      return coverOf(placement) === FULL;
    };
    if (isCovered()) return true;
    const { host } = this.#parts.world;
    await new Promise<void>((resolve) => {
      const stop = this.onChange((changed) => {
        if (changed !== name) return;
        if (isCovered() || this.#known.get(name)?.incarnation !== incarnation) done();
      });
      const cancel = host.setTimer(() => done(), this.#waitMs);
      const done = () => {
        stop();
        cancel();
        resolve();
      };
    });
    return isCovered();
  }

  #recordChanged(key: string): void {
    const name = nameOfDatabaseKey(key) ?? partsOfRowKey(key)?.name;
    if (name !== undefined) this.#changed(name);
    // Who the members are decides whose rows count.
    else if (key.startsWith('member/')) for (const each of this.names()) this.#changed(each);
  }

  #changed(name: string): void {
    try {
      const force = inForce(this.#valueOf(name));
      if (force === undefined) this.#known.delete(name);
      else this.#known.set(name, force);
    } catch (error) {
      this.#parts.onError(name, error);
    }
    this.#placements.delete(name);
    for (const listener of [...this.#listeners]) listener(name);
  }

  #placementOf(name: string, force: Incarnation): Placement {
    const { incarnation, hashRule, q, copies, suffix: timestamp } = force;
    const { membership } = this.#parts;
    const parts: PlacedPart[] = [];
    const nodes = [...membership.list()].sort((a, b) => (a.identity < b.identity ? -1 : 1));
    for (const node of nodes) {
      const held = this.#partOf(name, incarnation, node.identity);
      if (held !== undefined && held.shards.length > 0) parts.push({ node, ...held });
    }
    return { name, incarnation, hashRule, q, copies, timestamp, parts };
  }

  #partOf(
    name: string,
    incarnation: string,
    node: string,
  ): Pick<PlacedPart, 'epoch' | 'shards'> | undefined {
    const { catalog, records, membership } = this.#parts;
    if (node === membership.self.identity) {
      const map = catalog.find(name)?.map;
      return map?.incarnation === incarnation ? part(map) : undefined;
    }
    const row = records.get(rowKey(node, name, incarnation));
    return row === undefined ? undefined : part(readRow(row));
  }
}

function part({ epoch, shards }: Pick<PlacedPart, 'epoch' | 'shards'>) {
  return { epoch, shards };
}

/** What the parts cover together. */
function coverOf({ parts }: Placement): string {
  const shards = parts.flatMap((part) => part.shards);
  return formatCover([...shards].sort((a, b) => a.range.start - b.range.start));
}

function exists(): DivanError {
  return new DivanError('EXISTS', 'The database could not be created, the file already exists.');
}

function missing(): DivanError {
  return new DivanError('NOT_FOUND', 'Database does not exist.');
}
