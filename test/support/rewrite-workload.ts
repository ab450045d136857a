/**
 * A rewrite on a `SimulatedDisk`, whole or interrupted, for the power-loss test: the log of what it did, and what its files must be
 * like, which an uninterrupted run on another disk shows.
 */
import { isDivanError } from '../../engine/errors.js';
import { REWRITE_KINDS, type RewritePlan } from '../../engine/rewrite/plan.js';
import type { RewriteOutcome } from '../../engine/rewrite/prepare.js';
import type { LogEntry } from './disk-record.js';
import { HastyHost } from './hasty-host.js';
import { type CaseOptions, newCase, type RewriteCase } from './rewrite-cases.js';
import { phasesOf, type RewritePhase } from './rewrite-phases.js';
import { randomInt, seededRandom } from './seed.js';
import { SimulatedDisk } from './simulated-disk.js';

/**
 * `whole`: it runs to its end. `resumed`: it is cancelled, keeps what it has, and is run again. `discarded`: it is cancelled, and
 * what it kept is discarded. `aborted`: it is cancelled and removes everything itself.
 */
export const SCENARIOS = ['whole', 'resumed', 'discarded', 'aborted'] as const;
export type Scenario = (typeof SCENARIOS)[number];

/** What clients are told. */
export const DONE = 'done';
export const GONE = 'gone';

/** `given`: every run is given the plan. `own`: each makes its own. `unflushed`: so, and the sources have to be flushed first. */
const PLANS = ['given', 'given', 'own', 'unflushed'] as const;

/** Each kind with each scenario in as many rounds as that takes. */
export const ROUNDS = REWRITE_KINDS.length * SCENARIOS.length;

export class RewriteWorkload {
  readonly case: RewriteCase;
  readonly scenario: Scenario;
  readonly disk: SimulatedDisk;
  /** Of an uninterrupted run: what came of it, and its disk. */
  readonly pattern: { readonly outcome: RewriteOutcome; readonly disk: SimulatedDisk };
  /** Given to every run; undefined where each makes its own. */
  readonly plan: RewritePlan | undefined;
  /** What every operation of the log belongs to. */
  readonly phases: ReadonlySet<RewritePhase>[] = [];
  readonly #seed: number;
  readonly #random: () => number;
  readonly #steps: number;

  private constructor(
    of: RewriteCase,
    scenario: Scenario,
    plan: (typeof PLANS)[number],
    pattern: RewriteWorkload['pattern'] & { readonly steps: number },
    seed: number,
  ) {
    this.case = of;
    this.scenario = scenario;
    this.plan = plan === 'given' ? pattern.outcome.plan : undefined;
    this.pattern = pattern;
    this.#steps = pattern.steps;
    this.#seed = seed;
    this.#random = seededRandom(seed + 1);
    this.disk = newDisk(of);
    setTurns(this.disk, this.#random);
  }

  /** A workload whose kind and scenario follow from the round, and all else from the seed. */
  static async run(round: number, seed: number): Promise<RewriteWorkload> {
    const random = seededRandom(seed);
    const kind = REWRITE_KINDS[round % REWRITE_KINDS.length] ?? 'split';
    const scenario =
      SCENARIOS[Math.floor(round / REWRITE_KINDS.length) % SCENARIOS.length] ?? 'whole';
    const plan = PLANS[randomInt(random, PLANS.length)] ?? 'given';
    const of = await newCase(kind, seed, {
      documents: 4 + randomInt(random, 7),
      nodeBytes: 300,
      unflushed: plan === 'unflushed',
    });
    const workload = new RewriteWorkload(of, scenario, plan, await runPattern(of, seed), seed);
    await workload.#perform();
    return workload;
  }

  #run(options: CaseOptions = {}): Promise<RewriteOutcome> {
    const world = { storage: this.disk, host: new HastyHost(this.#seed) };
    return this.case.run(world, { plan: this.plan, ...options });
  }

  async #perform(): Promise<void> {
    const isCancelled = this.scenario !== 'whole' && (await this.#phased(() => this.#cancel()));
    if (!isCancelled || this.scenario === 'resumed') {
      const as = isCancelled ? 'resuming' : undefined;
      if (isCancelled || this.scenario === 'whole') {
        await this.#phased(() => this.#run(), as);
      }
      this.disk.ack(DONE);
    } else {
      if (this.scenario === 'discarded') {
        await this.#phased(() => this.case.discard(this.disk), 'discarding');
      }
      this.disk.ack(GONE);
    }
    this.phases.push(new Set());
  }

  /** Cancels a run at some step of it; false if it came to its end all the same. */
  async #cancel(): Promise<boolean> {
    const abort = new AbortController();
    let left = 1 + randomInt(this.#random, this.#steps);
    const onProgress = () => {
      if (--left <= 0) abort.abort();
    };
    const keepPartial = this.scenario !== 'aborted';
    try {
      await this.#run({ signal: abort.signal, onProgress, keepPartial });
      return false;
    } catch (error) {
      if (isDivanError(error, 'ABORTED')) return true;
      throw error;
    }
  }

  /** Notes the phases of what is done meanwhile. */
  async #phased<T>(run: () => Promise<T>, as?: RewritePhase): Promise<T> {
    const { ops } = this.disk;
    const from = ops.length;
    const result = await run();
    const own: LogEntry[] = ops.slice(from);
    for (const phase of phasesOf(own)) {
      const isDiscarding = this.scenario === 'aborted' && isRemoval(own, this.phases.length - from);
      this.phases.push(
        new Set([phase, ...(as === undefined ? [] : [as]), ...(isDiscarding ? DISCARDING : [])]),
      );
    }
    return result;
  }
}

const DISCARDING = ['discarding'] as const;

/** Whether an operation of an aborted run comes after its first removal of a target. */
function isRemoval(ops: readonly LogEntry[], index: number): boolean {
  const first = ops.findIndex(({ kind, path }) => kind === 'remove' && path.endsWith('.new'));
  return first >= 0 && index >= first;
}

/** Lets each sync, write and read take its own time, so that what is not awaited comes in any order. */
export function setTurns(disk: SimulatedDisk, random: () => number): void {
  disk.hook = () => {
    disk.syncTurns = randomInt(random, 4);
    disk.writeTurns = randomInt(random, 2);
    disk.readTurns = randomInt(random, 3);
  };
}

function newDisk(of: RewriteCase): SimulatedDisk {
  const disk = new SimulatedDisk();
  for (const [path, bytes] of of.sources) disk.place(path, bytes);
  return disk;
}

/** The host of the same seed gives the same plan. */
async function runPattern(
  of: RewriteCase,
  seed: number,
): Promise<RewriteWorkload['pattern'] & { readonly steps: number }> {
  const disk = newDisk(of);
  let steps = 0;
  const onProgress = () => {
    steps++;
  };
  const host = new HastyHost(seed);
  const outcome = await of.run({ storage: disk, host }, { onProgress });
  return { outcome, disk, steps };
}
