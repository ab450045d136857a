/**
 * Goal: as in kill.test.ts.
 * Method: the same, before and after every step of a split and of a merge, and at 100 random moments.
 */
import t from 'tap';
import { seedOf } from '../../support/seed.js';
import { SplitKillBed } from '../../support/split-kill-rounds.js';

const RANDOM_KILLS = 100;

t.test('killed at every durable step', async (t) => {
  const bed = await SplitKillBed.open(t, seedOf(t));
  const counted = [await bed.round(undefined), await bed.round(undefined)];
  const most = Math.max(...counted.map(({ calls }) => calls));
  for (const when of ['before', 'after'] as const) {
    for (let call = 1; call <= most && bed.problems.length === 0; call++) {
      // A split, and then a merge.
      await bed.round({ call, when });
      await bed.round({ call, when });
    }
  }
  const kills = bed.rounds.filter(({ wasKilled }) => wasKilled).length;
  t.comment(`killed at ${kills} steps`);
  for (let kill = 0; kill < RANDOM_KILLS && bed.problems.length === 0; kill++) {
    await bed.round(bed.randomKill());
  }
  for (const problem of bed.problems.slice(0, 20)) t.fail(problem);
  t.comment(`${bed.load.acknowledged} writes were acknowledged`);
});
