/**
 * Goal: whichever node dies in whichever step of a move, it comes to its end when the node is there again: one node has the shard, with all that
 * was acknowledged, and nothing is left over.
 * Method: two servers on simulated disks; one of them is killed, or loses power, before operations of its disk, spread over the whole move;
 * `move-crashes.long.test.ts` takes all of them.
 */
import t from 'tap';
import { crashMove, ignoreCrashes, type Loss, type Side } from '../../support/move-crash.js';
import { seedOf } from '../../support/seed.js';

const LOSSES: readonly Loss[] = ['worst', 'best', 'random'];
const STRIDE = 6;

t.teardown(ignoreCrashes());

for (const side of ['source', 'target'] as const satisfies readonly Side[]) {
  t.test(`a crash of the ${side}`, async (t) => {
    const seed = seedOf(t);
    const phases = new Set<string>();
    let count = 0;
    for (let operation = seed % STRIDE; ; operation += STRIDE) {
      const loss = LOSSES[count % LOSSES.length] ?? 'worst';
      const { isCrashed, problems, phase } = await crashMove({ side, operation, loss, seed });
      t.same(problems, [], `${side} ${loss} before operation ${operation}, ${phase}`);
      phases.add(phase);
      if (!isCrashed) break;
      count++;
    }
    t.ok(count > 5, `${count} crashes`);
    t.comment([...phases].join());
  });
}
