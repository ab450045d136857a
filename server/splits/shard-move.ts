/** One run of a job up to the map: holds the shards, copies them, follows them, and has the copies take their place. */
import { DivanError, isDivanError } from '../../engine/errors.js';
import type { JobProgress } from '../../engine/rewrite/job-meter.js';
import {
  copyShards,
  discardCopies,
  Followers,
  type Move,
  nameCopies,
} from '../../engine/rewrite/move-live.js';
import type { Shard } from '../../engine/shard/shard.js';
import type { Seqs } from '../../engine/shard/state.js';
import type { Catalog } from '../databases/catalog.js';
import type { Database } from '../databases/database.js';
import type { ShardSlot } from '../databases/shard-slot.js';
import { settledOrAborted } from '../settled-or-aborted.js';
import type { ServerWorld } from '../world.js';
import type { JobContext, JobReport } from './job.js';
import type { Pacer } from './pacer.js';
import { RateMeter } from './rate-meter.js';

/** What was caught up is kept in the record of the job this often. */
const KEEP_AFTER_MS = 1000;
/** A cut that took too long is tried again after so long, and twice as long each time. */
const CUT_AGAIN_MS = 100;
const CUT_AGAIN_MS_MAX = 5000;
/** Nothing is served before the map is on the disk. */
const PUBLISH_AGAIN_MS = 1000;

export interface ShardMoveInput {
  readonly world: ServerWorld;
  readonly catalog: Catalog;
  readonly database: Database;
  readonly context: JobContext;
  readonly pacer: Pick<Pacer, 'throttle' | 'rate'>;
  readonly workers: number | undefined;
  /** How long writes are held for the cut. */
  readonly capMs: number;
  readonly checkpointPath: string;
  readonly pathOf: (file: string) => string;
}

export class ShardMove {
  readonly #input: ShardMoveInput;
  readonly #meter = new RateMeter();
  #last = NOTHING;
  #keptMs = 0;
  /** True while it is not known whether the disk has the new map. */
  #isInDoubt = false;
  #isPublished = false;

  constructor(input: ShardMoveInput) {
    this.#input = input;
  }

  /** Rejects with `ABORTED` when the job is to stop, `NOT_FOUND` when the database is gone, and what reading and writing throw. */
  async run(): Promise<void> {
    const { database, context } = this.#input;
    const slots = context.job().sources.map((file) => this.#slotOf(file));
    const releases: (() => void)[] = [];
    try {
      for (const slot of slots) releases.push(await this.#claim(slot));
      await holdAll(slots, [], async (shards, endings) => {
        const stop = AbortSignal.any([context.signal, database.ended, ...endings]);
        await this.#withShards(shards, stop);
      });
    } finally {
      for (const release of releases) release();
    }
  }

  #slotOf(file: string): ShardSlot {
    const { database, pathOf } = this.#input;
    const path = pathOf(file);
    const shard = database.shards.find(({ slot }) => slot.path === path);
    if (shard === undefined) {
      throw new DivanError('NOT_FOUND', `the shard ${file} is not there any more`, { path });
    }
    return shard.slot;
  }

  /** Excludes compactions of a shard, once the one that goes on is done. */
  async #claim(slot: ShardSlot): Promise<() => void> {
    const { signal } = this.#input.context;
    for (;;) {
      if (signal.aborted) throw stopped();
      const release = slot.beginRewrite();
      if (release !== undefined) return release;
      if (slot.isRetired) throw new DivanError('NOT_FOUND', 'the shard is not there any more');
      await settledOrAborted(slot.rewritten(), signal);
    }
  }

  async #withShards(shards: readonly Shard[], stop: AbortSignal): Promise<void> {
    try {
      await this.#move(this.#moveOf(shards), stop);
    } finally {
      for (const shard of shards) shard.keepPurgesAfter(undefined);
    }
  }

  #moveOf(sources: readonly Shard[]): Move {
    const { context, checkpointPath, pathOf } = this.#input;
    const { type, targets } = context.job();
    return {
      kind: type === 'merge' ? type : 'split',
      sources,
      targets: targets.map(({ range, file }) => ({ range, path: pathOf(file) })),
      checkpointPath,
    };
  }

  async #move(move: Move, stop: AbortSignal): Promise<void> {
    const { context } = this.#input;
    for (;;) {
      const copied = context.job().copied ?? (await this.#copy(move, stop));
      const followers = await this.#follow(move, copied);
      if (followers === undefined) continue;
      try {
        await this.#cut(followers, stop);
      } finally {
        // Once the map names them they are the shards of the database, whatever fails then.
        if (!this.#isPublished) await followers.close();
      }
      return;
    }
  }

  async #copy(move: Move, stop: AbortSignal): Promise<readonly Seqs[]> {
    const { world, context, workers, pacer } = this.#input;
    await context.update({ phase: 'initial_copy' });
    // An earlier run may have been about to begin anew, and have got no further than to remove the checkpoint.
    const hasCheckpoint = (await world.storage.identity(move.checkpointPath)) !== undefined;
    if (!hasCheckpoint) await discardCopies(world, move);
    const copied = await copyShards(world, move, {
      workers,
      throttle: pacer.throttle,
      signal: stop,
      get keepPartial() {
        return context.keepPartial();
      },
      verify: context.job().verify,
      onProgress: (progress) => this.#report(progress),
    });
    await context.update({ phase: 'topoff1', copied });
    return copied;
  }

  /** Undefined if the copies can not follow any more, or one is not there: then they are gone, and made anew. */
  async #follow(move: Move, copied: readonly Seqs[]): Promise<Followers | undefined> {
    const { world, context } = this.#input;
    try {
      await nameCopies(world, move);
      return await Followers.open(world, move, copied);
    } catch (error) {
      if (!isDivanError(error, 'CHECKPOINT') && !isDivanError(error, 'NOT_FOUND')) throw error;
      await context.update({ phase: 'initial_copy', copied: undefined });
      await discardCopies(world, move);
      return undefined;
    }
  }

  async #cut(followers: Followers, stop: AbortSignal): Promise<void> {
    const { context } = this.#input;
    await this.#topOff(followers, stop);
    if (stop.aborted) throw stopped();
    await context.update({ phase: 'update_shardmap', copied: followers.seqs });
    // From here on the job goes on whatever is asked of it, unless the server stops or the database goes.
    for (let againMs = CUT_AGAIN_MS; ; againMs = Math.min(2 * againMs, CUT_AGAIN_MS_MAX)) {
      await this.#topOff(followers, stop);
      const writePauseMs = await this.#tryToCut(followers, stop);
      if (writePauseMs !== undefined) {
        await context.update({ phase: 'wait_source_close', writePauseMs });
        return;
      }
      await this.#sleep(againMs, stop);
    }
  }

  async #topOff(followers: Followers, stop: AbortSignal): Promise<void> {
    const { context, world } = this.#input;
    const goOn = () => {
      if (stop.aborted) throw stopped();
    };
    let kept: Promise<void> | undefined;
    await followers.topOff(goOn, (behind) => {
      const soFar = { bytesPerSecond: 0, throttle: undefined, etaSeconds: undefined };
      this.#last = { ...this.#last, ...soFar, behind };
      context.report(this.#last);
      const now = world.host.now();
      if (now - this.#keptMs < KEEP_AFTER_MS) return;
      this.#keptMs = now;
      kept = context.update({ copied: followers.seqs });
      // Awaited below; the next round does not wait for it.
      kept.catch(() => undefined);
    });
    await kept;
  }

  /** Returns how long writes waited; undefined if it would have been too long. */
  async #tryToCut(followers: Followers, stop: AbortSignal): Promise<number | undefined> {
    const { database, capMs } = this.#input;
    const { host } = this.#input.world;
    const start = host.now();
    try {
      return await database.settings.whileSettled(() =>
        followers.cutOver({ capMs, publish: () => this.#publish(followers) }),
      );
    } catch (error) {
      if (!this.#isInDoubt) throw error;
    }
    // The old shards take no writes until it is known what the disk has, which is when it has the new map. So no change of the settings came
    // into force meanwhile, and the copies have what is in force; but of one that failed other shards may hold something.
    while (this.#isInDoubt) {
      await this.#sleep(PUBLISH_AGAIN_MS, stop);
      await database.settings
        .whileHeld(() => this.#publish(followers))
        .catch((error) => this.#assertInDoubt(error));
    }
    const pauseMs = host.now() - start;
    // If that fails, it is for the next change, or the next start.
    await database.settings.settle().catch(() => undefined);
    return pauseMs;
  }

  #assertInDoubt(error: unknown): void {
    if (!this.#isInDoubt) throw error;
  }

  /** Has the map name the copies. */
  async #publish(followers: Followers): Promise<void> {
    const { catalog, database, context } = this.#input;
    const { sources, targets } = context.job();
    const to = targets.flatMap((target, index) => {
      const shard = followers.shards[index];
      return shard === undefined ? [] : [{ ...target, shard }];
    });
    try {
      await catalog.moveShards(database, { from: sources, to });
      this.#isInDoubt = false;
      this.#isPublished = true;
    } catch (error) {
      this.#isInDoubt = !isDivanError(error, 'NOT_FOUND') && !isDivanError(error, 'INVALID_RANGE');
      throw error;
    }
  }

  async #sleep(ms: number, stop: AbortSignal): Promise<void> {
    const { host } = this.#input.world;
    let cancel = () => {};
    const over = new Promise<void>((resolve) => {
      cancel = host.setTimer(resolve, ms);
    });
    await settledOrAborted(over, stop);
    cancel();
    if (stop.aborted) throw stopped();
  }

  /** Tells how far the first copy is. */
  #report({ docsDone, docsTotal, bytesDone, bytesTotal, share, secondsLeft }: JobProgress): void {
    const percent = Math.floor(share * 100);
    const bytesPerSecond = this.#meter.rateAt(this.#input.world.host.now(), bytesDone);
    const { pacer, context } = this.#input;
    this.#last = {
      ...{ docsDone, docsTotal, bytesDone, bytesTotal, percent, bytesPerSecond },
      throttle: pacer.rate,
      etaSeconds: secondsLeft,
      behind: undefined,
    };
    context.report(this.#last);
  }
}

/** Calls `work` with all shards open for writing, and what tells of each that it must be closed. */
function holdAll(
  slots: readonly ShardSlot[],
  held: readonly { readonly shard: Shard; readonly ending: AbortSignal }[],
  work: (shards: readonly Shard[], endings: readonly AbortSignal[]) => Promise<void>,
): Promise<void> {
  const slot = slots[held.length];
  if (slot !== undefined) {
    return slot.write((shard, ending) => holdAll(slots, [...held, { shard, ending }], work));
  }
  return work(
    held.map(({ shard }) => shard),
    held.map(({ ending }) => ending),
  );
}

function stopped(): DivanError {
  return new DivanError('ABORTED', 'the job was stopped');
}

const NOTHING: JobReport = {
  docsDone: 0,
  docsTotal: 0,
  bytesDone: 0,
  bytesTotal: 0,
  percent: 0,
  bytesPerSecond: 0,
  throttle: undefined,
  etaSeconds: undefined,
  behind: undefined,
};
