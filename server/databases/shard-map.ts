/**
 * The shard map of a database on this node: which ranges it holds, in which files; all of them on a node alone, else this node's part. Kept
 * as a record of the node (`database/<name>`); this node is its only writer, and its epoch never falls.
 */
import { basename, dirname } from 'node:path';
import { DivanError } from '../../engine/errors.js';
import {
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
  /** Seconds since 1970, as it stands in the file names, unless such files were there. */
  readonly timestamp: number;
  /** The identity of the node that made the database; undefined for this node before it had one. */
  readonly maker?: string | undefined;
  /** In the order of their ranges, which do not overlap. */
  readonly shards: readonly ShardPlace[];
}

/** What a part of a new database is made of. */
export interface NewPart {
  readonly incarnation: string;
  readonly timestamp: number;
  readonly maker?: string | undefined;
  readonly copies: number;
  readonly hashRule: HashRule;
  /** In their order. */
  readonly ranges: readonly ShardRange[];
}

const KEY_PREFIX = 'database/';
const SUFFIX = '.divan';
const STATES: readonly DatabaseState[] = ['creating', 'live', 'deleting'];

export function shardMapKey(name: string): string {
  return KEY_PREFIX + name;
}

export const SHARD_MAP_PREFIX = KEY_PREFIX;

/** The map of a part of a new database, in whose file names `suffix` stands. */
export function newShardMap(name: string, part: NewPart, suffix = part.timestamp): ShardMap {
  const { incarnation, timestamp, maker, copies, hashRule, ranges } = part;
  const shards = ranges.map((range) => ({ range, file: shardFileOf(name, range, suffix) }));
  const map = { name, incarnation, state: 'creating', epoch: 1, copies, hashRule } as const;
  return { ...map, timestamp, maker, shards };
}

/** The greatest number that stands in the file names of a map. */
export function suffixOf({ timestamp, shards }: ShardMap): number {
  const suffixes = shards.map(({ file }) => Number(/\.(\d+)\.divan$/.exec(file)?.[1] ?? 0));
  return Math.max(timestamp, ...suffixes);
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
  checkApart(shards);
  const before = formatCover(map.shards);
  const after = formatCover(shards);
  if (before !== after) {
    throw new DivanError('INVALID_RANGE', `the shards cover ${after}, and covered ${before}`);
  }
  return { ...map, epoch: map.epoch + 1, shards };
}

/** The map without a shard. Its epoch goes on even if nothing is left in it. */
export function givenShardMap(map: ShardMap, file: string): ShardMap {
  const shards = map.shards.filter((shard) => shard.file !== file);
  return { ...map, epoch: map.epoch + 1, shards };
}

/** The map with one more shard. Throws `INVALID_RANGE` if its range is not free. */
export function takenShardMap(map: ShardMap, place: ShardPlace): ShardMap {
  const { range, file } = place;
  const shards = [...map.shards, { range, file }].sort((a, b) => a.range.start - b.range.start);
  checkApart(shards);
  return { ...map, epoch: map.epoch + 1, shards };
}

/** Refuses ranges that are not in their order or overlap. Throws `INVALID_RANGE`. */
export function checkApart(shards: readonly { readonly range: ShardRange }[]): void {
  let end = -1;
  for (const { range } of shards) {
    if (range.start <= end) {
      throw new DivanError('INVALID_RANGE', `the ranges overlap at ${formatRange(range)}`);
    }
    end = range.end;
  }
}

/** What ranges cover together, as a text in which neighbours are joined. REQUIRES: they are in their order and do not overlap. */
export function formatCover(shards: readonly { readonly range: ShardRange }[]): string {
  const joined: { start: number; end: number }[] = [];
  for (const { range } of shards) {
    const last = joined.at(-1);
    if (last !== undefined && range.start === last.end + 1) last.end = range.end;
    else joined.push({ start: range.start, end: range.end });
  }
  return joined.map(formatRange).join(' ');
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

type ShardMapJson = Omit<ShardMap, 'shards'> & {
  readonly shards: readonly { readonly range: string; readonly file: string }[];
};

/** A map as it is stored. */
export function shardMapRecord(map: ShardMap): ShardMapJson {
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
    maker: value.optionalText('maker'),
    shards: value.list('shards').map(readPlace),
  };
  checkDatabaseName(name);
  checkApart(map.shards);
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
