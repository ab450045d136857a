/**
 * Goal: exactly the JSON that Divan promises to store is accepted, and comes out as it went in but for white space.
 * Method: literal cases; a differential fuzz against a slow reference made of JSON.parse and plain recursive checks, over random
 * texts and over mutations of them.
 */
import { isUtf8 } from 'node:buffer';
import fc from 'fast-check';
import t from 'tap';
import { isDivanError } from '../../../engine/errors.js';
import { DocumentScanner } from '../../../engine/shard/document.js';
import { canonicalJson } from '../../../engine/shard/json-text.js';
import { formatRev } from '../../../engine/shard/revision.js';
import { seedOf } from '../../support/seed.js';

function canonical(text: string | Buffer): string {
  try {
    return Buffer.from(canonicalJson(Buffer.from(text))).toString();
  } catch (error) {
    if (isDivanError(error, 'INVALID_JSON')) return 'refused';
    throw error;
  }
}

t.test('what is kept', async (t) => {
  const cases: [string, string][] = [
    [' { "a" : [ 1 , 2.0 , { } ] } ', '{"a":[1,2.0,{}]}'],
    [
      '{"b":1.0,"a":12345678901234567890,"1":-0,"c":1e400,"d":1E-7}',
      '{"b":1.0,"a":12345678901234567890,"1":-0,"c":1e400,"d":1E-7}',
    ],
    ['{"__proto__":{"x":1},"constructor":2}', '{"__proto__":{"x":1},"constructor":2}'],
    ['"\\u0041\\/\\n\\ud83d\\ude00 \u{1f600} é"', '"\\u0041\\/\\n\\ud83d\\ude00 \u{1f600} é"'],
    ['[[],[[]],{},{"a":{}},"",0,true,false,null]', '[[],[[]],{},{"a":{}},"",0,true,false,null]'],
    ['{"a":{"x":1},"b":{"x":1}}', '{"a":{"x":1},"b":{"x":1}}'],
    [`${'['.repeat(512)}${']'.repeat(512)}`, `${'['.repeat(512)}${']'.repeat(512)}`],
  ];
  for (const [text, wanted] of cases) t.equal(canonical(text), wanted);
});

t.test('what is refused', async (t) => {
  const texts = [
    '',
    ' ',
    '{',
    '[',
    '{"a"}',
    '{"a":}',
    '{a:1}',
    "{'a':1}",
    '[1,]',
    '{"a":1,}',
    '[1 2]',
    '{"a":1 "b":2}',
    '1 2',
    '01',
    '1.',
    '.5',
    '+1',
    '-',
    '1e',
    '0x1',
    'tru',
    'True',
    'nulll',
    'NaN',
    '"',
    '"\\x"',
    '"\\u12g4"',
    '"\t"',
    '"\\ud800"',
    '"\\ud800\\u0041"',
    '"\\udc00\\ud800"',
    '{"\\ud800":1}',
    '{"a":1,"a":2}',
    '{"a":1,"\\u0061":2}',
    '{"x":{"a":1,"b":2,"a":3}}',
    `${'['.repeat(513)}${']'.repeat(513)}`,
    `{${Array.from({ length: 40 }, (_, index) => `"n${index % 39}":1`)}}`,
  ];
  for (const text of texts) t.equal(canonical(text), 'refused', text.slice(0, 60));
  for (const bytes of [
    [0x22, 0xff, 0x22],
    [0x22, 0xc0, 0x80, 0x22],
    [0x22, 0xed, 0xa0, 0x80, 0x22],
    [0xef, 0xbb, 0xbf, 0x31],
  ]) {
    t.equal(canonical(Buffer.from(bytes)), 'refused', 'invalid UTF-8, or a byte order mark');
  }
});

/** Accepts what the reference accepts: JSON.parse decides on syntax, the rest is checked on a token at a time. */
function reference(bytes: Buffer): boolean {
  if (!isUtf8(bytes)) return false;
  const text = bytes.toString();
  if (text.startsWith('\ufeff')) return false;
  try {
    JSON.parse(text);
  } catch {
    return false;
  }
  return (
    namesAreUnique(text) &&
    !/\\ud[89ab]../i.test(
      text.replace(/\\\\/g, '').replace(/\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}/gi, ''),
    ) &&
    !/\\ud[c-f]../i.test(
      text.replace(/\\\\/g, '').replace(/\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}/gi, ''),
    )
  );
}

/** Walks valid JSON and looks for two members of one object with one name. */
function namesAreUnique(text: string): boolean {
  const open: (Set<string> | undefined)[] = [];
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s{}[\]:,"]+/g) ?? [];
  for (const [index, token] of tokens.entries()) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(undefined);
    else if (token === '}' || token === ']') open.pop();
    else if (token.startsWith('"') && tokens[index + 1] === ':') {
      const name = String(JSON.parse(token));
      const names = open.at(-1);
      if (names?.has(name) === true) return false;
      names?.add(name);
    }
  }
  return open.length <= 512;
}

t.test('the same is accepted as by the reference, and means the same', async (t) => {
  const seed = seedOf(t);
  const snippets = fc.constantFrom(
    '"a"',
    '"\\u0061"',
    ':',
    ',',
    '{',
    '}',
    '[',
    ']',
    '1',
    '-0.5e3',
    ' ',
    '\n',
    'null',
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '\\',
    '"',
    'é',
    '"b":1',
  );
  const text = fc.oneof(
    fc.json(),
    fc
      .json()
      .chain((json) =>
        fc
          .record({ at: fc.nat(json.length), cut: fc.nat(2), put: snippets })
          .map(({ at, cut, put }) => json.slice(0, at) + put + json.slice(at + cut)),
      ),
    fc.array(snippets, { maxLength: 12 }).map((parts) => parts.join('')),
  );
  let accepted = 0;
  let refused = 0;
  const property = fc.property(text, (json) => {
    const bytes = Buffer.from(json);
    const found = canonical(bytes);
    if ((found !== 'refused') !== reference(bytes))
      throw new Error(`${json} is judged differently: ${found}`);
    if (found === 'refused') {
      refused++;
      return;
    }
    accepted++;
    const same = JSON.stringify(JSON.parse(found)) === JSON.stringify(JSON.parse(json));
    if (!same || canonical(found) !== found) throw new Error(`${json} became ${found}`);
  });
  fc.assert(property, { seed, numRuns: 20_000 });
  t.ok(accepted > 3000 && refused > 3000, `${accepted} accepted, ${refused} refused`);
});

t.test('bytes that are no text never crash the scanner', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      canonical(Buffer.from(bytes));
    }),
    { seed: seedOf(t), numRuns: 5000 },
  );
  t.pass();
});

t.test('documents: system members and body', async (t) => {
  const scanner = new DocumentScanner();
  const scan = (text: string) => {
    const { id, rev, deleted, path, attachments, body } = scanner.scan(
      Buffer.from(text),
      0,
      Buffer.byteLength(text),
    );
    return {
      id: id === undefined ? undefined : Buffer.from(id).toString(),
      rev: rev === undefined ? undefined : formatRev(rev),
      deleted,
      path: path?.map(formatRev),
      attachments: attachments === undefined ? undefined : [...attachments.keys()],
      body: Buffer.from(body).toString(),
    };
  };
  const plain = {
    id: undefined,
    rev: undefined,
    deleted: false,
    path: undefined,
    attachments: undefined,
  };
  t.strictSame(scan('{}'), { ...plain, body: '{}' });
  t.strictSame(scan('{"b":1.0,"_id":"x\\u00e9","a":{"_rev":2}}'), {
    ...plain,
    id: 'xé',
    body: '{"b":1.0,"a":{"_rev":2}}',
  });
  t.strictSame(scan('{"\\u005fid":"q","__proto__":1}'), {
    ...plain,
    id: 'q',
    body: '{"__proto__":1}',
  });
  t.strictSame(
    scan(
      '{"_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"_deleted":true,"_conflicts":[1]}',
    ),
    {
      ...plain,
      rev: '2-b',
      deleted: true,
      path: ['2-b', '1-a'],
      body: '{}',
    },
  );
  t.strictSame(
    scan('{"_attachments":{"constructor":{"data":"aGk="},"x":{"stub":true}}}').attachments,
    ['constructor', 'x'],
  );
});

t.test('documents that are refused', async (t) => {
  const scanner = new DocumentScanner();
  const scan = (text: string) => scanner.scan(Buffer.from(text), 0, Buffer.byteLength(text));
  const refused = [
    '[]',
    '1',
    '{"_x":1}',
    '{"_id":1}',
    '{"_id":""}',
    '{"_id":"_x"}',
    '{"_id":"_design/"}',
    '{"_rev":"x"}',
    '{"_rev":"0-a"}',
    '{"_deleted":1}',
    '{"_revisions":{"start":1,"ids":["a","b"]}}',
    '{"_attachments":{"x":{"data":"%"}}}',
    '{"_attachments":{"_x":{"data":""}}}',
    '{"_attachments":[]}',
  ];
  for (const text of refused) t.throws(() => scan(text), { code: 'INVALID_DOCUMENT' }, text);
  t.throws(() => scan(`{"_id":"${'x'.repeat(4097)}"}`), { code: 'LIMIT' });
  t.throws(() => scan('{"_id":"a","_id":"b"}'), { code: 'INVALID_JSON' });
});
