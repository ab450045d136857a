/**
 * Compacting shards while they are read and written: when it is asked for, and by itself when too much of a file is dead. One at a time on
 * the node, so that the disk is left to the clients; the others wait for their turn.
 *
 * A shard that is being compacted is held open. The deletion of its database ends that and leaves nothing; the stop of the server ends
 * it too, but what was done is kept, and the next compaction of that shard goes on with it.
 */
import type { Logger } from 'pino';
import { DivanError, isDivanError } from '../../engine/errors.js';
import { AutoCompaction } from '../../engine/rewrite/auto-compact.js';
import { compactCheckpointPath } from '../../engine/rewrite/compact.js';
import { compactLive, type LiveCompaction } from '../../engine/rewrite/compact-live.js';
import type { JobProgress } from '../../engine/rewrite/job-meter.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { ActiveTasks, TaskProgress } from '../active-tasks.js';
import type { Config } from '../config/config.js';
import type { ServerWorld } from '../world.js';
import type { Catalog } from './catalog.js';
import type { Database } from './database.js';
import { namesOfShardFile } from './shard-map.js';
import type { ShardSlot } from './shard-slot.js';

export interface CompactionOptions {
  readonly world: ServerWorld;
  readonly config: Config;
  readonly tasks: ActiveTasks;
  readonly log: Logger;
  /** Threads that copy; 0 for the calling one, which a storage that only it can reach needs. Undefined for the usual number. */
  readonly workers: number | undefined;
}

/** So many compactions wait for their turn at most. */
const WAITING_MAX = 1000;

/** CouchDB's names of the phases, where there are any. */
const PHASES: Readonly<Record<JobProgress['phase'], string>> = {
  documents: 'document_copy',
  ids: 'docid_copy',
  rest: 'local_document_copy',
  verify: 'verify',
};

export class Compactions {
  readonly #options: CompactionOptions;
  /** What ends what goes on by itself on an open shard. */
  readonly #watches = new Map<ShardSlot, () => Promise<void>>();
  /** Databases that are compacted because it was asked for. */
  readonly #requested = new Map<Database, Promise<void>>();
  readonly #stopping = new AbortController();
  /** Those who wait for the one that runs, in the order of their coming. */
  readonly #waiting: (() => void)[] = [];
  #running: Promise<unknown> | undefined;
  #completed = 0;

  constructor(options: CompactionOptions) {
    this.#options = options;
  }

  /** How many were completed. */
  get completed(): number {
    return this.#completed;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Goes on with what was begun on a shard, and compacts it whenever too much of its file is dead, until it is closed. */
  watch(slot: ShardSlot, shard: Shard): void {
    if (this.#stopping.signal.aborted) return;
    const abort = new AbortController();
    const begun = this.#goOn(slot, shard, abort.signal);
    const automatic = this.#automatic(slot, shard);
    const stop = async () => {
      abort.abort();
      await Promise.all([begun, automatic?.stop()]);
    };
    this.#watches.set(slot, stop);
    shard.onClosing(async () => {
      if (this.#watches.get(slot) === stop) this.#watches.delete(slot);
      await stop();
    });
  }

  /** Has what goes on by itself in a database stopped when that is deleted. */
  attach(catalog: Catalog): void {
    catalog.onChange((_name, what, database) => {
      if (what !== 'deleted') return;
      for (const { slot } of database.shards) {
        const stop = this.#watches.get(slot);
        if (stop !== undefined) database.run(stop());
      }
    });
  }

  /**
   * Compacts all shards of a database, one after another, in the background; one that is compacted already is not compacted twice. Throws
   * `UNAVAILABLE` if too much waits.
   */
  request(database: Database): void {
    if (this.#requested.has(database) || this.#stopping.signal.aborted) return;
    if (this.#requested.size >= WAITING_MAX) throw tooMany();
    const slots = database.shards.map(({ slot }) => slot);
    for (const slot of slots) slot.compactions++;
    const job = this.#compactAll(database, slots).finally(() => this.#requested.delete(database));
    this.#requested.set(database, job);
    database.run(job);
  }

  /** Whether the shards of a database are being compacted, or are about to be, because it was asked for. */
  isRequested(database: Database): boolean {
    return this.#requested.has(database);
  }

  /** Ends all, keeping what was done. REQUIRES: no shard is opened any more. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#requested.values());
    // Whoever waited has nothing to do any more, so that this comes to an end.
    while (this.#running !== undefined) await this.#running.catch(() => undefined);
    await Promise.all([...this.#watches.values()].map((stop) => stop()));
  }

  #automatic(slot: ShardSlot, shard: Shard): AutoCompaction | undefined {
    const { world, config, log } = this.#options;
    const deadPercent = config.get('compaction/dead_percent');
    if (deadPercent === 0) return undefined;
    return new AutoCompaction(world, shard, {
      deadShareMax: deadPercent / 100,
      fileBytesMin: config.get('compaction/min_file_size'),
      compact: (signal) => this.#compactOpen(slot, shard, signal),
      onError: (err) => log.error({ err, path: slot.path }, 'a compaction failed'),
    });
  }

  /** What a stop or a crash interrupted is brought to its end, so that it does not take room for nothing. Never rejects. */
  async #goOn(slot: ShardSlot, shard: Shard, signal: AbortSignal): Promise<void> {
    const { world, log } = this.#options;
    try {
      const checkpoint = await world.storage.identity(compactCheckpointPath(slot.path));
      if (checkpoint !== undefined) await this.#compactOpen(slot, shard, signal);
    } catch (err) {
      if (!signal.aborted) log.error({ err, path: slot.path }, 'a compaction failed');
    }
  }

  /** Never rejects. */
  async #compactAll(database: Database, slots: readonly ShardSlot[]): Promise<void> {
    const signal = AbortSignal.any([database.ended, this.#stopping.signal]);
    for (const slot of slots) {
      try {
        await this.#inTurn(signal, () =>
          slot.write((shard) => this.#compact(slot, shard, database.ended)),
        );
      } catch (err) {
        // Those that took its place while it waited were just written.
        if (!signal.aborted && !isDivanError(err, 'MOVED')) {
          this.#options.log.error({ err, path: slot.path }, 'a compaction failed');
        }
      } finally {
        slot.compactions--;
      }
    }
  }

  /** Undefined if the shard was compacted while it waited, or is about to be closed. */
  async #compactOpen(
    slot: ShardSlot,
    shard: Shard,
    signal: AbortSignal,
  ): Promise<LiveCompaction | undefined> {
    const { file } = shard;
    slot.compactions++;
    try {
      // It may be looked at while it is being opened, when it can not be held yet.
      await this.#options.world.host.yieldTurn();
      return await this.#inTurn(AbortSignal.any([signal, this.#stopping.signal]), async () => {
        const release = shard.file === file ? slot.hold(shard) : undefined;
        if (release === undefined) return undefined;
        try {
          return await this.#compact(slot, shard, signal);
        } finally {
          release();
        }
      });
    } catch (error) {
      // The next time that the shard is open is as good.
      if (this.#stopping.signal.aborted || isDivanError(error, 'UNAVAILABLE')) return undefined;
      throw error;
    } finally {
      slot.compactions--;
    }
  }

  /** Undefined if the shard is being rewritten otherwise, which makes the same of it. */
  async #compact(
    slot: ShardSlot,
    shard: Shard,
    signal: AbortSignal,
  ): Promise<LiveCompaction | undefined> {
    const end = slot.beginRewrite();
    if (end === undefined) return undefined;
    try {
      return await this.#rewrite(slot, shard, signal);
    } finally {
      end();
    }
  }

  /** What ends it by `signal` leaves nothing; the stop of the server leaves what a later run goes on with. */
  async #rewrite(slot: ShardSlot, shard: Shard, signal: AbortSignal): Promise<LiveCompaction> {
    const { world, tasks, workers, log } = this.#options;
    const stopping = this.#stopping.signal;
    const task = tasks.begin(
      { type: 'database_compaction', ...namesOfShardFile(slot.path) },
      PHASES.documents,
    );
    try {
      const compaction = await compactLive(world, shard, {
        workers,
        signal: AbortSignal.any([signal, stopping]),
        get keepPartial() {
          return stopping.aborted && !signal.aborted;
        },
        onProgress: (progress) => task.update(progressOf(progress)),
      });
      this.#completed++;
      log.info({ path: slot.path, ...compaction }, 'compacted');
      return compaction;
    } finally {
      task.end();
    }
  }

  /** Calls `work` when nothing else is compacted. Throws `UNAVAILABLE` if too many wait, `ABORTED` if `signal` is aborted before. */
  async #inTurn<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    while (this.#running !== undefined && !signal.aborted) {
      if (this.#waiting.length >= WAITING_MAX) throw tooMany();
      await this.#turnOrAbort(signal);
    }
    if (signal.aborted) {
      // The turn may have been given to it.
      if (this.#running === undefined) this.#waiting.shift()?.();
      throw new DivanError('ABORTED', 'cancelled');
    }
    const running = work();
    this.#running = running;
    try {
      return await running;
    } finally {
      this.#running = undefined;
      this.#waiting.shift()?.();
    }
  }

  /** Resolves when it is its turn to look whether something runs, and when `signal` is aborted. */
  #turnOrAbort(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const go = () => {
        const at = this.#waiting.indexOf(go);
        if (at !== -1) this.#waiting.splice(at, 1);
        signal.removeEventListener('abort', go);
        resolve();
      };
      this.#waiting.push(go);
      signal.addEventListener('abort', go);
    });
  }
}

function progressOf({ phase, share, docsDone, docsTotal }: JobProgress): TaskProgress {
  return { phase: PHASES[phase], share, changesDone: docsDone, changesTotal: docsTotal };
}

function tooMany(): DivanError {
  return new DivanError('UNAVAILABLE', 'too many compactions wait for their turn; try again later');
}
