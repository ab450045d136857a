/**
 * What a node knows of itself: JSON records by key, one or several of them replaced in one durable step. They are the local docs of the shard file
 * `node.divan`, whose lock is that of the data directory.
 *
 * When its file fails (I6 of FORMAT.md) the records can still be read; the next change opens it anew first, and whether the change that
 * failed is there is seen then.
 */
import { join } from 'node:path';
import { DivanError, type ErrorCode, isDivanError } from '../engine/errors.js';
import type { Storage } from '../engine/file/storage.js';
import { CacheSpace } from '../engine/shard/cache-space.js';
import { Shard } from '../engine/shard/shard.js';
import { makeDirectory } from './durable-names.js';
import type { ServerWorld } from './world.js';

export const NODE_FILE = 'node.divan';

/** The records are small and few: all of them are in memory too. */
const SHARD_OPTIONS = { cache: new CacheSpace(1024 * 1024), overlayBytes: 4 * 1024 * 1024 };

/** The key of a record and its new value; undefined to remove it. */
export type RecordChange = readonly [key: string, value: object | undefined];

export class NodeRecords {
  readonly #world: ServerWorld;
  readonly #dataDir: string;
  #shard: Shard;
  /** The JSON text of each. */
  #texts: Map<string, string>;
  #reopening: Promise<void> | undefined;
  #isClosed = false;

  private constructor(
    world: ServerWorld,
    dataDir: string,
    shard: Shard,
    texts: Map<string, string>,
  ) {
    this.#world = world;
    this.#dataDir = dataDir;
    this.#shard = shard;
    this.#texts = texts;
  }

  /**
   * Opens those of a data directory, which is made if it is not there; its parent must be. Throws `LOCKED` if another server has it open,
   * and what opening a shard throws.
   */
  static async open(world: ServerWorld, dataDir: string): Promise<NodeRecords> {
    await makeDataDirectory(world.storage, dataDir);
    const shard = await openShard(world, dataDir);
    return new NodeRecords(world, dataDir, shard, await textsOf(shard));
  }

  /** The record of a key, undefined if there is none. Each call gives a value of its own. */
  get(key: string): unknown {
    const text = this.#texts.get(key);
    return text === undefined ? undefined : JSON.parse(text);
  }

  /** The keys that begin with a prefix, in no particular order. */
  keys(prefix: string): string[] {
    return [...this.#texts.keys()].filter((key) => key.startsWith(prefix));
  }

  /** Replaces a record, durable when it resolves. Throws `FAILED`, `IO`, `NO_SPACE`, `CLOSED`. */
  async set(key: string, value: object): Promise<void> {
    await this.setAll([[key, value]]);
  }

  /** As `set`. Nothing happens if there is no such record. */
  async remove(key: string): Promise<void> {
    if (this.#texts.has(key)) await this.setAll([[key, undefined]]);
  }

  /** Replaces several records, or removes those that become undefined, in one durable step: a crash leaves all of it or nothing. As `set`. */
  async setAll(changes: readonly RecordChange[]): Promise<void> {
    const texts = changes.map(([key, value]): [string, string | undefined] => [
      key,
      value === undefined ? undefined : JSON.stringify(value),
    ]);
    await this.#put(texts);
    for (const [key, text] of texts) {
      if (text === undefined) this.#texts.delete(key);
      else this.#texts.set(key, text);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#reopening?.catch(() => undefined);
    await this.#shard.close();
  }

  async #put(texts: readonly (readonly [string, string | undefined])[]): Promise<void> {
    if (this.#shard.file.failed && !this.#isClosed) {
      this.#reopening ??= this.#reopen().finally(() => {
        this.#reopening = undefined;
      });
      await this.#reopening;
    }
    await this.#shard.putLocals(
      texts.map(([key, text]) => ({
        id: Buffer.from(key),
        body: text === undefined ? undefined : Buffer.from(text),
      })),
    );
  }

  /** If it fails the failed file stays the one that there is, and the next change tries again. */
  async #reopen(): Promise<void> {
    // What closing a failed file says is known.
    await this.#shard.close().catch(() => undefined);
    const shard = await openShard(this.#world, this.#dataDir);
    this.#texts = await textsOf(shard);
    this.#shard = shard;
  }
}

/** Closes the shard if it can not be read. */
async function textsOf(shard: Shard): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  try {
    for await (const { id, body } of shard.snapshot().localDocs({})) {
      texts.set(Buffer.from(id).toString(), Buffer.from(body).toString());
    }
  } catch (error) {
    await shard.close();
    throw error;
  }
  return texts;
}

/** Why the data directory cannot be made, by the code of the error. */
const NO_DIRECTORY: ReadonlyMap<ErrorCode, string> = new Map([
  ['NOT_FOUND', 'the directory to make it in is not there; make that one first'],
  ['EXISTS', 'it is a file; name a directory'],
]);

async function makeDataDirectory(storage: Storage, path: string): Promise<void> {
  try {
    await makeDirectory(storage, path);
  } catch (error) {
    const reason = isDivanError(error) ? NO_DIRECTORY.get(error.code) : undefined;
    if (!isDivanError(error) || reason === undefined) throw error;
    const message = `can not make the data directory ${path}: ${reason}`;
    throw new DivanError(error.code, message, error.facts, error);
  }
}

async function openShard(world: ServerWorld, dataDir: string): Promise<Shard> {
  const path = join(dataDir, NODE_FILE);
  try {
    if ((await world.storage.identity(path)) === undefined) {
      return await Shard.create(world, path, SHARD_OPTIONS);
    }
    return await Shard.open(world, path, SHARD_OPTIONS);
  } catch (error) {
    // Of two that make it at once, one finds that it is there.
    if (!isDivanError(error, 'LOCKED') && !isDivanError(error, 'EXISTS')) throw error;
    const reason = `the data directory ${dataDir} is in use by another server`;
    throw new DivanError('LOCKED', reason, { path: dataDir }, error);
  }
}
