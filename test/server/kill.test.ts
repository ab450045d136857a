/**
 * Goal: a server that is killed loses nothing that it acknowledged, has nothing twice and nothing in part, and leaves no file behind.
 * Method: the real command under a load of single and bulk writes, deletions, attachments, databases that come and go, and compactions;
 * SIGKILL at random moments; a log kept by the clients.
 */
import t from 'tap';
import { describeRounds, killRounds } from '../support/kill-rounds.js';
import { seedOf } from '../support/seed.js';

const KILLS = 3;

t.test('killed 3 times under load', async (t) => {
  const result = await killRounds(t, KILLS, seedOf(t));
  t.comment(describeRounds(result));
  for (const problem of result.problems.slice(0, 20)) t.fail(problem);
  t.equal(result.kills, KILLS, 'with enough acknowledged writes');
});
