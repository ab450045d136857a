/** What is asked for when a job is made, from the body of a request: the node that the job is to be on reads it as the one that was asked does. */
import { DivanError } from '../../engine/errors.js';
import { parseRate, RATE_EXPECTS, RATE_MIN } from '../../engine/rewrite/rate.js';
import { PARTS_MAX, parseRange } from '../../engine/shard/hash.js';
import { namesOfShardFile } from '../databases/shard-map.js';
import {
  type JsonObject,
  type JsonValue,
  memberOf,
  optionalBoolean,
  optionalInteger,
  optionalString,
  optionalStrings,
  requiredString,
  requiredStrings,
} from '../http/json-value.js';
import { JOB_TYPES } from './job.js';
import type { JobPlan, JobRequest } from './plan-job.js';

const PARTS = 2;
const OPTIONS = ['type', 'node', 'rate', 'verify', 'keep_source', 'dry_run'];
const MEMBERS = {
  split: new Set([...OPTIONS, 'shard', 'parts', 'ranges']),
  merge: new Set([...OPTIONS, 'shards']),
  move: new Set([...OPTIONS, 'shard', 'target']),
};

/** Throws `BAD_REQUEST`, `INVALID_RANGE`, `TOO_LARGE`. */
export function parseJobRequest(body: JsonObject): JobRequest {
  const type = typeOf(body);
  const unknown = Object.keys(body).find((name) => !MEMBERS[type].has(name));
  if (unknown !== undefined) throw bad(`a ${type} takes no member ${JSON.stringify(unknown)}`);
  return {
    type,
    shards:
      type === 'merge'
        ? requiredStrings(body, 'shards', PARTS_MAX)
        : [requiredString(body, 'shard')],
    into: type === 'split' ? intoOf(body) : 1,
    target: type === 'move' ? requiredString(body, 'target') : undefined,
    rate: parseJobRate(memberOf(body, 'rate')),
    verify: optionalBoolean(body, 'verify') ?? true,
    keepSource: optionalBoolean(body, 'keep_source') ?? false,
  };
}

function typeOf(body: JsonObject): JobRequest['type'] {
  const type = optionalString(body, 'type') ?? 'split';
  const found = JOB_TYPES.find((name) => name === type);
  if (found !== undefined) return found;
  throw bad('`type` must be "split", "merge" or "move"');
}

function intoOf(body: JsonObject): JobRequest['into'] {
  const ranges = optionalStrings(body, 'ranges', PARTS_MAX);
  const parts = optionalInteger(body, 'parts', { min: PARTS, max: PARTS_MAX });
  if (ranges === undefined) return parts ?? PARTS;
  if (parts !== undefined) throw bad('`parts` and `ranges` are mutually exclusive');
  return ranges.map(parseRange);
}

/** Bytes a second, from a number of them or a text such as `50MB/s`; undefined for what is not there. Throws `BAD_REQUEST`. */
export function parseJobRate(value: JsonValue | undefined): number | undefined {
  if (value === undefined) return undefined;
  const rate = typeof value === 'string' ? parseRate(value) : value;
  if (typeof rate === 'number' && Number.isSafeInteger(rate) && rate >= RATE_MIN) return rate;
  throw bad(
    `\`rate\` must be a number of bytes a second, at least ${RATE_MIN}, or a text ${RATE_EXPECTS}`,
  );
}

/** What a job would do. */
export function planJson(
  { type }: JobRequest,
  { sources, targets, to, space, map }: JobPlan,
): JsonObject {
  const shardOf = (file: string) => namesOfShardFile(file).shard;
  return {
    ok: true,
    dry_run: true,
    type,
    database: map.name,
    sources: sources.map(shardOf),
    targets: targets.map(({ file }) => shardOf(file)),
    ...(to === undefined ? {} : { target_node: to.name }),
    bytes_needed: space.bytes,
    bytes_needed_by_other_jobs: space.otherBytes,
    bytes_free: space.freeBytes,
    has_room: space.bytes + space.otherBytes <= space.freeBytes,
  };
}

function bad(reason: string): DivanError {
  return new DivanError('BAD_REQUEST', reason);
}
