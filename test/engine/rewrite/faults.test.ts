/**
 * Goal: whatever call to the disk fails while a split, a merge or a compaction runs, it is rejected, the sources stay as they were, no
 * half of a target gets its name, and once the disk is well the same command comes to its end and leaves nothing behind.
 * Method: every call of every kind fails in turn, once and for ever, as broken and as full, on a disk whose reads and writes are
 * short besides; in a copy of the compiled engine with small steps.
 */
import t from 'tap';
import { REWRITE_KINDS } from '../../../engine/rewrite/plan.js';
import { CALL_KINDS } from '../../support/failing-storage.js';
import { SMALL_STEPS } from '../../support/rewrite-bugs.js';
import { seedOf } from '../../support/seed.js';
import { simulateFaults } from '../../support/simulators.js';

/** The calls that only `--discard` makes. */
const NOT_MADE: readonly string[] = ['list', 'removeDirectory'];

for (const kind of REWRITE_KINDS) {
  t.test(`${kind}: every call fails in turn`, async (t) => {
    const seed = seedOf(t);
    const codes = ['IO', 'NO_SPACE'] as const;
    for (const times of ['once', 'for ever'] as const) {
      const { problems, failures } = await simulateFaults(SMALL_STEPS, {
        kind,
        seed,
        codes,
        times,
      });
      t.strictSame(problems, [], times);
      const met = Object.values(failures).reduce((sum, count) => sum + count, 0);
      t.ok(met > 300, `${met} failures`);
      for (const call of CALL_KINDS) {
        const isMade = (failures[call] ?? 0) > 0;
        const isForOthers = call === (kind === 'compact' ? 'link' : '') || NOT_MADE.includes(call);
        t.ok(isMade || isForOthers, `${call} failed`);
      }
    }
  });
}
