/** Those who perform the tasks of a rewrite: piscina workers, or the calling thread. */
import { MessageChannel } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { DivanError } from '../errors.js';
import type { ShardWorld } from '../shard/shard.js';
import { BACKGROUND_NICENESS, THREAD_OPTIONS } from '../thread-options.js';
import { StopFlag, Throttle, ThrottledControl } from './control.js';
import type { DigestState } from './digest.js';
import type { RewriteProgress } from './pipeline.js';
import type { TargetState } from './target.js';
import { performTask, type Task, type TaskResult } from './task.js';
import type { WorkerInput, WorkerMessage, WorkerOutput } from './worker.js';

/** Digests of different files have nothing in common, so that even on two cores a second thread pays off. */
const VERIFIERS_MIN = 2;

/** On two cores a second worker costs more, in reading the trees twice, than it brings: the threads that read and write are busy too. */
export const WORKERS_DEFAULT = 1;

export interface CrewOptions {
  /** Worker threads; 0 does the work on the calling thread, through the storage that was given. */
  readonly workers?: number | undefined;
  /** True where the calling thread serves others meanwhile: the workers take what it leaves of the processors. */
  readonly background?: boolean | undefined;
  /** Speed, to be changed while it runs. */
  readonly throttle?: Throttle | undefined;
  /** False to do without comparing the targets with the sources before they get their names. */
  readonly verify?: boolean | undefined;
}

/** What is heard of running tasks. */
export interface TaskEvents {
  readonly onProgress: (task: number, progress: RewriteProgress) => void;
  /** Undefined if nobody wants to resume. */
  readonly onCheckpoint?: ((states: readonly TargetState[]) => void) | undefined;
  readonly onDigest?: ((task: number, state: DigestState) => void) | undefined;
  /** A task has come to its end. */
  readonly onDone: (task: number) => void;
}

export class Crew {
  readonly throttle: Throttle;
  /** Stops all tasks; also set when one of them fails. */
  readonly stop = new StopFlag();
  /** How many write targets at a time; 0 for the calling thread. */
  readonly workers: number;
  readonly #world: ShardWorld;
  /** Undefined where the calling thread does the work. */
  readonly #pool: Piscina<WorkerInput, WorkerOutput> | undefined;

  /** Resolves, with what is told of it, when a thread could not be started or ended without a task. */
  readonly #broken: Promise<WorkerOutput> | undefined;
  /** The calling thread serves others meanwhile. */
  readonly background: boolean;

  /** Threads take a tenth of a second to start, and whoever makes a crew can do something else meanwhile. */
  constructor(world: ShardWorld, { workers, throttle, verify, background = false }: CrewOptions) {
    this.#world = world;
    this.background = background;
    this.throttle = throttle ?? new Throttle();
    this.workers = workers ?? WORKERS_DEFAULT;
    if (this.workers === 0) return;
    const verifiers = background ? this.workers : Math.max(this.workers, VERIFIERS_MIN);
    const threads = verify === false ? this.workers : verifiers;
    this.#pool = new Piscina<WorkerInput, WorkerOutput>({
      filename: new URL('./worker.js', import.meta.url).href,
      // All are started at once, so that the verify pass does not wait for a thread.
      minThreads: threads,
      maxThreads: threads,
      ...THREAD_OPTIONS,
      niceIncrement: background ? BACKGROUND_NICENESS : 0,
    });
    this.#broken = whenBroken(this.#pool);
  }

  /** Performs all tasks. When one fails, the others are stopped, and its error is thrown. */
  async perform(tasks: readonly Task[], events: TaskEvents): Promise<TaskResult[]> {
    if (this.#pool !== undefined) return this.#inWorkers(this.#pool, tasks, events);
    const results: TaskResult[] = [];
    const { host, storage } = this.#world;
    for (const [index, task] of tasks.entries()) {
      const onProgress = (progress: RewriteProgress) => events.onProgress(index, progress);
      const control = new ThrottledControl({
        host,
        throttle: this.throttle,
        stop: this.stop,
        background: this.background,
        onProgress,
        onCheckpoint: events.onCheckpoint,
      });
      control.assertGoingOn();
      const onDigest = (state: DigestState) => events.onDigest?.(index, state);
      results.push(await performTask(storage, task, control, onDigest));
      events.onDone(index);
    }
    return results;
  }

  /** How many digests there are at a time. */
  get verifiers(): number {
    return this.#pool?.threads.length ?? 1;
  }

  async close(): Promise<void> {
    await this.#pool?.close();
  }

  async #inWorkers(
    pool: Piscina<WorkerInput, WorkerOutput>,
    tasks: readonly Task[],
    events: TaskEvents,
  ): Promise<TaskResult[]> {
    const outputs = await Promise.all(
      tasks.map(async (task, index) => {
        const output = await this.#inWorker(pool, task, index, events);
        if (output.ok) events.onDone(index);
        else this.stop.set();
        return output;
      }),
    );
    return resultsOf(outputs);
  }

  async #inWorker(
    pool: Piscina<WorkerInput, WorkerOutput>,
    task: Task,
    index: number,
    { onProgress, onCheckpoint, onDigest }: TaskEvents,
  ): Promise<WorkerOutput> {
    const { port1, port2 } = new MessageChannel();
    port1.on('message', (message: WorkerMessage) => {
      if ('progress' in message) onProgress(index, message.progress);
      else if ('states' in message) onCheckpoint?.(message.states);
      else onDigest?.(index, message.digest);
    });
    const cells = { throttle: this.throttle.cell, stop: this.stop.cell };
    const input = {
      task,
      port: port2,
      cells,
      background: this.background,
      checkpoints: onCheckpoint !== undefined || onDigest !== undefined,
    };
    const abandon = new AbortController();
    try {
      const running = pool.run(input, { transferList: [port2], signal: abandon.signal });
      // A task that waits for a thread that could not be started waits for ever.
      return await Promise.race([running, this.#broken ?? running]);
    } catch (error) {
      return workerFailure(error);
    } finally {
      // Nor would closing the pool come to an end while the task waits.
      abandon.abort();
      port1.close();
    }
  }
}

function whenBroken(pool: Piscina<WorkerInput, WorkerOutput>): Promise<WorkerOutput> {
  return new Promise((resolve) => {
    pool.on('error', (error) => resolve(workerFailure(error)));
  });
}

function workerFailure(error: unknown): WorkerOutput {
  return { ok: false, code: 'WORKER', message: `a worker failed: ${String(error)}`, facts: {} };
}

/** The results of all tasks, or the error of the one that failed first by itself. */
function resultsOf(outputs: readonly WorkerOutput[]): TaskResult[] {
  const failures = outputs.flatMap((output) => (output.ok ? [] : [output]));
  const failure = failures.find(({ code }) => code !== 'ABORTED') ?? failures[0];
  if (failure !== undefined) throw new DivanError(failure.code, failure.message, failure.facts);
  return outputs.flatMap((output) => (output.ok ? [output.result] : []));
}
