/** What a node keeps of a shard that another node moves to it. */
import { formatRange, parseRange, type ShardRange } from '../../engine/shard/hash.js';
import { RecordMembers } from '../databases/record-members.js';
import type { NewPart } from '../databases/shard-map.js';
import type { JsonObject } from '../http/json-value.js';

/** `receiving`: its bytes come; `taking`: it is this node's from when the shard map has it, and takes writes when the other node has given it up. */
export type ArrivalState = 'receiving' | 'taking';

export interface Arrival {
  /** The identity of the node that it comes from, and the id of the job there. */
  readonly from: string;
  readonly job: string;
  /** Unique to each beginning: what was asked for before is refused. */
  readonly run: string;
  readonly state: ArrivalState;
  readonly database: string;
  readonly part: Omit<NewPart, 'ranges'>;
  readonly range: ShardRange;
  /** As in the shard map. */
  readonly file: string;
  /** In hexadecimal digits. */
  readonly fileId: string;
}

export const ARRIVAL_PREFIX = 'shard-arrival/';
const WHAT = 'shard that arrives';
/** A file of a shard map under the data directory. */
const FILE = /^shards\/[0-9a-f]{8}-[0-9a-f]{8}\/[^/]+\.divan$/;

export function arrivalKey({ from, job }: Pick<Arrival, 'from' | 'job'>): string {
  return `${ARRIVAL_PREFIX}${from}/${job}`;
}

export function arrivalJson({ part, range, ...rest }: Arrival): JsonObject {
  const { incarnation, timestamp, maker, copies, hashRule } = part;
  const known = { incarnation, timestamp, copies, hashRule };
  return {
    ...rest,
    range: formatRange(range),
    ...known,
    ...(maker === undefined ? {} : { maker }),
  };
}

/** Throws `CORRUPT`, `INVALID_RANGE`. */
export function readArrival(record: unknown): Arrival {
  const value = new RecordMembers(record, WHAT);
  const file = value.text('file');
  return {
    from: value.text('from'),
    job: value.text('job'),
    run: value.text('run'),
    state: value.oneOf('state', ['receiving', 'taking']),
    database: value.text('database'),
    part: readPart(record),
    range: parseRange(value.text('range')),
    file: FILE.test(file) ? file : value.oneOf('file', []),
    fileId: value.text('fileId'),
  };
}

function readPart(record: unknown): Arrival['part'] {
  const value = new RecordMembers(record, WHAT);
  return {
    incarnation: value.text('incarnation'),
    timestamp: value.whole('timestamp'),
    maker: value.optionalText('maker'),
    copies: value.whole('copies'),
    hashRule: value.oneOf('hashRule', ['document', 'partition']),
  };
}
