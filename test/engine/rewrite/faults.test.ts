/**
 * Goal: whatever call to the disk fails while a split, a merge or a compaction runs, it is rejected, the sources stay as they were, no
 * half of a target gets its name, and once the disk is well the same command comes to its end and leaves nothing behind.
 * Method: every call of every kind fails in turn, once and for ever, as broken and as full, on a disk whose reads and writes are
 * short besides; in a copy of the compiled engine with small steps.
 */
import t from 'tap';
import { REWRITE_KINDS, type RewriteKind } from '../../../engine/rewrite/plan.js';
import { CALL_KINDS, type CallKind } from '../../support/failing-storage.js';
import { SMALL_STEPS } from '../../support/rewrite-bugs.js';
import { seedOf } from '../../support/seed.js';
import { simulateFaults } from '../../support/simulators.js';

/** The calls that a kind does not make: some only discarding does. */
const NOT_MADE: Record<RewriteKind, readonly CallKind[]> = {
  split: ['list', 'removeDirectory'],
  merge: ['list', 'removeDirectory'],
  compact: ['list', 'removeDirectory', 'makeDirectory', 'link'],
};

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
      const unmet = CALL_KINDS.filter((call) => (failures[call] ?? 0) === 0);
      t.strictSame(unmet.sort(), [...NOT_MADE[kind]].sort(), 'all other calls failed');
    }
  });
}
