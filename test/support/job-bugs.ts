/** What is changed in copies of the compiled program to test jobs: steps that are small, and bugs that must be found. */
import type { Edit } from './edited-copy.js';
import { constant, SMALL_STEPS } from './rewrite-bugs.js';

/** So that a few writes take rounds of catching up, in which writers are slowed down. */
export const JOB_STEPS: readonly Edit[] = [
  ...SMALL_STEPS,
  constant('rewrite/move-live.js', 'BEHIND_MAX', 2),
  constant('rewrite/move-live.js', 'FREE_ROUNDS', 2),
  constant('rewrite/catch-up.js', 'DOCUMENTS_AT_ONCE', 2),
  constant('rewrite/copies.js', 'BATCH_BYTES', 300),
  constant('rewrite/copies.js', 'RUNS_BYTES', 500),
];
