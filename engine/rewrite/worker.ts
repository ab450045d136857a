/**
 * The entry of the piscina workers: performs one task on the real storage.
 *
 * Errors travel as values, since their class and code are lost between threads. Cancelling is a flag in shared memory: ending
 * the thread instead would leave its files open.
 */
import type { MessagePort } from 'node:worker_threads';
import { type ErrorCode, type ErrorFacts, isDivanError } from '../errors.js';
import { nodeHost } from '../file/node-host.js';
import { backgroundStorage, blockingStorage } from '../file/node-storage.js';
import { StopFlag, Throttle, ThrottledControl } from './control.js';
import type { DigestState } from './digest.js';
import type { RewriteProgress } from './pipeline.js';
import type { TargetState } from './target.js';
import { performTask, type Task, type TaskResult } from './task.js';

export interface WorkerInput {
  readonly task: Task;
  /** Takes the messages. */
  readonly port: MessagePort;
  readonly cells: { readonly throttle: Int32Array; readonly stop: Int32Array };
  readonly checkpoints: boolean;
  /** The process serves others meanwhile. */
  readonly background: boolean;
}

/** What a worker says while it works. */
export type WorkerMessage =
  | { readonly progress: RewriteProgress }
  | { readonly states: readonly TargetState[] }
  | { readonly digest: DigestState };

export type WorkerOutput =
  | { readonly ok: true; readonly result: TaskResult }
  | {
      readonly ok: false;
      readonly code: ErrorCode;
      readonly message: string;
      readonly facts: ErrorFacts;
    };

const REPORT_INTERVAL_MS = 100;

export default async function run(input: WorkerInput): Promise<WorkerOutput> {
  const { task, port, cells, checkpoints, background } = input;
  const storage = background ? backgroundStorage : blockingStorage;
  const send = (message: WorkerMessage) => port.postMessage(message);
  let reportedAt = 0;
  const onProgress = (progress: RewriteProgress) => {
    const now = nodeHost.now();
    if (now - reportedAt < REPORT_INTERVAL_MS) return;
    reportedAt = now;
    send({ progress });
  };
  const onCheckpoint = checkpoints
    ? (states: readonly TargetState[]) => send({ states })
    : undefined;
  const onDigest = checkpoints ? (digest: DigestState) => send({ digest }) : undefined;
  const control = new ThrottledControl({
    host: nodeHost,
    throttle: new Throttle(cells.throttle),
    stop: new StopFlag(cells.stop),
    background,
    onProgress,
    onCheckpoint,
  });
  try {
    return { ok: true, result: await performTask(storage, task, control, onDigest) };
  } catch (error) {
    if (!isDivanError(error)) throw error;
    return { ok: false, code: error.code, message: error.message, facts: error.facts };
  } finally {
    port.close();
  }
}
