/**
 * Goal: no loss of power, and no kill, in any phase of a split or a merge breaks a promise: the job goes on by itself and finishes, each
 * acknowledged write is there once, purges, local docs and settings included, and no file is left that the map does not name.
 * Method: the states of a simulated disk after a crash at the operations of some lives of a database whose shard is split and merged while
 * it is written, and whose jobs are killed, stopped, removed, or lose their database; a server is started on each. Void unless all phases
 * and all kinds of damage occurred. `power-loss.long.test.ts` plants bugs, each of which must be found.
 */
import t from 'tap';
import { SCENARIOS } from '../../support/job-life.js';
import { seedOf } from '../../support/seed.js';
import { simulateJobs } from '../../support/simulate-jobs.js';
import { CRASH_CLASSES } from '../../support/simulated-disk.js';

const STATES_MIN = 1500;
const PHASES = [
  'initial_copy',
  'topoff1',
  'update_shardmap',
  'wait_source_close',
  'source_delete',
  'completed',
];
/** Every so many operations are looked at; those in between, by other seeds. */
const STRIDE = 5;

t.test('no state after a crash breaks a promise', async (t) => {
  const seed = seedOf(t);
  const occurred = new Set<string>();
  let states = 0;
  let operations = 0;
  for (let round = 0; states < STATES_MIN; round++) {
    const lives = { from: 0, to: 2 * SCENARIOS.length };
    const every = { statesPerOp: 1, startEvery: 30, startCrashes: 3, stride: STRIDE };
    const result = await simulateJobs([], { seed: seed + round * 1_000_003, lives, ...every });
    t.strictSame(result.violations, [], `round ${round}: ${result.distinctStates} states`);
    if (result.violations.length > 0) return;
    states += result.distinctStates;
    operations += result.operations;
    for (const name of [...result.classes, ...result.phases, ...result.scenarios]) {
      occurred.add(name);
    }
  }
  t.comment(`${states} states of ${operations} operations`);
  const phases = PHASES.flatMap((phase) => [`split ${phase}`, `merge ${phase}`]);
  for (const name of [...CRASH_CLASSES, ...phases, ...SCENARIOS, 'start-crash']) {
    t.ok(occurred.has(name), `${name} occurred`);
  }
});
