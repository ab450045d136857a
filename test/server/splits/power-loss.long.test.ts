/**
 * Goal: the power losses of jobs find what is wrong.
 * Method: bugs planted into copies of the program, each of which must break a promise in some state.
 */
import t from 'tap';
import { JOB_BUGS } from '../../support/job-bugs.js';
import { SCENARIOS } from '../../support/job-life.js';
import { seedOf } from '../../support/seed.js';
import { simulateJobs } from '../../support/simulate-jobs.js';

/** A bug that is not found in so many rounds is missed. */
const ROUNDS_MAX = 10;

t.test('planted bugs are found', async (t) => {
  const seed = seedOf(t);
  for (const { scenario, course, ...bug } of JOB_BUGS) {
    let states = 0;
    let isFound = false;
    for (let round = 0; round < ROUNDS_MAX && !isFound; round++) {
      const result = await simulateJobs([bug], {
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
