/**
 * What a node knows of itself: JSON records by key, each replaced in one durable step. They are the local docs of the shard file
 * `node.divan`, whose lock is that of the data directory.
 */
import { join } from 'node:path';
import { DivanError, isDivanError } from '../engine/errors.js';
import { Shard } from '../engine/shard/shard.js';
import type { ServerWorld } from './world.js';

export const NODE_FILE = 'node.divan';

/** The records are small and few: all of them are in memory too. */
const SHARD_OPTIONS = { cacheBytes: 1024 * 1024, overlayBytes: 4 * 1024 * 1024 };

export class NodeRecords {
  readonly #shard: Shard;
  /** The JSON text of each. */
  readonly #texts: Map<string, string>;

  private constructor(shard: Shard, texts: Map<string, string>) {
    this.#shard = shard;
    this.#texts = texts;
  }

  /** Opens those of a data directory, which must exist. Throws `LOCKED` if another server has it open, and what opening a shard throws. */
  static async open(world: ServerWorld, dataDir: string): Promise<NodeRecords> {
    const shard = await openShard(world, dataDir);
    const texts = new Map<string, string>();
    try {
      for await (const { id, body } of shard.snapshot().localDocs({})) {
        texts.set(Buffer.from(id).toString(), Buffer.from(body).toString());
      }
    } catch (error) {
      await shard.close();
      throw error;
    }
    return new NodeRecords(shard, texts);
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
    const text = JSON.stringify(value);
    await this.#shard.putLocal({
      id: Buffer.from(key),
      body: Buffer.from(text),
      revision: 'any',
    });
    this.#texts.set(key, text);
  }

  /** As `set`. Nothing happens if there is no such record. */
  async remove(key: string): Promise<void> {
    if (!this.#texts.has(key)) return;
    await this.#shard.putLocal({ id: Buffer.from(key), body: undefined, revision: 'any' });
    this.#texts.delete(key);
  }

  async close(): Promise<void> {
    await this.#shard.close();
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
