/**
 * Goal: what a request says in its target and its headers is read exactly or refused.
 * Method: literal cases for each reader; properties against Node's own encoders.
 */
import fc from 'fast-check';
import t from 'tap';
import {
  contentRange,
  parseRange,
  unsatisfiedContentRange,
} from '../../../server/http/byte-range.js';
import {
  formatETag,
  isNotModified,
  isRangeWanted,
  parseETags,
  revisionOfIfMatch,
} from '../../../server/http/etags.js';
import { parseTarget } from '../../../server/http/path.js';
import { percentDecode } from '../../../server/http/percent.js';
import { Query } from '../../../server/http/query.js';
import { caught, outcome, reason } from '../../support/outcome.js';
import { seedOf } from '../../support/seed.js';

const RUNS = 300;

t.test('percent-encoding', async (t) => {
  const decode = (text: string, plus = false) =>
    outcome(() => percentDecode(text, 0, text.length, plus, 'it'));
  t.equal(decode('a%2Fb%2fc+d'), 'a/b/c+d');
  t.equal(decode('a+b%2B', true), 'a b+');
  t.equal(decode('%C3%A9%F0%9F%98%80'), 'é\u{1f600}');
  t.equal(decode('\xc3\xa9'), 'é', 'raw bytes of UTF-8');
  t.equal(decode('%EF%BB%BFa'), '\ufeffa', 'a byte order mark is kept');
  t.equal(decode('%252F'), '%2F', 'decoded once');
  const bad = [
    '%',
    '%4',
    'a%4',
    '%ZZ',
    '%4G',
    '%G4',
    '%%41',
    '%-1',
    '%FF',
    '%C3',
    '%C0%80',
    '%ED%A0%80',
  ];
  for (const text of [...bad, '\xff', '\u0100']) t.equal(decode(text), 'BAD_REQUEST', text);
  t.equal(
    outcome(() => percentDecode('%41', 0, 2, false, 'it')),
    'BAD_REQUEST',
    'cut by the end',
  );
  const property = fc.property(fc.string({ unit: 'grapheme' }), (text) => {
    t.equal(decode(encodeURIComponent(text)), text);
  });
  fc.assert(property, { seed: seedOf(t), numRuns: RUNS });
});

t.test('queries', async (t) => {
  const query = new Query(
    'a=1&b=true&c=false&d&e=%22x%22&f=[%22p%22,%22q%22]&a=-7&&g=x%20y+z&=',
    10,
  );
  t.equal(query.integer('a', { min: -10, max: 10 }), -7, 'the last holds');
  t.equal(query.boolean('b'), true);
  t.equal(query.boolean('c'), false);
  t.equal(query.string('d'), '');
  t.equal(query.jsonString('e'), 'x');
  t.equal(query.json('e'), 'x');
  t.same(query.strings('f', 2), ['p', 'q']);
  t.equal(query.string('g'), 'x y z');
  t.same(query.names(), ['a', 'b', 'c', 'd', 'e', 'f', 'g', '']);
  t.ok(query.has('d') && !query.has('x') && !query.has('constructor'));
  for (const empty of [query, new Query('', 0)]) {
    t.equal(empty.string('x'), undefined);
    t.equal(empty.boolean('x'), undefined);
    t.equal(empty.integer('x', { min: 0, max: 1 }), undefined);
    t.equal(empty.json('x'), undefined);
    t.equal(empty.jsonString('x'), undefined);
    t.equal(empty.strings('x', 1), undefined);
  }
  t.same(new Query('', 0).names(), []);
  t.equal(new Query('', 0).has('x'), false);
  t.equal(new Query('x=a=b', 1).string('x'), 'a=b');
  t.equal(new Query('a&b=1', 2).string('a'), '', 'the = of the next is not its own');
  for (const raw of ['x=%ZZ', '%=1', 'x=%FF', 'a&b&c']) {
    t.equal(
      outcome(() => new Query(raw, 2)),
      'BAD_REQUEST',
      raw,
    );
  }
  t.ok(new Query('a=1&a=2', 2), 'as many parameters as may be');
});

t.test('parameters of a wrong type', async (t) => {
  const boolean = (raw: string) => reason(() => new Query(raw, 9).boolean('x'));
  t.match(boolean('x=1'), 'Invalid boolean parameter: "1"');
  t.match(boolean('x=True'), 'Invalid boolean parameter: "True"');
  t.match(boolean('x='), 'Invalid boolean parameter: ""');
  t.ok(boolean(`x=${'y'.repeat(5000)}`).length < 200, 'a reason is short');
  for (const text of [
    '',
    'a',
    '1.5',
    '1e3',
    '0x1',
    '+1',
    ' 1',
    '-',
    '--1',
    '99999999999999999',
    '11',
    '-1',
  ]) {
    const query = new Query(`x=${encodeURIComponent(text)}`, 9);
    t.match(
      reason(() => query.integer('x', { min: 0, max: 10 })),
      /^Invalid value for integer: ".*x/,
    );
    t.equal(
      outcome(() => query.integer('x', { min: 0, max: 10 })),
      'BAD_REQUEST',
    );
  }
  for (const text of ['', 'a', '{"a":1,"a":2}', '[1,]', "'a'"]) {
    const query = new Query(`x=${encodeURIComponent(text)}`, 9);
    t.equal(
      outcome(() => query.json('x')),
      'BAD_REQUEST',
    );
    t.match(
      reason(() => query.json('x')),
      /^x: invalid JSON/,
    );
  }
  t.equal(
    outcome(() => new Query('x=1', 9).jsonString('x')),
    'BAD_REQUEST',
  );
  t.equal(
    outcome(() => new Query('x=[1]', 9).strings('x', 1)),
    'BAD_REQUEST',
  );
  t.equal(
    outcome(() => new Query('x=[%22%22,%22%22]', 9).strings('x', 1)),
    'TOO_LARGE',
  );
});

t.test('queries are read as URLSearchParams writes them', async (t) => {
  const pairs = fc.array(
    fc.tuple(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' })),
  );
  const property = fc.property(pairs, (pairs) => {
    const query = new Query(new URLSearchParams(pairs).toString(), 1000);
    for (const [name, value] of new Map(pairs)) t.equal(query.string(name), value);
  });
  fc.assert(property, { seed: seedOf(t), numRuns: RUNS });
});

t.test('targets', async (t) => {
  const target = (text: string) => outcome(() => parseTarget(text, 100));
  const good: [string, string[], string][] = [
    ['/', [], ''],
    ['/db', ['db'], ''],
    ['/db/', ['db'], ''],
    ['//db//id', ['db', 'id'], ''],
    ['/a%2Fb/_design%2Fx/c+d?x=/../y?z', ['a/b', '_design/x', 'c+d'], 'x=/../y?z'],
    ['/db/%2E%2E/%2e', ['db', '..', '.'], ''],
    ['/db/..a/.b/...', ['db', '..a', '.b', '...'], ''],
    ['/db?', ['db'], ''],
    ['http://host:5984/db/id?x=1', ['db', 'id'], 'x=1'],
    ['HTTPS://host', [], ''],
    ['http://host?x', [], 'x'],
    ['/db/a\\b', ['db', 'a\\b'], ''],
  ];
  for (const [text, segments, query] of good) {
    t.match(target(text), { segments, query }, text);
  }
  t.match(target('http://host/a%2fb/?c'), { path: '/a%2fb/' }, 'the path is as it was sent');
  const bad = ['', '*', 'db', 'http:', 'http:///db', 'ftp://host/db', 'host:80', '?x'];
  const dots = [
    '/.',
    '/..',
    '/db/../x',
    '/./db',
    '/../../etc/passwd',
    '/db/..?x',
    'http://host/..',
  ];
  const coding = ['/%00', '/db/a%00b', '/db/\0', '/%ZZ', '/%FF', '/a%2'];
  for (const text of [...bad, ...dots, ...coding]) t.equal(target(text), 'BAD_REQUEST', text);
  t.match(target(`/${'x'.repeat(99)}`), { segments: ['x'.repeat(99)] });
  t.equal(target(`/${'x'.repeat(100)}`), 'TOO_LARGE');
  const names = fc.array(fc.string({ unit: 'grapheme', minLength: 1 }));
  const property = fc.property(names, (names) => {
    const wanted = names.filter((name) => !/^\.\.?$|\0/.test(name));
    const path = `/${wanted.map(encodeURIComponent).join('/')}`;
    t.same(parseTarget(path, 10_000).segments, wanted);
  });
  fc.assert(property, { seed: seedOf(t), numRuns: RUNS });
});

t.test('entity tags', async (t) => {
  t.equal(formatETag('1-abc'), '"1-abc"');
  for (const text of ['a"b', 'a\r\nb', '1-ü', 'a b']) t.equal(formatETag(text), undefined, text);
  t.equal(parseETags(' * '), '*');
  t.same(parseETags('"a", W/"b,c" ,"", 1-d'), [
    { text: 'a', weak: false },
    { text: 'b,c', weak: true },
    { text: '', weak: false },
    { text: '1-d', weak: false },
  ]);
  t.same(parseETags(',, "a",'), [{ text: 'a', weak: false }]);
  t.same(parseETags(''), []);
  for (const text of ['"a', 'a"', '"a" "b"', 'W/ "a"', '*, "a"', 'a b', '"a\0"', '"é€"']) {
    t.equal(
      outcome(() => parseETags(text)),
      'BAD_REQUEST',
      text,
    );
  }
  t.equal(
    outcome(() => parseETags('"a",'.repeat(2000))),
    'BAD_REQUEST',
    'too many',
  );
});

t.test('conditions', async (t) => {
  t.equal(isNotModified(undefined, 'a'), false);
  t.equal(isNotModified('"b", W/"a"', 'a'), true);
  t.equal(isNotModified('*', 'a'), true);
  t.equal(isNotModified('"b"', 'a'), false);
  t.equal(isNotModified('"a', 'a'), false, 'a malformed list names nothing');
  t.equal(isRangeWanted(undefined, 'a'), true);
  t.equal(isRangeWanted('"a"', 'a'), true);
  t.equal(isRangeWanted('W/"a"', 'a'), false);
  t.equal(isRangeWanted('Sat, 29 Oct 1994 19:43:31 GMT', 'a'), false);
  t.equal(revisionOfIfMatch(undefined), undefined);
  for (const text of ['"1-a"', '1-a', 'W/"1-a"']) t.equal(revisionOfIfMatch(text), '1-a');
  for (const text of ['*', '', '"a", "b"', '"a']) {
    t.equal(
      outcome(() => revisionOfIfMatch(text)),
      'BAD_REQUEST',
      text,
    );
  }
});

t.test('ranges', async (t) => {
  const cases: [string | undefined, number, unknown][] = [
    [undefined, 10, undefined],
    ['bytes=0-4', 10, { start: 0, end: 5 }],
    ['BYTES=0-0', 10, { start: 0, end: 1 }],
    ['bytes= 9-', 10, { start: 9, end: 10 }],
    ['bytes=0-99999999999999999999999', 10, { start: 0, end: 10 }],
    ['bytes=-3', 10, { start: 7, end: 10 }],
    ['bytes=-30', 10, { start: 0, end: 10 }],
    ['bytes=-3', 0, undefined],
    ['bytes=10-', 10, 'RANGE_NOT_SATISFIABLE'],
    ['bytes=10-20', 10, 'RANGE_NOT_SATISFIABLE'],
    ['bytes=-0', 10, 'RANGE_NOT_SATISFIABLE'],
    ['bytes=0-', 0, 'RANGE_NOT_SATISFIABLE'],
    ['bytes=99999999999999999999999-', 10, 'RANGE_NOT_SATISFIABLE'],
  ];
  const ignored = [
    'bytes=5-4',
    'bytes=-',
    'bytes=',
    'bytes',
    '',
    'bytes=0-1,3-4',
    'bytes=a-b',
    'bytes=0x1-2',
  ];
  for (const header of [
    ...ignored,
    'lines=0-4',
    'bytes=--3',
    'bytes=1-2-3',
    'bytes=1 - 2',
    'bytes=99-98',
  ]) {
    cases.push([header, 10, undefined]);
  }
  for (const [header, length, wanted] of cases) {
    t.same(
      outcome(() => parseRange(header, length)),
      wanted,
      `${header} of ${length}`,
    );
  }
  t.equal(contentRange({ start: 2, end: 5 }, 10), 'bytes 2-4/10');
  t.equal(unsatisfiedContentRange(10), 'bytes */10');
  t.match(
    caught(() => parseRange('bytes=10-', 10)),
    { facts: { actual: 10 } },
  );
  const property = fc.property(fc.nat(30), fc.nat(30), fc.nat(30), (first, last, length) => {
    const bytes = Array.from({ length }, (_, index) => index);
    const wanted = bytes.filter((at) => at >= first && at <= last);
    const found = outcome(() => parseRange(`bytes=${first}-${last}`, length));
    if (first > last) t.equal(found, undefined);
    else if (wanted.length === 0) t.equal(found, 'RANGE_NOT_SATISFIABLE');
    else t.same(found, { start: wanted[0], end: wanted.length + first });
  });
  fc.assert(property, { seed: seedOf(t), numRuns: RUNS });
});
