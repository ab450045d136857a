/**
 * Goal: several records of a node change in one durable step: after a crash at any moment all of the change is there or nothing.
 * Method: a disk whose process is killed at every operation of the change, and one that loses power there.
 */
import t from 'tap';
import { NodeRecords } from '../../server/node-records.js';
import { realServerHost } from '../support/server.js';
import { SimulatedDisk } from '../support/simulated-disk.js';

async function opened(disk: SimulatedDisk): Promise<NodeRecords> {
  return NodeRecords.open({ storage: disk, host: realServerHost }, '/data');
}

function seen(records: NodeRecords): unknown {
  return ['a', 'b', 'c'].map((key) => records.get(key));
}

t.test('all or nothing', async (t) => {
  const outcomes = new Set<string>();
  for (let after = 0; after < 6; after++) {
    const disk = new SimulatedDisk();
    const records = await opened(disk);
    await records.setAll([
      ['a', { old: 1 }],
      ['b', { old: 2 }],
    ]);
    const before = JSON.stringify(seen(records));
    disk.haltAfter = disk.ops.length + after;
    await records
      .setAll([
        ['a', { new: 1 }],
        ['b', undefined],
        ['c', { new: 3 }],
      ])
      .catch(() => undefined);
    await records.close().catch(() => undefined);
    disk.restart();
    const again = await opened(disk);
    const text = JSON.stringify(seen(again));
    const whole = JSON.stringify([{ new: 1 }, null, { new: 3 }]);
    t.ok(text === before || text === whole, text);
    outcomes.add(text);
    await again.close();
  }
  t.equal(outcomes.size, 2, 'both were seen');
});

t.test('nothing to do, and the same key twice', async (t) => {
  const records = await opened(new SimulatedDisk());
  await records.setAll([]);
  await records.setAll([
    ['a', { first: true }],
    ['a', { second: true }],
  ]);
  t.same(records.get('a'), { second: true });
  await records.remove('a');
  await records.remove('a');
  t.equal(records.get('a'), undefined);
  await records.close();
});
