/**
 * A split, a merge and a compaction of tiny worn sources that are the same for the same seed: the files that they begin with, how they
 * are run, repeated and discarded, and which files there may be.
 */
import { basename, dirname } from 'node:path';
import { MemoryStorage } from '../../engine/file/memory-storage.js';
import type { Storage } from '../../engine/file/storage.js';
import { compact, compactCheckpointPath } from '../../engine/rewrite/compact.js';
import { discardJob, type JobOptions } from '../../engine/rewrite/job.js';
import { merge, mergeCheckpointPath } from '../../engine/rewrite/merge.js';
import type { RewriteKind, RewritePlan } from '../../engine/rewrite/plan.js';
import type { RewriteOutcome } from '../../engine/rewrite/prepare.js';
import { split, splitCheckpointPath } from '../../engine/rewrite/split.js';
import { Shard, type ShardWorld } from '../../engine/shard/shard.js';
import { VirtualHost } from './virtual-host.js';
import { wornShard } from './worn-shard.js';

export type CaseOptions = JobOptions & { readonly plan?: RewritePlan | undefined };

/** A command and what it begins with. */
export interface RewriteCase {
  readonly kind: RewriteKind;
  /** Path and bytes of each source. */
  readonly sources: ReadonlyMap<string, Buffer>;
  readonly checkpointPath: string;
  readonly targetPaths: readonly string[];
  run(world: ShardWorld, options: CaseOptions): Promise<RewriteOutcome>;
  /** Returns whether there was anything. */
  discard(storage: Storage): Promise<boolean>;
}

export interface CaseSize {
  readonly documents: number;
  /** Of the nodes of the sources. */
  readonly nodeBytes: number;
  /** Changes that no flush has put into a tree yet are left in the sources. */
  readonly unflushed: boolean;
}

const HALVES = ['00000000-7fffffff', '80000000-ffffffff'] as const;
const SOURCE = '/src/db.divan';
const OUT = '/out';

/** A case of a kind, from a generator of bytes with a seed. */
export async function newCase(
  kind: RewriteKind,
  seed: number,
  size: CaseSize,
): Promise<RewriteCase> {
  const world = { storage: new MemoryStorage(), host: new VirtualHost(seed) };
  await makeParents(world.storage, SOURCE);
  await wornShard(world, SOURCE, size.documents, { nodeBytes: size.nodeBytes });
  const paths = kind === 'merge' ? await halve(world) : [SOURCE];
  if (size.unflushed) for (const path of paths) await leaveUnflushed(world, path);
  const sources = new Map<string, Buffer>();
  for (const path of paths) sources.set(path, await bytesOf(world.storage, path));
  return { split: splitCase, merge: mergeCase, compact: compactCase }[kind](sources);
}

async function halve(world: ShardWorld): Promise<string[]> {
  const options = { out: '/halves', into: { parts: 2 }, workers: 0 };
  const { targets } = await split(world, SOURCE, options);
  return targets.map(({ path }) => path);
}

/** Some ids of these hash into whatever half it is. */
async function leaveUnflushed(world: ShardWorld, path: string): Promise<void> {
  const shard = await Shard.open(world, path);
  for (let n = 0; n < 4; n++) {
    const edit = { id: Buffer.from(`late ${n}`), body: Buffer.from('{"late":1}'), deleted: false };
    await shard.put(edit).catch(() => undefined);
  }
  await shard.file.close();
}

export async function bytesOf(storage: Storage, path: string): Promise<Buffer> {
  const file = await storage.open(path, 'read');
  const bytes = Buffer.alloc(await file.size());
  for (let at = 0; at < bytes.length; ) at += await file.read(bytes.subarray(at), at);
  await file.close();
  return bytes;
}

function splitCase(sources: ReadonlyMap<string, Buffer>): RewriteCase {
  const checkpointPath = splitCheckpointPath(SOURCE, OUT);
  return {
    kind: 'split',
    sources,
    checkpointPath,
    targetPaths: HALVES.map((range) => `${OUT}/${range}/${basename(SOURCE)}`),
    run: (world, options) =>
      split(world, SOURCE, { ...options, out: OUT, into: { parts: 2 }, workers: 0 }),
    discard: async (storage) => {
      const directories: string[] = [];
      for (const range of HALVES) {
        const path = `${OUT}/${range}`;
        if ((await storage.identity(path)) !== undefined) directories.push(path);
      }
      return discardAt(storage, sources, checkpointPath, basename(SOURCE), directories);
    },
  };
}

function mergeCase(sources: ReadonlyMap<string, Buffer>): RewriteCase {
  const out = `${OUT}/merged.divan`;
  const checkpointPath = mergeCheckpointPath(out);
  return {
    kind: 'merge',
    sources,
    checkpointPath,
    targetPaths: [out],
    run: (world, options) => merge(world, [...sources.keys()], { ...options, out, workers: 0 }),
    discard: (storage) => discardAt(storage, sources, checkpointPath, basename(out), [OUT]),
  };
}

function compactCase(sources: ReadonlyMap<string, Buffer>): RewriteCase {
  const checkpointPath = compactCheckpointPath(SOURCE);
  const directories = [dirname(SOURCE)];
  return {
    kind: 'compact',
    sources,
    checkpointPath,
    targetPaths: [SOURCE],
    run: (world, options) => compact(world, SOURCE, { ...options, workers: 0 }),
    discard: (storage) =>
      discardAt(storage, sources, checkpointPath, basename(SOURCE), directories),
  };
}

/** What the commands do for `--discard`. */
async function discardAt(
  storage: Storage,
  sources: ReadonlyMap<string, Buffer>,
  checkpointPath: string,
  name: string,
  directories: readonly string[],
): Promise<boolean> {
  return discardJob(storage, {
    sourcePaths: [...sources.keys()],
    checkpointPath,
    name,
    directories,
  });
}

/** Makes the directories above a path. */
export async function makeParents(storage: Storage, path: string): Promise<void> {
  const names = dirname(path).split('/');
  for (let depth = 2; depth <= names.length; depth++) {
    await storage.makeDirectory(names.slice(0, depth).join('/'));
  }
}
