/**
 * Goal: a server that is killed while it splits or merges shards under load goes on by itself, and finishes; each acknowledged write is
 * there once, purges, local docs and settings included; the ranges tile the space, and no file is left over.
 * Method: the real command, a client that writes all the while with a log of its own, SIGKILL before and after the calls of the storage that
 * are durable steps of a job, which are counted in a run that is not killed, and at random moments.
 */
import t from 'tap';
import { seededRandom, seedOf } from '../../support/seed.js';
import { SplitKillBed } from '../../support/split-kill-rounds.js';

/** Of the steps of a split and of those of a merge, so many are killed before, and so many after; the seed says which. */
const STEPS = 3;
const RANDOM_KILLS = 10;
/** Fewer would mean that the counting misses some. */
const CALLS_MIN = 15;

t.test('killed at durable steps and at random moments', async (t) => {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  const bed = await SplitKillBed.open(t, seed);
  const { calls: splitCalls } = await bed.round(undefined);
  const { calls: mergeCalls } = await bed.round(undefined);
  t.ok(splitCalls >= CALLS_MIN && mergeCalls >= CALLS_MIN, `${splitCalls}, ${mergeCalls} calls`);
  for (const when of ['before', 'after'] as const) {
    for (let step = 0; step < STEPS; step++) {
      for (const calls of [splitCalls, mergeCalls]) {
        const call = 1 + Math.floor(((step + random()) / STEPS) * calls);
        await bed.round({ call, when });
      }
    }
  }
  const atSteps = bed.rounds.filter(({ wasKilled }) => wasKilled).length;
  t.ok(atSteps >= 2 * STEPS, `killed at ${atSteps} steps`);
  for (let kill = 0; kill < RANDOM_KILLS; kill++) await bed.round(bed.randomKill());
  t.equal(bed.rounds.filter(({ wasKilled }) => wasKilled).length, atSteps + RANDOM_KILLS);
  for (const problem of bed.problems.slice(0, 20)) t.fail(problem);
  t.comment(`${bed.load.acknowledged} writes were acknowledged`);
});
