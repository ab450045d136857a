/**
 * Goal: the lives of a cluster find what is wrong, and many more of them find nothing.
 * Method: bugs planted into copies of the program, each of which must break a promise within 200 seeds.
 */
import t from 'tap';
import { CLUSTER_BUGS } from '../../support/cluster-bugs.js';
import type { LivesInput, LivesResult } from '../../support/cluster-lives.js';
import { type Edit, runEdited } from '../../support/edited-copy.js';
import { seedOf } from '../../support/seed.js';

const SEEDS_MAX = 200;

function play(edits: readonly Edit[], input: LivesInput): Promise<LivesResult> {
  return runEdited(edits, 'cluster-lives.js', 'playLives', input);
}

t.test('planted bugs are found', async (t) => {
  const first = { seed: seedOf(t), events: 5000 };
  for (const bug of CLUSTER_BUGS) {
    const { violations, lives } = await play([bug], { first, lives: SEEDS_MAX });
    t.ok(violations.length > 0, `${bug.name}: found after ${lives} lives: ${violations[0]}`);
  }
});

t.test('no life of many breaks a promise', async (t) => {
  const seed = seedOf(t);
  const lossy = await play([], { first: { seed, events: 5000 }, lives: 5000 });
  t.strictSame(lossy.violations, []);
  const first = { seed, events: 3000, disks: 'simulated' as const };
  const simulated = await play([], { first, lives: 200 });
  t.strictSame(simulated.violations, []);
});
