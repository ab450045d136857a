/**
 * Goal: as in kill.test.ts, and that a server that was killed answers again within a second.
 * Method: the same, 30 times.
 */
import t from 'tap';
import { describeRounds, killRounds } from '../support/kill-rounds.js';
import { seedOf } from '../support/seed.js';

const KILLS = 30;
const START_MS_MAX = 1000;

t.test('killed 30 times under load', async (t) => {
  const result = await killRounds(t, KILLS, seedOf(t));
  t.comment(describeRounds(result));
  for (const problem of result.problems.slice(0, 20)) t.fail(problem);
  t.equal(result.kills, KILLS, 'with enough acknowledged writes');
  for (const ms of result.startMs)
    t.ok(ms < START_MS_MAX, `${ms.toFixed(0)} ms to the first answer`);
});
