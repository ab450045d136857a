/** How large the targets of a rewrite will be, told from the sources and a look at some of their nodes. */
import { dirname } from 'node:path';
import { DivanError } from '../errors.js';
import { DATA_START } from '../file/first-block.js';
import type { Storage } from '../file/storage.js';
import type { ShardRange } from '../shard/hash.js';
import { TREE_NAMES } from '../shard/state.js';
import type { Job } from './job.js';
import { leafPieces } from './leaf-scan.js';
import { Source } from './source.js';

/** Interior nodes, frames and slots, as a share of the entries; and what is uneven about targets. */
const OVERHEAD = 1.05;

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
    bytes += await treeBytes(storage, files.sourcePaths[index] ?? '', source);
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
    freeBytes: await freeBytes(storage, files.targets),
  };
}

/** Throws `NO_SPACE`, with the arithmetic, if the targets would not fit. */
export function assertFits({ bytes, freeBytes }: Estimate, path: string): void {
  if (bytes <= freeBytes) return;
  throw new DivanError(
    'NO_SPACE',
    `this needs about ${megabytes(bytes)} and ${megabytes(freeBytes)} are free; free ${megabytes(bytes - freeBytes)} or choose another place`,
    { path, expected: bytes, actual: freeBytes },
  );
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function span({ start, end }: ShardRange): number {
  return end - start + 1;
}

/** The bytes of all trees, from how long the entries of the first leaves of each are. */
async function treeBytes(
  storage: Storage,
  path: string,
  plan: Job['plan']['sources'][number],
): Promise<number> {
  const source = await Source.open(storage, path, plan);
  let bytes = 0;
  try {
    for (const tree of TREE_NAMES) {
      const { value: leaves } = await leafPieces(source, tree, undefined).next();
      if (leaves === undefined) continue;
      const read = leaves.reduce((sum, leaf) => sum + leaf.bytes.length, 0);
      const entries = leaves.reduce((sum, { count }) => sum + count, 0);
      const { counters } = source.state;
      const total =
        tree === 'byId' || tree === 'bySeq' ? counters.liveDocs + counters.deletedDocs : entries;
      bytes += (read / entries) * total;
    }
  } finally {
    await source.close();
  }
  return bytes;
}

/** Free bytes where the targets go, with those that partial targets have. */
async function freeBytes(storage: Storage, targets: Job['files']['targets']): Promise<number> {
  let directory = dirname(targets[0]?.path ?? '.');
  while ((await storage.identity(directory)) === undefined && dirname(directory) !== directory) {
    directory = dirname(directory);
  }
  let bytes = await storage.freeBytes(directory);
  for (const { temporaryPath } of targets) {
    if ((await storage.identity(temporaryPath)) === undefined) continue;
    const file = await storage.open(temporaryPath, 'read');
    bytes += await file.size();
    await file.close();
  }
  return bytes;
}
