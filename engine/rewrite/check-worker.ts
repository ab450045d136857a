/** The entry of the thread that looks through a whole shard, beside a server. Errors travel as values, since their class is lost between threads. */
import { type ErrorCode, type ErrorFacts, isDivanError } from '../errors.js';
import { nodeHost } from '../file/node-host.js';
import { backgroundStorage } from '../file/node-storage.js';
import type { Problem } from '../shard/check.js';
import { firstProblem } from './check-file.js';
import { StopFlag } from './control.js';

export interface CheckInput {
  readonly path: string;
  /** Of a `StopFlag`. */
  readonly stop: Int32Array;
}

export type CheckOutput =
  | { readonly ok: true; readonly problem: Problem | undefined }
  | {
      readonly ok: false;
      readonly code: ErrorCode;
      readonly message: string;
      readonly facts: ErrorFacts;
    };

export default async function run({ path, stop }: CheckInput): Promise<CheckOutput> {
  const world = { storage: backgroundStorage, host: nodeHost };
  try {
    return { ok: true, problem: await firstProblem(world, path, new StopFlag(stop)) };
  } catch (error) {
    if (!isDivanError(error)) throw error;
    return { ok: false, code: error.code, message: error.message, facts: error.facts };
  }
}
