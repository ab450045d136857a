/**
 * Goal: no crash of a split, a merge or a compaction, nor of the run that goes on with it, harms a source, gives a name to a file that
 * is not complete, or leaves anything that the next run does not finish or remove; and what was acknowledged stays.
 * Method: at least 20,000 distinct states of a simulated disk after a crash, each inspected and gone on with; the files must be those
 * of an uninterrupted run, byte for byte. Copies of the compiled engine with small steps have tiny files take many checkpoints.
 * Void unless every kind of rewrite was crashed in every phase, and every kind of damage occurred. And a test of the test: bugs
 * planted into such copies must each be found.
 */
import t from 'tap';
import { REWRITE_KINDS } from '../../../engine/rewrite/plan.js';
import { REWRITE_BUGS, SMALL_STEPS } from '../../support/rewrite-bugs.js';
import { REWRITE_PHASES } from '../../support/rewrite-phases.js';
import { ROUNDS } from '../../support/rewrite-workload.js';
import { seedOf } from '../../support/seed.js';
import { CRASH_CLASSES } from '../../support/simulated-disk.js';
import { simulateRewrites } from '../../support/simulators.js';

const STATES_MIN = 20_000;

t.test('no state after a crash breaks a promise', async (t) => {
  const seed = seedOf(t);
  const classes = new Set<string>();
  const phases = new Set<string>();
  let distinct = 0;
  for (let turn = 0; distinct < STATES_MIN; turn++) {
    const options = {
      seed: seed + turn * 1_000_003,
      rounds: { from: 0, to: ROUNDS },
      statesPerOp: turn === 0 ? 4 : 12,
      resumptionEvery: 10,
      resumptionCrashes: 5,
    };
    // The first turn is with the engine as it is.
    const result = await simulateRewrites(turn === 0 ? [] : SMALL_STEPS, options);
    t.strictSame(result.violations, [], `turn ${turn}: ${result.distinctStates} states`);
    if (result.violations.length > 0) return;
    distinct += result.distinctStates;
    for (const name of result.classes) classes.add(name);
    for (const name of result.phases) phases.add(name);
  }
  t.comment(`${distinct} distinct states`);
  for (const name of CRASH_CLASSES) t.ok(classes.has(name), `${name} occurred`);
  for (const kind of REWRITE_KINDS) {
    for (const phase of REWRITE_PHASES) t.ok(phases.has(`${kind} ${phase}`), `${kind}: ${phase}`);
  }
});

/** Of a simulation that is to meet something rare. */
const TURNS_MAX = 12;

t.test(
  'a discarding that is cut short after some names: the next run goes on or refuses',
  async (t) => {
    const seed = seedOf(t);
    const bug = {
      file: 'rewrite/job.js',
      find: 'await undoFinishing(storage, checkpointPath);',
      replace: '',
    };
    // It is a matter of chance whether a second crash comes at such a moment.
    let isRefused = false;
    let isFound = false;
    for (let turn = 0; turn < TURNS_MAX && !(isRefused && isFound); turn++) {
      const options = {
        seed: seed + turn * 1_000_003,
        rounds: { from: 0, to: REWRITE_KINDS.length },
        statesPerOp: 40,
        resumptionEvery: 1,
        resumptionCrashes: 30,
        whileNaming: true,
      };
      const { violations, refusedRuns } = await simulateRewrites(SMALL_STEPS, options);
      t.strictSame(violations, []);
      isRefused ||= refusedRuns > 0;
      if (isFound) continue;
      isFound = (await simulateRewrites([...SMALL_STEPS, bug], options)).violations.length > 0;
    }
    t.ok(isRefused, 'a run was refused');
    t.ok(isFound, 'one that leaves a checkpoint "finishing" is found');
  },
);

t.test('planted bugs are found', async (t) => {
  const seed = seedOf(t);
  for (const bug of REWRITE_BUGS) {
    const { violations, distinctStates } = await simulateRewrites([...SMALL_STEPS, bug], {
      seed,
      rounds: { from: 0, to: 4 * ROUNDS },
      statesPerOp: 4,
      resumptionEvery: 8,
      resumptionCrashes: 5,
    });
    t.ok(violations.length > 0, `${bug.name}: found after ${distinctStates} states`);
  }
});
