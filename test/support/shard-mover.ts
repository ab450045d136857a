/**
 * Splits and merges shards of a database of a running server, as a job does but with all of the work done while writes wait: the files are copied
 * as they stand then, and the copies are rewritten by the offline commands.
 */
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { merge } from '../../engine/rewrite/merge.js';
import { split } from '../../engine/rewrite/split.js';
import { formatRange, type ShardRange } from '../../engine/shard/hash.js';
import { Shard } from '../../engine/shard/shard.js';
import type { Services } from '../../server/api/services.js';
import type { NewShard, ShardMove } from '../../server/databases/catalog.js';
import type { Database } from '../../server/databases/database.js';
import type { DatabaseShard } from '../../server/databases/shard-set.js';
import type { ShardSlot } from '../../server/databases/shard-slot.js';

import type { TestServer } from './server.js';

export interface MoveOptions {
  /** Called while writes wait, before anything is done. */
  readonly atGate?: () => Promise<void>;
  /** False to leave the files of the sources, and not to wait until nobody reads them. */
  readonly removes?: boolean;
}

/** Timestamps in file names: each move has its own. */
let generation = 2_000_000_000;

export class ShardMover {
  readonly database: Database;
  readonly #services: Services;
  readonly #dataDir: string;
  /** The last move, if it failed when all was ready. */
  #failed: ShardMove | undefined;

  constructor({ server, dataDir }: TestServer, name: string) {
    this.#services = server.services;
    this.#dataDir = dataDir;
    this.database = server.services.catalog.get(name);
  }

  get count(): number {
    return this.database.shards.length;
  }

  /** Splits a shard into so many parts. */
  async split(index: number, parts: number, options: MoveOptions = {}): Promise<void> {
    await this.#move(this.database.shards.slice(index, index + 1), options, async ([copy = '']) => {
      const out = join(this.#dataDir, 'shards');
      const world = this.#services.world;
      const { targets } = await split(world, copy, { out, into: { parts }, workers: 0 });
      return targets.map(({ range }) => range);
    });
  }

  /** Merges so many shards from one on. */
  async merge(index: number, count: number, options: MoveOptions = {}): Promise<void> {
    const sources = this.database.shards.slice(index, index + count);
    const start = sources[0]?.range.start ?? 0;
    const range = { start, end: sources.at(-1)?.range.end ?? 0 };
    await this.#move(sources, options, async (copies) => {
      const out = join(this.#dataDir, 'shards', formatRange(range), basename(copies[0] ?? ''));
      await mkdir(dirname(out), { recursive: true });
      await merge(this.#services.world, copies, { out, workers: 0 });
      return [range];
    });
  }

  /** Tries again to move what could not be moved. */
  async retry(): Promise<void> {
    const failed = this.#failed;
    if (failed === undefined) return;
    const { settings } = this.database;
    await settings.whileHeld(() => this.#finish(failed));
    await settings.settle();
  }

  /** Closes what was to be moved to. */
  async abandon(): Promise<void> {
    for (const { shard } of this.#failed?.to ?? []) await shard.close();
  }

  async #finish(move: ShardMove): Promise<void> {
    this.#failed = move;
    await this.#services.catalog.moveShards(this.database, move);
    this.#failed = undefined;
  }

  async #move(
    sources: readonly DatabaseShard[],
    { atGate, removes = true }: MoveOptions,
    make: (copies: readonly string[]) => Promise<readonly ShardRange[]>,
  ): Promise<void> {
    const { database } = this;
    const { pool } = this.#services;
    const slots = sources.map(({ slot }) => slot);
    const from = database.map.shards.filter((_, index) => {
      const slot = database.shards[index]?.slot;
      return slot !== undefined && slots.includes(slot);
    });
    await database.settings.whileSettled(() =>
      atGates(slots, async () => {
        await atGate?.();
        const name = `${database.name}.${generation++}.divan`;
        const copies = await this.#copies(slots, name);
        const to: NewShard[] = [];
        for (const range of await make(copies)) {
          const file = `shards/${formatRange(range)}/${name}`;
          to.push({ range, file, shard: await this.#open(file) });
        }
        await this.#finish({ from: from.map(({ file }) => file), to });
      }),
    );
    if (!removes) return;
    await Promise.all(slots.map(({ path }) => pool.retire(path)));
    for (const { path } of slots) await rm(path);
  }

  #open(file: string): Promise<Shard> {
    const { world, pool } = this.#services;
    return Shard.open(world, join(this.#dataDir, file), pool.options);
  }

  async #copies(slots: readonly ShardSlot[], name: string): Promise<string[]> {
    const copies: string[] = [];
    for (const [index, { path }] of slots.entries()) {
      const copy = join(this.#dataDir, 'copies', String(index), name);
      await mkdir(dirname(copy), { recursive: true });
      await copyFile(path, copy);
      copies.push(copy);
    }
    return copies;
  }
}

/** Calls `work` while the writes of all these shards wait, which are refused when it is done. */
async function atGates(slots: readonly ShardSlot[], work: () => Promise<void>): Promise<void> {
  const [slot, ...others] = slots;
  if (slot === undefined) return work();
  await slot.write((shard) =>
    shard.handOver(async () => {
      await atGates(others, work);
      return true;
    }),
  );
}
