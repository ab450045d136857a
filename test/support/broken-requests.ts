/** Ways to spoil a request that leave no doubt where it ends: in its target, its query, its headers, its body. */
import { gzipSync } from 'node:zlib';
import {
  notJson,
  notUtf8,
  pick,
  type Template,
  textOf,
  treeOf,
  wrongSomewhere,
} from './malformed-json.js';
import {
  added,
  appended,
  bodied,
  headed,
  type Mutation,
  type Parts,
  queried,
} from './request-parts.js';

const REV = '1-967a00dff5e02add41819138abb3284d';
const BAD_ENDS =
  '% %z %zz %f %\u00e4 %25% %00 %ff%fe %c0%af %ed%a0%80 \u00ff /.. /../../etc/passwd /. /./x #/x';
const STRANGE_ENDS = '// / %2f %2e%2e ;a \\..\\ %5c /_ %0d%0aX:1 /%F0%9F%90%98 /_all_docs %23';

const PARAMETERS = [
  'q n rev revs revs_info open_revs conflicts deleted_conflicts local_seq meta latest attachments',
  'att_encoding_info atts_since new_edits batch partitioned key keys startkey start_key endkey end_key',
  'startkey_docid endkey_docid limit skip descending inclusive_end include_docs update_seq sorted since',
  'feed timeout style filter doc_ids seq_interval heartbeat last-event-id count basic next __proto__ constructor',
].flatMap((line) => line.split(' '));
const VALUES = [
  '0 -1 -0 1 1.5 1e3 99999999999999999999 9007199254740993 0x10 %201 true false TRUE null undefined NaN',
  '%22 %22%22 %22d0%22 %22%5cud800%22 [] [%22d0%22] [null] [%221-x%22] {} {%22a%22:1,%22a%22:2} %5b%5b',
  `all now 1-x ${REV} %00 .. _design/x a,b a%26b [1e400] + %2b ${'%5b'.repeat(700)} ${'x'.repeat(3000)}`,
].flatMap((line) => ['', ...line.split(' ')]);

function repeated(count: number, mutation: Mutation): Mutation[] {
  return Array.from({ length: count }, () => mutation);
}

const TARGETS: readonly Mutation[] = [
  ...BAD_ENDS.split(' ').map(
    (text): Mutation => ({
      what: `a path that ends with ${text}`,
      expect: 'refused',
      apply: (parts) => appended(parts, text),
    }),
  ),
  ...STRANGE_ENDS.split(' ').map(
    (text): Mutation => ({
      what: `a path that ends with ${text}`,
      expect: 'answered',
      apply: (parts) => appended(parts, text),
    }),
  ),
  {
    what: 'a path without its /',
    expect: 'refused',
    apply: (parts, random) => ({
      ...parts,
      target: pick(random, ['*', 'ftp://h/', 'http://', 'x:y', 'http:///']),
    }),
  },
  {
    what: 'another name of a database',
    expect: 'answered',
    apply: (parts, random) => {
      const names =
        'Scratch _scratch 0 k%20t __proto__ constructor %c3%a9 a%2f..%2fb %2e%2e %2fetc';
      const rest = parts.target.split('/').slice(2);
      return { ...parts, target: `/${[pick(random, names.split(' ')), ...rest].join('/')}` };
    },
  },
  {
    what: 'a very long target',
    expect: 'refused',
    apply: (parts, random) =>
      appended(parts, `${pick(random, ['?', '/', '?a='])}${'x'.repeat(9000)}`),
  },
  {
    what: 'bytes that are no UTF-8 in the path',
    expect: 'refused',
    apply: (parts, random) => appended(parts, notUtf8(random).toString('latin1')),
  },
];

const QUERIES: readonly Mutation[] = [
  {
    what: 'too many parameters',
    expect: 'answered',
    apply: (parts) => queried(parts, Array.from({ length: 300 }, (_, i) => `p${i}=1`).join('&')),
  },
  ...[1, 1, 1, 1, 2, 2, 2, 4].map(
    (count): Mutation => ({
      what: 'parameters out of range or of the wrong type',
      expect: 'answered',
      apply: (parts, random) =>
        Array.from({ length: count }).reduce<Parts>(
          (parts) => queried(parts, `${pick(random, PARAMETERS)}=${pick(random, VALUES)}`),
          parts,
        ),
    }),
  ),
  {
    what: 'percent-encoding in the query',
    expect: 'answered',
    apply: (parts, random) =>
      queried(parts, `${pick(random, PARAMETERS)}=${pick(random, ['%', '%zz', '%ff', '%00'])}`),
  },
];

const bomb = gzipSync(Buffer.alloc(8 * 1024 * 1024, 0x20));

function templateOf({ body }: Parts): Template {
  return body.length === 0 ? {} : JSON.parse(body.toString());
}

/** What is wrong with a body only matters where one is read: these say so with `JSON: `. */
const BODIES: readonly Mutation[] = [
  ...repeated(8, {
    what: 'JSON: none',
    expect: 'refused',
    apply: (parts, random) => bodied(parts, notJson(parts.body.toString() || '{}', random)),
  }),
  ...repeated(12, {
    what: 'a wrong type in a member',
    expect: 'answered',
    apply: (parts, random) =>
      bodied(parts, textOf(wrongSomewhere(treeOf(templateOf(parts)), random))),
  }),
  {
    what: 'a wrong content type',
    expect: 'answered',
    apply: (parts, random) => {
      const types = ['', 'text/plain', 'application/json/x', '\u00ff', ';', 'application/json;x="'];
      return headed(parts, 'Content-Type', pick(random, types));
    },
  },
  {
    what: 'JSON: a gzip bomb',
    expect: 'refused',
    apply: (parts) => headed(bodied(parts, bomb), 'Content-Encoding', 'gzip'),
  },
  {
    what: 'JSON: damaged gzip',
    expect: 'refused',
    apply: (parts, random) => {
      const whole = gzipSync(parts.body);
      const damaged = [whole.subarray(0, -5), Buffer.from('x'), Buffer.alloc(40)];
      return headed(bodied(parts, pick(random, damaged)), 'Content-Encoding', 'gzip');
    },
  },
  {
    what: 'JSON: an unknown content encoding',
    expect: 'refused',
    apply: (parts, random) =>
      headed(parts, 'Content-Encoding', pick(random, ['br', 'x', 'gzip, br', '\u00ff'])),
  },
];

const FOLLOWS = (length: number) =>
  `--b\r\nContent-Type: application/json\r\n\r\n{"_attachments":{"a":{"follows":true,"length":${length}}}}`;
const MULTIPARTS: readonly Mutation[] = [
  '',
  '--b',
  '--b\r\n',
  '--b--',
  '--b\r\n\r\n{}',
  '--b\r\n\r\n{}\r\n--b',
  '--b\r\nContent-Type: application/json\r\n\r\n{\r\n--b--',
  '--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\n\r\nx\r\n--c--',
  `--b\r\n${'x'.repeat(20_000)}`,
  `--b\r\n${'X: y\r\n'.repeat(500)}\r\n`,
  `${FOLLOWS(9)}\r\n--b\r\n\r\nx\r\n--b--`,
  `${FOLLOWS(-1)}\r\n--b\r\n\r\nx\r\n--b--`,
  `${FOLLOWS(1)}\r\n--b--`,
].map((body) => ({
  what: 'multipart',
  expect: 'answered',
  apply: (parts, random) => {
    const types = ['boundary=b', 'boundary="b"', '', 'boundary=', `boundary=${'b'.repeat(300)}`];
    const kind = pick(random, ['related', 'mixed', 'form-data']);
    return headed(bodied(parts, body), 'Content-Type', `multipart/${kind};${pick(random, types)}`);
  },
}));

const NAMES =
  'If-Match If-None-Match Range Accept Accept-Encoding Cookie Destination X-Couch-Full-Commit Content-MD5 Origin Referer __proto__ Upgrade Via';
const HEADER_VALUES = [
  '',
  ',',
  '"',
  '\u00ff',
  'bytes=-1',
  'bytes=9-1,a-',
  '*',
  '/x?rev=',
  '%zz',
  'x',
];
const CREDENTIALS = [
  '',
  'Basic',
  'Basic !!!',
  'Basic Og==',
  'Bearer x',
  'Digest',
  'Basic /w==',
  '\u00ff',
];

const HEADERS: readonly Mutation[] = [
  ...repeated(4, {
    what: 'strange headers',
    expect: 'answered',
    apply: (parts, random) => {
      const values = [...HEADER_VALUES, 'AuthSession=x', 'a=b;'.repeat(500), '..%2f..'];
      return headed(parts, pick(random, NAMES.split(' ')), pick(random, values));
    },
  }),
  {
    what: 'wrong credentials',
    expect: 'answered',
    apply: (parts, random) => headed(parts, 'Authorization', pick(random, CREDENTIALS)),
  },
  {
    what: 'a method that no route has',
    expect: 'refused',
    apply: (parts, random) => ({
      ...parts,
      method: pick(random, ['PATCH', 'OPTIONS', 'TRACE', 'PROPFIND', 'MOVE', 'LOCK']),
    }),
  },
  {
    what: 'duplicate headers',
    expect: 'refused',
    apply: (parts) =>
      added(appended(parts, '%zz'), ...parts.headers.slice(1), ['X', '1'], ['X', '2']),
  },
  {
    what: 'an expectation that is none',
    expect: 'refused',
    apply: (parts) => headed(parts, 'Expect', 'the-worst'),
  },
  {
    what: 'a body that waits to be asked for',
    expect: 'refused',
    apply: (parts) => headed(appended(parts, '%zz'), 'Expect', '100-continue'),
  },
];

export const MUTATIONS: readonly Mutation[] = [
  ...TARGETS,
  ...QUERIES,
  ...BODIES,
  ...MULTIPARTS,
  ...HEADERS,
];
