/**
 * Goal: the lives of a cluster find what is wrong, and many more of them find nothing.
 * Method: bugs planted into copies of the program, each of which must break a promise within 200 seeds, in the lives of records or in those of whole
 * servers.
 */
import t from 'tap';
import { CLUSTER_BUGS } from '../../support/cluster-bugs.js';
import type { LivesInput, LivesResult, WholeLivesInput } from '../../support/cluster-lives.js';
import { type Edit, runEdited } from '../../support/edited-copy.js';
import { seedOf } from '../../support/seed.js';
import { WHOLE_BUGS } from '../../support/whole-bugs.js';

const SEEDS_MAX = 200;
const EVENTS = 5000;
/** Of 5,000 lives so many are of whole servers: as many as an hour has room for. */
const WHOLE_LIVES = 3000;
const RECORD_LIVES = 2000;

function play(edits: readonly Edit[], input: LivesInput): Promise<LivesResult> {
  return runEdited(edits, 'cluster-lives.js', 'playLives', input);
}

function playWhole(edits: readonly Edit[], input: WholeLivesInput): Promise<LivesResult> {
  return runEdited(edits, 'cluster-lives.js', 'playWholeLives', input);
}

t.test('planted bugs are found', async (t) => {
  const first = { seed: seedOf(t), events: EVENTS };
  const input = { first, lives: SEEDS_MAX };
  const found = (name: string, { violations, lives }: LivesResult) =>
    t.ok(violations.length > 0, `${name}: found after ${lives} lives: ${violations[0]}`);
  for (const bug of CLUSTER_BUGS) found(bug.name, await play([bug], input));
  for (const bug of WHOLE_BUGS) found(bug.name, await playWhole([bug], input));
});

t.test('no life of many breaks a promise', async (t) => {
  const seed = seedOf(t);
  const lossy = await play([], { first: { seed, events: EVENTS }, lives: RECORD_LIVES });
  t.strictSame(lossy.violations, []);
  const first = { seed, events: 3000, disks: 'simulated' as const };
  const simulated = await play([], { first, lives: 200 });
  t.strictSame(simulated.violations, []);
});

t.test('no life of many whole servers does', async (t) => {
  const first = { seed: seedOf(t), events: EVENTS };
  const whole = await playWhole([], { first, lives: WHOLE_LIVES });
  t.strictSame(whole.violations, []);
});
