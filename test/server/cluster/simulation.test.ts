/**
 * Goal: whatever happens to the nodes of a cluster and the network between them, their records keep what `ClusterModel` promises.
 * Method: lives of a simulated cluster of seeds that follow one another. Void unless everything that can happen did, often enough. The same
 * seed is the same life, event by event. `simulation.long.test.ts` plants bugs, each of which must be found.
 */
import t from 'tap';
import { runApart } from '../../support/apart.js';
import type { LifeResult } from '../../support/cluster-life.js';
import type { LivesInput, LivesResult } from '../../support/cluster-lives.js';
import { seedOf } from '../../support/seed.js';

const LIFE = new URL('../../support/cluster-life.js', import.meta.url).href;
const LIVES = new URL('../../support/cluster-lives.js', import.meta.url).href;
const HAPPENINGS = [
  ...['change', 'acknowledged', 'stop', 'start', 'creation', 'deletion', 'deletion of an admin'],
  ...['row', 'added', 'removed', 'crash', 'restart', 'caught up', 'clock jump', 'set back'],
  ...['one-sided cut', 'two-sided cut', 'request lost', 'reply lost', 'duplicate', 'cut'],
];
const OFTEN = 15;

t.test('no life breaks a promise', async (t) => {
  const first = { seed: seedOf(t), events: 5000 };
  const result = await runApart<LivesInput, LivesResult>(LIVES, 'playLives', { first, lives: 40 });
  t.strictSame(result.violations, []);
  t.comment(`${result.events} events`);
  const counts = new Map(result.counts);
  for (const name of HAPPENINGS)
    t.ok((counts.get(name) ?? 0) >= OFTEN, `${name}: ${counts.get(name)}`);
});

t.test('the records of real nodes keep it too', async (t) => {
  const first = { seed: seedOf(t), events: 1500, disks: 'simulated' as const };
  const result = await runApart<LivesInput, LivesResult>(LIVES, 'playLives', { first, lives: 3 });
  t.strictSame(result.violations, []);
});

t.test('a seed is one life', async (t) => {
  const life = { seed: seedOf(t), events: 3000, restores: true };
  const results: LifeResult[] = [];
  for (let round = 0; round < 2; round++) results.push(await runApart(LIFE, 'playLife', life));
  t.equal(results[0]?.fingerprint, results[1]?.fingerprint);
  const other = await runApart<object, LifeResult>(LIFE, 'playLife', { ...life, seed: 1 });
  t.not(other.fingerprint, results[0]?.fingerprint);
});
