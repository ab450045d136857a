/** What calls end with, for tests of what is refused. */
import { type DivanError, isDivanError } from '../../engine/errors.js';

/** The DivanError that a call throws; undefined if it throws none. Other errors pass. */
export function caught(call: () => unknown): DivanError | undefined {
  try {
    call();
  } catch (error) {
    if (isDivanError(error)) return error;
    throw error;
  }
  return undefined;
}

/** What a call gives, or the code of the DivanError that it throws. */
export function outcome(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    if (isDivanError(error)) return error.code;
    throw error;
  }
}

/** The message of the DivanError that a call throws. */
export function reason(call: () => unknown): string {
  return caught(call)?.message ?? 'nothing was thrown';
}

/** The code of the DivanError that a promise is rejected with, or what it gives. */
export async function outcomeOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    return await promise;
  } catch (error) {
    if (isDivanError(error)) return error.code;
    throw error;
  }
}

/** What a promise gives, or is rejected with. */
export async function settled(promise: Promise<unknown>): Promise<unknown> {
  try {
    return await promise;
  } catch (error) {
    return error;
  }
}
