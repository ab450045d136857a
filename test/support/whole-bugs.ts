/** Bugs planted into copies of the program, each of which the lives of clusters of whole servers must find. */
import type { PlantedBug } from './edited-copy.js';

const TARGET = 'server/splits/move-target.js';
const SOURCE = 'server/splits/move-source.js';
const RECONCILE = 'server/databases/reconcile.js';

export const WHOLE_BUGS: readonly PlantedBug[] = [
  {
    name: 'the map is written before the bytes that were moved are durable',
    file: TARGET,
    find: /if \(memberOf\(call\.head, 'sync'\) === true\)\s+await file\.sync\(\);/,
    replace: '',
  },
  {
    name: 'the map is written before the parts of a split are durable',
    file: 'rewrite/move-live.js',
    find: /if \(!\(await this\.#lastRound\(\(\) => waited\(\) > capMs\)\)\)[\s\S]*?await this\.#publish\(publish\);/,
    replace: 'await Promise.all([this.#lastRound(() => false), this.#publish(publish)]);',
  },
  {
    name: 'of two makings of one name the one that was heard of first is in force',
    file: 'server/databases/directory.js',
    find: 'const force = inForce(this.#valueOf(name));',
    replace:
      'const value = this.#valueOf(name); const known = this.#known.get(name)?.incarnation;' +
      'const force = value.incarnations.get(known) ?? inForce(value);',
  },
  {
    name: 'the switch is not read on return',
    file: 'server/splits/job-switch.js',
    find: 'await this.#records.caughtUp(HEAR_MS);',
    replace: '',
  },
  {
    name: 'calls that came before a restart are taken again',
    file: 'server/cluster/seen-calls.js',
    find: 'host.randomBytes(BOOT_BYTES)',
    replace: 'new Uint8Array(BOOT_BYTES)',
  },
  {
    name: 'a shard takes writes before the other node has given it up',
    file: TARGET,
    find: 'this.#suspend(taking);',
    replace: '',
  },
  {
    name: 'a shard that may be elsewhere takes writes after a restart',
    file: SOURCE,
    find: "if (job.phase === 'update_shardmap' && this.#hasSource(job))",
    replace: 'if (false)',
  },
  {
    name: 'a shard is kept when the other node does not say whether it has it',
    file: SOURCE,
    find: 'if (isOver && (await this.#isCancelled(calls)))',
    replace: 'if (true)',
  },
  {
    name: 'what was set aside goes without its documents',
    file: RECONCILE,
    find: 'await sink(name, into, whileFresh(itemsOf(snapshot), flow));',
    replace: 'void 0;',
  },
  {
    name: 'what was deleted is forgotten at a restart',
    file: 'server/cluster/cluster-records.js',
    find: 'return { record: makeRecord(key, counter, value), isContested };',
    replace:
      "const kept = kindOf(key) === 'database' ? { ...value, deleted: {} } : value;" +
      'return { record: makeRecord(key, counter, kept), isContested };',
  },
];
