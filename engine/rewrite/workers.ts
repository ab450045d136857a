/** Running tasks on piscina workers, or on the calling thread. */
import { MessageChannel } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { DivanError } from '../errors.js';
import type { ShardWorld } from '../shard/shard.js';
import { type Throttle, ThrottledControl } from './control.js';
import { type RewriteProgress, type RewriteResult, type RewriteTask, rewrite } from './pipeline.js';
import type { TargetState } from './target.js';
import type { WorkerInput, WorkerMessage, WorkerOutput } from './worker.js';

export interface Crew {
  /** Threads; 0 does the work on the calling thread, through the storage of the world. */
  readonly workers: number;
  readonly throttle: Throttle;
  readonly onProgress: (task: number, progress: RewriteProgress) => void;
  /** Undefined if nobody wants to resume. */
  readonly onCheckpoint: ((states: readonly TargetState[]) => void) | undefined;
}

/** Runs all tasks. When one fails, the others are stopped, and its error is thrown. */
export async function runTasks(
  world: ShardWorld,
  tasks: readonly RewriteTask[],
  crew: Crew,
): Promise<RewriteResult[]> {
  if (crew.workers > 0) return runInWorkers(tasks, crew);
  const results: RewriteResult[] = [];
  for (const [index, task] of tasks.entries()) {
    const onProgress = (progress: RewriteProgress) => crew.onProgress(index, progress);
    const control = new ThrottledControl(world.host, crew.throttle, onProgress, crew.onCheckpoint);
    control.assertGoingOn();
    results.push(...(await rewrite(world.storage, task, control)));
  }
  return results;
}

async function runInWorkers(tasks: readonly RewriteTask[], crew: Crew): Promise<RewriteResult[]> {
  const threads = Math.min(crew.workers, tasks.length);
  const pool = new Piscina<WorkerInput, WorkerOutput>({
    filename: new URL('./worker.js', import.meta.url).href,
    minThreads: threads,
    maxThreads: threads,
    atomics: 'disabled',
  });
  try {
    const outputs = await Promise.all(
      tasks.map(async (task, index) => {
        const output = await runTask(pool, task, crew, index);
        if (!output.ok) crew.throttle.cancel();
        return output;
      }),
    );
    return resultsOf(outputs);
  } finally {
    await pool.close();
  }
}

async function runTask(
  pool: Piscina<WorkerInput, WorkerOutput>,
  task: RewriteTask,
  crew: Crew,
  index: number,
): Promise<WorkerOutput> {
  const { port1, port2 } = new MessageChannel();
  port1.on('message', (message: WorkerMessage) => {
    if ('progress' in message) crew.onProgress(index, message.progress);
    else crew.onCheckpoint?.(message.states);
  });
  const { cells } = crew.throttle;
  const checkpoints = crew.onCheckpoint !== undefined;
  try {
    return await pool.run({ task, port: port2, cells, checkpoints }, { transferList: [port2] });
  } catch (error) {
    return { ok: false, code: 'WORKER', message: `a worker failed: ${String(error)}`, facts: {} };
  } finally {
    port1.close();
  }
}

/** The results of all tasks, or the error of the one that failed first by itself. */
function resultsOf(outputs: readonly WorkerOutput[]): RewriteResult[] {
  const failures = outputs.flatMap((output) => (output.ok ? [] : [output]));
  const failure = failures.find(({ code }) => code !== 'ABORTED') ?? failures[0];
  if (failure !== undefined) throw new DivanError(failure.code, failure.message, failure.facts);
  return outputs.flatMap((output) => (output.ok ? output.results : []));
}
