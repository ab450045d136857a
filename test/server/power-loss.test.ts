/**
 * Goal: no loss of power breaks a promise of the server: databases that were made are there and whole, those that were removed are away,
 * nothing half-made is served, no file is left that no database has, and a start that is interrupted is finished by the next.
 * Method: the states of a simulated disk after a crash at each operation of some lives of databases, with processes that are killed on
 * the way; a server is started on each. Void unless all kinds of damage occurred. And bugs planted into copies must each be found.
 */
import t from 'tap';
import { type Edit, type PlantedBug, runEdited } from '../support/edited-copy.js';
import { SMALL_BUFFERS } from '../support/rewrite-bugs.js';
import { seedOf } from '../support/seed.js';
import type {
  ServerPowerLossOptions,
  ServerPowerLossResult,
} from '../support/server-power-loss.js';
import { CRASH_CLASSES } from '../support/simulated-disk.js';

const STATES_MIN = 2000;

function simulate(
  edits: readonly Edit[],
  options: ServerPowerLossOptions,
): Promise<ServerPowerLossResult> {
  const all = [...SMALL_BUFFERS, ...edits];
  return runEdited(all, 'server-power-loss.js', 'runServerPowerLoss', options);
}

t.test('no state after a crash breaks a promise', async (t) => {
  const seed = seedOf(t);
  const occurred = new Set<string>();
  let distinct = 0;
  for (let round = 0; distinct < STATES_MIN; round++) {
    const options = { seed: seed + round * 1_000_003, lives: 3, statesPerOp: 3, startEvery: 60 };
    const result = await simulate([], options);
    t.strictSame(result.violations, [], `round ${round}: ${result.distinctStates} states`);
    if (result.violations.length > 0) return;
    distinct += result.distinctStates;
    for (const name of result.classes) occurred.add(name);
  }
  for (const name of [...CRASH_CLASSES, 'start-crash', 'killed']) {
    t.ok(occurred.has(name), `${name} occurred`);
  }
});

const CATALOG = 'server/databases/catalog.js';
const NAMES = 'server/durable-names.js';

const BUGS: readonly PlantedBug[] = [
  {
    name: 'a directory is made and not synced',
    file: NAMES,
    find: 'await storage.makeDirectory(path);\n    await storage.syncDirectory(dirname(path));',
    replace: 'await storage.makeDirectory(path);',
  },
  {
    name: 'a directory that was there is not synced',
    file: NAMES,
    find: 'await storage.makeDirectory(path);\n    await storage.syncDirectory(dirname(path));',
    replace: 'if (await storage.makeDirectory(path)) await storage.syncDirectory(dirname(path));',
  },
  {
    name: 'a removal is not synced',
    file: NAMES,
    find: 'try {\n        await storage.syncDirectory',
    replace: 'if (false) try {\n        await storage.syncDirectory',
  },
  {
    name: 'a removal by a process that was killed is not synced',
    file: NAMES,
    find: 'await storage.remove(path);\n    }\n    catch (error) {',
    replace:
      "await storage.remove(path);\n    }\n    catch (error) {\n        if (isDivanError(error, 'NOT_FOUND')) return;",
  },
  {
    name: 'a database is live before its files are there',
    file: CATALOG,
    find: 'await this.#makeFiles(map, security);',
    replace:
      "await this.#store({ ...map, state: 'live' });\n await this.#makeFiles(map, security);",
  },
  {
    name: 'files are made before their map',
    file: CATALOG,
    find: 'await this.#store(map);\n            try {',
    replace: 'try {',
  },
  {
    name: 'a map is removed before its files',
    file: CATALOG,
    find: 'async #erase(map) {',
    replace: 'async #erase(map) {\n await this.#records.remove(shardMapKey(map.name));',
  },
  {
    name: 'files are removed before the map says so',
    file: CATALOG,
    find: "await this.#store({ ...database.map, state: 'deleting' });",
    replace: '',
  },
  {
    name: 'a start does not finish what was half done',
    file: CATALOG,
    find: 'await catalog.#erase(map);',
    replace: ';',
  },
  {
    name: 'a removal is acknowledged before it is durable',
    file: CATALOG,
    find: "await this.#store({ ...database.map, state: 'deleting' });",
    replace: "void this.#store({ ...database.map, state: 'deleting' }).catch(() => undefined);",
  },
  {
    name: 'settings are in force before all shards have them',
    file: 'server/databases/database-settings.js',
    find: 'for (const slot of [...this.#slots()].reverse()) {',
    replace: 'for (const slot of this.#slots().slice(0, 1)) {',
  },
  {
    name: 'records are acknowledged before they are durable',
    file: 'server/node-records.js',
    find: 'await this.#put(key, Buffer.from(text));',
    replace: 'void this.#put(key, Buffer.from(text)).catch(() => undefined);',
  },
];

t.test('planted bugs are found', async (t) => {
  const seed = seedOf(t);
  for (const bug of BUGS) {
    const options = { seed, lives: 12, statesPerOp: 2, startEvery: 50 };
    const { violations, distinctStates } = await simulate([bug], options);
    t.ok(violations.length > 0, `${bug.name}: found after ${distinctStates} states`);
  }
});
