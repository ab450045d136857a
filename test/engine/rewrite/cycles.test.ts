/**
 * Goal: shards may be split and merged as often as one likes: seqs stay about as small as if they had never been, so that no merge is ever refused,
 * and nothing is lost.
 * Method: many cycles of splits, splits of the halves and merges back, with writes of every kind in between, against a shard that is
 * left alone.
 */
import t, { type Test } from 'tap';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import { merge } from '../../../engine/rewrite/merge.js';
import { split } from '../../../engine/rewrite/split.js';
import { checkShard } from '../../../engine/shard/check.js';
import { ReadOnlyShard } from '../../../engine/shard/read-only-shard.js';
import { Shard } from '../../../engine/shard/shard.js';
import type { Seqs } from '../../../engine/shard/state.js';
import { Placed, Writer } from '../../support/placed-shards.js';
import { seedOf } from '../../support/seed.js';
import { VirtualHost } from '../../support/virtual-host.js';

const CYCLES = 60;
/** A seq that was given on the lowest level of splits grew with each of the two merges. */
const GROWTH = 4;
const SEQ_NAMES: readonly (keyof Seqs)[] = ['updateSeq', 'purgeSeq', 'localSeq'];

interface World {
  readonly storage: MemoryStorage;
  readonly host: VirtualHost;
}

/** Shards that are rewritten, and one that is not; both are written the same. */
class Bed {
  readonly #world: World;
  readonly #placed: Placed;
  readonly #twin: Placed;
  readonly #writers: readonly Writer[];
  #made = 0;

  private constructor(world: World, placed: Placed, twin: Placed, seed: number) {
    this.#world = world;
    this.#placed = placed;
    this.#twin = twin;
    this.#writers = [placed, twin].map((one) => new Writer(one, seed));
  }

  static async open(seed: number): Promise<Bed> {
    const world = { storage: new MemoryStorage(), host: new VirtualHost(seed) };
    const placed = new Placed([await Shard.create(world, '/a.divan', {})]);
    const twin = new Placed([await Shard.create(world, '/b.divan', {})]);
    return new Bed(world, placed, twin, seed);
  }

  async write(count: number): Promise<void> {
    for (let n = 0; n < count; n++) for (const writer of this.#writers) await writer.write();
  }

  /** Splits the shard with this index into halves. */
  async split(index: number): Promise<void> {
    await this.#replace(index, 1, async ([path = '']) => {
      const options = { out: `/${this.#made}`, into: { parts: 2 }, workers: 0, verify: false };
      const { targets } = await split(this.#world, path, options);
      return targets.map((target) => target.path);
    });
  }

  /** Merges two. */
  async merge(index: number): Promise<void> {
    await this.#replace(index, 2, async (paths) => {
      const out = `/${this.#made}.divan`;
      await merge(this.#world, paths, { out, workers: 0, verify: false });
      return [out];
    });
  }

  async #replace(
    index: number,
    count: number,
    make: (paths: readonly string[]) => Promise<string[]>,
  ): Promise<void> {
    this.#made++;
    const shards = [...this.#placed.shards];
    const sources = shards.splice(index, count);
    const paths = sources.map(({ path }) => path);
    for (const source of sources) await source.close();
    const made = await make(paths);
    for (const path of paths) await this.#world.storage.remove(path);
    const targets: Shard[] = [];
    for (const path of made) targets.push(await Shard.open(this.#world, path));
    this.#placed.shards = [...shards.slice(0, index), ...targets, ...shards.slice(index)];
  }

  async check(t: Test): Promise<void> {
    t.strictSame(await this.#placed.content(), await this.#twin.content());
    const [whole] = this.#placed.shards;
    const [alone] = this.#twin.shards;
    if (whole === undefined || alone === undefined) throw new RangeError('there is one of each');
    for (const name of SEQ_NAMES) {
      const seq = whole.snapshot().counters[name];
      const least = alone.snapshot().counters[name];
      t.ok(least > CYCLES, `${least} ${name}s were given`);
      t.ok(seq >= least && seq <= GROWTH * least, `the ${name} is ${seq} instead of ${least}`);
    }
    for (const shard of [whole, alone]) await shard.close();
    await using shard = await ReadOnlyShard.open(this.#world, whole.path);
    t.strictSame((await checkShard(shard)).problems, []);
    t.equal(shard.snapshot.metadata.lineage.length, CYCLES * 9);
  }
}

t.test('halves, quarters and back, again and again', async (t) => {
  const bed = await Bed.open(seedOf(t));
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    await bed.write(4);
    await bed.split(0);
    await bed.write(4);
    await bed.split(0);
    await bed.split(2);
    await bed.write(12);
    await bed.merge(0);
    await bed.merge(1);
    await bed.write(4);
    await bed.merge(0);
  }
  await bed.check(t);
});
