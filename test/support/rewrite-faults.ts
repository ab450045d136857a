/**
 * The fault sweep of rewrites: lets call 0, 1, 2, ... of each kind fail, once or for ever, until a run passes without meeting the
 * failure; and looks after each at what is there, and at what the same command makes of it once the disk is well again.
 */
import { type ErrorCode, isDivanError } from '../../engine/errors.js';
import { MemoryStorage } from '../../engine/file/memory-storage.js';
import type { RewriteKind } from '../../engine/rewrite/plan.js';
import { checkShard } from '../../engine/shard/check.js';
import { ReadOnlyShard } from '../../engine/shard/read-only-shard.js';
import { CALL_KINDS, type CallKind, FailingStorage, type FailurePlan } from './failing-storage.js';
import { HastyHost } from './hasty-host.js';
import { makeParents, newCase, type RewriteCase } from './rewrite-cases.js';
import { contentOf } from './worn-shard.js';

export interface FaultOptions {
  readonly kind: RewriteKind;
  readonly seed: number;
  readonly codes: readonly ErrorCode[];
  readonly times: NonNullable<FailurePlan['times']>;
}

export interface FaultResult {
  readonly problems: readonly string[];
  /** How many calls of each kind were let fail, one in each run. */
  readonly failures: Readonly<Partial<Record<CallKind, number>>>;
}

const CALLS_MAX = 10_000;
const PROBLEMS_MAX = 10;
const DOCUMENTS = 6;

export async function sweepRewriteFaults(options: FaultOptions): Promise<FaultResult> {
  const { kind, seed, codes, times } = options;
  const size = { documents: DOCUMENTS, nodeBytes: 300, unflushed: true };
  const sweep = new Sweep(await newCase(kind, seed, size), seed);
  await sweep.learn();
  const failures: Partial<Record<CallKind, number>> = {};
  for (const call of CALL_KINDS) {
    for (const code of codes) {
      const met = await sweep.sweep({ kind: call, code, times });
      failures[call] = (failures[call] ?? 0) + met;
    }
  }
  return { problems: sweep.problems, failures };
}

/** What looks like damage and not like a broken disk is read once more by those who open a file for reading only. */
function isTriedAgain({ kind, code, times }: Omit<FailurePlan, 'call'>): boolean {
  return code !== 'IO' && times === 'once' && (kind === 'read' || kind === 'size');
}

class Sweep {
  readonly problems: string[] = [];
  readonly #case: RewriteCase;
  readonly #seed: number;
  #content = '';
  readonly #targetContents: string[] = [];

  constructor(of: RewriteCase, seed: number) {
    this.#case = of;
    this.#seed = seed;
  }

  /** What sources and targets hold when nothing fails. */
  async learn(): Promise<void> {
    const storage = await this.#newStorage();
    this.#content = await this.#read(storage, [...this.#case.sources.keys()]);
    await this.#run(storage);
    for (const path of this.#case.targetPaths) {
      this.#targetContents.push(await this.#read(storage, [path]));
    }
  }

  /** Returns how many runs met the failure. */
  async sweep(plan: Omit<FailurePlan, 'call'>): Promise<number> {
    for (let call = 0; call < CALLS_MAX; call++) {
      const memory = await this.#newStorage();
      const failing = new FailingStorage(memory, {
        shortRead: (length) => length - 1,
        shortWrite: (length) => length - 1,
      });
      failing.plan({ ...plan, call });
      const outcome = await this.#run(failing);
      if (failing.fired === 0) return call;
      try {
        await this.#judge(memory, outcome, isTriedAgain(plan));
      } catch (error) {
        const text = error instanceof Error ? error.stack : String(error);
        this.problems.push(`${plan.kind} ${call} fails ${plan.times} with ${plan.code}: ${text}`);
        if (this.problems.length >= PROBLEMS_MAX) return call;
      }
    }
    throw new Error(`after ${CALLS_MAX} runs the failure is still met`);
  }

  async #newStorage(): Promise<MemoryStorage> {
    const storage = new MemoryStorage();
    for (const [path, bytes] of this.#case.sources) {
      await makeParents(storage, path);
      const file = await storage.open(path, 'create');
      await file.write(bytes, 0);
      await file.close();
    }
    return storage;
  }

  /** What a run was rejected with; undefined if it was not. */
  async #run(storage: MemoryStorage | FailingStorage): Promise<unknown> {
    const world = { storage, host: new HastyHost(this.#seed) };
    return this.#case.run(world, {}).then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  async #judge(storage: MemoryStorage, outcome: unknown, mayEnd: boolean): Promise<void> {
    const hasEnded = outcome === undefined && mayEnd;
    if (!hasEnded && !isDivanError(outcome)) throw new Error(`it ended with ${String(outcome)}`);
    await this.#inspect(storage);
    const again = await this.#run(storage);
    if (again !== undefined && !(await this.#hadEnded(storage, again))) throw again;
    await this.#inspect(storage);
    for (const path of this.#case.targetPaths) {
      if ((await storage.identity(path)) === undefined) throw new Error(`${path} is not there`);
    }
    await this.#expectTidy(storage);
  }

  /** Whether it is refused since all targets have their names. */
  async #hadEnded(storage: MemoryStorage, error: unknown): Promise<boolean> {
    if (!isDivanError(error, 'EXISTS') || this.#case.kind === 'compact') return false;
    for (const path of this.#case.targetPaths) {
      if ((await storage.identity(path)) === undefined) return false;
    }
    return true;
  }

  /** The sources hold what they held, and a target with its name holds all of its range. */
  async #inspect(storage: MemoryStorage): Promise<void> {
    const content = await this.#read(storage, [...this.#case.sources.keys()]);
    if (content !== this.#content) throw new Error('the sources have another content');
    for (const [index, path] of this.#case.targetPaths.entries()) {
      if ((await storage.identity(path)) === undefined) continue;
      const found = await this.#read(storage, [path]);
      if (found !== this.#targetContents[index]) throw new Error(`${path} has another content`);
    }
  }

  async #read(storage: MemoryStorage, paths: readonly string[]): Promise<string> {
    const shards: ReadOnlyShard[] = [];
    for (const path of paths) {
      const shard = await ReadOnlyShard.open({ storage }, path);
      const { problems } = await checkShard(shard);
      if (problems.length > 0) throw new Error(`check of ${path} says ${problems[0]?.text}`);
      shards.push(shard);
    }
    const content = JSON.stringify(await contentOf(shards.map(({ snapshot }) => snapshot)));
    for (const shard of shards) await shard.close();
    return content;
  }

  /** Only sources and targets are there. */
  async #expectTidy(storage: MemoryStorage): Promise<void> {
    const { sources, targetPaths, checkpointPath } = this.#case;
    for (const path of [...sources.keys(), ...targetPaths, checkpointPath]) {
      const directory = path.slice(0, path.lastIndexOf('/'));
      for (const name of await storage.list(directory)) {
        if (name.startsWith('.')) throw new Error(`${directory}/${name} is left`);
      }
    }
  }
}
