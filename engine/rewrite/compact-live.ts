/**
 * Compacting a shard that goes on being read and written: a copy of a flushed state is made beside it, catches up with what was
 * written meanwhile, and takes its place in one step while writes wait for a moment.
 */
import { basename, dirname } from 'node:path';
import { DivanError, isDivanError } from '../errors.js';
import type { Shard, ShardWorld } from '../shard/shard.js';
import { CatchUp } from './catch-up.js';
import { removeCheckpoint } from './checkpoint.js';
import { compactCheckpointPath, wantedCompaction } from './compact.js';
import { Crew } from './crew.js';
import { isKept, type Job, type JobOptions, removeLeftovers, writeOrDiscard } from './job.js';
import { prepareLive } from './prepare-live.js';

/** The copy takes the place of the shard once it lacks no more changes than this, which take some milliseconds. */
const BEHIND_MAX = 200;
/** If writers are faster than the catching up, they wait for the rest after so many rounds. */
const ROUNDS_MAX = 20;

const busy = new WeakSet<Shard>();

export interface LiveCompaction {
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** True if an earlier run was gone on with. */
  readonly resumed: boolean;
  /** How long writes waited, in milliseconds. */
  readonly pauseMs: number;
}

/**
 * Compacts an open shard. Its users see no error and nothing of it but that writes wait for some milliseconds. An interrupted run
 * is gone on with, even if the shard was closed since; closing the shard interrupts it. Throws `LOCKED` if it is being compacted
 * already, `CLOSED`, `ABORTED`, `VERIFY_FAILED`, `WORKER`, and what reading and writing throw. The shard then goes on with its file, but is failed
 * if it was the name of the new one that could not be made durable.
 */
export async function compactLive(
  world: ShardWorld,
  shard: Shard,
  options: JobOptions = {},
): Promise<LiveCompaction> {
  const { path } = shard;
  if (busy.has(shard))
    throw new DivanError('LOCKED', `${path} is being compacted already`, { path });
  const closing = new AbortController();
  const signal =
    options.signal === undefined
      ? closing.signal
      : AbortSignal.any([options.signal, closing.signal]);
  let running: Promise<LiveCompaction> | undefined;
  const stopListening = shard.onClosing(async () => {
    closing.abort();
    // Whoever started it hears of its failure.
    await running?.catch(() => undefined);
  });
  busy.add(shard);
  try {
    running = compactWith(world, shard, {
      ...options,
      signal,
      // What is done when the shard is closed is kept for the next time.
      get keepPartial() {
        return options.keepPartial === true || closing.signal.aborted;
      },
    });
    return await running;
  } finally {
    stopListening();
    shard.keepPurgesAfter(undefined);
    busy.delete(shard);
  }
}

async function compactWith(
  world: ShardWorld,
  shard: Shard,
  options: JobOptions,
): Promise<LiveCompaction> {
  const crew = new Crew(world, options);
  try {
    return await new Compaction(world, shard, options).run(crew);
  } finally {
    await crew.close();
  }
}

class Compaction {
  readonly #world: ShardWorld;
  readonly #shard: Shard;
  readonly #options: JobOptions;

  constructor(world: ShardWorld, shard: Shard, options: JobOptions) {
    this.#world = world;
    this.#shard = shard;
    this.#options = options;
  }

  async run(crew: Crew): Promise<LiveCompaction> {
    const job = await prepareLive(this.#world, {
      sources: [this.#shard],
      wanted: wantedCompaction([this.#shard], undefined, 'go on'),
      discard: () => this.#discard(),
    });
    await this.#options.onBegin?.(job.plan, job.checkpoint !== undefined);
    await writeOrDiscard(this.#world, job, this.#options, crew);
    const bytesBefore = this.#shard.file.end;
    const pauseMs = await this.#exchange(job);
    await removeCheckpoint(this.#world.storage, job.files.checkpointPath);
    const bytesAfter = this.#shard.file.end;
    return { bytesBefore, bytesAfter, pauseMs, resumed: job.checkpoint !== undefined };
  }

  async #discard(): Promise<void> {
    const { path } = this.#shard;
    await removeLeftovers(this.#world.storage, {
      checkpointPath: compactCheckpointPath(path),
      name: basename(path),
      directories: [dirname(path)],
    });
  }

  /** Lets the copy catch up and take the place of the shard. If that fails, nothing is left of it but what a later run can go on with. */
  async #exchange(job: Job): Promise<number> {
    let copy: Shard | undefined;
    try {
      copy = await this.#shard.openAlike(job.files.targets[0]?.temporaryPath ?? '');
      return await this.#catchUp(job, copy);
    } catch (error) {
      // If the copy has the shard's name, that name could not be made durable, and the shard has failed.
      if (copy !== undefined && this.#shard.file === copy.file) throw error;
      await copy?.file.close();
      if (!isDivanError(error) || !isKept(error.code, this.#options)) await this.#discard();
      throw error;
    }
  }

  /** Returns how long writes waited for the last round and the exchange. */
  async #catchUp(job: Job, copy: Shard): Promise<number> {
    const { host } = this.#world;
    const catchUp = new CatchUp([this.#shard], [copy], job.seqs);
    const goOn = () => this.#goOn();
    for (let round = 0; round < ROUNDS_MAX && catchUp.behind > BEHIND_MAX; round++) {
      await catchUp.round(goOn);
    }
    let pausedAt = 0;
    await this.#shard.exchangeFile(copy, async () => {
      pausedAt = host.now();
      await catchUp.round(goOn);
      this.#compare(copy);
    });
    return host.now() - pausedAt;
  }

  #goOn(): void {
    if (this.#options.signal?.aborted === true) throw new DivanError('ABORTED', 'cancelled');
  }

  /**
   * What was copied of the flushed state has been verified; of what was caught up, counts, sizes and seqs are compared. REQUIRES: no
   * write is under way. Throws `VERIFY_FAILED`.
   */
  #compare(copy: Shard): void {
    const expected = JSON.stringify(this.#shard.snapshot().counters);
    const actual = JSON.stringify(copy.snapshot().counters);
    if (actual === expected) return;
    const { path } = this.#shard;
    throw new DivanError('VERIFY_FAILED', 'the compacted file does not hold what the shard holds', {
      path,
      expected,
      actual,
    });
  }
}
