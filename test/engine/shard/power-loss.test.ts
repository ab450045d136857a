/**
 * Goal: no crash loses an acknowledged write, half applies another, or leaves a file that is refused or damaged.
 * Method: at least 20,000 distinct states of a simulated disk after a crash, each opened, checked and searched for everything
 * that was acknowledged. Void unless every kind of damage occurred. And a test of the test: bugs planted into copies of the
 * compiled engine must each be found.
 */
import t from 'tap';
import type { PlantedBug } from '../../support/edited-copy.js';
import { seedOf } from '../../support/seed.js';
import { CRASH_CLASSES } from '../../support/simulated-disk.js';
import { simulateShards } from '../../support/simulators.js';

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
    const result = await simulateShards([], options);
    t.strictSame(result.violations, [], `round ${round}: ${result.distinctStates} states`);
    distinct += result.distinctStates;
    for (const name of result.classes) classes.add(name);
    if (result.violations.length > 0) return;
  }
  t.comment(`${distinct} distinct states`);
  for (const name of [
    ...CRASH_CLASSES,
    'recovery-crash',
    'flush-crash',
    'attachment-between',
    'compaction-crash',
  ]) {
    t.ok(classes.has(name), `${name} occurred`);
  }
});

const BUGS: readonly PlantedBug[] = [
  {
    name: 'no fdatasync',
    file: 'file/append-file.js',
    find: 'await this.#orFail(this.#file.sync());',
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
    file: 'file/publish.js',
    find: 'await storage.syncDirectory(dirname(to));',
    replace: '',
  },
  {
    name: 'acknowledged before the directory sync',
    file: 'file/publish.js',
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
    find: 'await this.#orFail(this.#file.truncate(end));',
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
    const options = { seed, statesPerOp: 30, workloads: 12, recoveryEvery: 20 };
    const result = await simulateShards([bug], options);
    t.ok(result.violations.length > 0, `${bug.name}: found after ${result.distinctStates} states`);
  }
});
