/**
 * The power-loss test of what the server itself keeps: runs a life of databases on a `SimulatedDisk` (some are made, written, given
 * settings, removed and made again under the same name), with processes that are killed on the way, crashes it before every operation
 * in several ways, and starts a server on each state that the disk might be in.
 *
 * The oracle: everything has a list of versions in the order in which they were written. What is found must not be older than the newest
 * acknowledged one. Documents and settings belong to one making of a database, which its security object names.
 */
import { isDivanError } from '../../engine/errors.js';
import type { Host } from '../../engine/file/host.js';
import type { Catalog } from '../../server/databases/catalog.js';
import type { Database } from '../../server/databases/database.js';
import type { ShardPool } from '../../server/databases/shard-pool.js';
import type { NodeRecords } from '../../server/node-records.js';
import { DATA_DIR, type KeptParts, makeWhole, openKeptParts } from './kept-parts.js';
import { randomInt, seededRandom } from './seed.js';
import { VirtualServerHost } from './server-world.js';
import { type CrashClass, CrashError, type CrashState, SimulatedDisk } from './simulated-disk.js';

const STEPS = 14;
const NAMES = ['a', 'b/c'];
/** How often a process is killed in a life. */
const KILLS = 2;

export interface ServerPowerLossOptions {
  readonly seed: number;
  readonly lives: number;
  /** Random states for each operation, besides the best and the worst. */
  readonly statesPerOp: number;
  /** Every how many states the start itself is crashed. */
  readonly startEvery: number;
}

export interface ServerPowerLossResult {
  readonly violations: readonly string[];
  readonly distinctStates: number;
  readonly classes: ReadonlySet<CrashClass | 'start-crash' | 'killed'>;
}

interface Version {
  readonly content: string;
  readonly submitted: number;
  acknowledged: number;
}

interface Findings {
  readonly fingerprints: Set<string>;
  readonly classes: Set<CrashClass | 'start-crash' | 'killed'>;
  readonly violations: string[];
}

/** Stops at the first life with a violation. */
export async function runServerPowerLoss(
  options: ServerPowerLossOptions,
): Promise<ServerPowerLossResult> {
  // What a killed process still does fails, and nobody waits for it.
  const ignore = (error: unknown) => {
    if (!(error instanceof CrashError)) throw error;
  };
  process.on('unhandledRejection', ignore);
  const findings: Findings = { fingerprints: new Set(), classes: new Set(), violations: [] };
  for (let life = 0; life < options.lives && findings.violations.length === 0; life++) {
    const seed = options.seed + life * 7919;
    const lived = new Life(seed);
    try {
      await lived.perform();
    } catch (error) {
      if (!isDivanError(error)) throw error;
      findings.violations.push(`seed ${seed}, while it lived: ${error.message} (${error.code})`);
      break;
    }
    if (lived.kills > 0) findings.classes.add('killed');
    await new Judge(lived, seed, options, findings).judgeAll();
  }
  process.off('unhandledRejection', ignore);
  const { violations, fingerprints, classes } = findings;
  return { violations, distinctStates: fingerprints.size, classes };
}

/** The parts of a server that keep something. */
class Node {
  readonly records: NodeRecords;
  readonly pool: ShardPool;
  readonly catalog: Catalog;
  readonly host: Host;

  private constructor({ records, pool, catalog, host }: KeptParts) {
    this.records = records;
    this.pool = pool;
    this.catalog = catalog;
    this.host = host;
  }

  /** Starts as `DivanServer.build` does. */
  static async start(disk: SimulatedDisk, seed: number): Promise<Node> {
    const world = { storage: disk.ofProcess(), host: new VirtualServerHost(seed) };
    return new Node(await openKeptParts(world));
  }

  /** Ends what it began, as a server that goes on running would. */
  async settle(): Promise<void> {
    for (const name of this.catalog.names()) await this.catalog.get(name).settings.settle();
  }

  async close(): Promise<void> {
    await this.pool.close();
    await this.records.close();
  }
}

class Life {
  readonly disk = new SimulatedDisk();
  /** By what they are of: `database a`, `document 7 x`, `settings 7`, `record x`. */
  readonly versions = new Map<string, Version[]>();
  kills = 0;
  readonly #seed: number;
  readonly #random: () => number;
  #making = 0;
  #marker = 0;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = seededRandom(seed);
  }

  async perform(): Promise<void> {
    // What was made and not synced is what the next process takes for durable.
    this.disk.hook = (index, kind, path) => {
      const isName = kind === 'make-directory' || (kind === 'remove' && path.endsWith('.divan'));
      if (isName && this.#random() < 0.3) this.disk.haltAfter = index + 1;
    };
    const killAt = Array.from({ length: KILLS }, () => randomInt(this.#random, STEPS));
    let node = await this.#started();
    for (let step = 0; step < STEPS; step++) {
      if (killAt.includes(step)) this.disk.haltAfter = this.disk.ops.length + this.#soon();
      try {
        await this.#step(node);
        if (this.disk.haltAfter <= this.disk.ops.length) throw new CrashError();
      } catch (error) {
        if (!(error instanceof CrashError)) throw error;
        this.kills++;
        this.disk.restart();
        node = await this.#started();
      }
    }
    this.disk.haltAfter = Number.POSITIVE_INFINITY;
    await node.close();
  }

  #soon(): number {
    return 1 + randomInt(this.#random, 12);
  }

  /** Some starts are killed on the way. */
  async #started(): Promise<Node> {
    for (;;) {
      if (this.#random() < 0.3) this.disk.haltAfter = this.disk.ops.length + this.#soon();
      try {
        const node = await Node.start(this.disk, this.#seed + this.disk.ops.length);
        if (this.disk.haltAfter <= this.disk.ops.length) throw new CrashError();
        this.disk.haltAfter = Number.POSITIVE_INFINITY;
        return node;
      } catch (error) {
        if (!(error instanceof CrashError)) throw error;
        this.disk.restart();
      }
    }
  }

  async #step(node: Node): Promise<void> {
    const { catalog, records } = node;
    const name = NAMES[randomInt(this.#random, NAMES.length)] ?? '';
    const database = catalog.find(name);
    const choice = this.#random();
    if (choice < 0.1) {
      const value = { value: ++this.#marker };
      await this.#write('record config/x', JSON.stringify(value), () =>
        records.set('config/x', value),
      );
    } else if (database === undefined) await this.#make(node, name);
    else if (choice < 0.4) {
      await this.#write(`database ${name}`, '', () => catalog.remove(name));
    } else if (choice < 0.6) await this.#change(database);
    else await this.#put(database);
  }

  async #make(node: Node, name: string): Promise<void> {
    const making = ++this.#making;
    const settings = this.#version(`settings ${making}`, securityOf(making, 0));
    await this.#write(`database ${name}`, String(making), async () => {
      const security = Buffer.from(securityOf(making, 0));
      await makeWhole(node, name, { q: 2, security });
      settings.acknowledged = this.disk.ops.length;
    });
  }

  async #change(database: Database): Promise<void> {
    const making = await makingOf(database);
    const text = securityOf(making, ++this.#marker);
    await this.#write(`settings ${making}`, text, () =>
      database.settings.change({ security: Buffer.from(text) }),
    );
    this.#confirm(database, making);
  }

  async #put(database: Database): Promise<void> {
    const making = await makingOf(database);
    const id = `d${++this.#marker}`;
    const body = `{"marker":${this.#marker}}`;
    await this.#write(`document ${making} ${id}`, body, () =>
      database.put({ id: Buffer.from(id), body: Buffer.from(body), deleted: false }),
    );
    this.#confirm(database, making);
  }

  /** What was acknowledged of a database says that it is there, whatever was in doubt. */
  #confirm({ name }: Database, making: number): void {
    const version = this.#version(`database ${name}`, String(making));
    version.acknowledged = this.disk.ops.length;
  }

  async #write(key: string, content: string, work: () => Promise<unknown>): Promise<void> {
    const version = this.#version(key, content);
    await work();
    version.acknowledged = this.disk.ops.length;
  }

  #version(key: string, content: string): Version {
    const version = {
      content,
      submitted: this.disk.ops.length,
      acknowledged: Number.POSITIVE_INFINITY,
    };
    this.versions.set(key, [...(this.versions.get(key) ?? []), version]);
    return version;
  }
}

function securityOf(making: number, marker: number): string {
  return JSON.stringify({ making, marker });
}

async function makingOf(database: Database): Promise<number> {
  const { security } = await database.settings.current();
  const { making }: { making: number } = JSON.parse(Buffer.from(security).toString());
  return making;
}

class Judge {
  readonly #life: Life;
  readonly #seed: number;
  readonly #options: ServerPowerLossOptions;
  readonly #findings: Findings;
  readonly #random: () => number;
  #states = 0;

  constructor(life: Life, seed: number, options: ServerPowerLossOptions, findings: Findings) {
    this.#life = life;
    this.#seed = seed;
    this.#options = options;
    this.#findings = findings;
    this.#random = seededRandom(seed + 1);
  }

  async judgeAll(): Promise<void> {
    const { disk } = this.#life;
    for (let at = 0; at <= disk.ops.length; at++) {
      const point = disk.crashPoint(at);
      const states = [point.worst(), point.best()];
      for (let count = 0; count < this.#options.statesPerOp; count++) {
        states.push(point.random(this.#random));
      }
      for (const [index, state] of states.entries()) {
        await this.#judgeState(state, at, `seed ${this.#seed}, operation ${at}, state ${index}`);
        if (this.#findings.violations.length > 0) return;
      }
    }
  }

  async #judgeState(state: CrashState, at: number, what: string): Promise<void> {
    for (const name of state.classes) this.#findings.classes.add(name);
    if (this.#findings.fingerprints.has(state.fingerprint)) return;
    this.#findings.fingerprints.add(state.fingerprint);
    if (++this.#states % this.#options.startEvery === 0) await this.#crashStart(state, at, what);
    await this.#inspect(state.open(), at, what);
  }

  /** A start that is interrupted is no different from none. */
  async #crashStart(state: CrashState, at: number, what: string): Promise<void> {
    this.#findings.classes.add('start-crash');
    const disk = state.open();
    const node = await Node.start(disk, this.#seed + 0x6000_0000);
    await node.settle();
    for (let cut = 0; cut <= disk.ops.length; cut++) {
      const second = disk.crash(cut, this.#random);
      this.#findings.fingerprints.add(second.fingerprint);
      await this.#inspect(second.disk, at, `${what}, operation ${cut} of the start`);
    }
  }

  async #inspect(disk: SimulatedDisk, at: number, what: string): Promise<void> {
    try {
      const node = await Node.start(disk, this.#seed + 0x5000_0000);
      await node.settle();
      const found = await this.#read(node, what);
      this.#compare(found, at, what);
      this.#findStrays(disk, node, what);
      await node.close();
    } catch (error) {
      if (!isDivanError(error)) throw error;
      this.#violation(`${what}: ${error.message} (${error.code})`);
    }
  }

  /** Everything that can be found, by the names of its versions. */
  async #read({ catalog, records }: Node, what: string): Promise<Map<string, string>> {
    const found = new Map<string, string>();
    const record = records.get('config/x');
    found.set('record config/x', record === undefined ? '' : JSON.stringify(record));
    for (const name of NAMES) found.set(`database ${name}`, '');
    for (const name of catalog.names()) {
      const database = catalog.get(name);
      const making = await makingOf(database);
      found.set(`database ${name}`, String(making));
      for (const { slot } of database.shards) {
        await slot.read(async (reader) => {
          const { metadata } = reader.snapshot();
          const security = Buffer.from(metadata.security).toString();
          const others = found.get(`settings ${making}`) ?? security;
          if (security !== others) this.#violation(`${what}: the shards of ${name} differ`);
          found.set(`settings ${making}`, security);
        });
      }
      for (const key of this.#life.versions.keys()) {
        const id = new RegExp(`^document ${making} (.+)$`).exec(key)?.[1];
        if (id !== undefined) found.set(key, await bodyOf(database, id));
      }
    }
    return found;
  }

  #compare(found: ReadonlyMap<string, string>, at: number, what: string): void {
    for (const [key, versions] of this.#life.versions) {
      const content = found.get(key);
      // It is of a making that is gone.
      if (content === undefined) continue;
      const oldest = versions.findLastIndex(({ acknowledged }) => acknowledged <= at);
      const allowed = versions
        .slice(Math.max(oldest, 0))
        .filter(({ submitted }) => submitted <= at)
        .map((version) => version.content);
      if (oldest < 0) allowed.push('');
      if (allowed.includes(content)) continue;
      this.#violation(`${what}: ${key} is ${JSON.stringify(content)}, not ${allowed.join(' or ')}`);
    }
  }

  #findStrays(disk: SimulatedDisk, { catalog }: Node, what: string): void {
    const known = new Set([`${DATA_DIR}/node.divan`]);
    for (const name of catalog.names()) {
      for (const { slot } of catalog.get(name).shards) known.add(slot.path);
    }
    for (const name of disk.names.keys()) {
      // The very first start may have been interrupted.
      if (known.has(name) || name.startsWith(`${DATA_DIR}/.node.divan`)) continue;
      this.#violation(`${what}: the stray file ${name}`);
    }
  }

  #violation(text: string): void {
    this.#findings.violations.push(text);
  }
}

/** The body of a document; empty if there is none. */
function bodyOf(database: Database, id: string): Promise<string> {
  const key = Buffer.from(id);
  return database.read(key, async (snapshot) => {
    const leaf = (await snapshot.document(key))?.leaves[0];
    return leaf === undefined ? '' : Buffer.from(await snapshot.body(leaf)).toString();
  });
}
