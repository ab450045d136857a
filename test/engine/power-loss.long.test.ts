/**
 * Goal: no crash breaks a promise of a shard or of a rewrite, in as many states as a night has room for.
 * Method: the simulators of the power-loss tests, in turn, until at least 1,000,000 distinct states were tried.
 */
import t from 'tap';
import { REWRITE_KINDS } from '../../engine/rewrite/plan.js';
import { SMALL_BUFFERS, SMALL_STEPS } from '../support/rewrite-bugs.js';
import { REWRITE_PHASES } from '../support/rewrite-phases.js';
import { ROUNDS } from '../support/rewrite-workload.js';
import { seedOf } from '../support/seed.js';
import { CRASH_CLASSES } from '../support/simulated-disk.js';
import { simulateRewrites, simulateShards } from '../support/simulators.js';

/** Fewer for a look at how fast it is. */
const STATES_MIN = Number(process.env['DIVAN_STATES'] ?? 1_000_000);
/** Every how many states it says how far it is. */
const COMMENT_EVERY = 20_000;

t.test('no state after a crash breaks a promise', async (t) => {
  const seed = seedOf(t);
  const startMs = performance.now();
  const occurred = new Set<string>();
  const distinct = { shards: 0, rewrites: 0 };
  let commentAt = 0;
  for (let turn = 0; distinct.shards + distinct.rewrites < STATES_MIN; turn++) {
    const one = { seed: seed + turn * 1_000_003, statesPerOp: 16 };
    const shards = await simulateShards(SMALL_BUFFERS, { ...one, workloads: 6, recoveryEvery: 50 });
    const rewrites = await simulateRewrites(SMALL_STEPS, {
      ...one,
      rounds: { from: 0, to: ROUNDS },
      resumptionEvery: 10,
      resumptionCrashes: 5,
    });
    const violations = [...shards.violations, ...rewrites.violations];
    if (violations.length > 0) {
      t.strictSame(violations, [], `turn ${turn}`);
      return;
    }
    distinct.shards += shards.distinctStates;
    distinct.rewrites += rewrites.distinctStates;
    for (const name of [...shards.classes, ...rewrites.classes, ...rewrites.phases]) {
      occurred.add(name);
    }
    const states = distinct.shards + distinct.rewrites;
    if (states < commentAt) continue;
    commentAt += COMMENT_EVERY;
    const seconds = (performance.now() - startMs) / 1000;
    t.comment(`${states} states after ${seconds.toFixed(0)} s: ${JSON.stringify(distinct)}`);
  }
  t.pass(`${distinct.shards} states of shards and ${distinct.rewrites} of rewrites`);
  for (const name of [
    ...CRASH_CLASSES,
    'recovery-crash',
    'flush-crash',
    'attachment-between',
    'compaction-crash',
  ]) {
    t.ok(occurred.has(name), `${name} occurred`);
  }
  for (const kind of REWRITE_KINDS) {
    for (const phase of REWRITE_PHASES) t.ok(occurred.has(`${kind} ${phase}`), `${kind}: ${phase}`);
  }
});
