/** What a node keeps of a shard that another node moves to it. */
import { DivanError } from '../../engine/errors.js';
import { formatRange, parseRange, type ShardRange } from '../../engine/shard/hash.js';
import { checkDatabaseName } from '../databases/database-name.js';
import { RecordMembers } from '../databases/record-members.js';
import { type NewPart, shardFileOf } from '../databases/shard-map.js';
import {
  type JsonObject,
  optionalInteger,
  optionalString,
  requiredString,
} from '../http/json-value.js';

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
const BYTES = { min: 0, max: Number.MAX_SAFE_INTEGER };
/** As in the records of databases: names of files with greater numbers, of which one more is the same, would never end. */
const SUFFIX_MAX = 1e13;
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

/** What a node asks for that a shard is to come from. Throws `BAD_REQUEST`, `INVALID_NAME`, `INVALID_RANGE`. */
export function readWanted(from: string, head: JsonObject): Arrival {
  const maker = optionalString(head, 'maker');
  const database = requiredString(head, 'database');
  checkDatabaseName(database);
  const range = parseRange(requiredString(head, 'range'));
  const rule = requiredString(head, 'hashRule');
  const suffix = wholeOf(head, 'suffix');
  if (suffix > SUFFIX_MAX) throw new DivanError('BAD_REQUEST', 'the member `suffix` is too large');
  return {
    from,
    job: requiredString(head, 'id'),
    run: requiredString(head, 'run'),
    state: 'receiving',
    database,
    part: {
      incarnation: requiredString(head, 'incarnation'),
      timestamp: wholeOf(head, 'timestamp'),
      maker,
      copies: wholeOf(head, 'copies'),
      hashRule: rule === 'partition' ? rule : 'document',
    },
    range,
    file: shardFileOf(database, range, suffix),
    fileId: requiredString(head, 'fileId'),
  };
}

/** Throws `BAD_REQUEST`. */
export function wholeOf(head: JsonObject, name: string): number {
  const value = optionalInteger(head, name, BYTES);
  if (value !== undefined) return value;
  throw new DivanError('BAD_REQUEST', `the member \`${name}\` is missing`);
}

/** The name of a file with the next number. */
export function nextFile(file: string): string {
  return file.replace(/\.(\d+)\.divan$/, (_, number: string) => `.${Number(number) + 1}.divan`);
}
