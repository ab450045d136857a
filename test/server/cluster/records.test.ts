/**
 * Goal: cluster records are merged as their kinds say, stored before they are seen, checked before they are taken; rows keep their rules; two
 * nodes that have the same find that at once.
 * Method: the laws of merging on random records; records, members and rows of nodes on a simulated network; calls of a member that are not as
 * they must be.
 */
import t, { type Test } from 'tap';
import { isDivanError } from '../../../engine/errors.js';
import {
  type ClusterRecord,
  changedRecord,
  makeRecord,
  mergeRecords,
  valueIn,
} from '../../../server/cluster/cluster-record.js';
import { ClusterRecords } from '../../../server/cluster/cluster-records.js';
import {
  isDeleted,
  liveIncarnations,
  withoutIncarnations,
} from '../../../server/cluster/incarnations.js';
import { compareBytes } from '../../../server/cluster/record-index.js';
import { startSplits, stopReason, stopSplits } from '../../../server/cluster/split-switch.js';
import type { JsonObject } from '../../../server/http/json-value.js';
import { nextSuffix, withIncarnation } from '../../support/incarnations.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';
import { type RunningNode, SimulatedCluster } from '../../support/simulated-cluster.js';

const ME = '1'.padStart(32, '0');
const OTHER = '2'.padStart(32, '0');
const NODE = { name: 'a@host', url: 'http://a:5984' };
const URLS_OF_NONE = [
  ...['', 'u', 'http://', 'ftp://a', 'file:///etc/passwd', 'http://a:99999'],
  ...['http://a/', 'http://a/path', 'http://a?b', 'http://a#b', 'http://user:pass@a', 'http://u@a'],
  ...['http://a b', 'http://a\n', ' http://a', 'http://a:5984:1', 'http://[::1', 7, null],
];

function anyRecord(random: () => number): ClusterRecord {
  const at = (count: number) => randomInt(random, count);
  const by = [ME, OTHER][at(2)] ?? ME;
  const incarnations: Record<string, JsonObject> = {};
  for (let count = at(3); count > 0; count--) {
    incarnations[`i${by.slice(-1)}${at(3)}`] = { by, suffix: at(3), version: at(2) };
  }
  const values: readonly (readonly [string, JsonObject])[] = [
    [`member/${ME}`, { ...NODE, url: `http://u${at(2)}`, state: at(2) === 0 ? 'left' : 'member' }],
    ['admin/a', at(2) === 0 ? { deleted: true } : { password: at(3) }],
    ['setup', { finished: at(2) === 0 }],
    [
      `splits/${ME}`,
      { number: at(2), ...(at(2) === 0 ? { stopped: `${at(2)}` } : { started: true }) },
    ],
    ['database/a', { incarnations, deleted: at(2) === 0 ? { [by]: at(3) } : {} }],
  ];
  const [key, value] = values[at(values.length)] ?? ['setup', { finished: true }];
  return makeRecord(key, at(3), value);
}

t.test('merging is commutative, associative and idempotent', async (t) => {
  const random = seededRandom(seedOf(t));
  let triples = 0;
  for (let round = 0; round < 40_000; round++) {
    const [a, b, c] = [anyRecord(random), anyRecord(random), anyRecord(random)];
    if (a.key !== b.key || b.key !== c.key) continue;
    triples++;
    const laws = [
      [mergeRecords(a, b), mergeRecords(b, a)],
      [mergeRecords(mergeRecords(a, b), c), mergeRecords(a, mergeRecords(b, c))],
      [mergeRecords(mergeRecords(a, b), b), mergeRecords(a, b)],
    ];
    if (
      laws.every(([left, right]) => left?.counter === right?.counter && left?.text === right?.text)
    )
      continue;
    t.fail(JSON.stringify([a, b, c, laws]));
    return;
  }
  t.ok(triples > 500, `${triples} triples`);
});

t.test('each kind has its rule', async (t) => {
  const member = (counter: number, state: string) =>
    makeRecord(`member/${ME}`, counter, { ...NODE, state });
  t.equal(mergeRecords(member(1, 'left'), member(9, 'member')).counter, 1, 'who left stays away');
  t.throws(() => changedRecord(member(1, 'left'), `member/${ME}`, valueIn(member(2, 'member'))), {
    code: 'CONFLICT',
  });
  const made = changedRecord(undefined, 'admin/a', { password: 1 });
  const deleted = changedRecord(made, 'admin/a', { deleted: true });
  let changed = made;
  for (let times = 0; times < 5; times++)
    changed = changedRecord(changed, 'admin/a', { password: times });
  t.equal(mergeRecords(changed, deleted), deleted, 'a deletion outweighs changes');
  const again = changedRecord(deleted, 'admin/a', { password: 7 });
  t.equal(mergeRecords(again, changed), again, 'and who is made knowing of it, lives');
  const [stop, start] = [
    { stopped: '', number: 1 },
    { started: true, number: 1 },
  ];
  t.same(
    valueIn(
      mergeRecords(makeRecord(`splits/${ME}`, 3, stop), makeRecord(`splits/${ME}`, 3, start)),
    ),
    stop,
  );
});

t.test('a deletion of a database deletes what it names', async (t) => {
  let mine = withIncarnation(undefined, 'x', { by: ME, suffix: nextSuffix(undefined, 100) });
  const theirs = withIncarnation(undefined, 'y', { by: OTHER, suffix: 50 });
  mine = withoutIncarnations(mine, ['x']);
  t.ok(isDeleted(mine, ME, 100));
  t.notOk(isDeleted(mine, OTHER, 50));
  const joined = withIncarnation(mine, 'y', liveIncarnations(theirs)[0]?.description ?? {});
  t.same(
    liveIncarnations(joined).map(({ incarnation }) => incarnation),
    ['y'],
  );
  t.equal(nextSuffix(joined, 3), 101, 'with a clock that was set back');
  const two = withIncarnation(joined, 'z', { by: OTHER, suffix: 60 });
  t.throws(() => withoutIncarnations(two, ['z']), { code: 'CONFLICT' });
});

t.test('a record is in the order of bytes, and one value has one text', async (t) => {
  const texts = ['b', 'a', '\uff5e', '\u{10000}', 'ab', ''];
  const sorted = [...texts].sort(compareBytes);
  const byBytes = [...texts].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  t.strictSame(sorted, byBytes);
  const deep = JSON.parse(`${'{"a":'.repeat(40)}1${'}'.repeat(40)}`);
  t.throws(() => makeRecord('admin/a', 1, { password: deep }), { code: 'BAD_REQUEST' });
  t.equal(
    makeRecord('admin/a', 1, { password: { b: 1, a: [2] } }).text,
    '{"password":{"a":[2],"b":1}}',
  );
});

async function twoNodes(
  t: Test,
): Promise<{ a: RunningNode; b: RunningNode; cluster: SimulatedCluster }> {
  const cluster = new SimulatedCluster({ seed: seedOf(t), nodes: 3 });
  const [first, second] = cluster.nodes;
  if (first === undefined || second === undefined) throw new Error('no nodes');
  const a = await cluster.scheduler.until(first.start());
  const b = await cluster.scheduler.until(second.start());
  b.members.trust(a.node.identity);
  await cluster.scheduler.until(a.members.add(b.node));
  await cluster.scheduler.pass(10_000);
  return { a, b, cluster };
}

t.test('a stop that comes while a start is being made holds, whatever its reason', async (t) => {
  const { cluster, a } = await twoNodes(t);
  const { identity } = a.node;
  await cluster.scheduler.until(stopSplits(a.records, identity, 'why'));
  const again = stopSplits(a.records, identity, 'why');
  const started = startSplits(a.records);
  await cluster.scheduler.until(Promise.all([again, started]));
  t.equal(stopReason(a.records), 'why');
  await cluster.scheduler.until(startSplits(a.records));
  t.equal(stopReason(a.records), undefined);
});

t.test('a stop of the first versions, which has no number, is ended as any other', async (t) => {
  const { cluster, a, b } = await twoNodes(t);
  const key = `splits/${a.node.identity}`;
  await cluster.scheduler.until(a.records.change(key, () => ({ stopped: 'old' })));
  await cluster.scheduler.until(a.records.toMembers([key]));
  t.equal(stopReason(b.records), 'old');
  await cluster.scheduler.until(startSplits(b.records));
  t.equal(stopReason(b.records), undefined);
  const unsound = a.records.change(key, () => ({ stopped: 'x', number: 0.5 }));
  await t.rejects(cluster.scheduler.until(unsound), { code: 'BAD_REQUEST' });
});

t.test('a new node hears of everything, and of what changes', async (t) => {
  const { a, b, cluster } = await twoNodes(t);
  t.strictSame(b.members.list(), a.members.list());
  t.equal(b.members.list().length, 2);
  await cluster.scheduler.until(b.records.change('admin/x', () => ({ password: 1 })));
  const reached = await cluster.scheduler.until(b.spread.toMembers(['admin/x']));
  t.ok(reached.isMajority);
  t.equal(reached.reached.length, 2);
  t.same(a.records.get('admin/x'), { password: 1 });
  const stopped = await cluster.scheduler.until(stopSplits(a.records, a.node.identity, 'why'));
  await cluster.scheduler.until(a.records.toMembers(stopped));
  t.equal(stopReason(b.records), 'why');
  await cluster.scheduler.until(startSplits(b.records));
  t.equal(stopReason(b.records), undefined);
  cluster.network.part([a.node.identity], [b.node.identity]);
  await cluster.scheduler.until(a.records.change('admin/x', () => ({ password: 2 })));
  const { missed, isMajority } = await cluster.scheduler.until(a.records.toMembers(['admin/x']));
  t.notOk(isMajority, 'one of two is no majority');
  t.strictSame(missed, [b.node]);
  t.notOk(a.members.isReached(b.node.identity));
});

t.test('names and identities of members', async (t) => {
  const { a, b, cluster } = await twoNodes(t);
  const { scheduler } = cluster;
  const taken = { ...b.node, identity: 'f'.repeat(32) };
  await t.rejects(scheduler.until(a.members.add(taken)), { code: 'CONFLICT' });
  await scheduler.until(a.members.remove(b.node.identity));
  await t.rejects(scheduler.until(a.members.add(b.node)), { code: 'CONFLICT' });
  await t.rejects(scheduler.until(a.members.remove(b.node.identity)), { code: 'NOT_FOUND' });
  await scheduler.pass(20_000);
  t.strictSame(b.members.list(), [b.node], 'who is removed hears of it');
});

t.test('what no member may send changes nothing', async (t) => {
  const { a, b, cluster } = await twoNodes(t);
  const calls = cluster.network.callsOf(b.node.identity, () => true);
  const before = a.records.index.digests.total;
  const good = ['admin/good', 1, { password: 1 }];
  const identity = b.node.identity;
  const bad = [
    ['admin/x', -1, { password: 1 }],
    ['admin/x', 0.5, { password: 1 }],
    ['admin/x', 2 ** 53, { password: 1 }],
    ['admin/x', 1, {}],
    ['admin/x', 1, 'text'],
    ['admin/', 1, { password: 1 }],
    ['admin/x', 1, { password: 1 }, 1],
    [`member/${identity.slice(1)}`, 1, { ...NODE, state: 'member' }],
    [`member/${identity}`, 1, { ...NODE, state: 'king' }],
    [`member/${identity}`, 1, { ...NODE, name: 'no host', state: 'member' }],
    ...URLS_OF_NONE.map((url) => [`member/${identity}`, 1, { ...NODE, url, state: 'member' }]),
    ['database/x', 1, { incarnations: {}, deleted: { me: 1 } }],
    ['database/x', 1, { incarnations: { i: {} }, deleted: {} }],
    [
      `row/${identity}/x/i`,
      1,
      { database: 'y', incarnation: 'i', by: identity, suffix: 1, shards: [] },
    ],
    ['admin/x', 1, { password: 'x'.repeat(600_000) }],
    7,
  ];
  for (const record of bad) {
    const head = { records: [good, record], want: [] };
    const pushed = cluster.scheduler.until(calls.call(a.node, 'records/push', head));
    const error = await pushed.then(
      () => undefined,
      (error: unknown) => error,
    );
    const isRefused = isDivanError(error, 'BAD_REQUEST') || isDivanError(error, 'TOO_LARGE');
    t.ok(isRefused, JSON.stringify(record).slice(0, 80));
  }
  const many = { records: Array.from({ length: 501 }, () => good), want: [] };
  await t.rejects(cluster.scheduler.until(calls.call(a.node, 'records/push', many)), {
    code: 'TOO_LARGE',
  });
  const later = { records: [['later/x', 1, { of: 'a newer version' }]], want: [] };
  await cluster.scheduler.until(calls.call(a.node, 'records/push', later));
  t.equal(a.records.index.digests.total, before);
  const stranger = cluster.network.callsOf('9'.repeat(32), () => true);
  const asked = stranger.call(a.node, 'records/push', { records: [good], want: [] });
  await t.rejects(cluster.scheduler.until(asked), { code: 'FORBIDDEN' });
});

t.test('a row is its own node’s alone', async (t) => {
  const { a, b, cluster } = await twoNodes(t);
  const { scheduler } = cluster;
  const row = { database: 'x', incarnation: 'i', by: ME, suffix: 1, shards: [] };
  t.equal(await scheduler.until(a.rows.write(row)), 1);
  const key = `row/${a.node.identity}/x/i`;
  await scheduler.until(a.records.toMembers([key]));
  await t.rejects(scheduler.until(b.records.change(key, (value) => value)), {
    code: 'BAD_REQUEST',
  });
  // What the others would know if this node were set back.
  const record = a.records.record(key);
  if (record === undefined) throw new Error('there is no row');
  await scheduler.until(b.records.take([{ ...record, counter: 7 }]));
  await scheduler.pass(20_000);
  t.equal(a.rows.own('x', 'i')?.isContested, true);
  await t.rejects(scheduler.until(a.rows.write(row)), { code: 'CONFLICT' });
  t.equal(await scheduler.until(a.rows.settle(row)), 8);
  t.strictSame(a.rows.contested(), []);
  await scheduler.until(a.records.toMembers([key]));
  t.equal(b.rows.of('x')[0]?.epoch, 8);
  const deleted = { incarnations: {}, deleted: { [ME]: 1 } };
  await scheduler.until(b.records.change('database/x', () => deleted));
  await scheduler.until(b.records.toMembers(['database/x']));
  t.strictSame(a.rows.of('x'), []);
  await t.rejects(scheduler.until(a.rows.write(row)), { code: 'CONFLICT' });
});

t.test('what is the same is compared at once, however much it is', async (t) => {
  const stored = new Map<string, object>();
  for (let database = 0; database < 1000; database++) {
    for (let node = 0; node < 16; node++) {
      const identity = node.toString(16).padStart(32, '0');
      const value = { database: `d${database}`, incarnation: 'i', by: ME, suffix: 1, shards: [] };
      stored.set(`cluster/row/${identity}/d${database}/i`, { counter: 1, value });
    }
  }
  const disk = {
    get: (key: string) => stored.get(key),
    keys: () => [...stored.keys()],
    set: async () => undefined,
    remove: async () => undefined,
  };
  const records = await ClusterRecords.open(disk, ME);
  const { digests } = records.index;
  const times: number[] = [];
  for (let turn = 0; turn < 5; turn++) {
    const before = performance.now();
    t.equal(digests.total, digests.total);
    t.strictSame(digests.differing(digests.buckets), []);
    times.push(performance.now() - before);
  }
  t.ok(Math.min(...times) < 100, `${Math.min(...times)} ms`);
  const other = records.record(`row/${ME}/d7/i`);
  if (other !== undefined) await records.take([{ ...other, counter: 2 }]);
  t.equal(digests.differing(Buffer.alloc(256 * 16).toString('hex'))?.length, 256);
});
