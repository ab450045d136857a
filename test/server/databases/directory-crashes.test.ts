/**
 * Goal: whenever a node crashes while it does what the records of databases say, it comes to the same end after it starts again: nothing is lost,
 * nothing comes back, no file is left.
 * Method: one life, of which many copies are crashed before an operation of the disk each. And bugs planted into copies must be found.
 */
import t from 'tap';
import {
  type DirectoryCrashOptions,
  type DirectoryCrashResult,
  runDirectoryCrashes,
} from '../../support/directory-crashes.js';
import { type PlantedBug, runEdited } from '../../support/edited-copy.js';
import { seedOf } from '../../support/seed.js';

t.test('a crash at any operation', async (t) => {
  const result = await runDirectoryCrashes({ seed: seedOf(t), crashes: 25 });
  t.strictSame(result.violations, []);
  t.ok(result.operations > 50, `${result.operations} operations`);
  t.strictSame([...result.kinds].sort(), ['killed', 'random', 'worst']);
});

const CATALOG = 'server/databases/catalog.js';
const RECONCILE = 'server/databases/reconcile.js';

const BUGS: readonly PlantedBug[] = [
  {
    name: 'what flowed is known before it is there',
    file: RECONCILE,
    find: 'if (catalog.aside.flowedInto(aside) !== into) {',
    replace:
      'if (catalog.aside.flowedInto(aside) !== into) { await catalog.aside.setFlowed(aside, into);',
  },
  {
    name: 'a removal of what was set aside is not finished',
    file: CATALOG,
    find: 'await catalog.#eraseAside(map);',
    replace: 'await catalog.aside.remove(map.incarnation);',
  },
];

const TURNS_MAX = 8;

t.test('planted bugs are found', async (t) => {
  const seed = seedOf(t);
  for (const bug of BUGS) {
    // Not every choice of a hundred crashes has the one in which it shows.
    let found: string | undefined;
    for (let turn = 0; turn < TURNS_MAX && found === undefined; turn++) {
      const options: DirectoryCrashOptions = { seed: seed + turn * 1_000_003, crashes: 100 };
      const { violations } = await runEdited<DirectoryCrashOptions, DirectoryCrashResult>(
        [bug],
        'directory-crashes.js',
        'runDirectoryCrashes',
        options,
      );
      [found] = violations;
    }
    t.ok(found !== undefined, `${bug.name}: ${found}`);
  }
});
