/**
 * Putting other shards in the place of shards that go on being read and written: a split, 1 to N, or a merge, N to 1. A first copy is made
 * beside them, with checkpoints; it catches up with what was written meanwhile; then writes wait for a moment, in which the copies get
 * the rest and the caller makes durable that they are the shards from now on.
 */
import { basename, dirname } from 'node:path';
import { DivanError, isDivanError } from '../errors.js';
import type { Host } from '../file/host.js';
import type { ShardRange } from '../shard/hash.js';
import type { Shard, ShardWorld } from '../shard/shard.js';
import { type Seqs, ZERO_COUNTERS } from '../shard/state.js';
import { allDone } from './all-done.js';
import { CatchUp, knowPurges } from './catch-up.js';
import { readCheckpoint, writeCheckpoint } from './checkpoint.js';
import { closeAll } from './close-all.js';
import { Crew } from './crew.js';
import { type Job, type JobOptions, removeLeftovers, writeOrDiscard } from './job.js';
import { giveNames, jobFile, syncDirectories } from './job-files.js';
import type { Wanted } from './prepare.js';
import { prepareLive } from './prepare-live.js';
import { COUNTED, compareCounts } from './verify.js';

/** Writes are held only when the copies lack no more changes than this: each may take a leaf node of its own, to be read and written. */
const BEHIND_FEW = 24;
/** If after so many rounds it is still more, writers are not slower than the rounds, and some milliseconds more have to do. */
const FEW_ROUNDS = 4;
const BEHIND_MAX = 200;
/** If writers are faster than the catching up, they are slowed down after so many rounds. */
const FREE_ROUNDS = 8;
/** For how long writes are held at a time to slow them down, at most, and how long they go on in between. */
const BRAKE_MS_MAX = 64;
const BRAKE_GAP_MS = 16;

export interface Move {
  readonly kind: 'split' | 'merge';
  /** Open, in the order of their ranges. */
  readonly sources: readonly Shard[];
  /** In their order; together they are the ranges of the sources. */
  readonly targets: readonly { readonly range: ShardRange; readonly path: string }[];
  readonly checkpointPath: string;
}

/**
 * Makes the first copy: complete, durable and checked files under temporary names, which `nameCopies` gives their names. Returns what they
 * hold of each source. An interrupted run is gone on with. Purge infos that the copies lack are kept from now on: the caller ends that with
 * `keepPurgesAfter(undefined)`. Throws `ABORTED`, `EXISTS`, `NO_SPACE`, `VERIFY_FAILED`, `WORKER`, and what reading and writing throw.
 */
export async function copyShards(
  world: ShardWorld,
  move: Move,
  options: JobOptions,
): Promise<readonly Seqs[]> {
  const crew = new Crew(world, { ...options, background: true });
  try {
    const job = await prepareCopy(world, move);
    if (job.checkpoint?.finishing !== true) {
      await writeOrDiscard(world, job, options, crew);
      const { plan, files } = job;
      await syncDirectories(world.storage, files.targets);
      const finishing = { plan, finishing: true, states: [] };
      await writeCheckpoint(world.storage, files.checkpointPath, finishing);
    }
    return job.seqs;
  } finally {
    await crew.close();
  }
}

function prepareCopy(world: ShardWorld, move: Move): Promise<Job> {
  const { sources, targets, kind, checkpointPath } = move;
  const paths = new Map(targets.map(({ range, path }) => [range.start, path]));
  const wanted: Wanted = {
    kind,
    sources,
    ranges: targets.map(({ range }) => range),
    settingsFrom: 0,
    pathOf: ({ start }) => paths.get(start) ?? '',
    checkpointPath,
    ifChanged: 'go on',
  };
  return prepareLive(world, { sources, wanted, discard: () => discardCopies(world, move) });
}

/** Gives the copies their names, unless they have them. May be repeated after a crash at any point. */
export async function nameCopies(world: ShardWorld, move: Omit<Move, 'sources'>): Promise<void> {
  const { checkpointPath, targets } = move;
  const checkpoint = await readCheckpoint(world.storage, checkpointPath);
  if (checkpoint === undefined) return;
  const { plan } = checkpoint;
  const files = plan.targets.map((target, index) => jobFile(targets[index]?.path ?? '', target));
  await giveNames(world.storage, plan, { sourcePaths: [], checkpointPath, targets: files });
}

/** Removes whatever there is of the copies, named ones included. REQUIRES: they are not in use, and will not be. */
export async function discardCopies(
  { storage }: Pick<ShardWorld, 'storage'>,
  { targets, checkpointPath }: Pick<Move, 'targets' | 'checkpointPath'>,
): Promise<void> {
  for (const { path } of targets) {
    if ((await storage.identity(path)) === undefined) continue;
    await storage.remove(path);
    await storage.syncDirectory(dirname(path));
  }
  for (const { path } of targets) {
    const place = { checkpointPath, name: basename(path), directories: [dirname(path)] };
    await removeLeftovers(storage, place);
  }
}

export interface CutOptions {
  /** After so long writes are let go again, unless `publish` was called by then. */
  readonly capMs: number;
  /**
   * Makes durable that the copies are the shards from now on, and has whoever looks for them find them. After it failed it is not known
   * whether the disk has that: the sources are failed then. Only `NOT_FOUND`, of what is not wanted any more, says that nothing changed.
   */
  readonly publish: () => Promise<void>;
}

/** Copies that follow their sources. */
export class Followers {
  readonly shards: readonly Shard[];
  readonly #host: Host;
  readonly #sources: readonly Shard[];
  readonly #catchUp: CatchUp;

  private constructor(
    host: Host,
    sources: readonly Shard[],
    shards: readonly Shard[],
    seqs: readonly Seqs[],
  ) {
    this.#host = host;
    this.#sources = sources;
    this.shards = shards;
    this.#catchUp = new CatchUp(sources, shards, seqs);
  }

  /**
   * Opens copies that have their names and hold at least `seqs` of the sources. Throws `CHECKPOINT` if purge infos that they lack were
   * dropped, so that they can not follow any more, and what opening throws.
   */
  static async open(world: ShardWorld, move: Move, seqs: readonly Seqs[]): Promise<Followers> {
    const { sources, targets } = move;
    for (const [index, source] of sources.entries()) {
      source.keepPurgesAfter(seqs[index]?.purgeSeq ?? 0);
    }
    if (!(await knowPurges(sources, seqs))) {
      throw new DivanError('CHECKPOINT', 'the copy lacks purges that were dropped since');
    }
    const shards: Shard[] = [];
    try {
      for (const { path } of targets) {
        const [first] = sources;
        if (first !== undefined) shards.push(await first.openAlike(path));
      }
      return new Followers(world.host, sources, shards, seqs);
    } catch (error) {
      await closeAll(shards);
      throw error;
    }
  }

  /** About how many changes the copies lack. */
  get behind(): number {
    return this.#catchUp.behind;
  }

  /** What they have of each source. */
  get seqs(): readonly Seqs[] {
    return this.#catchUp.seqs;
  }

  /**
   * Brings the copies up to what the sources hold but for some last changes. Writers who are faster are slowed down, the more the longer it
   * takes. Calls `goOn` now and then, which throws to stop, and `onRound` after each round. Throws what reading and writing throw.
   */
  async topOff(goOn: () => void, onRound: (behind: number) => void): Promise<void> {
    for (let round = 0; this.behind > (round < FEW_ROUNDS ? BEHIND_FEW : BEHIND_MAX); round++) {
      const brake = Math.min(BRAKE_MS_MAX, 2 ** (round - FREE_ROUNDS));
      await this.#braking(round < FREE_ROUNDS ? 0 : brake, () => this.#catchUp.round(goOn));
      onRound(this.behind);
    }
  }

  /** Runs `work`, and meanwhile holds writes for `ms` milliseconds again and again. */
  async #braking(ms: number, work: () => Promise<void>): Promise<void> {
    const working = { ends: false };
    const done = work().finally(() => {
      working.ends = true;
    });
    // It is awaited below.
    done.catch(() => undefined);
    while (ms > 0 && !working.ends) {
      await allDone(this.#sources.map((source) => source.holdWrites(() => this.#sleep(ms))));
      await this.#sleep(BRAKE_GAP_MS);
    }
    await done;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#host.setTimer(resolve, ms));
  }

  /**
   * Holds all writes, brings the copies up to everything that was acknowledged, and has that published; the writes that waited are refused
   * with `MOVED`. Returns how long they waited, in milliseconds; undefined if it took too long, so that they went to the sources. Throws
   * `VERIFY_FAILED` if the copies do not hold as much as the sources, and what writing and `publish` throw.
   */
  async cutOver({ capMs, publish }: CutOptions): Promise<number | undefined> {
    const start = this.#host.now();
    const waited = () => this.#host.now() - start;
    const moved = await handOverAll(this.#sources, async () => {
      if (!(await this.#lastRound(() => waited() > capMs))) return false;
      this.#compare();
      if (waited() > capMs) return false;
      await this.#publish(publish);
      return true;
    });
    return moved ? waited() : undefined;
  }

  /** False if it became too late. */
  async #lastRound(isLate: () => boolean): Promise<boolean> {
    try {
      await this.#catchUp.round(() => {
        if (isLate()) throw new DivanError('ABORTED', 'writes have waited for too long');
      });
      return true;
    } catch (error) {
      if (isLate() && isDivanError(error, 'ABORTED')) return false;
      throw error;
    }
  }

  async #publish(publish: () => Promise<void>): Promise<void> {
    try {
      await publish();
    } catch (error) {
      if (!isDivanError(error, 'NOT_FOUND')) {
        for (const source of this.#sources) source.file.fail(error);
      }
      throw error;
    }
  }

  /** What was copied first has been verified; of what was caught up, counts and sizes are compared. */
  #compare(): void {
    const expected = { ...ZERO_COUNTERS };
    for (const source of this.#sources) {
      const { counters } = source.snapshot();
      for (const name of COUNTED) expected[name] += counters[name];
    }
    const copies = this.shards.map((shard) => ({ counters: shard.snapshot().counters }));
    compareCounts(expected, copies);
  }

  /** Closes the copies. */
  async close(): Promise<void> {
    await closeAll(this.shards);
  }
}

function handOverAll(
  sources: readonly Shard[],
  complete: () => Promise<boolean>,
): Promise<boolean> {
  const [first, ...others] = sources;
  if (first === undefined) return complete();
  return first.handOver(() => handOverAll(others, complete));
}
