/**
 * Goal: JSON bodies are taken for what they are or refused, small ones as values and large ones piece by piece.
 * Method: literal cases; properties against JSON.parse over random texts and damaged ones.
 */
import fc from 'fast-check';
import t from 'tap';
import { canonicalJson } from '../../../engine/shard/json-text.js';
import { type JsonRange, splitElements, splitMembers } from '../../../server/http/json-members.js';
import * as json from '../../../server/http/json-value.js';
import { outcome, outcomeOf, reason } from '../../support/outcome.js';
import { seedOf } from '../../support/seed.js';

const RUNS = 300;

function parsed(text: string | Buffer): json.JsonValue {
  return json.parseJson(Buffer.from(text));
}

t.test('JSON texts', async (t) => {
  t.same(parsed(' {"a":[1,2.5,null,true,"é"]} '), { a: [1, 2.5, null, true, 'é'] });
  const refused = [
    '',
    '{"a":1,"a":2}',
    '{"a":1,"\\u0061":2}',
    '{"a":1,}',
    '"\\ud800"',
    '\ufeff{}',
    '{} {}',
    Buffer.from([0x22, 0xff, 0x22]),
    Buffer.from([0x22, 0xc0, 0x80, 0x22]),
    `${'['.repeat(513)}${']'.repeat(513)}`,
  ];
  for (const text of refused)
    t.equal(
      outcome(() => parsed(text)),
      'INVALID_JSON',
      String(text),
    );
  t.same(parsed('[1]'), [1], 'a refused text leaves nothing behind');
  t.equal(
    parsed(`"${'x'.repeat(200_000)}"`),
    'x'.repeat(200_000),
    'a text beyond the shared scanner',
  );
  const part = Buffer.from('xx[7]yy').subarray(2, 5);
  t.same(json.parseJson(part), [7], 'a part of a buffer');
});

t.test('JSON texts are read as JSON.parse reads them', async (t) => {
  const property = fc.property(fc.jsonValue(), (value) => {
    const text = JSON.stringify(value);
    t.same(parsed(text), JSON.parse(text));
  });
  fc.assert(property, { seed: seedOf(t), numRuns: RUNS });
});

t.test('members are own members', async (t) => {
  const object = json.objectOf(parsed('{"__proto__":{"isAdmin":true},"a":1}'), 'the body');
  t.same(json.memberOf(object, 'a'), 1);
  t.same(json.memberOf(object, '__proto__'), { isAdmin: true });
  t.equal(json.memberOf(object, 'isAdmin'), undefined);
  for (const name of ['constructor', 'toString', 'hasOwnProperty']) {
    t.equal(json.memberOf(object, name), undefined, name);
  }
  const empty = json.objectOf(parsed('{}'), 'the body');
  t.equal(json.memberOf(empty, '__proto__'), undefined);
  t.equal(
    outcome(() => json.requiredString(empty, 'constructor')),
    'BAD_REQUEST',
  );
});

t.test('readers of members', async (t) => {
  const text =
    '{"s":"x","b":false,"i":5,"l":["a","b"],"m":["a",1],"o":{"p":null},"n":null,"f":1.5}';
  const object = json.objectOf(parsed(text), 'the body');
  const bounds = { min: 1, max: 5 };
  t.equal(json.requiredString(object, 's'), 'x');
  t.equal(json.optionalBoolean(object, 'b'), false);
  t.equal(json.optionalInteger(object, 'i', bounds), 5);
  t.same(json.requiredStrings(object, 'l', 2), ['a', 'b']);
  t.same(json.requiredArray(object, 'm', 2), ['a', 1]);
  t.equal(json.optionalString(object, 'x'), undefined);
  t.equal(json.optionalBoolean(object, 'x'), undefined);
  t.equal(json.optionalInteger(object, 'x', bounds), undefined);
  t.equal(json.optionalStrings(object, 'x', 2), undefined);
  t.equal(json.optionalArray(object, 'x', 2), undefined);
  for (const value of ['null', '[]', '"x"', '1', 'true']) {
    t.match(
      reason(() => json.objectOf(parsed(value), 'the body')),
      /the body must be a JSON object/,
    );
  }
  const wrong: [string, () => unknown][] = [
    ['`i` must be a string', () => json.optionalString(object, 'i')],
    ['`n` must be a string', () => json.optionalString(object, 'n')],
    ['`n` must be true or false', () => json.optionalBoolean(object, 'n')],
    ['`s` must be an integer from 1 to 5', () => json.optionalInteger(object, 's', bounds)],
    ['`f` must be an integer from 1 to 5', () => json.optionalInteger(object, 'f', bounds)],
    [
      '`i` must be an integer from 1 to 4',
      () => json.optionalInteger(object, 'i', { min: 1, max: 4 }),
    ],
    [
      '`i` must be an integer from 6 to 9',
      () => json.optionalInteger(object, 'i', { min: 6, max: 9 }),
    ],
    ['`m` must hold strings only', () => json.optionalStrings(object, 'm', 2)],
    ['`o` must be an array', () => json.requiredStrings(object, 'o', 2)],
    ['the member `x` is missing', () => json.requiredString(object, 'x')],
    ['the member `x` is missing', () => json.requiredStrings(object, 'x', 2)],
    ['the member `x` is missing', () => json.requiredArray(object, 'x', 2)],
  ];
  for (const [wanted, call] of wrong) {
    t.equal(reason(call), wanted);
    t.equal(outcome(call), 'BAD_REQUEST', wanted);
  }
  t.equal(
    outcome(() => json.requiredStrings(object, 'l', 1)),
    'TOO_LARGE',
  );
  const huge = json.objectOf(parsed('{"i":9007199254740993,"e":1e400}'), 'the body');
  const any = { min: -Infinity, max: Infinity };
  t.equal(
    outcome(() => json.optionalInteger(huge, 'i', any)),
    'BAD_REQUEST',
    'no exact double',
  );
  t.equal(
    outcome(() => json.optionalInteger(huge, 'e', any)),
    'BAD_REQUEST',
    'infinite',
  );
});

const noTurns = { countMax: 1000, yieldTurn: async () => {} };

function whole(text: Uint8Array): JsonRange {
  return { start: 0, end: text.length };
}

function slice(text: Buffer, range: JsonRange): Buffer {
  return text.subarray(range.start, range.end);
}

/** What the members of a text are: names, and values as JSON. */
async function members(text: string | Buffer): Promise<[string, string][]> {
  const bytes = Buffer.from(text);
  const found = await splitMembers(bytes, whole(bytes), noTurns);
  return found.map((member) => [member.name, slice(bytes, member).toString()]);
}

async function elements(text: string | Buffer): Promise<string[]> {
  const bytes = Buffer.from(text);
  const found = await splitElements(bytes, whole(bytes), noTurns);
  const indexes = Array.from({ length: found.length }, (_, index) => index);
  return indexes.map((at) => bytes.subarray(found.start(at), found.end(at)).toString());
}

t.test('members and elements stand where they are said to', async (t) => {
  t.same(
    await members(' { "a" : [1, {"b": "}]"}] , "\\u0062\\"":"\\\\" ,"":-1.5e3\n,"é":null } '),
    [
      ['a', '[1, {"b": "}]"}]'],
      ['b"', '"\\\\"'],
      ['', '-1.5e3'],
      ['é', 'null'],
    ],
  );
  t.same(await members('{}'), []);
  t.same(await members('{"__proto__":{},"constructor":1}'), [
    ['__proto__', '{}'],
    ['constructor', '1'],
  ]);
  t.same(await elements('\t[ ]\r\n'), []);
  t.same(await elements('[1,"a,]\\"",[[],[{}]],{"]":"["} , true]'), [
    '1',
    '"a,]\\""',
    '[[],[{}]]',
    '{"]":"["}',
    'true',
  ]);
  const strings = ['"\\\\"', '"\\\\\\""', '"\\""', '"\\\\\\\\"', '"\\\\,\\"]"'];
  t.same(await elements(`[${strings.join(',')}]`), strings, 'quotes behind backslashes');
  t.same(await elements(`[[${strings.join(',')}]]`), [`[${strings.join(',')}]`]);
  const deep = `${'['.repeat(512)}${']'.repeat(512)}`;
  t.same(await elements(deep), [deep.slice(1, -1)], 'as deep as may be');
});

t.test('a part of a text is taken apart in place', async (t) => {
  const text = Buffer.from('xx{"docs":[{"_id":"a"},{}],"n":1}yy"');
  const found = await splitMembers(text, { start: 2, end: text.length - 3 }, noTurns);
  t.same(found[0], { name: 'docs', start: 10, end: 26 });
  const docs = found[0] ?? whole(text);
  const inner = await splitElements(text, docs, noTurns);
  t.same(
    [inner.length, inner.start(0), inner.end(0), inner.start(1), inner.end(1)],
    [2, 11, 22, 23, 25],
  );
  t.throws(() => inner.start(2));
  t.same(await splitMembers(text, { start: 11, end: 22 }, noTurns), [
    { name: '_id', start: 18, end: 21 },
  ]);
  const cut = splitMembers(Buffer.from('{"a":"b"}"'), { start: 0, end: 7 }, noTurns);
  t.equal(await outcomeOf(cut), 'INVALID_JSON', 'a quote beyond the part does not end a string');
});

t.test('texts that are not of the form', async (t) => {
  const objects: [string, number][] = [
    ['', 0],
    [' ', 1],
    ['[]', 0],
    ['\ufeff{}', 0],
    ['{', 1],
    ['{"a', 1],
    ['{"a"', 4],
    ['{"a" 1}', 5],
    ['{"a":', 5],
    ['{"a":}', 5],
    ['{"a":,"b":1}', 5],
    ['{"a":1', 6],
    ['{"a":1,', 7],
    ['{"a":1,}', 7],
    ['{,"a":1}', 1],
    ['{"a":1 "b":2}', 7],
    ['{"a":1:2}', 6],
    ['{"a":tru e}', 9],
    ['{"a":1"b"}', 6],
    ['{"a":"b""c"}', 8],
    ['{"a":[}', 6],
    ['{"a":[{]}}', 7],
    ['{"a":{"b":[1}]}', 12],
    ['{"a":["]}', 6],
    ['{"a":"\\"}', 5],
    ['{"a":1}}', 7],
    ['{"a":1} x', 8],
    ['{a:1}', 1],
    ["{'a':1}", 1],
    ['{"a":1,"a":2}', 11],
    ['{"a":1,"\\u0061":2}', 16],
    ['{"\\ud800":1}', 2],
    ['{"\\x":1}', 2],
    ['{"a\n":1}', 3],
    ['{"a":1]', 6],
  ];
  for (const [text, at] of objects) {
    const error: unknown = await members(text).catch((error: unknown) => error);
    t.match(error, { code: 'INVALID_JSON', facts: { at } }, text);
    t.match(error, { message: new RegExp(`^invalid JSON: .* at byte ${at}$`, 's') });
  }
  for (const text of [
    '{}',
    '[',
    '[1,]',
    '[,1]',
    '[1 2]',
    '[1]]',
    '["a":1]',
    '[}',
    '[1}',
    '[[1}]',
  ]) {
    t.equal(await outcomeOf(elements(text)), 'INVALID_JSON', text);
  }
  t.equal(await outcomeOf(elements(`${'['.repeat(513)}${']'.repeat(513)}`)), 'INVALID_JSON');
  t.equal(await outcomeOf(elements('['.repeat(100_000))), 'INVALID_JSON');
  const badName = Buffer.concat([Buffer.from('{"'), Buffer.from([0xff]), Buffer.from('":1}')]);
  t.equal(await outcomeOf(members(badName)), 'INVALID_JSON');
});

t.test('too many and too long', async (t) => {
  const two = { ...noTurns, countMax: 2 };
  const split = (text: string, call: typeof splitMembers | typeof splitElements) =>
    outcomeOf(call(Buffer.from(text), { start: 0, end: text.length }, two));
  t.match(await split('{"a":1,"b":2}', splitMembers), { length: 2 });
  t.equal(await split('{"a":1,"b":2,"c":3}', splitMembers), 'TOO_LARGE');
  t.match(await split('[1,2]', splitElements), { length: 2 });
  t.equal(await split('[1,2,3]', splitElements), 'TOO_LARGE');
  const none = { ...noTurns, countMax: 0 };
  t.equal(
    await outcomeOf(splitMembers(Buffer.from('{"a":1}'), { start: 0, end: 7 }, none)),
    'TOO_LARGE',
  );
  const name = 'x'.repeat(40_000);
  t.same(await members(`{"${name}":1}`), [[name, '1']]);
  for (const long of ['x'.repeat(50_000), '\\"'.repeat(25_000), 'x'.repeat(49_200)]) {
    t.equal(await outcomeOf(members(`{"${long}":1}`)), 'TOO_LARGE');
  }
  t.equal(await outcomeOf(members(`{"${'x'.repeat(50_000)}`)), 'INVALID_JSON');
});

t.test('others have their turn in between', async (t) => {
  let turns = 0;
  const options = {
    countMax: 1_000_000,
    yieldTurn: async () => {
      turns++;
    },
  };
  const texts = [
    `[${'1,'.repeat(400_000)}1]`,
    `["${'x'.repeat(5_000_000)}", ${' '.repeat(3_000_000)} ${'1'.repeat(3_000_000)}]`,
    `["${'\\"'.repeat(2_000_000)}"]`,
    `[["${'\\"'.repeat(2_000_000)}",[],"${'x'.repeat(2_000_000)}"],${'{"a":[]},'.repeat(200_000)}1]`,
  ];
  for (const text of texts) {
    turns = 0;
    const bytes = Buffer.from(text);
    const found = await splitElements(bytes, whole(bytes), options);
    const last = bytes.subarray(found.start(found.length - 1), found.end(found.length - 1));
    const value: unknown[] = JSON.parse(text);
    t.equal(found.length, value.length);
    t.same(JSON.parse(last.toString()), value.at(-1));
    t.ok(turns >= 3, `${turns} turns`);
  }
  const failing = { ...options, yieldTurn: () => Promise.reject(new Error('enough')) };
  const bytes = Buffer.from(texts[0] ?? '');
  await t.rejects(splitElements(bytes, whole(bytes), failing), { message: 'enough' });
});

/** Objects as JSON texts with white space here and there. */
const objectTexts = fc
  .tuple(fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue()), fc.nat(2))
  .map(([object, indent]) => Buffer.from(JSON.stringify(object, null, indent)));

t.test('the members of random objects are those of JSON.parse', async (t) => {
  const property = fc.asyncProperty(objectTexts, async (text) => {
    const wanted: Record<string, unknown> = JSON.parse(text.toString());
    const found = await members(text);
    t.same(new Set(found.map(([name]) => name)), new Set(Object.keys(wanted)));
    for (const [name, value] of found) t.same(JSON.parse(value), wanted[name]);
  });
  await fc.assert(property, { seed: seedOf(t), numRuns: RUNS });
});

/** Splits a text and scans its values strictly: what a request goes through. */
async function isTakenPieceByPiece(text: Buffer): Promise<boolean> {
  const result = await outcomeOf(
    (async () => {
      for (const member of await splitMembers(text, whole(text), noTurns)) {
        const value = slice(text, member);
        if (value[0] !== 0x5b) canonicalJson(value);
        else {
          const list = await splitElements(text, member, noTurns);
          for (let at = 0; at < list.length; at++) {
            canonicalJson(text.subarray(list.start(at), list.end(at)));
          }
        }
      }
    })(),
  );
  if (result !== undefined && result !== 'INVALID_JSON') throw new Error(`it threw ${result}`);
  return result === undefined;
}

t.test('piece by piece, exactly those texts are taken that the strict scan takes', async (t) => {
  const damage = fc.oneof(
    fc.record({
      at: fc.nat(),
      bytes: fc.constantFrom('', '"', '\\', '{', '}', '[', ']', ',', ':'),
    }),
    fc.record({ at: fc.nat(), bytes: fc.constantFrom('\\"', '"a":1,', ' ', '\n', '0', 'e', 'é') }),
  );
  const counts = { taken: 0, refused: 0 };
  const property = fc.asyncProperty(
    objectTexts,
    fc.array(fc.tuple(damage, fc.nat(2)), { maxLength: 3 }),
    async (text, damages) => {
      let bytes = text;
      for (const [{ at, bytes: put }, removed] of damages) {
        const from = at % (bytes.length + 1);
        const after = bytes.subarray(from + removed);
        bytes = Buffer.concat([bytes.subarray(0, from), Buffer.from(put), after]);
      }
      const strict = outcome(() => canonicalJson(bytes)) !== 'INVALID_JSON';
      const isTaken = strict && /^\s*\{/.test(bytes.toString());
      counts[isTaken ? 'taken' : 'refused']++;
      return (await isTakenPieceByPiece(bytes)) === isTaken;
    },
  );
  await fc.assert(property, { seed: seedOf(t), numRuns: 2000 });
  t.ok(counts.taken > 100 && counts.refused > 100, `both happen: ${JSON.stringify(counts)}`);
});
