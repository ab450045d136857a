/**
 * The power-loss test of jobs that split and merge shards: crashes lives of a database whose shard is split and merged again under writes,
 * before every operation in several ways, and starts a server on each state that the disk might be in. The job must go on by itself and
 * finish; each acknowledged write must be there once; and no file may be left that the map does not name.
 */
import { isDivanError } from '../../engine/errors.js';
import { damages, Found } from './job-findings.js';
import { JobLife, NAME, SCENARIOS, type Scenario } from './job-life.js';
import { JobNode } from './job-node.js';
import { DATA_DIR } from './kept-parts.js';
import { seededRandom } from './seed.js';
import {
  type CrashClass,
  CrashError,
  type CrashState,
  type SimulatedDisk,
} from './simulated-disk.js';

export interface JobPowerLossOptions {
  readonly seed: number;
  /** Which scenarios, in turn, from the first to before the last. */
  readonly lives: { readonly from: number; readonly to: number };
  /** Random states for each operation, besides the best and the worst. */
  readonly statesPerOp: number;
  /** Every how many states the start and what it goes on with are crashed too, and how often then. */
  readonly startEvery: number;
  readonly startCrashes: number;
  /** Every how many operations are looked at. */
  readonly stride: number;
  /** Undefined for all. */
  readonly scenarios?: readonly Scenario[] | undefined;
  /** What is done after a start; undefined for any. */
  readonly course?: Course | undefined;
}

export interface JobPowerLossResult {
  readonly violations: readonly string[];
  readonly distinctStates: number;
  readonly operations: number;
  readonly classes: ReadonlySet<CrashClass | 'start-crash'>;
  /** What was going on when it crashed: `split topoff1`. */
  readonly phases: ReadonlySet<string>;
  readonly scenarios: ReadonlySet<Scenario>;
}

/** Why a job has failed whose removal came no further. */
const BEING_REMOVED = 'it was being removed';

/** What is done with the jobs, or the database, after the start. */
export type Course = 'gone on with' | 'removed' | 'deleted';

interface Findings {
  readonly fingerprints: Set<string>;
  readonly classes: Set<CrashClass | 'start-crash'>;
  readonly phases: Set<string>;
  readonly scenarios: Set<Scenario>;
  readonly violations: string[];
  operations: number;
}

/** Stops at the first life with a violation. */
export async function runJobPowerLoss(options: JobPowerLossOptions): Promise<JobPowerLossResult> {
  // What a killed process still does fails, and nobody waits for it.
  const ignore = (error: unknown) => {
    if (!(error instanceof CrashError)) throw error;
  };
  process.on('unhandledRejection', ignore);
  const findings: Findings = {
    fingerprints: new Set(),
    classes: new Set(),
    phases: new Set(),
    scenarios: new Set(),
    violations: [],
    operations: 0,
  };
  const { from, to } = options.lives;
  for (let life = from; life < to && findings.violations.length === 0; life++) {
    await judgeLife(life, options, findings);
  }
  process.off('unhandledRejection', ignore);
  const { fingerprints, ...rest } = findings;
  return { ...rest, distinctStates: fingerprints.size };
}

async function judgeLife(
  life: number,
  options: JobPowerLossOptions,
  findings: Findings,
): Promise<void> {
  const seed = options.seed + life * 7919;
  const scenarios = options.scenarios ?? SCENARIOS;
  const scenario = scenarios[life % scenarios.length] ?? 'undisturbed';
  const lived = new JobLife(scenario, seed);
  try {
    await lived.perform();
  } catch (error) {
    const text = error instanceof Error ? error.stack : String(error);
    findings.violations.push(`seed ${seed}, ${scenario}, while it lived: ${text}`);
    return;
  }
  findings.scenarios.add(scenario);
  findings.operations += lived.disk.ops.length - lived.begun;
  await new Judge(lived, seed, options, findings).judgeAll();
}

class Judge {
  readonly #life: JobLife;
  readonly #seed: number;
  readonly #options: JobPowerLossOptions;
  readonly #findings: Findings;
  readonly #random: () => number;
  readonly #judged = new Set<string>();
  #states = 0;

  constructor(life: JobLife, seed: number, options: JobPowerLossOptions, findings: Findings) {
    this.#life = life;
    this.#seed = seed;
    this.#options = options;
    this.#findings = findings;
    this.#random = seededRandom(seed + 1);
  }

  async judgeAll(): Promise<void> {
    const { disk, begun, phases } = this.#life;
    for (let at = begun; at <= disk.ops.length; at += this.#options.stride) {
      this.#findings.phases.add(phases[at] ?? 'none');
      const point = disk.crashPoint(at);
      const states = [point.worst(), point.best()];
      for (let count = 0; count < this.#options.statesPerOp; count++) {
        states.push(point.random(this.#random));
      }
      for (const [index, state] of states.entries()) {
        await this.#judgeState(state, at, this.#describe(at, `state ${index}`));
        if (this.#findings.violations.length > 0) return;
      }
    }
  }

  #describe(at: number, what: string): string {
    const { phases, scenario } = this.#life;
    return `seed ${this.#seed}, ${scenario}, operation ${at} (${phases[at]}), ${what}`;
  }

  async #judgeState(state: CrashState, at: number, what: string): Promise<void> {
    for (const name of state.classes) this.#findings.classes.add(name);
    this.#findings.fingerprints.add(state.fingerprint);
    // The same state with more acknowledged must keep more promises.
    const key = `${state.fingerprint} ${this.#life.log.acknowledgedBy(at)}`;
    if (this.#judged.has(key)) return;
    this.#judged.add(key);
    const disk = state.open();
    const isCrashedAgain = ++this.#states % this.#options.startEvery === 0;
    await this.#inspect(disk, at, what, isCrashedAgain ? 'gone on with' : this.#course());
    if (!isCrashedAgain) return;
    this.#findings.classes.add('start-crash');
    for (let crash = 0; crash < this.#options.startCrashes; crash++) {
      const cut = Math.floor(this.#random() * (disk.ops.length + 1));
      const second = disk.crash(cut, this.#random);
      this.#findings.fingerprints.add(second.fingerprint);
      await this.#inspect(
        second.open(),
        at,
        `${what}, operation ${cut} after the start`,
        this.#course(),
        true,
      );
    }
  }

  #course(): Course {
    const dice = this.#random();
    if (this.#options.course !== undefined) return this.#options.course;
    if (dice < 0.15) return 'removed';
    return dice < 0.2 ? 'deleted' : 'gone on with';
  }

  async #inspect(
    disk: SimulatedDisk,
    at: number,
    where: string,
    course: Course,
    isAgain = false,
  ): Promise<void> {
    const what = `${where}, ${course}`;
    const problems: string[] = [];
    try {
      const node = await JobNode.start(disk, this.#seed + 0x5000_0000 + this.#states);
      if (course === 'gone on with') problems.push(...(await this.#goOn(node, at, isAgain)));
      else if (course === 'deleted') await deleteDatabase(node);
      else problems.push(...(await removeJobs(node)));
      const found = await new Found(node).read(problems);
      if (course !== 'deleted') problems.push(...this.#compare(found, at, course));
      // What the start began in the background ends before.
      await node.close();
      problems.push(...this.#strays(disk, node), ...(await damages(disk, node)));
    } catch (error) {
      if (!isDivanError(error)) throw error;
      problems.push(`${error.message} (${error.code}) ${error.stack}`);
    }
    for (const problem of problems) this.#findings.violations.push(`${what}: ${problem}`);
  }

  /** Has the jobs get to their end, those that were stopped too; unless it `isAgain`, they were as was acknowledged. */
  async #goOn(node: JobNode, at: number, isAgain: boolean): Promise<string[]> {
    const { jobs, catalog } = node;
    const { log } = this.#life;
    const problems: string[] = [];
    const stopReason = jobs.stopReason ?? '';
    if (!isAgain && !log.allowed('switch', at).includes(stopReason)) {
      problems.push(`all jobs are stopped because of "${stopReason}"`);
    }
    await jobs.start();
    for (const { job, state } of jobs.list()) {
      const isStopped = log.allowed(`stop ${job.id}`, at);
      if (!isAgain && state !== 'stopped' && !isStopped.includes(''))
        problems.push('a stopped job is not');
      if (state === 'stopped') await jobs.resumeJob(job.id);
    }
    if (!(await node.idle())) {
      const [first] = jobs.list();
      problems.push(`a job does not come to its end: ${first?.job.phase} ${first?.job.error}`);
    }
    await catalog.find(NAME)?.settings.settle();
    for (const { job, state } of jobs.list()) {
      const isLost = catalog.find(NAME) === undefined;
      const isRemoved = this.#life.scenario === 'removed' && job.reason === BEING_REMOVED;
      if (state === 'completed' || (state === 'failed' && (isLost || isRemoved))) continue;
      problems.push(`a job is ${state}: ${job.reason}`);
    }
    return problems;
  }

  #compare(found: ReadonlyMap<string, string>, at: number, course: Course): string[] {
    const { log } = this.#life;
    const problems: string[] = [];
    const isThere = found.get('database') !== '';
    for (const key of new Set([...log.keys, ...found.keys()])) {
      if (key === 'switch' || key.startsWith('stop ')) continue;
      if (course === 'removed' && (key === 'split' || key === 'merge')) continue;
      if (!isThere && key !== 'database') continue;
      const content = found.get(key) ?? '';
      const allowed = log.allowed(key, at);
      // There the database keeps one of them.
      if (key.startsWith('purge ') && this.#life.scenario === 'stopped') allowed.push('');
      if (allowed.includes(content)) continue;
      problems.push(`${key} is ${JSON.stringify(content)}, not ${JSON.stringify(allowed)}`);
    }
    return problems;
  }

  #strays(disk: SimulatedDisk, { catalog }: JobNode): string[] {
    const shards = catalog.find(NAME)?.shards ?? [];
    const known = new Set([`${DATA_DIR}/node.divan`, ...shards.map(({ slot }) => slot.path)]);
    return [...disk.names.keys()]
      .filter((name) => !known.has(name))
      .map((name) => `the file ${name} is left`);
  }
}

async function deleteDatabase({ catalog }: JobNode): Promise<void> {
  if (catalog.find(NAME) !== undefined) await catalog.remove(NAME);
}

/** Those that are past the map get to their end first, for which that may not wait. */
async function removeJobs(node: JobNode): Promise<string[]> {
  const { jobs, catalog } = node;
  for (const { job } of jobs.list()) {
    await jobs.remove(job.id);
  }
  await node.idle();
  await catalog.find(NAME)?.settings.settle();
  return jobs.list().map(({ job, state }) => `a job that was removed is ${state} ${job.phase}`);
}
