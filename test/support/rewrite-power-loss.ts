/**
 * The power-loss test of rewrites: crashes a split, merge or compaction before every operation in several ways, and holds each
 * state that a disk might be in afterwards to what was promised: sources whole, targets with their names complete, and the
 * command, given again, comes to the same end and leaves nothing behind. Some of these second runs are crashed themselves.
 */
import { isDivanError } from '../../engine/errors.js';
import { DATA_START, decodeFirstBlock } from '../../engine/file/first-block.js';
import type { Host } from '../../engine/file/host.js';
import type { RewriteKind, RewritePlan } from '../../engine/rewrite/plan.js';
import type { RewriteOutcome } from '../../engine/rewrite/prepare.js';
import { checkShard } from '../../engine/shard/check.js';
import { ReadOnlyShard } from '../../engine/shard/read-only-shard.js';
import { HastyHost } from './hasty-host.js';
import type { RewritePhase } from './rewrite-phases.js';
import { DONE, GONE, RewriteWorkload, setTurns } from './rewrite-workload.js';
import { randomInt, seededRandom } from './seed.js';
import type { CrashClass, CrashState, SimulatedDisk } from './simulated-disk.js';
import { VirtualHost } from './virtual-host.js';
import { contentOf } from './worn-shard.js';

export interface RewritePowerLossOptions {
  readonly seed: number;
  /** Which kinds and scenarios, from the first to before the last. */
  readonly rounds: { readonly from: number; readonly to: number };
  /** States for each operation of the workload. */
  readonly statesPerOp: number;
  /** Every how many states the second run is crashed itself, and how often then. */
  readonly resumptionEvery: number;
  readonly resumptionCrashes: number;
  /** Only crashes while names are given, after which whatever run it was may be discarded. */
  readonly whileNaming?: boolean;
}

export interface RewritePowerLossResult {
  readonly violations: readonly string[];
  readonly distinctStates: number;
  readonly classes: ReadonlySet<CrashClass>;
  /** What was going on when it crashed: `split writing`. */
  readonly phases: ReadonlySet<`${RewriteKind} ${RewritePhase}`>;
  /** Runs that were refused because of a target that a discarding, itself cut short, had left. */
  readonly refusedRuns: number;
}

interface Findings {
  readonly fingerprints: Set<string>;
  readonly classes: Set<CrashClass>;
  readonly phases: Set<`${RewriteKind} ${RewritePhase}`>;
  readonly violations: string[];
  refusedRuns: number;
}

/** Runs workloads with seeds that follow from the given one. Stops at the first with a violation. */
export async function runRewritePowerLoss(
  options: RewritePowerLossOptions,
): Promise<RewritePowerLossResult> {
  const findings: Findings = {
    fingerprints: new Set(),
    classes: new Set(),
    phases: new Set(),
    violations: [],
    refusedRuns: 0,
  };
  const { from, to } = options.rounds;
  for (let round = from; round < to && findings.violations.length === 0; round++) {
    const seed = options.seed + round * 7919;
    const workload = await RewriteWorkload.run(round, seed);
    await new Judge(workload, seed, options, findings).judgeAll();
  }
  return { ...findings, distinctStates: findings.fingerprints.size };
}

class Violation extends Error {}

class Judge {
  readonly #workload: RewriteWorkload;
  readonly #seed: number;
  readonly #random: () => number;
  readonly #options: RewritePowerLossOptions;
  readonly #findings: Findings;
  /** What a file holds, by the hash of its bytes: the same bytes are read and checked once. */
  readonly #contents = new Map<string, string>();
  /** The hashes of the files of uninterrupted runs, by the file id of their first target. */
  readonly #patterns = new Map<string, readonly (string | undefined)[]>();
  readonly #targetContents: string[] = [];
  readonly #sourceContents = new Map<string, string>();
  readonly #judged = new Set<string>();
  #states = 0;
  #runs = 0;

  constructor(
    workload: RewriteWorkload,
    seed: number,
    options: RewritePowerLossOptions,
    findings: Findings,
  ) {
    this.#workload = workload;
    this.#seed = seed;
    this.#random = seededRandom(seed ^ 0x5eed);
    this.#options = options;
    this.#findings = findings;
  }

  /** For another host, so that its plans are others. */
  get #nextSeed(): number {
    return this.#seed + 2 + this.#runs++;
  }

  async judgeAll(): Promise<void> {
    const { disk } = this.#workload;
    await this.#learn();
    for (let at = 0; at <= disk.ops.length; at++) {
      const isNaming = this.#workload.phases[at]?.has('naming') === true;
      if (this.#options.whileNaming === true && !isNaming) continue;
      for (let variant = 0; variant < this.#options.statesPerOp; variant++) {
        const state = disk.crash(at, this.#random);
        this.#note(state, at);
        // The same state with more acknowledged must keep more promises.
        const key = `${state.fingerprint} ${state.acked}`;
        if (this.#judged.has(key)) continue;
        this.#judged.add(key);
        await this.#judge(state, at);
        if (this.#findings.violations.length > 0) return;
      }
    }
  }

  /** What the files must be like. */
  async #learn(): Promise<void> {
    const { pattern, disk } = this.#workload;
    const { kind, sources, targetPaths } = this.#workload.case;
    const first = disk.crash(0, this.#random).disk;
    for (const path of sources.keys()) {
      this.#sourceContents.set(path, await this.#contentAt(first, path));
    }
    for (const path of targetPaths) {
      this.#targetContents.push(await this.#contentAt(pattern.disk, path));
    }
    this.#remember(pattern.outcome.plan, pattern.disk);
    if (kind !== 'compact') return;
    for (const path of sources.keys()) {
      this.#expect(this.#sourceContents.get(path) === this.#targetContents[0], 'compacting keeps');
    }
  }

  #remember(plan: RewritePlan, disk: SimulatedDisk): void {
    const hashes = this.#workload.case.targetPaths.map((path) => disk.hashOf(path));
    this.#patterns.set(keyOf(plan), hashes);
  }

  #note(state: CrashState, at: number): void {
    for (const name of state.classes) this.#findings.classes.add(name);
    const { kind } = this.#workload.case;
    for (const phase of this.#workload.phases[at] ?? []) {
      this.#findings.phases.add(`${kind} ${phase}`);
    }
  }

  async #judge(state: CrashState, at: number): Promise<void> {
    const { case: of, scenario } = this.#workload;
    const first = `seed ${this.#seed}, ${of.kind} ${scenario}, crash before operation ${at}`;
    let what = first;
    try {
      this.#findings.fingerprints.add(state.fingerprint);
      if (state.acked.includes(GONE)) this.#expectGone(state.disk);
      await this.#judgeState(state, state.disk, new VirtualHost(this.#nextSeed));
      if (++this.#states % this.#options.resumptionEvery !== 0) return;
      this.#findings.phases.add(`${of.kind} resuming`);
      const disk = state.open();
      setTurns(disk, this.#random);
      // Its clock has a checkpoint due at every step.
      const wasDiscarded = await this.#judgeState(state, disk, new HastyHost(this.#nextSeed));
      const { ops } = disk;
      for (let crash = 0; crash < this.#options.resumptionCrashes; crash++) {
        const cut = randomInt(this.#random, ops.length + 1);
        const second = disk.crash(cut, this.#random);
        what = `${first}, and before operation ${cut} of the next run`;
        this.#findings.fingerprints.add(second.fingerprint);
        await this.#judgeState(state, second.disk, new VirtualHost(this.#nextSeed), wasDiscarded);
      }
    } catch (error) {
      const text = error instanceof Error ? error.stack : String(error);
      this.#findings.violations.push(`${what}: ${text}`);
    }
  }

  /**
   * Everything that must hold of a state, and of what the next command makes of it. `wasDiscarded` if a discarding may have been cut
   * short in it. Returns whether the next command was one.
   */
  async #judgeState(
    { acked }: CrashState,
    disk: SimulatedDisk,
    host: Host,
    wasDiscarded = false,
  ): Promise<boolean> {
    const isDone = acked.includes(DONE);
    await this.#inspect(disk, isDone);
    const { scenario } = this.#workload;
    const isGivenUp = scenario === 'discarded' || scenario === 'aborted';
    const mayDiscard = isGivenUp || this.#options.whileNaming === true;
    const discards = mayDiscard && this.#random() < 0.5;
    if (discards) {
      await this.#workload.case.discard(disk);
      this.#expectTidy(disk);
      await this.#inspect(disk, isDone);
      // A target that got its name before the discarding stays, and is in the way of another run.
      if (this.#hasTarget(disk) || this.#random() < 0.8) return true;
    }
    const isFinished = await this.#finish(disk, host, wasDiscarded);
    this.#expectTidy(disk);
    await this.#inspect(disk, isFinished);
    return discards;
  }

  /** The sources are whole; and so is every target that has its name. */
  async #inspect(disk: SimulatedDisk, isDone: boolean): Promise<void> {
    const { kind, sources, targetPaths } = this.#workload.case;
    for (const path of sources.keys()) {
      const content = await this.#contentAt(disk, path);
      this.#expect(content === this.#sourceContents.get(path), `${path} has another content`);
    }
    if (kind === 'compact') {
      if (isDone) this.#expect(!this.#isOld(disk), 'the file is still the one before');
      return;
    }
    for (const [index, path] of targetPaths.entries()) {
      const isThere = disk.hashOf(path) !== undefined;
      if (isDone) this.#expect(isThere, `${path} is not there`);
      if (!isThere) continue;
      const content = await this.#contentAt(disk, path);
      this.#expect(content === this.#targetContents[index], `${path} has another content`);
    }
  }

  /**
   * Runs the command again, and returns whether all of it is done. If it had come to its end before, it may say so; and also of a
   * target that is in its way, if it had been given up.
   */
  async #finish(disk: SimulatedDisk, host: Host, wasDiscarded: boolean): Promise<boolean> {
    const { case: of, plan } = this.#workload;
    // A file that was compacted already is another source than that of the plan.
    const isOther = of.kind === 'compact' && !this.#isOld(disk);
    const options = { plan: isOther ? undefined : plan, verify: this.#random() < 0.5 };
    const named = of.targetPaths.filter((path) => disk.hashOf(path) !== undefined);
    try {
      this.#compare(await of.run({ storage: disk, host }, options), disk);
      return true;
    } catch (error) {
      if (of.kind === 'compact' || !isDivanError(error, 'EXISTS')) throw error;
      if (named.length === of.targetPaths.length) return true;
      if (!wasDiscarded || named.length === 0) throw error;
      for (const path of named) this.#expect(disk.hashOf(path) !== undefined, `${path} is gone`);
      this.#findings.refusedRuns++;
      return false;
    }
  }

  /** Runs of one plan make the same files. */
  #compare({ plan, resumed }: RewriteOutcome, disk: SimulatedDisk): void {
    const expected = this.#patterns.get(keyOf(plan));
    if (expected === undefined) {
      if (!resumed) this.#remember(plan, disk);
      return;
    }
    for (const [index, path] of this.#workload.case.targetPaths.entries()) {
      this.#expect(disk.hashOf(path) === expected[index], `${path} has other bytes`);
    }
  }

  /** Nothing is left of a run that was given up. */
  #expectGone(disk: SimulatedDisk): void {
    this.#expectTidy(disk);
    this.#expect(!this.#hasTarget(disk), 'there is a target of a run that was given up');
  }

  /** Nothing is there but the sources and the targets. */
  #expectTidy(disk: SimulatedDisk): void {
    const { sources, targetPaths } = this.#workload.case;
    for (const path of disk.names.keys()) {
      this.#expect(sources.has(path) || targetPaths.includes(path), `${path} is left`);
    }
  }

  #hasTarget(disk: SimulatedDisk): boolean {
    const { kind, targetPaths } = this.#workload.case;
    if (kind === 'compact') return !this.#isOld(disk);
    return targetPaths.some((path) => disk.hashOf(path) !== undefined);
  }

  /** Whether the path of a compaction holds the file that it began with. */
  #isOld(disk: SimulatedDisk): boolean {
    const [path = ''] = this.#workload.case.targetPaths;
    const [bytes] = this.#workload.case.sources.values();
    const fileId = (of: Buffer | undefined) =>
      of === undefined ? '' : idText(decodeFirstBlock(of.subarray(0, DATA_START), path, false));
    return fileId(disk.content(path)) === fileId(bytes);
  }

  async #contentAt(disk: SimulatedDisk, path: string): Promise<string> {
    const hash = disk.hashOf(path);
    this.#expect(hash !== undefined, `${path} is gone`);
    const known = this.#contents.get(hash ?? '');
    if (known !== undefined) return known;
    await using shard = await ReadOnlyShard.open({ storage: disk }, path);
    const { problems } = await checkShard(shard);
    this.#expect(problems.length === 0, `check of ${path} says ${problems[0]?.text}`);
    const content = JSON.stringify(await contentOf([shard.snapshot]));
    this.#contents.set(hash ?? '', content);
    return content;
  }

  #expect(holds: boolean, text: string): void {
    if (!holds) throw new Violation(text);
  }
}

function idText({ fileId }: { readonly fileId: Uint8Array }): string {
  return Buffer.from(fileId).toString('hex');
}

function keyOf({ targets }: RewritePlan): string {
  return targets.map(idText).join();
}
