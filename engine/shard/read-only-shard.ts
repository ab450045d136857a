/**
 * A shard opened for reading only, as of the newest commit in its file: takes no lock and changes nothing, so it works beside a
 * writer in another process, and on a read-only medium.
 */
import { isDivanError } from '../errors.js';
import { recordEnd } from '../file/commit-record.js';
import { readRun } from '../file/file-reader.js';
import { type Recovered, recover } from '../file/recovery.js';
import type { Ref } from '../file/ref.js';
import type { StorageFile } from '../file/storage.js';
import { CacheSpace } from './cache-space.js';
import { CACHE_BYTES_DEFAULT, FileCache } from './file-cache.js';
import { loadState, type OpenedState } from './opening.js';
import type { ShardOptions, ShardWorld } from './shard.js';
import { Snapshot } from './snapshot.js';
import { perTree } from './state.js';
import { TreeView } from './tree-view.js';

/** Replayed changes have version 0: a reader sees all of them. */
const REPLAYED = 0;

export class ReadOnlyShard {
  readonly path: string;
  readonly recovered: Recovered;
  /** The whole content. */
  readonly snapshot: Snapshot;
  /** Reads tree nodes, through a cache. */
  readonly nodes: FileCache;
  /** For those that copy runs; whoever reads through it checks what it reads. */
  readonly file: StorageFile;
  readonly #end: number;

  private constructor(
    file: StorageFile,
    recovered: Recovered,
    opened: OpenedState,
    space: CacheSpace,
  ) {
    const end = recordEnd(recovered.newest);
    this.file = file;
    this.#end = end;
    this.path = file.path;
    this.recovered = recovered;
    this.nodes = new FileCache(space, (ref) => readRun(file, ref, end));
    const { roots, counters, metadata, overlays } = opened;
    const views = perTree(
      (name) => new TreeView(this.nodes, roots[name], [overlays.overlays[name]], REPLAYED),
    );
    this.snapshot = new Snapshot({
      views,
      roots,
      counters,
      metadata,
      cache: this.nodes,
    });
  }

  /** Throws what `recover` throws, and `NOT_FOUND`. */
  static async open(
    world: Pick<ShardWorld, 'storage'>,
    path: string,
    options: ShardOptions = {},
  ): Promise<ReadOnlyShard> {
    const file = await world.storage.open(path, 'read');
    const space = options.cache ?? new CacheSpace(CACHE_BYTES_DEFAULT);
    try {
      return await ReadOnlyShard.#read(file, space).catch((error: unknown) => {
        // A writer that was just opened may have cut off a torn tail while it was being read: look once more.
        if (!isDivanError(error) || error.code === 'IO') throw error;
        return ReadOnlyShard.#read(file, space);
      });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  static async #read(file: StorageFile, space: CacheSpace): Promise<ReadOnlyShard> {
    const recovered = await recover(file, false);
    return new ReadOnlyShard(file, recovered, await loadState(file, recovered), space);
  }

  /** Reads and checks the run of a ref. Throws `CHECKSUM` or `IO`. */
  read(ref: Ref): Promise<Uint8Array> {
    return readRun(this.file, ref, this.#end);
  }

  /** The length of the file, with whatever stands behind the newest commit. */
  size(): Promise<number> {
    return this.file.size();
  }

  async close(): Promise<void> {
    this.nodes.clear();
    await this.file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
