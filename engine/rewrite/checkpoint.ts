/**
 * The checkpoint of a rewrite: a side file with the plan and how far each target is (FORMAT.md section 14). Replaced in one step,
 * so that it is always whole; it names nothing that is not durable.
 */
import { dirname } from 'node:path';
import type { TreeEdge } from '../btree/bulk.js';
import { DivanError, isDivanError } from '../errors.js';
import { readU32, writeU32 } from '../file/bytes.js';
import { readUpTo } from '../file/file-reader.js';
import { type Packable, pack, type Unpacked, unpack } from '../file/pack.js';
import { checksum, REF_BYTES, type Ref, readRef, writeRef } from '../file/ref.js';
import type { Storage } from '../file/storage.js';
import { readRoot, rootParts } from '../shard/state.js';
import type { DigestState } from './digest.js';
import { decodePlan, encodePlan, type RewritePlan } from './plan.js';
import { HASH_KEY_BYTES, type SetHash } from './set-hash.js';
import { PASSES, type TargetState } from './target.js';

const MAGIC = Buffer.from('DIVANCP1');
const HEADER_BYTES = MAGIC.length + 4;
/** Larger ones are not read: 64 targets with wide edges stay far below. */
const CHECKPOINT_BYTES_MAX = 256 * 1024 * 1024;

export interface Checkpoint {
  readonly plan: RewritePlan;
  /** True once all targets are complete and get their names. */
  readonly finishing: boolean;
  /** One for each target that has been begun. */
  readonly states: readonly TargetState[];
  /** Present once all targets are complete and are being compared with the sources. */
  readonly verifying?: VerifyState | undefined;
}

/** How far the comparison of complete targets with their sources is. */
export interface VerifyState {
  /** Of the hashes. */
  readonly key: Uint8Array;
  /** The state that each target ends with, in the order of the plan. */
  readonly targets: readonly Ref[];
  /** How far each source was read, undefined where it has not been begun. Targets are read anew: they may have been damaged since. */
  readonly sources: readonly (DigestState | undefined)[];
}

/** The checkpoint at `path`, undefined if there is none. Throws `CHECKPOINT` if it is damaged. */
export async function readCheckpoint(
  storage: Storage,
  path: string,
): Promise<Checkpoint | undefined> {
  if ((await storage.identity(path)) === undefined) return undefined;
  const file = await storage.open(path, 'read');
  try {
    const size = await file.size();
    if (size > CHECKPOINT_BYTES_MAX) throw damaged(path);
    return decode(await readUpTo(file, 0, size), path);
  } finally {
    await file.close();
  }
}

/** Replaces the checkpoint at `path` in one step and makes that durable. */
export async function writeCheckpoint(
  storage: Storage,
  path: string,
  checkpoint: Checkpoint,
): Promise<void> {
  const temporaryPath = temporaryCheckpointPath(path);
  await removeIfThere(storage, temporaryPath);
  const file = await storage.open(temporaryPath, 'create');
  try {
    const bytes = encode(checkpoint);
    for (let done = 0; done < bytes.length; ) {
      done += await file.write(bytes.subarray(done), done);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  await storage.rename(temporaryPath, path);
  await storage.syncDirectory(dirname(path));
}

/** Removes the checkpoint at `path` with all that a crash may have left of it, and makes that durable. */
export async function removeCheckpoint(storage: Storage, path: string): Promise<void> {
  await removeIfThere(storage, temporaryCheckpointPath(path));
  await removeIfThere(storage, path);
  await storage.syncDirectory(dirname(path));
}

/** Returns whether it was there. */
export async function removeIfThere(storage: Storage, path: string): Promise<boolean> {
  if ((await storage.identity(path)) === undefined) return false;
  await storage.remove(path);
  return true;
}

/** Whether there is a checkpoint at `path`, or one that a crash kept from its name. */
export async function hasCheckpoint(storage: Storage, path: string): Promise<boolean> {
  if ((await storage.identity(path)) !== undefined) return true;
  return (await storage.identity(temporaryCheckpointPath(path))) !== undefined;
}

/** Where a new checkpoint stands until it takes the place of the old one. */
function temporaryCheckpointPath(path: string): string {
  return `${path}.new`;
}

function encode({ plan, finishing, states, verifying }: Checkpoint): Uint8Array {
  const content = pack([
    encodePlan(plan),
    finishing ? 1 : 0,
    states.map(stateParts),
    verifying === undefined ? null : verifyParts(verifying),
  ]);
  const bytes = Buffer.concat([MAGIC, Buffer.alloc(4), content]);
  writeU32(bytes, MAGIC.length, checksum(content));
  return bytes;
}

function decode(bytes: Buffer, path: string): Checkpoint {
  const content = bytes.subarray(HEADER_BYTES);
  if (
    bytes.length < HEADER_BYTES ||
    !bytes.subarray(0, MAGIC.length).equals(MAGIC) ||
    readU32(bytes, MAGIC.length) !== checksum(content)
  ) {
    throw damaged(path);
  }
  try {
    const parts = unpack(content);
    const plan = decodePlan(parts.text());
    const finishing = parts.int() === 1;
    const states = parts.array().each((list) => readState(list.array()));
    if (states.some(({ index }) => index >= plan.targets.length)) throw damaged(path);
    const verifying = readVerify(parts.arrayOrNull());
    const sources = verifying?.sources.length ?? plan.sources.length;
    if (sources !== plan.sources.length) throw damaged(path);
    return { plan, finishing, states, verifying };
  } catch (error) {
    if (!isDivanError(error)) throw error;
    throw damaged(path, error);
  }
}

function damaged(path: string, cause?: unknown): DivanError {
  return new DivanError(
    'CHECKPOINT',
    `the checkpoint ${path} is damaged; discard it (--discard) and begin anew`,
    { path },
    cause,
  );
}

function verifyParts({ key, targets, sources }: VerifyState): Packable {
  return [key, targets.map(packedRef), sources.map(digestParts)];
}

function digestParts(state: DigestState | undefined): Packable {
  if (state === undefined) return null;
  const { pass, cursor, entriesDone, rowsDone, bodyBytesDone, sets, links } = state;
  const hashParts = ({ sum, count }: SetHash): Packable => [...sum, count];
  return [
    pass,
    cursor === undefined ? [] : [cursor],
    entriesDone,
    rowsDone,
    bodyBytesDone,
    sets.map(hashParts),
    links.map(hashParts),
  ];
}

function readVerify(parts: Unpacked | undefined): VerifyState | undefined {
  if (parts === undefined) return undefined;
  const key = parts.binary(HASH_KEY_BYTES);
  const targets = parts.array().each((ref) => readRef(ref.binary(REF_BYTES), 0));
  const list = parts.array();
  const sources: (DigestState | undefined)[] = [];
  while (list.remaining > 0) sources.push(readDigest(list.arrayOrNull()));
  return { key, targets, sources };
}

function readDigest(parts: Unpacked | undefined): DigestState | undefined {
  if (parts === undefined) return undefined;
  const pass = parts.int();
  const [cursor] = parts.array().each((bytes) => bytes.binary());
  const entriesDone = parts.int();
  const rowsDone = parts.int();
  const bodyBytesDone = parts.int();
  const readSets = () => parts.array().each((list) => readSet(list.array()));
  return {
    pass,
    cursor,
    entriesDone,
    rowsDone,
    bodyBytesDone,
    sets: readSets(),
    links: readSets(),
  };
}

function readSet(parts: Unpacked): SetHash {
  const sum = [parts.int(), parts.int(), parts.int(), parts.int()];
  return { sum, count: parts.int() };
}

function packedRef(ref: Ref): Uint8Array {
  const bytes = new Uint8Array(REF_BYTES);
  writeRef(bytes, 0, ref);
  return bytes;
}

function stateParts(state: TargetState): Packable {
  const { index, length, roots, cursor, edge, entriesDone, bodyBytesDone } = state;
  return [
    index,
    length,
    roots.map(rootParts),
    cursor === undefined ? [] : [cursor],
    edge.map(({ run, made, last }) => [run.lower, run.starts, run.entries, made, rootParts(last)]),
    entriesDone,
    bodyBytesDone,
  ];
}

function readState(parts: Unpacked): TargetState {
  const index = parts.int();
  const length = parts.int();
  const rootList = parts.array();
  const roots: TargetState['roots'][number][] = [];
  while (rootList.remaining > 0) roots.push(readRoot(rootList.arrayOrNull()));
  if (roots.length > PASSES.length) throw new DivanError('CORRUPT', 'a target has too many trees');
  const [cursor] = parts.array().each((bytes) => bytes.binary());
  const edge: TreeEdge = parts.array().each((list) => {
    const level = list.array();
    return {
      run: {
        lower: level.binary(),
        starts: level.array().each((start) => start.int()),
        entries: level.binary(),
      },
      made: level.int(),
      last: readRoot(level.arrayOrNull()),
    };
  });
  const entriesDone = parts.int();
  const bodyBytesDone = parts.int();
  return { index, length, roots, cursor, edge, entriesDone, bodyBytesDone };
}
