/** Ways to spoil a request so that nobody can tell where it ends, or that it does not end at all. */
import { pick } from './malformed-json.js';
import { added, bodied, bytesOf, headed, type Mutation } from './request-parts.js';
import { randomInt } from './seed.js';

const HEADERS: readonly (readonly [name: string, value: string])[] = [
  ['Content-Length', 'x'],
  ['Content-Length', '-1'],
  ['Content-Length', '1, 2'],
  ['Content-Length', '99999999999999999999999'],
  ['Transfer-Encoding', 'chunked, identity'],
  ['Transfer-Encoding', 'chunked, chunked'],
  ['X', 'a\u0000b'],
  ['X\u0000', 'a'],
  ['X ', 'a'],
  ['X', 'a\nb: c'],
  ['(x)', 'a'],
  ['X', 'y'.repeat(20_000)],
];

const NO_REQUESTS = [
  '\u0000\u0001\u0002',
  'GET\r\n\r\n',
  'GET / HTTP/9.9\r\n\r\n',
  'GET / HTTP/1.1\nHost: a\n\n',
  'BREW / HTTP/1.1\r\nHost: a\r\n\r\n',
  'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003',
  `GET /${'x'.repeat(30_000)} HTTP/1.1\r\n`,
];

export const FRAMING: readonly Mutation[] = [
  ...HEADERS.map(
    ([name, value]): Mutation => ({
      what: `the header ${JSON.stringify(name)}: ${JSON.stringify(value.slice(0, 30))}`,
      expect: 'ended',
      apply: (parts) => headed(parts, name, value),
    }),
  ),
  {
    what: 'two lengths',
    expect: 'ended',
    apply: (parts) => added(parts, ['Content-Length', '1'], ['Content-Length', '2']),
  },
  {
    what: 'a length and chunks',
    expect: 'ended',
    apply: (parts) => added(parts, ['Content-Length', '5'], ['Transfer-Encoding', 'chunked']),
  },
  {
    what: 'chunks that are none',
    expect: 'unclear',
    apply: (parts, random) => {
      const body = pick(random, ['zz\r\n', '-1\r\nx', '5\r\nabcdefgh\r\n', '\u0000']);
      return added(bodied(parts, body), ['Transfer-Encoding', 'chunked']);
    },
  },
  {
    what: 'no host',
    expect: 'ended',
    apply: (parts) => ({ ...parts, headers: parts.headers.filter(([name]) => name !== 'Host') }),
  },
  ...NO_REQUESTS.map(
    (text): Mutation => ({
      what: `no request: ${JSON.stringify(text.slice(0, 30))}`,
      expect: 'ended',
      apply: () => Buffer.from(text, 'latin1'),
    }),
  ),
  {
    what: 'no request: random bytes',
    expect: 'ended',
    apply: (_, random) =>
      Buffer.from(Uint8Array.from({ length: 99 }, () => 128 + randomInt(random, 99))),
  },
];

const GONE_IN_A_BODY: Mutation = {
  what: 'gone in the middle of a body',
  expect: 'vanished',
  apply: (parts, random) =>
    headed(parts, 'Content-Length', String(parts.body.length + randomInt(random, 100_000) + 1)),
};

export const PARTINGS: readonly Mutation[] = [
  GONE_IN_A_BODY,
  GONE_IN_A_BODY,
  {
    what: 'gone in the middle of a chunk',
    expect: 'vanished',
    apply: (parts, random) => {
      const part = pick(random, ['5', '5\r\nab', '0\r\n', 'ff\r\n']);
      return added(bodied(parts, `5\r\n{"a":\r\n${part}`), ['Transfer-Encoding', 'chunked']);
    },
  },
  {
    what: 'gone in the middle of the headers',
    expect: 'vanished',
    apply: (parts, random) => bytesOf(parts).subarray(0, 1 + randomInt(random, 60)),
  },
  { what: 'gone before the answer', expect: 'vanished', apply: (parts) => parts },
  {
    what: 'a request of HTTP/0.9',
    expect: 'halfClosed',
    apply: () => Buffer.from('GET /\r\n\r\n'),
  },
  { what: 'nothing more comes', expect: 'halfClosed', apply: (parts) => parts },
  {
    what: 'nothing more comes of a body',
    expect: 'halfClosed',
    apply: (parts) => {
      const length = String(parts.body.length + 10);
      return headed(bodied(parts, parts.body), 'Content-Length', length);
    },
  },
];
