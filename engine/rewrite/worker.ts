/**
 * The entry of the piscina workers: runs one rewrite task on the real storage.
 *
 * Errors travel as values, since their class and code are lost between threads. Cancelling is a flag in shared memory: ending
 * the thread instead would leave its files open.
 */
import type { MessagePort } from 'node:worker_threads';
import { DivanError, type ErrorCode, type ErrorFacts, isDivanError } from '../errors.js';
import { nodeStorage } from '../file/node-storage.js';
import type { Counters } from '../shard/state.js';
import { type RewriteProgress, type RewriteTask, rewrite } from './pipeline.js';

export interface WorkerInput {
  readonly task: RewriteTask;
  /** Takes the progress. */
  readonly port: MessagePort;
  /** One number: not 0 once the work is to stop. */
  readonly cancel: Int32Array;
}

export type WorkerOutput =
  | { readonly ok: true; readonly counters: readonly Counters[] }
  | {
      readonly ok: false;
      readonly code: ErrorCode;
      readonly message: string;
      readonly facts: ErrorFacts;
    };

const REPORT_INTERVAL_MS = 100;

export default async function run({ task, port, cancel }: WorkerInput): Promise<WorkerOutput> {
  let reportedAt = 0;
  const onProgress = (progress: RewriteProgress) => {
    if (Atomics.load(cancel, 0) !== 0) throw new DivanError('ABORTED', 'cancelled');
    const now = performance.now();
    if (now - reportedAt < REPORT_INTERVAL_MS) return;
    reportedAt = now;
    port.postMessage(progress);
  };
  try {
    return { ok: true, counters: await rewrite(nodeStorage, task, onProgress) };
  } catch (error) {
    if (!isDivanError(error)) throw error;
    return { ok: false, code: error.code, message: error.message, facts: error.facts };
  } finally {
    port.close();
  }
}
