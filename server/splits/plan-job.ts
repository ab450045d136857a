/** From what was asked for to a job: which shards, into which ranges, in which files, and whether there is room. */
import { join } from 'node:path';
import { DivanError } from '../../engine/errors.js';
import {
  checkTiling,
  evenRanges,
  formatRange,
  PARTS_MAX,
  parseRange,
  type ShardRange,
} from '../../engine/shard/hash.js';
import type { Catalog } from '../databases/catalog.js';
import type { Database } from '../databases/database.js';
import { namesOfShardFile, type ShardMap, shardFileOf } from '../databases/shard-map.js';
import type { DatabaseShard } from '../databases/shard-set.js';
import type { ServerWorld } from '../world.js';
import type { JobDestination, JobTarget, JobType, SplitJob } from './job.js';

export interface JobRequest {
  readonly type: JobType;
  /** Names of shards of one database, `shards/<range>/<database>.<timestamp>`: one for a split, several for a merge. */
  readonly shards: readonly string[];
  /** Of a split: into so many equal ranges, or into these. */
  readonly into: number | readonly ShardRange[];
  /** Of a move: the name of the node. */
  readonly target?: string | undefined;
  readonly rate: number | undefined;
  readonly verify: boolean;
  readonly keepSource: boolean;
}

export interface SpaceNeeds {
  /** What the targets take at most, which is what the sources do. */
  readonly bytes: number;
  /** What other unfinished jobs may still take. */
  readonly otherBytes: number;
  readonly freeBytes: number;
}

export interface JobPlan {
  readonly database: Database;
  readonly map: ShardMap;
  readonly sources: readonly string[];
  readonly targets: readonly JobTarget[];
  /** Of a move. */
  readonly to: JobDestination | undefined;
  readonly space: SpaceNeeds;
}

/** What a plan is made from. */
export interface Planning {
  readonly world: ServerWorld;
  readonly dataDir: string;
  readonly catalog: Catalog;
  /** All there are, finished or not. */
  readonly jobs: readonly SplitJob[];
  /** What a job copied already. */
  readonly bytesDone: (job: SplitJob) => number;
  /** Whether the compaction of a database was asked for, and is not over. */
  readonly isCompacting: (database: Database) => boolean;
  readonly moves: MovePlanning;
}

/** Knows of other nodes. */
export interface MovePlanning {
  /**
   * The node of a name, and how many bytes are free there. Throws `BAD_REQUEST` for a name that no other node has, `UNAVAILABLE` if it can
   * not be reached.
   */
  room(name: string): Promise<{ readonly to: JobDestination; readonly freeBytes: number }>;
}

/** A shard of a database with its file, as it stands in the map. */
interface Source extends DatabaseShard {
  readonly file: string;
}

/** The parts of the name of a shard, the range in lower case. Throws `BAD_REQUEST`, `INVALID_RANGE`. */
export function parseShardName(text: string): { readonly database: string; readonly name: string } {
  const [, range, database, timestamp] = /^shards\/([^/]+)\/(.+)\.(\d{1,15})$/.exec(text) ?? [];
  if (range === undefined || database === undefined) {
    throw new DivanError(
      'BAD_REQUEST',
      `\`shard\` must look like shards/00000000-7fffffff/db.1548175503, not ${JSON.stringify(text.slice(0, 300))}`,
    );
  }
  return { database, name: `shards/${formatRange(parseRange(range))}/${database}.${timestamp}` };
}

/**
 * Plans a job. Throws `BAD_REQUEST`, `INVALID_RANGE`, `INVALID_NAME`, `NOT_FOUND` for a database or shard that is not here, and `BUSY` for a
 * shard that something is done with. That there is too little room is not an error yet.
 */
export async function planJob(planning: Planning, request: JobRequest): Promise<JobPlan> {
  const { catalog } = planning;
  const names = request.shards.map(parseShardName);
  const [first] = names;
  if (first === undefined || names.some(({ database }) => database !== first.database)) {
    throw new DivanError('BAD_REQUEST', 'the shards must be of one database');
  }
  const database = catalog.get(first.database);
  const { map } = database;
  const found = names.map(({ name }) => sourceOf(database, name));
  const sources = found.sort((a, b) => a.range.start - b.range.start);
  for (const source of sources) assertIdle(planning, database, source);
  if (request.type === 'move') return planMove(planning, database, sources, request.target ?? '');
  const ranges = targetRanges(sources, request);
  const space = await spaceNeeds(planning, sources);
  const targets = await newTargets(planning, map, sources, ranges);
  return { database, map, sources: sources.map(({ file }) => file), targets, to: undefined, space };
}

/** The file may get another name there. */
async function planMove(
  { moves }: Planning,
  database: Database,
  sources: readonly Source[],
  target: string,
): Promise<JobPlan> {
  const bytes = await bytesOf(sources);
  const { to, freeBytes } = await moves.room(target);
  const targets = sources.map(({ range, file }) => ({ range, file }));
  const files = sources.map(({ file }) => file);
  const space = { bytes, otherBytes: 0, freeBytes };
  return { database, map: database.map, sources: files, targets, to, space };
}

/** Throws `NO_SPACE`, with the arithmetic. */
export function assertRoom({ bytes, otherBytes, freeBytes }: SpaceNeeds): void {
  const lacking = bytes + otherBytes - freeBytes;
  if (lacking <= 0) return;
  throw new DivanError(
    'NO_SPACE',
    `the new shards take up to ${bytes} bytes and those of other jobs ${otherBytes}, ` +
      `${bytes + otherBytes} together, while the old ones are kept; ${freeBytes} are free, ${lacking} too few`,
    { expected: bytes + otherBytes, actual: freeBytes },
  );
}

function sourceOf(database: Database, name: string): Source {
  const index = database.map.shards.findIndex(({ file }) => namesOfShardFile(file).shard === name);
  const place = database.map.shards[index];
  const shard = database.shards[index];
  if (place !== undefined && shard !== undefined) return { ...shard, file: place.file };
  throw new DivanError('NOT_FOUND', `the shard ${name} is not on this node`);
}

function targetRanges(sources: readonly Source[], { type, into }: JobRequest): ShardRange[] {
  const [first] = sources;
  const last = sources.at(-1);
  if (first === undefined || last === undefined) return [];
  if (type === 'split') return splitRanges(first.range, into);
  if (sources.length < 2 || sources.length > PARTS_MAX) {
    throw new DivanError('BAD_REQUEST', `a merge takes 2 to ${PARTS_MAX} shards`);
  }
  const whole = { start: first.range.start, end: last.range.end };
  checkTiling(
    whole,
    sources.map(({ range }) => range),
  );
  return [whole];
}

function splitRanges(range: ShardRange, into: JobRequest['into']): ShardRange[] {
  const ranges = typeof into === 'number' ? evenRanges(range, into) : checkTiling(range, into);
  if (ranges.length >= 2 && ranges.length <= PARTS_MAX) return ranges;
  throw new DivanError('INVALID_RANGE', `a shard is split into 2 to ${PARTS_MAX} ranges`);
}

function assertIdle({ jobs, isCompacting }: Planning, database: Database, source: Source): void {
  const name = namesOfShardFile(source.file).shard;
  const other = jobs.find((job) => isUnfinished(job) && filesOf(job).includes(source.file));
  if (other !== undefined) {
    throw new DivanError('BUSY', `the shard ${name} is in the job ${other.id} already`);
  }
  if (isCompacting(database) && source.slot.compactions > 0) {
    throw new DivanError('BUSY', `the shard ${name} is being compacted; try again when it is done`);
  }
}

function isUnfinished({ state }: SplitJob): boolean {
  return state !== 'completed' && state !== 'failed';
}

/** On this node. */
export function filesOf({ type, sources, targets }: SplitJob): string[] {
  return type === 'move' ? [...sources] : [...sources, ...targets.map(({ file }) => file)];
}

async function spaceNeeds(
  planning: Planning,
  sources: readonly DatabaseShard[],
): Promise<SpaceNeeds> {
  const { world, dataDir, jobs } = planning;
  const others = jobs.filter(isUnfinished).map((job) => bytesLeft(planning, job));
  return {
    bytes: await bytesOf(sources),
    otherBytes: (await Promise.all(others)).reduce((sum, bytes) => sum + bytes, 0),
    freeBytes: await world.storage.freeBytes(join(dataDir, 'shards')),
  };
}

/** What an unfinished job may still take. Sources that are in the map no more are copied. */
async function bytesLeft({ catalog, bytesDone }: Planning, job: SplitJob): Promise<number> {
  if (job.type === 'move') return 0;
  const database = catalog.find(job.database);
  if (database === undefined) return 0;
  const sources = database.shards.filter((_shard, index) =>
    job.sources.includes(database.map.shards[index]?.file ?? ''),
  );
  return Math.max(0, (await bytesOf(sources)) - bytesDone(job));
}

async function bytesOf(shards: readonly DatabaseShard[]): Promise<number> {
  const sizes = await Promise.all(shards.map(({ slot }) => slot.fileBytes()));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Targets in files whose names nothing else has or had: with the timestamp of the source, or else with a later one. */
async function newTargets(
  { world, dataDir, jobs }: Planning,
  map: ShardMap,
  sources: readonly Source[],
  ranges: readonly ShardRange[],
): Promise<JobTarget[]> {
  const known = new Set([...map.shards.map(({ file }) => file), ...jobs.flatMap(filesOf)]);
  for (let timestamp = timestampOf(sources[0]?.file ?? ''); ; timestamp++) {
    const files = ranges.map((range) => shardFileOf(map.name, range, timestamp));
    const paths = files.map((file) => join(dataDir, ...file.split('/')));
    const there = await Promise.all(paths.map((path) => world.storage.identity(path)));
    if (there.some((identity) => identity !== undefined)) continue;
    if (files.some((file) => known.has(file))) continue;
    return ranges.map((range, index) => ({ range, file: files[index] ?? '' }));
  }
}

function timestampOf(file: string): number {
  const { database, shard } = namesOfShardFile(file);
  return Number(shard.slice(shard.lastIndexOf(`${database}.`) + database.length + 1));
}
