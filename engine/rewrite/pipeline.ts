/**
 * The rewrite: streams one or more sources, each as of a flushed state, into one or more targets by hash range. Split, merge and
 * compaction are this one thing. A pass over by-seq copies bodies, one over by-id and the small trees copy the rest; memory does
 * not depend on the size of the sources.
 *
 * Several workers can work on one rewrite at a time, each for targets of its own: every one reads the trees, and only its own
 * bodies.
 */
import type { Host } from '../file/host.js';
import type { Ref } from '../file/ref.js';
import type { Storage } from '../file/storage.js';
import type { Counters } from '../shard/state.js';
import { allDone } from './all-done.js';
import { closeAll } from './close-all.js';
import { copyDocuments } from './documents-pass.js';
import { copyEntries } from './entries-pass.js';
import { type Lineup, lineUp } from './lineup.js';
import type { RewritePlan } from './plan.js';
import { Source } from './source.js';
import { PASSES, Target, type TargetState } from './target.js';

/** A checkpoint is due after so long, or after so many bytes of output, whichever comes first. */
const CHECKPOINT_AFTER_MS = 1000;
const CHECKPOINT_AFTER_BYTES = 32 * 1024 * 1024;
/** Pieces in which the targets are written: all of them together, and each. */
const PIECES_BYTES = 16 * 1024 * 1024;
const PIECE_BYTES_MIN = 64 * 1024;
const PIECE_BYTES_MAX = 1024 * 1024;

/** What one worker does. Plain data: it travels between threads. All its targets are equally far. */
export interface RewriteTask {
  readonly plan: RewritePlan;
  /** In the order of the plan. */
  readonly sourcePaths: readonly string[];
  readonly targets: readonly {
    /** In the plan. */
    readonly index: number;
    /** Where the file is written. */
    readonly path: string;
    /** Undefined for one that has not been begun. */
    readonly state: TargetState | undefined;
  }[];
}

export interface RewriteProgress {
  /** An index of `PASSES`. */
  readonly pass: number;
  /** Entries of the tree of this pass that were read. */
  readonly entriesDone: number;
  /** Of a digest: rows that were read in its first pass. */
  readonly rowsDone?: number;
  /** Bytes of bodies that were read. */
  readonly bodyBytesDone: number;
  /** Bytes written to all targets of the task. */
  readonly bytesWritten: number;
  /** Of a digest, which writes nothing: bytes of entries and bodies that were read, which its rate is held to. */
  readonly bytesRead?: number;
  /** Where the task is held back: bytes a second that it may write, and milliseconds that it has waited so far. */
  readonly rate?: number;
  readonly pausedMs?: number;
  /** Milliseconds that it has waited for its own writes so far. */
  readonly drainedMs?: number;
}

/** A finished target. */
export interface RewriteResult {
  /** In the plan. */
  readonly index: number;
  readonly counters: Counters;
  /** Of its file. */
  readonly state: Ref;
}

/** How a running rewrite and whoever wants it are in touch. */
export interface RewriteControl {
  readonly host: Pick<Host, 'now'>;
  /** True where others want the disk and the processors meanwhile: slices of work are small. */
  readonly background: boolean;
  /** Called after every slice of work. Resolves when the next may begin: at once but for a throttle. Rejects with `ABORTED` to stop. */
  progress(progress: RewriteProgress): Promise<void> | undefined;
  /** Hears how far the targets are, durably. Undefined where nobody wants to resume. */
  readonly checkpoint: ((states: readonly TargetState[]) => void) | undefined;
}

/** Writes the targets of a task, complete and durable. */
export async function rewrite(
  storage: Storage,
  task: RewriteTask,
  control: RewriteControl,
): Promise<RewriteResult[]> {
  const sources: Source[] = [];
  const targets: Target[] = [];
  try {
    for (const [index, plan] of task.plan.sources.entries()) {
      sources.push(await Source.open(storage, task.sourcePaths[index] ?? '', plan));
    }
    await allDone(
      task.targets.map(async (target, place) => {
        targets[place] = await openTarget(storage, task, target);
      }),
    );
    return await new Rewrite(task, sources, targets, control).run();
  } finally {
    // Of those that could be opened.
    const opened = targets.filter((target) => target !== undefined);
    const abandoned = opened.map((target) => ({ close: () => target.abandon() }));
    await closeAll([...abandoned, ...sources]);
  }
}

function openTarget(
  storage: Storage,
  task: RewriteTask,
  { index, path, state }: RewriteTask['targets'][number],
): Promise<Target> {
  const plan = task.plan.targets[index];
  if (plan === undefined) throw new RangeError(`the plan has no target ${index}`);
  const share = Math.floor(PIECES_BYTES / task.targets.length);
  const pieceBytes = Math.min(PIECE_BYTES_MAX, Math.max(PIECE_BYTES_MIN, share));
  const like = task.sourcePaths[task.plan.settingsFrom];
  const input = { index, path, plan, like, pieceBytes };
  return state === undefined ? Target.create(storage, input) : Target.resume(storage, input, state);
}

/** The passes over the trees, with progress and checkpoints in between. */
class Rewrite {
  readonly #lineup: Lineup;
  readonly #targets: readonly Target[];
  readonly #control: RewriteControl;
  readonly #start: TargetState | undefined;
  #pass = 0;
  #entriesDone = 0;
  #bodyBytesDone = 0;
  #drainedMs = 0;
  #checkpointedAtMs: number;
  #checkpointedAtBytes = 0;
  /** The checkpoint that is being made durable. */
  #checkpointing: Promise<void> | undefined;
  #checkpointFailure: unknown;

  constructor(
    task: RewriteTask,
    sources: readonly Source[],
    targets: readonly Target[],
    control: RewriteControl,
  ) {
    this.#lineup = lineUp(task.plan, sources, targets);
    this.#targets = targets;
    this.#control = control;
    this.#start = task.targets[0]?.state;
    this.#checkpointedAtMs = control.host.now();
  }

  async run(): Promise<RewriteResult[]> {
    try {
      await this.#runPasses();
    } finally {
      // When it is cancelled or fails, what was done up to the last checkpoint is kept.
      await this.#checkpointing;
    }
    if (this.#checkpointFailure !== undefined) throw this.#checkpointFailure;
    // Each ends with several syncs, which different files can do at the same time.
    return allDone(this.#targets.map((target) => this.#finish(target)));
  }

  async #finish(target: Target): Promise<RewriteResult> {
    const { metadata, seqs } = this.#lineup.identityOf(target);
    return { index: target.index, ...(await target.finish(metadata, seqs)) };
  }

  async #runPasses(): Promise<void> {
    const begun = this.#start?.roots.length ?? 0;
    for (this.#pass = begun; this.#pass < PASSES.length; this.#pass++) {
      const resumed = this.#pass === begun ? this.#start : undefined;
      this.#entriesDone = resumed?.entriesDone ?? 0;
      this.#bodyBytesDone = resumed?.bodyBytesDone ?? 0;
      await this.#runPass(resumed?.cursor);
      for (const target of this.#targets) target.endPass();
    }
  }

  async #runPass(after: Uint8Array | undefined): Promise<void> {
    const tree = PASSES[this.#pass];
    if (tree === undefined) return;
    const step = (entries: number, bodyBytes: number, cursor: Uint8Array) =>
      this.#step(entries, bodyBytes, cursor);
    const small = this.#control.background;
    if (tree === 'bySeq') await copyDocuments(this.#lineup, { after, small }, step);
    else await copyEntries(this.#lineup, tree, after, step);
  }

  /** After a slice of work: lets writes catch up, reports, and makes a checkpoint if one is due. */
  async #step(entries: number, bodyBytes: number, cursor: Uint8Array): Promise<void> {
    this.#entriesDone += entries;
    this.#bodyBytesDone += bodyBytes;
    let bytesWritten = 0;
    for (const target of this.#targets) {
      if (target.full) await this.#drain(target);
      bytesWritten += target.bytes;
    }
    if (this.#control.checkpoint !== undefined) this.#checkpointIfDue(bytesWritten, cursor);
    const paused = this.#control.progress({
      pass: this.#pass,
      entriesDone: this.#entriesDone,
      bodyBytesDone: this.#bodyBytesDone,
      bytesWritten,
      drainedMs: this.#drainedMs,
    });
    if (paused !== undefined) await paused;
  }

  async #drain(target: Target): Promise<void> {
    const { host } = this.#control;
    const start = host.now();
    await target.drain();
    this.#drainedMs += host.now() - start;
  }

  /** One at a time: while one is being made durable, the work goes on. */
  #checkpointIfDue(bytesWritten: number, cursor: Uint8Array): void {
    if (this.#checkpointFailure !== undefined) throw this.#checkpointFailure;
    const now = this.#control.host.now();
    const due =
      now - this.#checkpointedAtMs >= CHECKPOINT_AFTER_MS ||
      bytesWritten - this.#checkpointedAtBytes >= CHECKPOINT_AFTER_BYTES;
    if (!due || this.#checkpointing !== undefined) return;
    this.#checkpointedAtMs = now;
    this.#checkpointedAtBytes = bytesWritten;
    this.#checkpointing = this.#checkpoint(cursor).catch((error: unknown) => {
      this.#checkpointFailure = error;
    });
  }

  async #checkpoint(cursor: Uint8Array): Promise<void> {
    const place = {
      cursor,
      entriesDone: this.#entriesDone,
      bodyBytesDone: this.#bodyBytesDone,
    };
    const captured = this.#targets.map((target) => target.capture(place));
    await Promise.all(captured.map(({ durable }) => durable));
    this.#control.checkpoint?.(captured.map(({ state }) => state));
    this.#checkpointing = undefined;
  }
}
