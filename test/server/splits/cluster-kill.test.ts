/**
 * Goal: shards of two nodes are split at once, and moved from one to the other, while clients write and read through both; one of the nodes
 * is killed meanwhile. What is acknowledged is there once, through each node; the jobs come to their ends after a restart, or go back; all
 * nodes have the same map, and no file is left over. Where nobody is killed no request fails.
 * Method: the real command, SIGKILL in the middle of two splits, before or after a call of the storage that is a durable step of a move on
 * either side, which are counted in a run that is not killed, and at a random moment.
 */
import t from 'tap';
import { ClusterKillBed } from '../../support/cluster-kill-rounds.js';
import { seededRandom, seedOf } from '../../support/seed.js';

/** Fewer would mean that the counting misses some. */
const CALLS_MIN = 12;

t.test('one of two nodes is killed', async (t) => {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  const bed = await ClusterKillBed.open(t, seed);
  await bed.splitBoth();
  const { end, calls } = await bed.move(undefined);
  t.equal(end, 'completed');
  t.ok(Math.min(...calls) >= CALLS_MIN, `${calls.join()} calls`);
  for (const [side, victim] of (['source', 'target'] as const).entries()) {
    const call = 1 + Math.floor(random() * (calls[side] ?? 0));
    const when = random() < 0.5 ? 'before' : 'after';
    await bed.move({ victim, at: { call, when } });
  }
  await bed.move(bed.randomKill());
  const kills = bed.rounds.filter(({ wasKilled }) => wasKilled).length;
  t.ok(kills >= 2, `killed ${kills} times`);
  for (const problem of bed.problems.slice(0, 20)) t.fail(problem);
  const { acknowledged, reads, failed } = bed.load;
  t.comment(`${acknowledged} writes were acknowledged, ${reads} reads answered, ${failed} failed`);
});
