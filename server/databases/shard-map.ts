/**
 * The shard map of a database on this node: which ranges it holds, in which files. Kept as a record of the node (`database/<name>`); this
 * node is its only writer, and its epoch never falls.
 */
import { basename, dirname } from 'node:path';
import { DivanError } from '../../engine/errors.js';
import {
  checkTiling,
  evenRanges,
  FULL_RANGE,
  formatRange,
  type HashRule,
  parseRange,
  type ShardRange,
} from '../../engine/shard/hash.js';
import { checkDatabaseName, fileNameOf } from './database-name.js';
import { RecordMembers } from './record-members.js';

/** `creating`: its files are being made; `deleting`: they are being removed. A start finishes either. */
export type DatabaseState = 'creating' | 'live' | 'deleting';

export interface ShardPlace {
  readonly range: ShardRange;
  /** Under the data directory, with `/`; without the suffix it is the name of the shard in CouchDB's sense. */
  readonly file: string;
}

export interface ShardMap {
  readonly name: string;
  /** Unique to this making of the database: one that is made anew under the same name has another. */
  readonly incarnation: string;
  readonly state: DatabaseState;
  readonly epoch: number;
  /** How many copies each range is to have. */
  readonly copies: number;
  readonly hashRule: HashRule;
  /** Seconds since 1970, as it stands in the file names. */
  readonly timestamp: number;
  /** In the order of their ranges, which tile the ring. */
  readonly shards: readonly ShardPlace[];
}

const KEY_PREFIX = 'database/';
const SUFFIX = '.divan';
const STATES: readonly DatabaseState[] = ['creating', 'live', 'deleting'];

export function shardMapKey(name: string): string {
  return KEY_PREFIX + name;
}

export const SHARD_MAP_PREFIX = KEY_PREFIX;

/** The map of a new database of `q` equal ranges. */
export function newShardMap(
  name: string,
  options: {
    readonly q: number;
    readonly copies: number;
    readonly hashRule: HashRule;
    readonly timestamp: number;
    readonly incarnation: string;
  },
): ShardMap {
  const { q, copies, hashRule, timestamp, incarnation } = options;
  const shards = evenRanges(FULL_RANGE, q).map((range) => ({
    range,
    file: shardFileOf(name, range, timestamp),
  }));
  return { name, incarnation, state: 'creating', epoch: 1, copies, hashRule, timestamp, shards };
}

/**
 * The map in which shards have taken the place of others, those in the files `from`. Throws `NOT_FOUND` if one of these is not in the map, and
 * `INVALID_RANGE` if the ranges of the new ones are not those of the old ones.
 */
export function movedShardMap(
  map: ShardMap,
  from: readonly string[],
  to: readonly ShardPlace[],
): ShardMap {
  for (const file of from) {
    if (map.shards.some((shard) => shard.file === file)) continue;
    throw new DivanError('NOT_FOUND', `${map.name} has no shard ${file}`, { path: file });
  }
  const kept = map.shards.filter(({ file }) => !from.includes(file));
  const shards = [...kept, ...to.map(({ range, file }) => ({ range, file }))];
  shards.sort((a, b) => a.range.start - b.range.start);
  checkTiling(
    FULL_RANGE,
    shards.map(({ range }) => range),
  );
  return { ...map, epoch: map.epoch + 1, shards };
}

/** The file of a shard, as it stands in a map. */
export function shardFileOf(name: string, range: ShardRange, timestamp: number): string {
  return `shards/${formatRange(range)}/${fileNameOf(name)}.${timestamp}${SUFFIX}`;
}

/** The name of the database, and of the shard as CouchDB's clients know it, of a shard file. */
export function namesOfShardFile(path: string): {
  readonly database: string;
  readonly shard: string;
} {
  const file = basename(path, SUFFIX).replaceAll('%2f', '/');
  const shard = `shards/${basename(dirname(path))}/${file}`;
  return { database: file.slice(0, file.lastIndexOf('.')), shard };
}

/** A map as it is stored. */
export function shardMapRecord(map: ShardMap): object {
  return {
    ...map,
    shards: map.shards.map(({ range, file }) => ({ range: formatRange(range), file })),
  };
}

/** Reads a stored map. Throws `CORRUPT`. */
export function readShardMap(record: unknown): ShardMap {
  const value = new RecordMembers(record, 'shard map');
  const name = value.text('name');
  const map: ShardMap = {
    name,
    incarnation: value.text('incarnation'),
    state: value.oneOf('state', STATES),
    epoch: value.whole('epoch'),
    copies: value.whole('copies'),
    hashRule: value.oneOf('hashRule', ['document', 'partition']),
    timestamp: value.whole('timestamp'),
    shards: value.list('shards').map(readPlace),
  };
  checkDatabaseName(name);
  checkTiling(
    FULL_RANGE,
    map.shards.map(({ range }) => range),
  );
  return map;
}

function readPlace(record: unknown): ShardPlace {
  const value = new RecordMembers(record, 'shard map');
  const file = value.text('file');
  if (!/^shards\/[0-9a-f]{8}-[0-9a-f]{8}\/[^/]+\.divan$/.test(file)) {
    throw new DivanError('CORRUPT', `the shard map names the file ${file}`);
  }
  return { range: parseRange(value.text('range')), file };
}
