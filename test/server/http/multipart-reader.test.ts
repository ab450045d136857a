/**
 * Goal: multipart bodies are read as they were written, whatever the chunks they come in, and refused if they are malformed,
 * cut or too large; neither a slow reader nor one that leaves off costs memory or leaves anything open.
 * Method: literal bodies; every cut of one; properties over random parts and chunks, with the writer and with the Dicer of
 * @fastify/busboy as the other opinion.
 */
import { createRequire } from 'node:module';
import type { Dicer as DicerClass } from '@fastify/busboy';
import fc from 'fast-check';
import t from 'tap';
import { parseHeaderValue } from '../../../server/http/header-value.js';
import {
  boundaryOf,
  type MultipartLimits,
  readMultipart,
} from '../../../server/http/multipart-reader.js';
import {
  jsonPart,
  multipartLength,
  writeMultipart,
} from '../../../server/http/multipart-writer.js';
import { chunksOf, collect, Source } from '../../support/byte-sources.js';
import { outcome, outcomeOf } from '../../support/outcome.js';
import { seedOf } from '../../support/seed.js';

const RUNS = 300;
const LIMITS: MultipartLimits = { partsMax: 100, headerBytesMax: 200 };

interface ReadPart {
  readonly headers: [string, string][];
  readonly body: string;
}

async function readAll(
  chunks: Iterable<Uint8Array>,
  boundary = 'b',
  limits = LIMITS,
): Promise<ReadPart[]> {
  const parts: ReadPart[] = [];
  for await (const part of readMultipart(new Source(chunks), boundary, limits)) {
    const body = (await collect(part.body)).toString('latin1');
    parts.push({ headers: [...part.headers], body });
  }
  return parts;
}

/** What a body is read as; the same in one chunk and in chunks of 1 and 7 bytes. */
async function read(text: string, limits = LIMITS): Promise<unknown> {
  const bytes = Buffer.from(text);
  const results: unknown[] = [];
  for (const size of [bytes.length + 1, 1, 7]) {
    results.push(await outcomeOf(readAll(chunksOf(bytes, size), 'b', limits)));
  }
  t.same(results[1], results[0], 'in chunks of a byte');
  t.same(results[2], results[0], 'in chunks of seven bytes');
  return results[0];
}

t.test('parts', async (t) => {
  const part = (body: string, ...headers: [string, string][]) => ({ headers, body });
  const cases: [string, ReadPart[]][] = [
    ['--b--', []],
    ['\r\n--b--', []],
    ['preamble --b\r\n--b--epilogue\r\n--b\r\nX: 1\r\n\r\nno part', []],
    ['--b\r\n\r\nbody\r\n--b--', [part('body')]],
    ['--b\r\n\r\n--b--', [part('')]],
    ['--b\r\nX: 1\r\n\r\n--b--\r\n', [part('', ['x', '1'])]],
    ['--b\r\nX: 1\r\n\r\n\r\n--b--\r\n', [part('', ['x', '1'])]],
    [
      '--b \t\r\nX-Y:  a: b \r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--',
      [part('1', ['x-y', 'a: b']), part('2')],
    ],
    ['--b\r\nX: a\r\n b\r\n\tc\r\nY:\r\n\r\n\r\n--b--', [part('', ['x', 'a b\tc'], ['y', ''])]],
    ['--b\r\n\r\n\r\n--\r\n--a\r\n-\r\n\r\r\n\r\n--b--', [part('\r\n--\r\n--a\r\n-\r\n\r\r\n')]],
    ['--b\r\n\r\n--b\r\n\r\n\r\n\r\n--b--', [part(''), part('\r\n')]],
    ['--b\r\nX: é\r\n\r\n\0\x01\r\n--b--', [part('\0\x01', ['x', 'é'])]],
  ];
  for (const [text, wanted] of cases) t.same(await read(text), wanted, JSON.stringify(text));
});

t.test('bodies that are malformed', async (t) => {
  const texts = [
    '',
    'no boundary',
    '--b',
    '--b\r\n',
    '--bc\r\n\r\nbody\r\n--b--',
    '--b \r',
    '--b x\r\n\r\nbody\r\n--b--',
    '--b-\r\n\r\nbody\r\n--b--',
    '--b\n\nbody\n--b--',
    `--b${' '.repeat(300)}\r\n\r\nbody\r\n--b--`,
    '--b\r\nno colon\r\n\r\nbody\r\n--b--',
    '--b\r\nX: 1\r\nno colon\r\nY: 2\r\n\r\nbody\r\n--b--',
    '--b\r\nX: 1\nY: 2\r\n\r\nbody\r\n--b--',
    '--b\r\nX: 1\r\n--b\r\nY: 2\r\n\r\nbody\r\n--b--',
    '--b\r\nX : 1\r\n\r\nbody\r\n--b--',
    '--b\r\n: 1\r\n\r\nbody\r\n--b--',
    '--b\r\n X: 1\r\n\r\nbody\r\n--b--',
    '--b\r\nX: 1\r\nx: 2\r\n\r\nbody\r\n--b--',
    '--b\r\nX: a\0b\r\n\r\nbody\r\n--b--',
    '--b\r\nX: a\rb\r\n\r\nbody\r\n--b--',
    '--b\r\nX: 1\r\n\r\nbody',
    '--b\r\nX: 1\r\n\r\nbody\r\n--b',
    '--b\r\nX: 1\r\n\r\nbody\r\n--b-',
  ];
  for (const text of texts) t.equal(await read(text), 'BAD_REQUEST', JSON.stringify(text));
  const latin = Buffer.from('--b\r\nX: \xe9\r\n\r\nbody\r\n--b--', 'latin1');
  t.equal(await outcomeOf(readAll([latin])), 'BAD_REQUEST', 'headers that are not UTF-8');
});

t.test('a body that is cut anywhere', async (t) => {
  const text = 'x\r\n--b\r\nX: 1\r\n\r\none\r\n--b\r\nY: 2\r\n\r\n\r\n--b--';
  for (let length = 0; length < text.length; length++) {
    t.equal(await read(text.slice(0, length)), 'BAD_REQUEST', `after ${length} bytes`);
  }
});

t.test('limits', async (t) => {
  const limits = { partsMax: 2, headerBytesMax: 10 };
  const head = (length: number) => `X: ${'x'.repeat(length - 3)}\r\n\r\n`;
  t.match(await read(`--b\r\n${head(10)}1\r\n--b\r\n${head(10)}2\r\n--b--`, limits), { length: 2 });
  t.equal(await read(`--b\r\n${head(11)}1\r\n--b--`, limits), 'TOO_LARGE');
  t.equal(await read(`--b\r\nX: ${'x'.repeat(1000)}`, limits), 'TOO_LARGE');
  const three = '--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b\r\n\r\n3\r\n--b--';
  t.equal(await read(three, limits), 'TOO_LARGE');
  t.match(await read(three, { ...limits, partsMax: 3 }), { length: 3 });
});

t.test('boundaries', async (t) => {
  t.equal(boundaryOf('multipart/related; boundary=abc'), 'abc');
  t.equal(boundaryOf('Multipart/Mixed;type="a/b" ; Boundary="a b;c"'), 'a b;c');
  t.equal(boundaryOf('multipart/related;;boundary=a;'), 'a');
  t.equal(
    outcome(() => boundaryOf('application/json; boundary=a')),
    'UNSUPPORTED_TYPE',
  );
  const bad = ['', '; boundary=', '; boundary=""', '; boundary="a', '; boundary=a; boundary=b'];
  for (const rest of [
    ...bad,
    '; boundary="a "',
    '; boundary="a\rb"',
    `; boundary=${'x'.repeat(201)}`,
    '; x',
  ]) {
    t.equal(
      outcome(() => boundaryOf(`multipart/related${rest}`)),
      'BAD_REQUEST',
      rest,
    );
  }
  const blanks = `a/b; x=${' '.repeat(50_000)}"`;
  t.equal(
    outcome(() => parseHeaderValue(blanks, 'it')),
    'BAD_REQUEST',
    'in linear time',
  );
  const many = Array.from({ length: 40 }, (_, index) => `; p${index}=1`).join('');
  t.equal(
    outcome(() => parseHeaderValue(`a/b${many}`, 'it')),
    'BAD_REQUEST',
    'too many',
  );
});

t.test('a slow reader holds up the source', async (t) => {
  const head = Buffer.from('--b\r\nX: 1\r\n\r\n');
  const source = new Source([
    head,
    ...Array(100).fill(Buffer.alloc(1000)),
    Buffer.from('\r\n--b--'),
  ]);
  const parts = readMultipart(source, 'b', LIMITS);
  const first = await parts.next();
  t.ok(source.asked <= 2, `${source.asked} chunks were asked for with the first part`);
  if (first.done === true) return void t.fail('no part');
  const body = first.value.body[Symbol.asyncIterator]();
  for (let count = 1; count <= 50; count++) {
    t.equal((await body.next()).value?.length, 1000);
    t.ok(source.asked <= count + 1, `${source.asked} chunks were asked for by ${count}`);
  }
  t.equal((await parts.next()).done, true, 'what is left of a body is passed over');
  t.equal(source.asked, 102);
  t.equal(source.isOpen, false);
  await t.rejects(
    body.next(),
    /before the next part/,
    'a body that was left is not taken for whole',
  );
});

t.test('a reader that leaves off closes the source', async (t) => {
  const text = '--b\r\nX: 1\r\n\r\none\r\n--b\r\nY: 2\r\n\r\ntwo\r\n--b--';
  const chunks = chunksOf(Buffer.from(text), 5);
  const atPart = new Source(chunks);
  for await (const _ of readMultipart(atPart, 'b', LIMITS)) break;
  t.equal(atPart.isOpen, false, 'at a part');
  const inBody = new Source(chunks);
  for await (const part of readMultipart(inBody, 'b', LIMITS)) {
    for await (const _ of part.body) break;
    t.equal(inBody.isOpen, true, 'a body that is left is no reason');
    break;
  }
  t.equal(inBody.isOpen, false, 'in a body');
  const thrown = new Source(chunks);
  const failing = async () => {
    for await (const part of readMultipart(thrown, 'b', LIMITS)) {
      for await (const _ of part.body) throw new Error('disk full');
    }
  };
  await t.rejects(failing(), { message: 'disk full' });
  t.equal(thrown.isOpen, false, 'by an error of its own');
  const malformed = new Source(chunksOf(Buffer.from('--b\r\nbad\r\n\r\nx\r\n--b--'), 3));
  await t.rejects(readMultipart(malformed, 'b', LIMITS).next(), { code: 'BAD_REQUEST' });
  t.equal(malformed.isOpen, false, 'by a malformed body');
});

t.test('a source that fails fails the reader', async (t) => {
  const failure = new Error('the client is gone');
  for (const text of ['', '--b\r\nX: 1', '--b\r\nX: 1\r\n\r\nbo', '--b\r\n\r\nbody\r\n--b--x']) {
    const source = new Source(chunksOf(Buffer.from(text), 4), failure);
    const reading = async () => {
      for await (const part of readMultipart(source, 'b', LIMITS)) await collect(part.body);
    };
    await t.rejects(reading(), failure, text);
    t.equal(source.isOpen, false);
  }
  const parts = readMultipart(new Source([Buffer.from('--b\r\n\r\nbody')], failure), 'b', LIMITS);
  const { value } = await parts.next();
  if (value === undefined) return void t.fail('no part');
  await t.rejects(collect(value.body), failure);
  await t.rejects(parts.next(), failure, 'and goes on failing');
});

/** Bytes that often look like parts of a boundary. */
const bodies = fc
  .array(fc.constantFrom('\r', '\n', '-', '--', '\r\n--', '\r\n--b', 'b', 'x', '\0', 'é'), {
    maxLength: 12,
  })
  .map((pieces) => Buffer.from(pieces.join('')));

function cutInto(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    // Each chunk has memory of its own, as chunks of a socket have.
    chunks.push(Buffer.from(bytes.subarray(at, at + size)));
    at += size;
  }
  return [...chunks, Buffer.from(bytes.subarray(at))];
}

const { Dicer }: { Dicer: typeof DicerClass } = createRequire(import.meta.url)('@fastify/busboy');

/** The bodies of the parts as the Dicer sees them. */
function readWithDicer(bytes: Buffer, boundary: string): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[][] = [];
    const dicer = new Dicer({ boundary });
    dicer.on('part', (part) => {
      const chunks: Buffer[] = [];
      parts.push(chunks);
      part.on('data', (chunk) => chunks.push(Buffer.from(chunk)));
    });
    dicer.on('error', reject);
    dicer.on('finish', () =>
      resolve(parts.map((chunks) => Buffer.concat(chunks).toString('latin1'))),
    );
    dicer.end(bytes);
  });
}

t.test('whatever is written is read, in any chunks, and by others too', async (t) => {
  const property = fc.asyncProperty(
    fc.array(bodies, { minLength: 1, maxLength: 4 }),
    fc.array(fc.nat(20), { maxLength: 30 }),
    async (wanted, sizes) => {
      const boundary = 'bound+ary';
      const parts = wanted.map((body) => jsonPart(body));
      const bytes = await collect(writeMultipart(boundary, parts));
      t.equal(bytes.length, multipartLength(boundary, parts));
      const found = await readAll(cutInto(bytes, sizes), boundary);
      const texts = wanted.map((body) => body.toString('latin1'));
      t.same(
        found,
        texts.map((body) => ({ headers: [['content-type', 'application/json']], body })),
      );
      t.same(await readWithDicer(bytes, boundary), texts);
    },
  );
  await fc.assert(property, { seed: seedOf(t), numRuns: RUNS });
});
