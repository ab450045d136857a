/** The files of a rewrite: how they come to their names, and how they go when it is given up. */
import { basename, dirname, join } from 'node:path';
import { DivanError, isDivanError } from '../errors.js';
import { readUpTo } from '../file/file-reader.js';
import { DATA_START, decodeFirstBlock } from '../file/first-block.js';
import type { Storage } from '../file/storage.js';
import { allDone } from './all-done.js';
import { removeCheckpoint, removeIfThere } from './checkpoint.js';
import type { RewritePlan, TargetPlan } from './plan.js';

export interface JobFile {
  readonly path: string;
  /** Where it is written before it gets its name, in the same directory. */
  readonly temporaryPath: string;
}

export interface JobFiles {
  readonly sourcePaths: readonly string[];
  readonly checkpointPath: string;
  /** In the order of the plan. */
  readonly targets: readonly JobFile[];
}

/** The file of a target. Its temporary name is unique to the plan. */
export function jobFile(path: string, { fileId }: TargetPlan): JobFile {
  const suffix = Buffer.from(fileId).toString('hex').slice(0, 12);
  return { path, temporaryPath: join(dirname(path), `.${basename(path)}.${suffix}.new`) };
}

/** Whether `entry` of a directory is the temporary name of a target called `name`, of whatever plan. */
export function isTemporaryName(entry: string, name: string): boolean {
  const rest = entry.startsWith(`.${name}.`) ? entry.slice(name.length + 2) : '';
  return /^[0-9a-f]{12}\.new$/.test(rest);
}

/** Throws `EXISTS` if a target has its name already. */
export async function assertNoneExists(storage: Storage, { targets }: JobFiles): Promise<void> {
  const identities = await allDone(targets.map(({ path }) => storage.identity(path)));
  const path = targets.find((_, index) => identities[index] !== undefined)?.path;
  if (path === undefined) return;
  throw new DivanError('EXISTS', `${path} is there already; remove it or choose another place`, {
    path,
  });
}

/**
 * Makes the directories of targets and those above them, durable in their parents; `made` gathers what was new. One that is there already
 * may have been made by a run that was killed, before its name was durable.
 */
export async function makeDirectories(
  storage: Storage,
  { targets }: JobFiles,
  made: string[],
): Promise<void> {
  const directories = [...new Set(targets.map(({ path }) => dirname(path)))];
  // First what is above them, so that none is made by two at once and `made` has parents before children.
  const above = new Set(directories.map((directory) => dirname(directory)));
  for (const directory of above) await makeDirectory(storage, directory, made);
  await allDone(directories.map((directory) => makeDirectory(storage, directory, made)));
  const parents = new Set([...directories, ...above, ...made].map((path) => dirname(path)));
  for (const parent of parents) await storage.syncDirectory(parent);
}

async function makeDirectory(storage: Storage, path: string, made: string[]): Promise<void> {
  if ((await storage.identity(path)) !== undefined) return;
  const parent = dirname(path);
  if (parent !== path) await makeDirectory(storage, parent, made);
  if (await storage.makeDirectory(path)) made.push(path);
}

/**
 * Gives complete and durable targets their names, and removes the checkpoint once that is durable. May be repeated after a crash at
 * any point. A compaction takes the place of its source in one step; elsewhere a name that is taken is `EXISTS`.
 */
export async function giveNames(
  storage: Storage,
  plan: RewritePlan,
  { targets, checkpointPath }: JobFiles,
): Promise<void> {
  await allDone(
    targets.map(async (target, index) => {
      if ((await storage.identity(target.temporaryPath)) === undefined) {
        await assertNamed(storage, target, plan.targets[index]);
      } else if (plan.kind === 'compact') await storage.rename(target.temporaryPath, target.path);
      else await linkTarget(storage, target);
    }),
  );
  await syncDirectories(storage, targets);
  await removeTemporaries(storage, targets);
  await removeCheckpoint(storage, checkpointPath);
}

/** Makes durable which names there are in the directories of targets. */
export async function syncDirectories(
  storage: Storage,
  targets: readonly JobFile[],
): Promise<void> {
  const directories = new Set(targets.map(({ path }) => dirname(path)));
  await allDone([...directories].map((directory) => storage.syncDirectory(directory)));
}

/** Removes the temporary names for good: once the checkpoint is gone, nobody looks for them again. */
export async function removeTemporaries(
  storage: Storage,
  targets: readonly JobFile[],
): Promise<void> {
  const wereThere = await allDone(
    targets.map(({ temporaryPath }) => removeIfThere(storage, temporaryPath)),
  );
  const removed = targets.filter((_, index) => wereThere[index] === true);
  await syncDirectories(storage, removed);
}

async function linkTarget(storage: Storage, { path, temporaryPath }: JobFile): Promise<void> {
  const there = await storage.identity(path);
  if (there !== undefined && there === (await storage.identity(temporaryPath))) return;
  await storage.link(temporaryPath, path);
}

/** A target without its temporary name has got its name before a crash. Throws `EXISTS` or `NOT_FOUND` if not. */
async function assertNamed(
  storage: Storage,
  { path }: JobFile,
  plan: TargetPlan | undefined,
): Promise<void> {
  const file = await storage.open(path, 'read');
  try {
    const { fileId } = decodeFirstBlock(await readUpTo(file, 0, DATA_START), path, false);
    if (plan !== undefined && Buffer.compare(fileId, plan.fileId) === 0) return;
    throw new DivanError('EXISTS', `${path} is another file than the one that was made`, { path });
  } finally {
    await file.close();
  }
}

/** Removes partial targets, checkpoint, and the directories of targets that are empty then. */
export async function discardFiles(
  storage: Storage,
  { targets, checkpointPath }: JobFiles,
  madeDirectories: readonly string[],
): Promise<void> {
  await removeTemporaries(storage, targets);
  // Last, so that what a crash here leaves is found again.
  await removeCheckpoint(storage, checkpointPath);
  for (const directory of [...madeDirectories].reverse()) {
    const isThere = (await storage.identity(directory)) !== undefined;
    if (isThere && (await storage.list(directory)).length === 0) {
      await storage.removeDirectory(directory);
    }
  }
}

/** Runs `remove` and returns the error that was its reason, with what went wrong in it, if anything did. */
export async function afterRemoval(error: unknown, remove: () => Promise<void>): Promise<unknown> {
  try {
    await remove();
    return error;
  } catch (failure) {
    if (!isDivanError(error) || !isDivanError(failure)) return failure;
    const message = `${error.message}; and what was made could not be removed: ${failure.message}`;
    return new DivanError(error.code, message, error.facts, error);
  }
}
