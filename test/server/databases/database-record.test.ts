/**
 * Goal: what nodes know of a database name is merged to the same on all of them, whatever order it comes in: deletions remove what they knew of, and
 * nothing else. Method: cases by hand, and random lives of some replicas that make, delete and exchange, against a model of what was deleted.
 */
import t from 'tap';
import { evenRanges, FULL_RANGE } from '../../../engine/shard/hash.js';
import { joinDatabases } from '../../../server/cluster/incarnations.js';
import {
  type DatabaseValue,
  databaseJson,
  type Incarnation,
  inForce,
  isDeleted,
  mergeValues,
  readDatabaseValue,
  suffixAfter,
  withIncarnation,
  withoutIncarnations,
} from '../../../server/databases/database-record.js';
import { placeRanges } from '../../../server/databases/placing.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';

const NOTHING = readDatabaseValue(undefined);

function hex(number: number): string {
  return number.toString(16).padStart(32, '0');
}

function made(number: number, maker: number, suffix: number): Incarnation {
  return {
    incarnation: hex(number),
    maker: hex(maker),
    suffix,
    q: 1,
    copies: 1,
    hashRule: 'document',
    security: '',
    placement: new Map([['00000000-ffffffff', [hex(maker)]]]),
  };
}

function textOf(value: DatabaseValue): string {
  return JSON.stringify(databaseJson(value));
}

t.test('a deletion removes what it knew of, and nothing that was made meanwhile', (t) => {
  const first = withIncarnation(NOTHING, made(1, 1, 10));
  const deleted = withoutIncarnations(first);
  const remade = withIncarnation(withoutIncarnations(first), made(2, 2, 11));
  t.equal(inForce(mergeValues(first, deleted)), undefined);
  t.equal(inForce(mergeValues(deleted, remade))?.incarnation, hex(2));
  t.equal(inForce(mergeValues(remade, first))?.incarnation, hex(2));
  const elsewhere = withIncarnation(NOTHING, made(3, 3, 5));
  const both = mergeValues(deleted, elsewhere);
  t.equal(inForce(both)?.incarnation, hex(3), 'one that the deletion did not know stays');
  t.ok(isDeleted(both, made(1, 1, 10)));
  t.notOk(isDeleted(both, made(4, 4, 1)), 'one that nobody knows is not deleted');
  t.equal(suffixAfter(both), 11);
  t.end();
});

t.test(
  'of several the one with the greatest suffix is in force, and of equal ones the greater name',
  (t) => {
    const a = withIncarnation(NOTHING, made(9, 1, 10));
    const b = withIncarnation(NOTHING, made(1, 2, 11));
    const c = withIncarnation(NOTHING, made(2, 3, 11));
    t.equal(inForce(mergeValues(a, b))?.incarnation, hex(1));
    t.equal(inForce(mergeValues(mergeValues(c, a), b))?.incarnation, hex(2));
    t.end();
  },
);

t.test('all orders give the same', (t) => {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  for (let life = 0; life < 60; life++) {
    const replicas: DatabaseValue[] = [NOTHING, NOTHING, NOTHING, NOTHING];
    const deleted = new Set<string>();
    const all = new Set<string>();
    let count = life * 1000;
    for (let step = 0; step < 40; step++) {
      const at = randomInt(random, replicas.length);
      const value = replicas[at] ?? NOTHING;
      const choice = random();
      if (choice < 0.3) {
        const one = made(++count, at, Math.max(randomInt(random, 20), suffixAfter(value)));
        all.add(one.incarnation);
        replicas[at] = withIncarnation(value, one);
      } else if (choice < 0.5) {
        for (const incarnation of value.incarnations.keys()) deleted.add(incarnation);
        replicas[at] = withoutIncarnations(value);
      } else {
        replicas[at] = mergeValues(value, replicas[randomInt(random, replicas.length)] ?? NOTHING);
      }
    }
    const forwards = replicas.reduce(mergeValues);
    const backwards = [...replicas].reverse().reduce((a, b) => mergeValues(b, a));
    t.equal(textOf(forwards), textOf(backwards));
    t.equal(textOf(mergeValues(forwards, forwards)), textOf(forwards));
    const left = [...all].filter((incarnation) => !deleted.has(incarnation)).sort();
    t.strictSame([...forwards.incarnations.keys()].sort(), left);
  }
  t.end();
});

t.test('the record does not grow with what was deleted', (t) => {
  let value = NOTHING;
  for (let n = 1; n <= 1000; n++) {
    value = withoutIncarnations(withIncarnation(value, made(n, n % 3, suffixAfter(value))));
  }
  t.ok(textOf(value).length < 300);
  t.end();
});

t.test('as JSON', (t) => {
  const value = withIncarnation(withIncarnation(NOTHING, made(7, 1, 10)), made(2, 2, 11));
  const json = databaseJson(value);
  t.equal(textOf(readDatabaseValue(json)), JSON.stringify(json));
  t.strictSame(joinDatabases(json, databaseJson(NOTHING)), json);
  const bad: readonly unknown[] = [
    1,
    {},
    { ...json, deleted: 1 },
    { ...json, deleted: { x: 1 } },
    { ...json, deleted: { [hex(3)]: 1.5 } },
    { ...json, incarnations: { x: 1 } },
    JSON.parse(JSON.stringify(json).replace('00000000-ffffffff', '00000000-7fffffff')),
    JSON.parse(JSON.stringify(json).replace('"q":1', '"q":1000')),
    JSON.parse(JSON.stringify(json).replace('"document"', '"other"')),
  ];
  for (const wrong of bad) {
    const text = JSON.stringify(wrong);
    t.throws(() => readDatabaseValue(JSON.parse(text)), { code: 'CORRUPT' }, text.slice(0, 60));
  }
  t.end();
});

t.test('ranges are placed evenly, the same whatever order the members come in', (t) => {
  const members = [1, 2, 3].map(hex);
  const ranges = evenRanges(FULL_RANGE, 8);
  const placed = placeRanges('db', ranges, members);
  t.equal(placed.size, 8);
  t.strictSame(placed, placeRanges('db', ranges, [...members].reverse()));
  const counts = members.map(
    (node) => [...placed.values()].filter((owners) => owners.includes(node)).length,
  );
  t.ok(Math.max(...counts) - Math.min(...counts) <= 1, counts.join(' '));
  const firsts = new Map<string, number>();
  for (let n = 0; n < 300; n++) {
    const [owner = ''] = [
      ...placeRanges(`db${n}`, evenRanges(FULL_RANGE, 1), members).values(),
    ].flat();
    firsts.set(owner, (firsts.get(owner) ?? 0) + 1);
  }
  for (const node of members) t.ok((firsts.get(node) ?? 0) > 60, 'small databases are on all');
  t.end();
});
