/**
 * Goal: JSON bodies are taken for what they are or refused, small ones as values and large ones piece by piece.
 * Method: literal cases; properties against JSON.parse over random texts and damaged ones.
 */
import fc from 'fast-check';
import t from 'tap';
import * as json from '../../../server/http/json-value.js';
import { outcome, reason } from '../../support/outcome.js';
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
  t.equal(json.requiredBoolean(object, 'b'), false);
  t.equal(json.requiredInteger(object, 'i', bounds), 5);
  t.same(json.requiredStrings(object, 'l', 2), ['a', 'b']);
  t.same(json.requiredArray(object, 'm', 2), ['a', 1]);
  t.same(json.requiredObject(object, 'o'), { p: null });
  t.equal(json.optionalString(object, 'x'), undefined);
  t.equal(json.optionalBoolean(object, 'x'), undefined);
  t.equal(json.optionalInteger(object, 'x', bounds), undefined);
  t.equal(json.optionalStrings(object, 'x', 2), undefined);
  t.equal(json.optionalArray(object, 'x', 2), undefined);
  t.equal(json.optionalObject(object, 'x'), undefined);
  for (const value of ['null', '[]', '"x"', '1', 'true']) {
    t.match(
      reason(() => json.objectOf(parsed(value), 'the body')),
      /the body must be a JSON object/,
    );
  }
  const wrong: [string, () => unknown][] = [
    ['`i` must be a string', () => json.optionalString(object, 'i')],
    ['`n` must be a string', () => json.optionalString(object, 'n')],
    ['`n` must be true or false', () => json.requiredBoolean(object, 'n')],
    ['`s` must be an integer from 1 to 5', () => json.optionalInteger(object, 's', bounds)],
    ['`f` must be an integer from 1 to 5', () => json.optionalInteger(object, 'f', bounds)],
    [
      '`i` must be an integer from 1 to 4',
      () => json.optionalInteger(object, 'i', { min: 1, max: 4 }),
    ],
    [
      '`i` must be an integer from 6 to 9',
      () => json.requiredInteger(object, 'i', { min: 6, max: 9 }),
    ],
    ['`m` must hold strings only', () => json.optionalStrings(object, 'm', 2)],
    ['`o` must be an array', () => json.requiredStrings(object, 'o', 2)],
    ['`l` must be a JSON object', () => json.optionalObject(object, 'l')],
    ['the member `x` is missing', () => json.requiredString(object, 'x')],
    ['the member `x` is missing', () => json.requiredBoolean(object, 'x')],
    ['the member `x` is missing', () => json.requiredInteger(object, 'x', bounds)],
    ['the member `x` is missing', () => json.requiredStrings(object, 'x', 2)],
    ['the member `x` is missing', () => json.requiredArray(object, 'x', 2)],
    ['the member `x` is missing', () => json.requiredObject(object, 'x')],
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
