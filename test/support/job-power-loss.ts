/**
 * The power-loss test of jobs that split and merge shards: crashes lives of a database whose shard is split and merged again under writes,
 * before every operation in several ways, and starts a server on each state that the disk might be in. The job must go on by itself and
 * finish; each acknowledged write must be there once; and no file may be left that the map does not name.
 */
import { createHash } from 'node:crypto';
import { isDivanError } from '../../engine/errors.js';
import { checkShard } from '../../engine/shard/check.js';
import { FULL_RANGE, isInRange } from '../../engine/shard/hash.js';
import { ReadOnlyShard } from '../../engine/shard/read-only-shard.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import type { Database } from '../../server/databases/database.js';
import type { DatabaseShard } from '../../server/databases/shard-set.js';
import { JobLife, NAME, SCENARIOS, type Scenario } from './job-life.js';
import { DATA_DIR, JobNode } from './job-node.js';
import { DELETED } from './job-writer.js';
import { seededRandom } from './seed.js';
import { type CrashClass, CrashError, type CrashState, type SimulatedDisk } from './simulated-disk.js';

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
  const scenario = SCENARIOS[life % SCENARIOS.length] ?? 'undisturbed';
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
    await this.#inspect(disk, at, what);
    if (++this.#states % this.#options.startEvery !== 0) return;
    this.#findings.classes.add('start-crash');
    for (let crash = 0; crash < this.#options.startCrashes; crash++) {
      const cut = Math.floor(this.#random() * (disk.ops.length + 1));
      const second = disk.crash(cut, this.#random);
      this.#findings.fingerprints.add(second.fingerprint);
      await this.#inspect(second.open(), at, `${what}, operation ${cut} after the start`);
    }
  }

  async #inspect(disk: SimulatedDisk, at: number, what: string): Promise<void> {
    const problems: string[] = [];
    try {
      const node = await JobNode.start(disk, this.#seed + 0x5000_0000 + this.#states);
      problems.push(...(await this.#goOn(node, at)));
      const found = await new Found(node).read(problems);
      problems.push(...this.#compare(found, at), ...this.#strays(disk, node));
      await node.close();
      problems.push(...(await damages(disk, node)));
    } catch (error) {
      if (!isDivanError(error)) throw error;
      problems.push(`${error.message} (${error.code}) ${error.stack}`);
    }
    for (const problem of problems) this.#findings.violations.push(`${what}: ${problem}`);
  }

  /** Has the jobs get to their end, those that were stopped too. */
  async #goOn(node: JobNode, at: number): Promise<string[]> {
    const { jobs, catalog } = node;
    const { log } = this.#life;
    const problems: string[] = [];
    const stopReason = jobs.stopReason ?? '';
    if (!log.allowed('switch', at).includes(stopReason)) {
      problems.push(`all jobs are stopped because of "${stopReason}"`);
    }
    await jobs.start();
    for (const { job, state } of jobs.list()) {
      const isStopped = log.allowed(`stop ${job.id}`, at);
      if (state !== 'stopped' && !isStopped.includes('')) problems.push('a stopped job is not');
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

  #compare(found: ReadonlyMap<string, string>, at: number): string[] {
    const { log } = this.#life;
    const problems: string[] = [];
    const isThere = found.get('database') !== '';
    for (const key of new Set([...log.keys, ...found.keys()])) {
      if (key === 'switch' || key.startsWith('stop ')) continue;
      if (!isThere && key !== 'database') continue;
      const content = found.get(key) ?? '';
      const allowed = log.allowed(key, at);
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

/** Everything that can be found, by the names of its versions. */
class Found {
  readonly #node: JobNode;
  readonly #found = new Map<string, string>();

  constructor(node: JobNode) {
    this.#node = node;
  }

  async read(problems: string[]): Promise<Map<string, string>> {
    const { catalog, jobs } = this.#node;
    const database = catalog.find(NAME);
    this.#found.set('database', database === undefined ? '' : NAME);
    for (const { job } of jobs.list()) this.#add(job.type, 'there', problems);
    if (database !== undefined) await this.#readShards(database, problems);
    return this.#found;
  }

  #add(key: string, content: string, problems: string[]): void {
    const known = this.#found.get(key);
    if (known !== undefined) problems.push(`${key} is there twice: ${known} and ${content}`);
    this.#found.set(key, content);
  }

  async #readShards({ shards }: Database, problems: string[]): Promise<void> {
    let next = 0;
    for (const shard of shards) {
      const { start, end } = shard.range;
      if (start !== next) problems.push(`a range begins with ${start}, not with ${next}`);
      next = end + 1;
      await shard.slot.read((reader) => this.#readShard(shard, reader.snapshot(), problems));
    }
    if (next !== FULL_RANGE.end + 1) problems.push(`the ranges end before ${next}`);
  }

  async #readShard(
    { range }: DatabaseShard,
    snapshot: Snapshot,
    problems: string[],
  ): Promise<void> {
    const { security, revsLimit } = snapshot.metadata;
    const settings = security.length === 0 ? '' : `${Buffer.from(security)} ${revsLimit}`;
    const others = this.#found.get('settings') ?? settings;
    if (others !== settings) problems.push(`shards say ${others} and ${settings}`);
    this.#found.set('settings', settings);
    const listed = new Map<string, string>();
    for await (const { id, leaves } of snapshot.documents({})) {
      const [leaf] = leaves;
      if (leaf === undefined || leaves.length > 1) problems.push(`${id} has not one leaf`);
      listed.set(Buffer.from(id).toString(), await contentOfLeaf(snapshot, leaf));
    }
    for await (const { id, hash } of snapshot.changes()) {
      const key = Buffer.from(id).toString();
      if (!isInRange(hash, range)) problems.push(`${key} is in a shard of others`);
      this.#add(`document ${key}`, listed.get(key) ?? 'not in by-id', problems);
      listed.delete(key);
    }
    for (const key of listed.keys()) problems.push(`${key} is not among the changes`);
    for await (const { id, body } of snapshot.localDocs({})) {
      this.#add(`local ${Buffer.from(id)}`, Buffer.from(body).toString(), problems);
    }
    for await (const { uuid, id, revs } of snapshot.purges()) {
      this.#add(Buffer.from(uuid).toString(), `${id} ${revs.join()}`, problems);
    }
  }
}

/** As the writer notes it. */
async function contentOfLeaf(snapshot: Snapshot, leaf: Leaf | undefined): Promise<string> {
  if (leaf === undefined) return '';
  if (leaf.deleted) return DELETED;
  let text = Buffer.from(await snapshot.body(leaf)).toString();
  for (const attachment of leaf.attachments) {
    const md5 = createHash('md5');
    for await (const piece of snapshot.attachment(attachment)) md5.update(piece);
    text += ` ${md5.digest('hex')}`;
  }
  return text;
}

/** What the thorough check says of the files of a node that is closed. */
async function damages(disk: SimulatedDisk, { catalog }: JobNode): Promise<string[]> {
  const damages: string[] = [];
  for (const { slot } of catalog.find(NAME)?.shards ?? []) {
    await using shard = await ReadOnlyShard.open({ storage: disk }, slot.path);
    const { problems } = await checkShard(shard);
    damages.push(...problems.map(({ text }) => `${slot.path}: ${text}`));
  }
  return damages;
}
