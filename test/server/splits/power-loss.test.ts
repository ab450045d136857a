/**
 * Goal: no loss of power, and no kill, in any phase of a split or a merge breaks a promise: the job goes on by itself and finishes, each
 * acknowledged write is there once, purges, local docs and settings included, and no file is left that the map does not name.
 * Method: the states of a simulated disk after a crash at the operations of some lives of a database whose shard is split and merged while
 * it is written, and whose jobs are killed, stopped, removed, or lose their database; a server is started on each. Void unless all phases
 * and all kinds of damage occurred. And bugs planted into copies must each be found.
 */
import t from 'tap';
import { type Edit, runEdited } from '../../support/edited-copy.js';
import { JOB_BUGS, JOB_STEPS } from '../../support/job-bugs.js';
import { SCENARIOS } from '../../support/job-life.js';
import type { JobPowerLossOptions, JobPowerLossResult } from '../../support/job-power-loss.js';
import { seedOf } from '../../support/seed.js';
import { CRASH_CLASSES } from '../../support/simulated-disk.js';

const STATES_MIN = 2000;
/** A bug that is not found in so many rounds is missed. */
const ROUNDS_MAX = 3;
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

function simulate(
  edits: readonly Edit[],
  options: JobPowerLossOptions,
): Promise<JobPowerLossResult> {
  const all = [...JOB_STEPS, ...edits];
  return runEdited(all, 'job-power-loss.js', 'runJobPowerLoss', options);
}

t.test('no state after a crash breaks a promise', async (t) => {
  const seed = seedOf(t);
  const occurred = new Set<string>();
  let states = 0;
  let operations = 0;
  for (let round = 0; states < STATES_MIN; round++) {
    const lives = { from: 0, to: 2 * SCENARIOS.length };
    const every = { statesPerOp: 1, startEvery: 30, startCrashes: 3, stride: STRIDE };
    const result = await simulate([], { seed: seed + round * 1_000_003, lives, ...every });
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

t.test('planted bugs are found', async (t) => {
  const seed = seedOf(t);
  for (const { scenario, course, ...bug } of JOB_BUGS) {
    let states = 0;
    let isFound = false;
    for (let round = 0; round < ROUNDS_MAX && !isFound; round++) {
      const result = await simulate([bug], {
        seed: seed + round * 1_000_003,
        lives: { from: 0, to: scenario === undefined ? 2 * SCENARIOS.length : 4 },
        ...{ statesPerOp: 1, startEvery: 30, startCrashes: 3, stride: 2 },
        scenarios: scenario === undefined ? undefined : [scenario],
        course,
      });
      states += result.distinctStates;
      isFound = result.violations.length > 0;
    }
    t.ok(isFound, `${bug.name}: found after ${states} states`);
  }
});
