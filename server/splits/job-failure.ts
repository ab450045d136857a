/** What to make of the error that a run of a job ended with. */
import { DivanError, type ErrorCode, isDivanError } from '../../engine/errors.js';

/** The next try would find the same. */
const LASTING: ReadonlySet<ErrorCode> = new Set([
  'CHECKSUM',
  'CORRUPT',
  'FORMAT_VERSION',
  'INVALID_DOCUMENT',
  'INVALID_JSON',
  'INVALID_NAME',
  'INVALID_PLAN',
  'INVALID_RANGE',
  'INVALID_SETTING',
  'NOT_FOUND',
  'NOT_A_SHARD',
  'NO_COMMIT',
  'OUT_OF_RANGE',
  'SETTINGS_DIFFER',
  'TRUNCATED',
  'VERIFY_FAILED',
]);

/** A job that is tried again waits at most so long. */
const WAIT_MS_MAX = 10 * 60_000;

/** Whether it may go better next time. A defect of Divan is none that time mends. */
export function isMendable(error: unknown): boolean {
  return isDivanError(error) && !LASTING.has(error.code);
}

/** How long to wait before a phase is tried again for the `retry`-th time, from 1 on. */
export function retryDelayMs(intervalMs: number, retry: number): number {
  return Math.min(intervalMs * 2 ** (retry - 1), Math.max(WAIT_MS_MAX, intervalMs));
}

/** Texts of errors are kept in the records of jobs, many times over. */
const TEXT_LENGTH_MAX = 2000;

/** What copies are called before they get their names: nobody else knows these files by that. */
const TEMPORARY_NAME = /\.([^/]+)\.[0-9a-f]{12}\.new\b/g;

/** What failed, in which file and where in it. */
export function describeError(error: unknown): string {
  return textOf(error).replaceAll(TEMPORARY_NAME, '$1').slice(0, TEXT_LENGTH_MAX);
}

function textOf(error: unknown): string {
  if (!(error instanceof DivanError)) return error instanceof Error ? error.message : String(error);
  const { path, pos } = error.facts;
  const parts = [error.message];
  if (path !== undefined && !error.message.includes(path)) parts.push(`file ${path}`);
  if (pos !== undefined && !error.message.includes(String(pos))) parts.push(`offset ${pos}`);
  return parts.join(', ');
}
