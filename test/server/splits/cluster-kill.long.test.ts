/**
 * Goal: as in cluster-kill.test.ts.
 * Method: the same, before and after every step of a move on either side, and at 60 random moments.
 */
import t from 'tap';
import { ClusterKillBed } from '../../support/cluster-kill-rounds.js';
import { seedOf } from '../../support/seed.js';

const RANDOM_KILLS = 60;
const SPLITS = 5;

t.test('splits of two nodes', async (t) => {
  const seed = seedOf(t);
  for (let turn = 0; turn < SPLITS; turn++) {
    const bed = await ClusterKillBed.open(t, seed + turn);
    await bed.splitBoth();
    for (const problem of bed.problems.slice(0, 20)) t.fail(problem);
    t.comment(`${bed.load.acknowledged} writes were acknowledged`);
  }
});

t.test('killed at every durable step of a move', async (t) => {
  const bed = await ClusterKillBed.open(t, seedOf(t));
  const counted = [await bed.move(undefined), await bed.move(undefined)];
  for (const [side, victim] of (['source', 'target'] as const).entries()) {
    const most = Math.max(...counted.map(({ calls }) => calls[side] ?? 0));
    for (const when of ['before', 'after'] as const) {
      for (let call = 1; call <= most && bed.problems.length === 0; call++) {
        await bed.move({ victim, at: { call, when } });
      }
    }
  }
  const kills = bed.rounds.filter(({ wasKilled }) => wasKilled).length;
  const failed = bed.rounds.filter(({ end }) => end === 'failed').length;
  t.comment(`killed at ${kills} steps, ${failed} jobs failed`);
  for (let kill = 0; kill < RANDOM_KILLS && bed.problems.length === 0; kill++) {
    await bed.move(bed.randomKill());
  }
  for (const problem of bed.problems.slice(0, 20)) t.fail(problem);
  t.comment(
    `${bed.load.acknowledged} writes were acknowledged, ${bed.load.failed} requests failed`,
  );
});
