/** How a running rewrite is steered from another thread: cancelled, slowed down, watched. */
import { DivanError } from '../errors.js';
import type { Host } from '../file/host.js';
import type { RewriteControl, RewriteProgress } from './pipeline.js';
import type { TargetState } from './target.js';

const RATE_UNIT = 1024;
/** A throttled rewrite looks again after at most so long whether it was cancelled, or its rate changed. */
const NAP_MS = 100;

/** The speed of rewrites, shared by their threads. May be changed while they run, and serve one after the other. */
export class Throttle {
  /**
   * KiB a second that one worker may write, or in the background read where it writes nothing; 0 for no limit. Plain shared memory, to be
   * handed to a worker.
   */
  readonly cell: Int32Array;

  constructor(cell: Int32Array = newCell()) {
    this.cell = cell;
  }

  /** Bytes a second that all workers together may write; undefined for no limit. REQUIRES: at least 1 KiB for each. */
  setRate(bytesPerSecond: number | undefined, workers: number): void {
    const share = (bytesPerSecond ?? 0) / RATE_UNIT / Math.max(1, workers);
    Atomics.store(this.cell, 0, bytesPerSecond === undefined ? 0 : Math.max(1, Math.round(share)));
  }

  /** Bytes a second for one worker, 0 for no limit. */
  get rate(): number {
    return Atomics.load(this.cell, 0) * RATE_UNIT;
  }
}

/** Whether one rewrite is to stop, shared by its threads. */
export class StopFlag {
  /** Plain shared memory, to be handed to a worker. */
  readonly cell: Int32Array;

  constructor(cell: Int32Array = newCell()) {
    this.cell = cell;
  }

  set(): void {
    Atomics.store(this.cell, 0, 1);
  }

  get isSet(): boolean {
    return Atomics.load(this.cell, 0) !== 0;
  }
}

function newCell(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
}

export interface ControlInput {
  readonly host: Host;
  readonly throttle: Throttle;
  readonly stop: StopFlag;
  /** True where the process serves others meanwhile: reading alone is held back as well, and slices of work are small. */
  readonly background: boolean;
  readonly onProgress: (progress: RewriteProgress) => void;
  /** Undefined to do without checkpoints. */
  readonly onCheckpoint: ((states: readonly TargetState[]) => void) | undefined;
}

/** Steers one task by a throttle and a flag. */
export class ThrottledControl implements RewriteControl {
  readonly host: Host;
  readonly checkpoint: ((states: readonly TargetState[]) => void) | undefined;
  readonly #throttle: Throttle;
  readonly #stop: StopFlag;
  readonly background: boolean;
  readonly #onProgress: (progress: RewriteProgress) => void;
  /** Since when, and since how many bytes, the present rate holds. */
  #rate = 0;
  #sinceMs = 0;
  #sinceBytes = 0;
  #pausedMs = 0;

  constructor({ host, throttle, stop, background, onProgress, onCheckpoint }: ControlInput) {
    this.host = host;
    this.#throttle = throttle;
    this.#stop = stop;
    this.background = background;
    this.#onProgress = onProgress;
    this.checkpoint = onCheckpoint;
  }

  progress(progress: RewriteProgress): Promise<void> | undefined {
    this.assertGoingOn();
    this.#onProgress({ ...progress, rate: this.#throttle.rate, pausedMs: this.#pausedMs });
    const { bytesRead = 0, bytesWritten } = progress;
    const bytes = this.background ? Math.max(bytesRead, bytesWritten) : bytesWritten;
    return this.#pauseMs(bytes) > 0 ? this.#pause(bytes) : undefined;
  }

  /** Throws `ABORTED` once it was cancelled. */
  assertGoingOn(): void {
    if (this.#stop.isSet) throw new DivanError('ABORTED', 'cancelled');
  }

  async #pause(bytes: number): Promise<void> {
    const start = this.host.now();
    for (let ms = this.#pauseMs(bytes); ms > 0; ms = this.#pauseMs(bytes)) {
      await new Promise<void>((resolve) => this.host.setTimer(resolve, Math.min(ms, NAP_MS)));
      this.assertGoingOn();
    }
    this.#pausedMs += this.host.now() - start;
  }

  /** How long the rate demands to wait after so many bytes. */
  #pauseMs(bytes: number): number {
    const { rate } = this.#throttle;
    const now = this.host.now();
    if (rate !== this.#rate) {
      this.#rate = rate;
      this.#sinceMs = now;
      this.#sinceBytes = bytes;
    }
    if (rate === 0) return 0;
    return ((bytes - this.#sinceBytes) / rate) * 1000 - (now - this.#sinceMs);
  }
}
