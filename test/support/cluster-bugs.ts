/** Bugs planted into copies of the program, each of which the lives of a cluster must find. */
import type { PlantedBug } from './edited-copy.js';

const RECORD = 'server/cluster/cluster-record.js';
const RECORDS = 'server/cluster/cluster-records.js';
const DATABASE = 'server/cluster/incarnations.js';
const LINK = 'server/cluster/peer-link.js';

export const CLUSTER_BUGS: readonly PlantedBug[] = [
  {
    name: 'a stale epoch is accepted',
    file: RECORD,
    find: /if \(a\.counter !== b\.counter\)\s+return a\.counter > b\.counter;/,
    replace: '',
  },
  {
    name: 'an epoch is not persisted',
    file: RECORDS,
    find: 'await this.#stored.set(',
    replace: "if (kindOf(key) !== 'row') await this.#stored.set(",
  },
  {
    name: 'of two with one counter the one that was there first wins',
    file: RECORD,
    find: 'a.text >= b.text',
    replace: 'true',
  },
  {
    name: 'suffixes come from the clock alone',
    file: DATABASE,
    find: 'Math.max(max, suffix + 1)',
    replace: 'max',
  },
  {
    name: 'what was deleted is forgotten',
    file: DATABASE,
    find: 'deleted: Object.fromEntries(deleted) };',
    replace: 'deleted: {} };',
  },
  {
    name: 'a push is acknowledged before it is durable',
    file: RECORDS,
    find: 'await this.#takeAll(others);',
    replace: 'void this.#takeAll(others).catch(() => undefined);',
  },
  {
    name: 'what was changed meanwhile is not read on return',
    file: LINK,
    find: 'if (this.#wasCompared)',
    replace: 'if (true)',
  },
  {
    name: 'a push that failed counts as delivered',
    file: LINK,
    find: 'settle(hasThem)',
    replace: 'settle(true)',
  },
  {
    name: 'a push that was under way delivers what was changed after it',
    file: LINK,
    find: /const waiters = \[\.\.\.this\.#waiters\];(?:[\s\S]*?)for \(const waiter of waiters\)/,
    replace:
      'if (page.length > 0) await this.#exchange({ records: page, want: [] });' +
      'for (const waiter of [...this.#waiters])',
  },
  {
    name: 'a start wins over a stop that it did not know of',
    file: 'server/cluster/split-switch.js',
    find: 'isStop && numberOf(value) === number',
    replace: 'isStop',
  },
  {
    name: 'who left comes back',
    file: RECORD,
    find: "first !== 0 && kind?.when === 'always'",
    replace: 'false',
  },
  {
    name: 'a deleted admin lives on by a change that did not know of it',
    file: RECORD,
    find: 'outweighs ? weightier(counter) : counter + 1',
    replace: 'counter + 1',
  },
  {
    name: 'a node that was set back takes the row that others know for its own',
    file: RECORDS,
    find: 'return record.counter >= mine.counter && !isSame(record, mine);',
    replace: 'return false;',
  },
  {
    name: 'rows of a deleted database are kept',
    file: RECORDS,
    find: "if (kind === 'database')",
    replace: 'if (false)',
  },
  {
    name: 'nodes do not compare what they have',
    file: LINK,
    find: 'if (buckets === undefined)',
    replace: 'if (true)',
  },
];
