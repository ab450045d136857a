/**
 * Goal and method: as `move-crashes.test.ts`, with a crash before every operation of either disk.
 */
import t from 'tap';
import { crashMove, ignoreCrashes } from '../../support/move-crash.js';
import { seedOf } from '../../support/seed.js';

const SEEDS = 5;

t.setTimeout(1_200_000);
t.teardown(ignoreCrashes());

for (const side of ['source', 'target'] as const) {
  for (const loss of ['worst', 'best', 'random'] as const) {
    t.test(`${side}, ${loss}`, async (t) => {
      const first = seedOf(t);
      for (let seed = first; seed < first + SEEDS; seed++) {
        let operation = 0;
        for (let isCrashed = true; isCrashed; operation++) {
          const outcome = await crashMove({ side, operation, loss, seed });
          t.same(outcome.problems, [], `seed ${seed}, operation ${operation}, ${outcome.phase}`);
          ({ isCrashed } = outcome);
        }
        t.ok(operation > 30, `${operation} crashes`);
      }
    });
  }
}
