/** What all pools of piscina threads have in common. */
import type { Piscina } from 'piscina';

/** What threads that work beside a server add to their niceness: whatever it wants of the processors it gets, and they the rest. */
export const BACKGROUND_NICENESS = 15;

export const THREAD_OPTIONS = {
  /** A thread that waits for its next task with Atomics.wait hears neither messages nor timers meanwhile. */
  atomics: 'disabled',
  /**
   * Piscina tries `require` before `import`, also for modules. A thread that is ended in the middle of such a `require` takes the whole
   * process with it (Node 20: "IsGraphAsync must be used on an instantiated module"); one that is ended in the middle of an `import` does not.
   * Of what the process itself was started with only profiling is handed on: threads do not take all of it, as limits of memory.
   */
  execArgv: [
    ...process.execArgv.filter((option) => option.startsWith('--cpu-prof')),
    '--no-experimental-require-module',
  ],
} satisfies ConstructorParameters<typeof Piscina>[0];
