/** How large the targets of a rewrite will be, told from the sources and a look at some of their nodes. */
import { dirname, join } from 'node:path';
import { treeBytes } from '../btree/tree-bytes.js';
import { DivanError } from '../errors.js';
import { DATA_START } from '../file/first-block.js';
import type { Host } from '../file/host.js';
import type { Storage } from '../file/storage.js';
import type { ShardRange } from '../shard/hash.js';
import type { ShardWorld } from '../shard/shard.js';
import { TREE_NAMES } from '../shard/state.js';
import type { Job } from './job.js';
import type { JobFiles } from './job-files.js';
import type { SourcePlan } from './plan.js';
import { rowWindows } from './row-windows.js';
import { Source } from './source.js';

/** Frames, and what is uneven about targets. Nodes of the source are not always as full as those of the targets. */
export const OVERHEAD = 1.03;

export interface TargetEstimate {
  readonly path: string;
  readonly range: ShardRange;
  readonly docs: number;
  readonly bytes: number;
}

export interface Estimate {
  readonly docs: number;
  readonly targets: readonly TargetEstimate[];
  /** Bytes that all targets will take. */
  readonly bytes: number;
  /** What the directory of the targets could still take, counting what an interrupted run has taken already. */
  readonly freeBytes: number;
}

/** Ids are spread evenly over hashes, and so targets get what is due to their share of the range. Throws what reading throws. */
export async function estimate(
  storage: Storage,
  { plan, files, counters }: Job,
): Promise<Estimate> {
  let bytes = counters.activeBytes;
  for (const [index, source] of plan.sources.entries()) {
    bytes += await allTreeBytes(storage, files.sourcePaths[index] ?? '', source);
  }
  const whole = plan.targets.reduce((sum, { range }) => sum + span(range), 0);
  const docs = counters.liveDocs + counters.deletedDocs;
  const targets = plan.targets.map(({ range }, index): TargetEstimate => {
    const share = span(range) / whole;
    return {
      path: files.targets[index]?.path ?? '',
      range,
      docs: Math.round(docs * share),
      bytes: Math.round(DATA_START + bytes * share * OVERHEAD),
    };
  });
  return {
    docs,
    targets,
    bytes: targets.reduce((sum, target) => sum + target.bytes, 0),
    freeBytes: await freeBytes(storage, files),
  };
}

/**
 * About how long the rewrite will take, with or without the verify pass: from reading rows for a moment and from writing a sample
 * next to the targets, which is removed again.
 */
export async function estimateSeconds(
  { storage, host }: Pick<ShardWorld, 'storage' | 'host'>,
  { plan, files }: Job,
  { docs, bytes }: Estimate,
  verifies: boolean,
): Promise<number> {
  const rowsPerMs = await measureReading(
    storage,
    host,
    files.sourcePaths[0] ?? '',
    plan.sources[0],
  );
  const bytesPerMs = await measureWriting(storage, host, await nearestDirectory(storage, files));
  const passes = WRITE_IN_READS + (verifies ? VERIFY_IN_READS : 0);
  return ((docs / rowsPerMs) * passes + (bytes / bytesPerMs) * UNHIDDEN_WRITING) / 1000;
}

/** What the passes take, in times of reading all rows with their bodies; measured. */
const WRITE_IN_READS = 2;
const VERIFY_IN_READS = 2;
/** The part of the writing that does not go on beside the rest. */
const UNHIDDEN_WRITING = 0.25;
const SAMPLE_MS = 200;
const SAMPLE_BYTES = 16 * 1024 * 1024;

async function measureReading(
  storage: Storage,
  host: Pick<Host, 'now'>,
  path: string,
  plan: SourcePlan | undefined,
): Promise<number> {
  if (plan === undefined) return 1;
  const source = await Source.open(storage, path, plan);
  try {
    const start = host.now();
    const options = { seqMaps: undefined, after: undefined, small: false, route: () => 0 };
    let rows = 0;
    for await (const window of rowWindows([source], options)) {
      rows += window.read;
      if (host.now() - start > SAMPLE_MS) break;
    }
    return Math.max(1, rows) / Math.max(1, host.now() - start);
  } finally {
    await source.close();
  }
}

async function measureWriting(
  storage: Storage,
  host: Pick<Host, 'now' | 'randomBytes'>,
  directory: string,
): Promise<number> {
  const name = Buffer.from(host.randomBytes(6)).toString('hex');
  const path = join(directory, `.divan-sample.${name}.new`);
  const file = await storage.open(path, 'create');
  try {
    const piece = Buffer.alloc(1024 * 1024);
    const start = host.now();
    for (let at = 0; at < SAMPLE_BYTES; ) {
      at += await file.write(piece.subarray(0, Math.min(piece.length, SAMPLE_BYTES - at)), at);
    }
    await file.sync();
    return SAMPLE_BYTES / Math.max(1, host.now() - start);
  } finally {
    await file.close();
    await storage.remove(path);
  }
}

/** Throws `NO_SPACE`, with the arithmetic, if the targets would not fit. */
export function assertFits({ bytes, freeBytes }: Estimate, path: string): void {
  if (bytes <= freeBytes) return;
  throw new DivanError(
    'NO_SPACE',
    `this needs about ${megabytes(bytes)}, and ${megabytes(freeBytes)} are free; make room for ${megabytes(bytes - freeBytes)} more`,
    { path, expected: bytes, actual: freeBytes },
  );
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function span({ start, end }: ShardRange): number {
  return end - start + 1;
}

/** The bytes of all trees of a source. */
async function allTreeBytes(storage: Storage, path: string, plan: SourcePlan): Promise<number> {
  const source = await Source.open(storage, path, plan);
  let bytes = 0;
  try {
    for (const name of TREE_NAMES) bytes += await treeBytes(source, source.state.roots[name]);
  } finally {
    await source.close();
  }
  return bytes;
}

/** Free bytes where the targets go, with those that partial targets have. */
async function freeBytes(storage: Storage, files: JobFiles): Promise<number> {
  let bytes = await storage.freeBytes(await nearestDirectory(storage, files));
  for (const { temporaryPath } of files.targets) {
    if ((await storage.identity(temporaryPath)) === undefined) continue;
    const file = await storage.open(temporaryPath, 'read');
    bytes += await file.size();
    await file.close();
  }
  return bytes;
}

/** The directory of the first target, or the nearest one above it that is there. */
async function nearestDirectory(storage: Storage, { targets }: JobFiles): Promise<string> {
  let directory = dirname(targets[0]?.path ?? '.');
  while ((await storage.identity(directory)) === undefined && dirname(directory) !== directory) {
    directory = dirname(directory);
  }
  return directory;
}
