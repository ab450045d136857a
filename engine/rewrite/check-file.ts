/** Looking through a whole shard file that nobody writes, on a thread of its own, which takes what a server leaves of the processors. */
import { Piscina } from 'piscina';
import { DivanError } from '../errors.js';
import { checkShard, type Problem } from '../shard/check.js';
import { ReadOnlyShard } from '../shard/read-only-shard.js';
import type { ShardWorld } from '../shard/shard.js';
import { BACKGROUND_NICENESS, THREAD_OPTIONS } from '../thread-options.js';
import type { CheckInput, CheckOutput } from './check-worker.js';
import { StopFlag } from './control.js';

export interface CheckFileOptions {
  /** 0 does the work on the calling thread, through the storage that was given. */
  readonly workers: number | undefined;
  readonly signal: AbortSignal;
}

/** The first thing that is wrong with a shard, undefined if nothing is. Throws `ABORTED`, `WORKER`, and what reading throws. */
export async function checkFile(
  world: ShardWorld,
  path: string,
  { workers, signal }: CheckFileOptions,
): Promise<Problem | undefined> {
  const stop = new StopFlag();
  const onAbort = () => stop.set();
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort);
  try {
    return workers === 0 ? await firstProblem(world, path, stop) : await inThread(path, stop);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Of `checkFile` and its thread. */
export async function firstProblem(
  world: ShardWorld,
  path: string,
  stop: StopFlag,
): Promise<Problem | undefined> {
  await using shard = await ReadOnlyShard.open(world, path);
  const { problems } = await checkShard(shard, () => {
    if (stop.isSet) throw new DivanError('ABORTED', 'the check was stopped');
  });
  return problems[0];
}

async function inThread(path: string, stop: StopFlag): Promise<Problem | undefined> {
  const pool = new Piscina<CheckInput, CheckOutput>({
    filename: new URL('./check-worker.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: 1,
    ...THREAD_OPTIONS,
    niceIncrement: BACKGROUND_NICENESS,
  });
  const abandon = new AbortController();
  // A task that waits for a thread that could not be started waits for ever.
  const broken = new Promise<never>((_, reject) => pool.on('error', reject));
  try {
    const running = pool.run({ path, stop: stop.cell }, { signal: abandon.signal });
    const output = await Promise.race([running, broken]);
    if (output.ok) return output.problem;
    throw new DivanError(output.code, output.message, output.facts);
  } catch (error) {
    if (error instanceof DivanError) throw error;
    throw new DivanError('WORKER', `a worker failed: ${String(error)}`, {}, error);
  } finally {
    // Nor would closing the pool come to an end while the task waits.
    abandon.abort();
    await pool.close();
  }
}
