/** The state of one job that splits or merges shards, which both APIs read and set in the same way. */
import { DivanError } from '../../engine/errors.js';
import type { Exchange } from '../http/exchange.js';
import { isObject, type JsonObject, memberOf, optionalString } from '../http/json-value.js';
import type { Services } from './services.js';

/** Longer than any request for a job needs to be. */
export const JOB_BODY_BYTES_MAX = 64 * 1024;
/** Reasons are kept in the records of jobs, many times over. */
const REASON_LENGTH_MAX = 1000;

/** What is asked for: `running`, or `stopped` and, if it is said, why. */
export type WantedState =
  | { readonly state: 'running' }
  | { readonly state: 'stopped'; readonly reason: string | undefined };

/** With CouchDB's reasons. Throws `BAD_REQUEST`. */
export async function wantedState(exchange: Exchange): Promise<WantedState> {
  const body = await bodyOf(exchange);
  const state = memberOf(body, 'state');
  if (state === undefined) throw new DivanError('BAD_REQUEST', 'Expected a `state` field');
  if (state === 'running') return { state };
  if (state === 'stopped') return { state, reason: checkedReason(optionalString(body, 'reason')) };
  throw new DivanError('BAD_REQUEST', 'State field not `running` or `stopped`');
}

/** Throws `BAD_REQUEST` for a reason that is too long. */
export function checkedReason<T extends string | undefined>(reason: T): T {
  if (reason === undefined || reason.length <= REASON_LENGTH_MAX) return reason;
  throw new DivanError(
    'BAD_REQUEST',
    `a reason must have at most ${REASON_LENGTH_MAX} characters, not ${reason.length}`,
  );
}

/** A member that names nodes; none if there are none. */
export function namesMember(name: string, nodes: readonly string[]): JsonObject {
  return nodes.length === 0 ? {} : { [name]: nodes };
}

/** A body in CouchDB's form. */
export async function bodyOf(exchange: Exchange): Promise<JsonObject> {
  const body = await exchange.json(JOB_BODY_BYTES_MAX);
  if (isObject(body)) return body;
  throw new DivanError('BAD_REQUEST', 'Request body must be a JSON object');
}

/** Stops a job or has it go on. */
export async function putJobState(
  { clusterJobs: jobs }: Services,
  exchange: Exchange,
): Promise<void> {
  const id = exchange.param('id');
  const wanted = await wantedState(exchange);
  if (wanted.state === 'running') await jobs.resumeJob(id);
  else await jobs.stopJob(id, wanted.reason ?? 'Stopped by user');
  exchange.reply(200, { ok: true });
}
