/**
 * The crash test of what a node does when a cut heals: it takes a database out of service, makes its part of the one that is in force, has
 * documents flow into that, removes files, and later deletes and makes anew. The disk of the node is a `SimulatedDisk`, which is crashed before
 * operations of that; the node starts again on what is left, and must come to the same end.
 */
import { isDivanError } from '../../engine/errors.js';
import { eventually } from './directory-node.js';
import { Nodes } from './directory-nodes.js';
import { randomInt, seededRandom } from './seed.js';
import { CrashError, SimulatedDisk } from './simulated-disk.js';

const DOCUMENTS = 12;

/** The process alone, with all that it wrote there; or the power, with the least that may be there, or with something between. */
type CrashKind = 'killed' | 'worst' | 'random';

export interface DirectoryCrashOptions {
  readonly seed: number;
  /** How many crashes. */
  readonly crashes: number;
}

export interface DirectoryCrashResult {
  readonly violations: readonly string[];
  /** Operations of the disk that can be crashed before. */
  readonly operations: number;
  readonly kinds: readonly string[];
}

/** Stops at the first violation. */
export async function runDirectoryCrashes(
  options: DirectoryCrashOptions,
): Promise<DirectoryCrashResult> {
  const ignore = (error: unknown) => {
    if (!(error instanceof CrashError)) throw error;
  };
  process.on('unhandledRejection', ignore);
  const { seed, crashes } = options;
  const random = seededRandom(seed);
  const whole = new CrashLife();
  const violations = await whole.run(Number.POSITIVE_INFINITY, 'killed');
  const operations = whole.disk.ops.length - whole.from;
  const kinds = new Set<string>();
  for (let count = 0; count < crashes && violations.length === 0; count++) {
    const at = whole.from + 1 + randomInt(random, operations);
    const kind: CrashKind = random() < 0.4 ? 'killed' : random() < 0.5 ? 'worst' : 'random';
    const life = new CrashLife();
    kinds.add(kind);
    for (const text of await life.run(at, kind, random)) {
      violations.push(`seed ${seed}, operation ${at} (${kind}): ${text}`);
    }
  }
  process.off('unhandledRejection', ignore);
  return { violations, operations, kinds: [...kinds] };
}

class CrashLife {
  disk = new SimulatedDisk();
  /** The first operation that is crashed. */
  from = 0;
  readonly #nodes = new Nodes(2);
  readonly #violations: string[] = [];
  #isRemade = false;

  constructor() {
    this.#nodes.storages[0] = this.disk;
  }

  async run(at: number, kind: CrashKind, random: () => number = Math.random): Promise<string[]> {
    const nodes = this.#nodes;
    await nodes.start(0);
    await nodes.start(1);
    await this.#makeBoth();
    this.from = this.disk.ops.length;
    this.disk.haltAfter = at;
    let isDone = false;
    for (let starts = 0; !isDone && starts < 3; starts++) {
      try {
        isDone = await this.#goOn();
      } catch (error) {
        if (!(error instanceof CrashError) && !isDivanError(error)) throw error;
      }
      if (!isDone || this.disk.haltAfter <= this.disk.ops.length) {
        isDone = false;
        await this.#restart(kind, random);
      }
    }
    this.disk.haltAfter = Number.POSITIVE_INFINITY;
    if (!isDone) this.#violations.push('it does not come to its end');
    this.#findStrays();
    await nodes.close();
    return this.#violations;
  }

  /** Each side of a cut makes the name, and writes; that of the first node is not to be in force. */
  async #makeBoth(): Promise<void> {
    const nodes = this.#nodes;
    nodes.cut(1);
    nodes.at(1).host.skewMs = 1e9;
    nodes.place(0, [0]);
    await nodes.at(0).create('db', { q: 2 });
    await nodes.at(1).create('db', { q: 4 });
    nodes.place(0, undefined);
    for (let n = 0; n < DOCUMENTS; n++) await nodes.put('db', `first-${n}`, `{"n":${n}}`, 0);
    const { directory } = nodes.at(1);
    await eventually(() => directory.find('db') !== undefined);
  }

  /** Heals the cut, looks at what there is, deletes it and makes it anew; as far as that was not done before. */
  async #goOn(): Promise<boolean> {
    const nodes = this.#nodes;
    if (!(await this.#settled())) return false;
    for (let n = 0; n < DOCUMENTS; n++) {
      if (nodes.at(1).directory.find('db') === undefined || this.#isRemade) break;
      const body = await nodes.get('db', `first-${n}`);
      if (body !== `{"n":${n}}`) this.#violations.push(`first-${n} is ${body}`);
    }
    if (!this.#isRemade) {
      if (nodes.at(1).directory.find('db') !== undefined) await nodes.at(1).directory.remove('db');
      this.#isRemade = true;
      await nodes.at(1).create('db', { q: 4 });
      for (let n = 0; n < DOCUMENTS; n++) {
        const owner = nodes.all.findIndex((_, index) => this.#has(index, `again-${n}`));
        if (owner === 1) await nodes.put('db', `again-${n}`, '{}', 1);
      }
    }
    if (!(await this.#settled())) return false;
    for (let n = 0; n < DOCUMENTS; n++) {
      if ((await nodes.get('db', `first-${n}`)) !== undefined) {
        this.#violations.push(`first-${n} is there again`);
      }
    }
    return true;
  }

  #has(index: number, id: string): boolean {
    const database = this.#nodes.at(index).catalog.find('db');
    return (database?.current.find(Buffer.from(id)) ?? -1) >= 0;
  }

  /** Both have all that their records say, or the disk was crashed. */
  async #settled(): Promise<boolean> {
    const nodes = this.#nodes;
    nodes.cluster.isCut = () => false;
    await nodes.cluster.exchange();
    const isHalted = () => this.disk.haltAfter <= this.disk.ops.length;
    await eventually(() => isHalted() || nodes.isSettled);
    return !isHalted() && nodes.isSettled;
  }

  async #restart(kind: CrashKind, random: () => number): Promise<void> {
    const nodes = this.#nodes;
    nodes.at(0).kill();
    // What the process that was killed still tries is done to a disk that nobody looks at any more.
    this.disk.haltAfter = 0;
    const point = this.disk.crashPoint(this.disk.ops.length);
    const states = { killed: () => point.best(), worst: () => point.worst() };
    const state = kind === 'random' ? point.random(random) : states[kind]();
    this.disk = state.open();
    nodes.storages[0] = this.disk;
    await nodes.start(0);
  }

  #findStrays(): void {
    const nodes = this.#nodes;
    const shards = nodes.at(0).catalog.find('db')?.map.shards ?? [];
    const known = new Set(shards.map(({ file }) => `/data/${file}`));
    for (const name of this.disk.names.keys()) {
      if (!known.has(name) && name.startsWith('/data/shards/')) {
        this.#violations.push(`the stray file ${name}`);
      }
    }
  }
}
