/**
 * Goal: no crash loses an acknowledged write, half applies another, or leaves a file that is refused or damaged.
 * Method: at least 20,000 distinct states of a simulated disk after a crash, each opened, checked and searched for everything
 * that was acknowledged. Void unless every kind of damage occurred. And a test of the test: bugs planted into copies of the
 * compiled engine must each be found.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import t from 'tap';
import {
  type PowerLossOptions,
  type PowerLossResult,
  runPowerLoss,
} from '../../support/power-loss.js';
import { seedOf } from '../../support/seed.js';
import { CRASH_CLASSES } from '../../support/simulated-disk.js';

const DIST = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const STATES_MIN = 20_000;

t.test('no state after a crash breaks a promise', async (t) => {
  const seed = seedOf(t);
  const classes = new Set<string>();
  let distinct = 0;
  for (let round = 0; distinct < STATES_MIN; round++) {
    const options = {
      seed: seed + round * 1_000_003,
      statesPerOp: 12,
      workloads: 3,
      recoveryEvery: 50,
    };
    const result = await runPowerLoss(options);
    t.strictSame(result.violations, [], `round ${round}: ${result.distinctStates} states`);
    distinct += result.distinctStates;
    for (const name of result.classes) classes.add(name);
    if (result.violations.length > 0) return;
  }
  t.comment(`${distinct} distinct states`);
  for (const name of [...CRASH_CLASSES, 'recovery-crash', 'flush-crash', 'attachment-between']) {
    t.ok(classes.has(name), `${name} occurred`);
  }
});

/** A bug: in one compiled file of the engine, one text in place of another. */
interface PlantedBug {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const BUGS: readonly PlantedBug[] = [
  {
    name: 'no fdatasync',
    file: 'file/append-file.js',
    find: 'await this.#file.sync();',
    replace: '',
  },
  {
    name: 'acknowledged before the fdatasync',
    file: 'file/append-file.js',
    find: 'await this.write(input.bytes, input.start);\n        await this.sync();',
    replace: 'await this.write(input.bytes, input.start);\n        void this.sync();',
  },
  {
    name: 'no directory sync',
    file: 'file/append-file.js',
    find: 'await storage.syncDirectory(dirname(to));',
    replace: '',
  },
  {
    name: 'acknowledged before the directory sync',
    file: 'file/append-file.js',
    find: 'await storage.syncDirectory(dirname(to));',
    replace: 'void storage.syncDirectory(dirname(to));',
  },
  {
    name: 'no commit checksum',
    file: 'file/recovery.js',
    find: 'return (await checksumOfRange(this.#file, record.start, record.pos)) === record.contentCrc;',
    replace: 'return true;',
  },
  {
    name: 'no truncation of the tail',
    file: 'file/append-file.js',
    find: 'await this.#file.truncate(end);',
    replace: '',
  },
  {
    name: 'tail not written again',
    file: 'file/append-file.js',
    find: 'await this.write(tail, newest.start);',
    replace: '',
  },
  {
    name: 'wrong replay_from',
    file: 'shard/flush.js',
    find: 'replayFrom: input.replayFrom',
    replace: 'replayFrom: start',
  },
  {
    name: 'foreign bytes not synced before the commit that names them',
    file: 'file/append-file.js',
    find: 'if (input.foreign)\n            await this.sync();',
    replace: '',
  },
  {
    name: 'a witness that runs ahead',
    file: 'file/append-file.js',
    find: 'length: recordEnd(commit)',
    replace: 'length: this.#end',
  },
];

t.test('planted bugs are found', async (t) => {
  const seed = seedOf(t);
  for (const bug of BUGS) {
    const result = await runWith(bug, { seed, statesPerOp: 30, workloads: 12, recoveryEvery: 20 });
    t.ok(result.violations.length > 0, `${bug.name}: found after ${result.distinctStates} states`);
  }
});

/** Runs the power-loss test of a copy of the compiled program that has the bug. */
async function runWith(bug: PlantedBug, options: PowerLossOptions): Promise<PowerLossResult> {
  const copy = mkdtempSync(join(tmpdir(), 'divan-bug-'));
  try {
    cpSync(join(DIST, 'engine'), join(copy, 'engine'), { recursive: true });
    cpSync(join(DIST, 'test', 'support'), join(copy, 'test', 'support'), { recursive: true });
    symlinkSync(join(DIST, '..', 'node_modules'), join(copy, 'node_modules'));
    writeFileSync(join(copy, 'package.json'), '{"type":"module"}');
    const path = join(copy, 'engine', bug.file);
    const source = readFileSync(path, 'utf8');
    if (source.split(bug.find).length !== 2)
      throw new Error(`${bug.name}: its place is not there once`);
    writeFileSync(path, source.replace(bug.find, bug.replace));
    const module: { runPowerLoss: typeof runPowerLoss } = await import(
      pathToFileURL(join(copy, 'test', 'support', 'power-loss.js')).href
    );
    return await module.runPowerLoss(options);
  } finally {
    rmSync(copy, { recursive: true });
  }
}
