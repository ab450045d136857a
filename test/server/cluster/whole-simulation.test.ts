/**
 * Goal: whatever happens to the nodes of a cluster, to the network between them and to their disks, its databases keep what `WholeModel`,
 * `DocumentModel` and `RangeWatch` promise, and all that was begun comes to its end.
 * Method: lives of clusters of whole servers, of seeds that follow one another; with the 40 lives of records alone in `simulation.test.ts` they are
 * 100. Void unless everything that can happen did, often enough. `simulation.long.test.ts` plays more of them, and plants bugs.
 */
import t from 'tap';
import { runApart } from '../../support/apart.js';
import type { LifeResult } from '../../support/cluster-life.js';
import type { LivesResult, WholeLivesInput } from '../../support/cluster-lives.js';
import { seedOf } from '../../support/seed.js';
import type { WholeLifeOptions } from '../../support/whole-life.js';

const LIFE = new URL('../../support/whole-life.js', import.meta.url).href;
const LIVES = new URL('../../support/cluster-lives.js', import.meta.url).href;
const HAPPENINGS = [
  ...['split', 'merge', 'move', 'creation', 'deletion', 'rivals', 'added', 'removed'],
  ...['clock jump', 'crash', 'restart', 'stop of a node', 'one-sided cut', 'two-sided cut'],
  ...['stop', 'start', 'acknowledged write', 'request lost', 'reply lost', 'duplicate', 'cut'],
];
const OFTEN = 50;
const LIVES_COUNT = 60;
/** The lives are the same in each run, so that what breaks one was just changed; the long test plays others each time. */
const FIRST_SEED = 1_000_000;

t.test('no life breaks a promise', async (t) => {
  const first = { seed: seedOf(t, FIRST_SEED), events: 5000 };
  const input = { first, lives: LIVES_COUNT };
  const result = await runApart<WholeLivesInput, LivesResult>(LIVES, 'playWholeLives', input);
  t.strictSame(result.violations, []);
  t.comment(`${result.events} events`);
  const counts = new Map(result.counts);
  for (const name of HAPPENINGS)
    t.ok((counts.get(name) ?? 0) >= OFTEN, `${name}: ${counts.get(name)}`);
});

t.test('a seed is one life', async (t) => {
  const life = { seed: seedOf(t), events: 2000 };
  const play = (options: WholeLifeOptions) =>
    runApart<WholeLifeOptions, LifeResult>(LIFE, 'playWholeLife', options);
  const [one, again] = [await play(life), await play(life)];
  t.equal(one.fingerprint, again.fingerprint);
  const other = await play({ ...life, seed: life.seed + 1 });
  t.not(other.fingerprint, one.fingerprint);
});
