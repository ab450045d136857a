/** Those who perform the tasks of a rewrite: piscina workers, or the calling thread. */
import { MessageChannel } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { DivanError } from '../errors.js';
import type { ShardWorld } from '../shard/shard.js';
import { type Throttle, ThrottledControl } from './control.js';
import type { RewriteProgress } from './pipeline.js';
import type { TargetState } from './target.js';
import { performTask, type Task, type TaskResult } from './task.js';
import type { WorkerInput, WorkerMessage, WorkerOutput } from './worker.js';

/** Digests of different files have nothing in common, so that even on two cores a second thread pays off. */
const VERIFIERS_MIN = 2;

/** What is heard of running tasks. */
export interface TaskEvents {
  readonly onProgress: (task: number, progress: RewriteProgress) => void;
  /** Undefined if nobody wants to resume. */
  readonly onCheckpoint?: ((states: readonly TargetState[]) => void) | undefined;
}

export class Crew {
  readonly #world: ShardWorld;
  readonly #throttle: Throttle;
  /** Undefined where the calling thread does the work. */
  readonly #pool: Piscina<WorkerInput, WorkerOutput> | undefined;

  /** With 0 `workers` the calling thread does the work, through the storage of the world. `verifies`: there will be digests. */
  constructor(world: ShardWorld, workers: number, throttle: Throttle, verifies: boolean) {
    this.#world = world;
    this.#throttle = throttle;
    if (workers === 0) return;
    const threads = verifies ? Math.max(workers, VERIFIERS_MIN) : workers;
    this.#pool = new Piscina<WorkerInput, WorkerOutput>({
      filename: new URL('./worker.js', import.meta.url).href,
      // All are started at once, so that the verify pass does not wait for a thread.
      minThreads: threads,
      maxThreads: threads,
      atomics: 'disabled',
    });
  }

  /** Performs all tasks. When one fails, the others are stopped, and its error is thrown. */
  async perform(tasks: readonly Task[], events: TaskEvents): Promise<TaskResult[]> {
    if (this.#pool !== undefined) return this.#inWorkers(this.#pool, tasks, events);
    const results: TaskResult[] = [];
    const { host, storage } = this.#world;
    for (const [index, task] of tasks.entries()) {
      const onProgress = (progress: RewriteProgress) => events.onProgress(index, progress);
      const control = new ThrottledControl(host, this.#throttle, onProgress, events.onCheckpoint);
      control.assertGoingOn();
      results.push(await performTask(storage, task, control));
    }
    return results;
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
        if (!output.ok) this.#throttle.cancel();
        return output;
      }),
    );
    return resultsOf(outputs);
  }

  async #inWorker(
    pool: Piscina<WorkerInput, WorkerOutput>,
    task: Task,
    index: number,
    { onProgress, onCheckpoint }: TaskEvents,
  ): Promise<WorkerOutput> {
    const { port1, port2 } = new MessageChannel();
    port1.on('message', (message: WorkerMessage) => {
      if ('progress' in message) onProgress(index, message.progress);
      else onCheckpoint?.(message.states);
    });
    const { cells } = this.#throttle;
    const input = { task, port: port2, cells, checkpoints: onCheckpoint !== undefined };
    try {
      return await pool.run(input, { transferList: [port2] });
    } catch (error) {
      return { ok: false, code: 'WORKER', message: `a worker failed: ${String(error)}`, facts: {} };
    } finally {
      port1.close();
    }
  }
}

/** The results of all tasks, or the error of the one that failed first by itself. */
function resultsOf(outputs: readonly WorkerOutput[]): TaskResult[] {
  const failures = outputs.flatMap((output) => (output.ok ? [] : [output]));
  const failure = failures.find(({ code }) => code !== 'ABORTED') ?? failures[0];
  if (failure !== undefined) throw new DivanError(failure.code, failure.message, failure.facts);
  return outputs.flatMap((output) => (output.ok ? [output.result] : []));
}
