/**
 * Goal: shards that leave a node are spread evenly over those that stay.
 * Method: known shards, and where each is sent.
 */
import t from 'tap';
import { Targets } from '../../../tools/cluster/targets.js';

t.test(
  'the node with the fewest of a database comes first, then that with the fewest of all',
  async (t) => {
    const targets = new Targets(
      new Map([
        ['a', 9],
        ['b', 5],
        ['c', 5],
      ]),
    );
    targets.note('cities', 'b');
    targets.note('cities', 'c');
    t.same(
      Array.from({ length: 6 }, () => targets.take('cities')),
      ['a', 'b', 'c', 'a', 'b', 'c'],
    );
    t.equal(targets.take('other'), 'b');
    t.equal(new Targets(new Map()).take('cities'), undefined);
  },
);
