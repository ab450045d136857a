/** Shards that take the place of one another under writers, and random writes of every kind to them. */
import { isDivanError } from '../../engine/errors.js';
import { hashOf } from '../../engine/shard/hash.js';
import type { Revision } from '../../engine/shard/revision.js';
import type { Shard } from '../../engine/shard/shard.js';
import { randomInt, seededRandom } from './seed.js';
import { contentOf } from './worn-shard.js';

const LOCAL = Buffer.from('_local/');

/** The shards as their users see them. */
export class Placed {
  shards: readonly Shard[];
  /** How often a write was sent again. */
  moved = 0;

  constructor(shards: readonly Shard[]) {
    this.shards = shards;
  }

  /** Does something with the shard of an id, and again if its documents have moved. */
  async with<T>(id: Uint8Array, work: (shard: Shard) => Promise<T>): Promise<T> {
    const hash = hashOf(id, 'document');
    for (;;) {
      const shard = this.shards.find((one) => hash <= one.snapshot().metadata.range.end);
      if (shard === undefined) throw new RangeError('the shards do not tile the ring');
      try {
        return await work(shard);
      } catch (error) {
        if (!isDivanError(error, 'MOVED')) throw error;
        this.moved++;
      }
    }
  }

  content(): ReturnType<typeof contentOf> {
    return contentOf(this.shards.map((shard) => shard.snapshot()));
  }
}

/** Random writes: the same for the same seed, whatever the shards are. */
export class Writer {
  readonly #placed: Placed;
  readonly #changesLimits: boolean;
  readonly #random: () => number;
  readonly #revs = new Map<string, Revision>();
  #count = 0;

  /** `changesLimits`: of shards that have the same limits, of which purge infos are one. */
  constructor(placed: Placed, seed: number, changesLimits = false) {
    this.#changesLimits = changesLimits;
    this.#placed = placed;
    this.#random = seededRandom(seed);
  }

  async write(): Promise<void> {
    const n = ++this.#count;
    const id = `written ${randomInt(this.#random, 60)}`;
    const choice = randomInt(this.#random, 12);
    const parent = this.#revs.get(id);
    if (choice === 0 && parent !== undefined) await this.#purge(n, id, parent);
    else if (choice === 1) await this.#local(n);
    else if (choice === 2 && this.#changesLimits) await this.#limits(n);
    else if (choice === 3 && parent !== undefined) await this.#delete(id, parent);
    else await this.#put(n, id, parent, choice < 6);
  }

  async #put(n: number, id: string, parent: Revision | undefined, attach: boolean): Promise<void> {
    const key = Buffer.from(id);
    const edit = { id: key, body: Buffer.from(`{"n":${n}}`), deleted: false, parent };
    const first = await this.#placed.with(key, async (shard) => shard);
    // Stored in one shard, and written to whichever has the document then.
    const stored = attach ? await first.store([Buffer.alloc(300 + n, n)]) : undefined;
    const attachments = new Map([['a', { contentType: 'x/y', revpos: undefined, stored }]]);
    const whole = attach ? { ...edit, attachments } : edit;
    const { rev } = await this.#placed.with(key, (shard) => shard.put(whole));
    this.#revs.set(id, rev);
  }

  async #purge(n: number, id: string, rev: Revision): Promise<void> {
    this.#revs.delete(id);
    const request = { uuid: Buffer.from(`live ${n}`), id: Buffer.from(id), revs: [rev] };
    await this.#placed.with(request.id, (shard) => shard.purge(request));
  }

  async #delete(id: string, parent: Revision): Promise<void> {
    this.#revs.delete(id);
    const edit = { id: Buffer.from(id), body: Buffer.from('{}'), deleted: true, parent };
    await this.#placed.with(edit.id, (shard) => shard.put(edit));
  }

  async #limits(n: number): Promise<void> {
    const limits = { revsLimit: 900 + n, purgeInfosLimit: 4 };
    for (const shard of this.#placed.shards) await shard.setMetadata(limits);
  }

  async #local(n: number): Promise<void> {
    const id = Buffer.from(`local ${n % 7}`);
    const edit = { id, body: Buffer.from(`{"l":${n}}`), revision: 'any' as const };
    await this.#placed.with(Buffer.concat([LOCAL, id]), (shard) => shard.putLocal(edit));
  }
}
