/**
 * The power-loss test: runs a workload on a `SimulatedDisk`, crashes it before every operation in several ways, and holds each
 * state that a disk might be in afterwards to what was promised. Used by the test itself and by the planted bugs.
 *
 * The oracle: every document has a list of versions in the order in which they were written. In a state after a crash the
 * version found must not be older than the newest acknowledged one, and no newer than the newest one submitted.
 */
import { createHash } from 'node:crypto';
import { isDivanError } from '../../engine/errors.js';
import { recordEnd } from '../../engine/file/commit-record.js';
import { recover } from '../../engine/file/recovery.js';
import { compactLive } from '../../engine/rewrite/compact-live.js';
import { CacheSpace } from '../../engine/shard/cache-space.js';
import { checkShard } from '../../engine/shard/check.js';
import { ReadOnlyShard } from '../../engine/shard/read-only-shard.js';
import type { Revision } from '../../engine/shard/revision.js';
import { Shard, type ShardOptions } from '../../engine/shard/shard.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import { randomInt, seededRandom } from './seed.js';
import { type CrashClass, type CrashState, SimulatedDisk } from './simulated-disk.js';
import { VirtualHost } from './virtual-host.js';

const STEPS = 24;
const REOPEN_AT = 12;
const PATH = '/db.divan';
/** Small, so that flushes and deep trees happen within a few commits. */
const OPTIONS: ShardOptions = { overlayBytes: 1500, nodeBytes: 300, cache: new CacheSpace(20_000) };

/** A version of a document: what must be read, '' for a tombstone or nothing at all. */
interface Version {
  readonly content: string;
  /** Length of the record when it was submitted, and when it was acknowledged. */
  readonly submitted: number;
  acknowledged: number;
}

export interface PowerLossOptions {
  readonly seed: number;
  /** States for each operation of the workload. */
  readonly statesPerOp: number;
  /** Stops after so many workloads, or at the first violation. */
  readonly workloads: number;
  /** Every how many states recovery itself is crashed. */
  readonly recoveryEvery: number;
}

/** What was going on when the power failed. */
export type SituationClass =
  | 'recovery-crash'
  | 'flush-crash'
  | 'attachment-between'
  | 'compaction-crash';

export interface PowerLossResult {
  readonly violations: readonly string[];
  readonly distinctStates: number;
  readonly classes: ReadonlySet<CrashClass | SituationClass>;
}

/** Runs workloads with seeds that follow from the given one. Stops at the first workload with a violation. */
export async function runPowerLoss(options: PowerLossOptions): Promise<PowerLossResult> {
  const fingerprints = new Set<string>();
  const classes = new Set<CrashClass | SituationClass>();
  const violations: string[] = [];
  for (let round = 0; round < options.workloads && violations.length === 0; round++) {
    const seed = options.seed + round * 7919;
    const run = new Workload(seed);
    await run.perform(round % 3 === 2);
    const judge = new Judge(run, seed, options, { fingerprints, classes, violations });
    await judge.judgeAll();
  }
  return { violations, distinctStates: fingerprints.size, classes };
}

/** Does things to a shard on a simulated disk and remembers what it was told. */
class Workload {
  readonly disk = new SimulatedDisk();
  readonly versions = new Map<string, Version[]>();
  /** Ranges of the record in which a flush was going on, and in which attachments stood between commits. */
  readonly flushes: { from: number; to: number }[] = [];
  readonly attachments: { from: number; to: number }[] = [];
  readonly compactions: { from: number; to: number }[] = [];
  readonly #host: VirtualHost;
  readonly #random: () => number;
  readonly #revs = new Map<string, Revision>();

  constructor(seed: number) {
    this.#host = new VirtualHost(seed);
    this.#random = seededRandom(seed);
  }

  async perform(withFailedSync: boolean): Promise<void> {
    const world = { storage: this.disk, host: this.#host };
    const created = this.#write('created', 'yes');
    let shard = await Shard.create(world, PATH, OPTIONS);
    created.acknowledged = this.disk.ops.length;
    for (let step = 0; step < STEPS; step++) {
      await this.#step(shard, step);
      if (step === REOPEN_AT) {
        await shard.close();
        shard = await Shard.open(world, PATH, OPTIONS);
      }
    }
    if (withFailedSync) await this.#failSync(shard);
    else await shard.close();
  }

  async #step(shard: Shard, step: number): Promise<void> {
    const choice = randomInt(this.#random, 10);
    if (step % 5 === 3) await this.#flushUnderWrites(shard);
    else if (step % 8 === 6) await this.#compactUnderWrites(shard);
    else if (choice < 5) await Promise.all([this.#edit(shard), this.#edit(shard)]);
    else if (choice === 5) await this.#delete(shard);
    else if (choice === 6) await this.#attach(shard);
    else if (choice === 7) await this.#local(shard);
    else if (choice === 8) await this.#purge(shard);
    else await this.#seal(shard);
  }

  async #flushUnderWrites(shard: Shard): Promise<void> {
    const from = this.disk.ops.length;
    const flushed = shard.flush();
    await this.#edit(shard);
    await this.#edit(shard);
    await flushed;
    this.flushes.push({ from, to: this.disk.ops.length });
  }

  /** The file is exchanged while edits come. */
  async #compactUnderWrites(shard: Shard): Promise<void> {
    const from = this.disk.ops.length;
    const world = { storage: this.disk, host: this.#host };
    const compacted = compactLive(world, shard, { workers: 0 });
    for (let edits = 0; edits < 4; edits++) await this.#edit(shard);
    await compacted;
    this.compactions.push({ from, to: this.disk.ops.length });
  }

  async #seal(shard: Shard): Promise<void> {
    this.#host.advance(2000);
    await shard.file.seal();
  }

  #id(): string {
    return `doc-${randomInt(this.#random, 6)}`;
  }

  #write(key: string, content: string): Version {
    const versions = this.versions.get(key) ?? [];
    const version = {
      content,
      submitted: this.disk.ops.length,
      acknowledged: Number.POSITIVE_INFINITY,
    };
    versions.push(version);
    this.versions.set(key, versions);
    return version;
  }

  #busy = new Set<string>();

  async #edit(shard: Shard): Promise<void> {
    const id = this.#id();
    if (this.#busy.has(id)) return;
    this.#busy.add(id);
    const filler = 'x'.repeat(randomInt(this.#random, 3) === 0 ? 1400 : 30);
    const body = `{"v":${this.versions.get(id)?.length ?? 0},"filler":"${filler}"}`;
    const version = this.#write(id, body);
    const parent = this.#revs.get(id);
    const { rev } = await shard.put({
      id: Buffer.from(id),
      body: Buffer.from(body),
      deleted: false,
      parent,
    });
    version.acknowledged = this.disk.ops.length;
    this.#revs.set(id, rev);
    this.#busy.delete(id);
  }

  async #delete(shard: Shard): Promise<void> {
    const id = this.#id();
    const parent = this.#revs.get(id);
    if (parent === undefined) return;
    const version = this.#write(id, '');
    await shard.put({ id: Buffer.from(id), body: Buffer.from('{}'), deleted: true, parent });
    version.acknowledged = this.disk.ops.length;
    this.#revs.delete(id);
  }

  /** An attachment whose pieces stand before a commit that has nothing to do with it. */
  async #attach(shard: Shard): Promise<void> {
    const id = `att-${randomInt(this.#random, 3)}`;
    const content = Buffer.alloc(2500, this.versions.get(id)?.length ?? 0);
    const from = this.disk.ops.length;
    const stored = await shard.store([content]);
    // Another commit in between makes the pieces durable; without one, only the commit that names them does.
    if (randomInt(this.#random, 2) === 0) await this.#edit(shard);
    this.attachments.push({ from, to: this.disk.ops.length + 1 });
    const version = this.#write(id, `{"a":1}${md5(content)}`);
    const attachments = new Map([['f', { contentType: 'x/y', revpos: undefined, stored }]]);
    const edit = { id: Buffer.from(id), body: Buffer.from('{"a":1}'), deleted: false, attachments };
    const { rev } = await shard.put({ ...edit, parent: this.#revs.get(id) });
    version.acknowledged = this.disk.ops.length;
    this.#revs.set(id, rev);
  }

  async #local(shard: Shard): Promise<void> {
    const key = `local/${randomInt(this.#random, 2)}`;
    const body = `{"l":${this.versions.get(key)?.length ?? 0}}`;
    const version = this.#write(key, body);
    await shard.putLocal({ id: Buffer.from(key), body: Buffer.from(body), revision: 'any' });
    version.acknowledged = this.disk.ops.length;
  }

  async #purge(shard: Shard): Promise<void> {
    const id = this.#id();
    const rev = this.#revs.get(id);
    if (rev === undefined) return;
    const version = this.#write(id, '');
    await shard.purge({
      uuid: Buffer.from(`purge-${this.disk.ops.length}`),
      id: Buffer.from(id),
      revs: [rev],
    });
    version.acknowledged = this.disk.ops.length;
    this.#revs.delete(id);
  }

  /** A sync fails, the shard is opened again without a loss of power, and what it serves then must stay. */
  async #failSync(shard: Shard): Promise<void> {
    const id = this.#id();
    const body = '{"after":"a failed sync"}';
    const version = this.#write(id, body);
    this.disk.failNextSync();
    const parent = this.#revs.get(id);
    const refused = await shard
      .put({ id: Buffer.from(id), body: Buffer.from(body), deleted: false, parent })
      .then(
        () => false,
        (error: unknown) => isDivanError(error, 'IO'),
      );
    if (!refused) throw new Error('a write whose sync failed was acknowledged');
    await shard.close();
    const again = await Shard.open({ storage: this.disk, host: this.#host }, PATH, OPTIONS);
    if ((await contentOf(again.snapshot(), id)) === body)
      version.acknowledged = this.disk.ops.length;
    await again.close();
  }
}

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}

/** What a reader finds under a key of the workload. */
async function contentOf(snapshot: Snapshot, key: string): Promise<string> {
  if (key.startsWith('local/')) {
    const doc = await snapshot.localDoc(Buffer.from(key));
    return doc === undefined ? '' : Buffer.from(doc.body).toString();
  }
  const document = await snapshot.document(Buffer.from(key));
  const [winner] = document?.leaves ?? [];
  if (winner === undefined || winner.deleted) return '';
  const body = Buffer.from(await snapshot.body(winner)).toString();
  const [attachment] = winner.attachments;
  if (attachment === undefined) return body;
  const pieces: Uint8Array[] = [];
  for await (const piece of snapshot.attachment(attachment)) pieces.push(piece);
  return body + md5(Buffer.concat(pieces));
}

interface Findings {
  readonly fingerprints: Set<string>;
  readonly classes: Set<CrashClass | SituationClass>;
  readonly violations: string[];
}

class Judge {
  readonly #run: Workload;
  readonly #random: () => number;
  readonly #seed: number;
  readonly #options: PowerLossOptions;
  readonly #findings: Findings;
  #states = 0;

  constructor(run: Workload, seed: number, options: PowerLossOptions, findings: Findings) {
    this.#run = run;
    this.#seed = seed;
    this.#random = seededRandom(seed ^ 0x5eed);
    this.#options = options;
    this.#findings = findings;
  }

  async judgeAll(): Promise<void> {
    const { ops } = this.#run.disk;
    for (let at = 0; at <= ops.length; at++) {
      for (let variant = 0; variant < this.#options.statesPerOp; variant++) {
        const state = this.#run.disk.crash(at, this.#random);
        this.#noteClasses(state, at);
        if (this.#findings.fingerprints.has(state.fingerprint)) continue;
        await this.#judge(state, at);
        if (this.#findings.violations.length > 0) return;
      }
    }
  }

  #noteClasses(state: CrashState, at: number): void {
    const { classes } = this.#findings;
    for (const name of state.classes) classes.add(name);
    const inside = ({ from, to }: { from: number; to: number }) => at > from && at < to;
    if (this.#run.flushes.some(inside)) classes.add('flush-crash');
    if (this.#run.compactions.some(inside)) classes.add('compaction-crash');
    if (this.#run.attachments.some(inside)) classes.add('attachment-between');
  }

  async #judge(state: CrashState, at: number): Promise<void> {
    this.#findings.fingerprints.add(state.fingerprint);
    const what = `seed ${this.#seed}, crash before operation ${at}`;
    try {
      await this.#inspect(state.disk, at, what);
      if (++this.#states % this.#options.recoveryEvery === 0)
        await this.#crashRecovery(state, at, what);
    } catch (error) {
      this.#findings.violations.push(
        `${what}: ${error instanceof Error ? error.stack : String(error)}`,
      );
    }
  }

  /** Everything that must hold of a state: read as it is found, and again after it was opened for writing. */
  async #inspect(disk: SimulatedDisk, at: number, what: string): Promise<void> {
    if (!disk.names.has(PATH)) {
      this.#judgeContents(new Map(), at, what);
      return;
    }
    const found = await this.#read(disk, what);
    this.#judgeContents(found, at, what);
    await this.#openForWriting(disk, what);
    const again = await this.#read(disk, `${what}, after recovery`);
    for (const [key, content] of found) {
      if (again.get(key) !== content) this.#violation(`${what}: recovery changed ${key}`);
    }
  }

  /** Opens for writing and stops there, as a process that is killed then. */
  async #openForWriting(disk: SimulatedDisk, what: string): Promise<void> {
    const host = new VirtualHost(this.#seed + 1);
    const shard = await Shard.open({ storage: disk, host }, PATH, OPTIONS);
    const file = await disk.open(PATH, 'read');
    const { newest } = await recover(file, true);
    if ((await file.size()) !== recordEnd(newest)) this.#violation(`${what}: a tail is left (I7)`);
    await shard.file.close();
  }

  async #read(disk: SimulatedDisk, what: string): Promise<Map<string, string>> {
    const shard = await ReadOnlyShard.open({ storage: disk }, PATH);
    const { problems } = await checkShard(shard);
    for (const { text } of problems) this.#violation(`${what}: check says ${text}`);
    const found = new Map([['created', 'yes']]);
    for (const key of this.#run.versions.keys()) {
      if (key !== 'created') found.set(key, await contentOf(shard.snapshot, key));
    }
    await shard.close();
    return found;
  }

  #judgeContents(found: ReadonlyMap<string, string>, at: number, what: string): void {
    for (const [key, versions] of this.#run.versions) {
      const content = found.get(key) ?? '';
      let oldest = -1;
      for (const [index, { acknowledged }] of versions.entries())
        if (acknowledged <= at) oldest = index;
      const allowed = versions
        .slice(Math.max(oldest, 0))
        .filter(({ submitted }) => submitted <= at);
      const fits = allowed.some((version) => version.content === content);
      if (!fits && !(oldest < 0 && content === '')) {
        this.#violation(
          `${what}: ${key} is ${JSON.stringify(content.slice(0, 60))}, older than what was acknowledged`,
        );
      }
    }
  }

  /** Recovery is itself interrupted, and must come to the same end the next time. */
  async #crashRecovery(state: CrashState, at: number, what: string): Promise<void> {
    if (!state.disk.names.has(PATH)) return;
    this.#findings.classes.add('recovery-crash');
    const disk = state.open();
    await this.#openForWriting(disk, what);
    for (let cut = 0; cut <= disk.ops.length; cut++) {
      const second = disk.crash(cut, this.#random);
      this.#findings.fingerprints.add(second.fingerprint);
      await this.#inspect(second.disk, at, `${what}, and before operation ${cut} of recovery`);
    }
  }

  #violation(text: string): void {
    this.#findings.violations.push(text);
  }
}
