/**
 * Goal: multipart replies have the bytes that CouchDB's clients expect and the length that is announced, and parts of requests
 * find the attachments they belong to.
 * Method: literal bytes; what is written is read again; a property over file names.
 */
import fc from 'fast-check';
import t from 'tap';
import { attachmentDisposition, fileNameOf } from '../../../server/http/header-value.js';
import { PartAssignment } from '../../../server/http/multipart-document.js';
import {
  boundaryOf,
  type MultipartPart,
  readMultipart,
} from '../../../server/http/multipart-reader.js';
import {
  attachmentPart,
  errorPart,
  jsonPart,
  multipartLength,
  multipartType,
  type OutgoingPart,
  relatedPart,
  writeMultipart,
} from '../../../server/http/multipart-writer.js';
import { chunksOf, collect, Source } from '../../support/byte-sources.js';
import { outcome } from '../../support/outcome.js';
import { seedOf } from '../../support/seed.js';

const RUNS = 300;
const LIMITS = { partsMax: 100, headerBytesMax: 200 };

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield* chunksOf(Buffer.from(text), 3);
}

function attachment(name: string, text: string): OutgoingPart {
  const length = Buffer.byteLength(text);
  const contentType = 'text/plain';
  return attachmentPart({ name, contentType, encoding: undefined, length, body: bytesOf(text) });
}

t.test('the bytes of a document with attachments', async (t) => {
  const json = '{"_id":"a"}';
  const gzip = {
    contentType: 'a/b\r\nX: 1',
    encoding: 'gzip',
    length: 2,
    body: bytesOf('zz'),
  } as const;
  const parts = [jsonPart(Buffer.from(json)), attachment('a.txt', 'hello')];
  const all = [...parts, attachmentPart({ name: 'é"', ...gzip })];
  const wanted = [
    '--b\r\nContent-Type: application/json\r\n\r\n{"_id":"a"}',
    '\r\n--b\r\nContent-Disposition: attachment; filename="a.txt"\r\n',
    'Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello',
    `\r\n--b\r\nContent-Disposition: attachment; filename="__"; filename*=UTF-8''%C3%A9%22\r\n`,
    'Content-Type: application/octet-stream\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\nzz',
    '\r\n--b--',
  ].join('');
  t.equal(multipartLength('b', all), Buffer.byteLength(wanted));
  t.equal((await collect(writeMultipart('b', all))).toString(), wanted);
  t.equal((await collect(writeMultipart('b', []))).toString(), '--b--');
  t.equal(multipartLength('b', []), 5);
  t.equal(multipartLength('b', [{ headers: [], length: undefined }]), undefined);
  t.equal(multipartType('related', 'b'), 'multipart/related; boundary="b"');
});

t.test('revisions as multipart/mixed, some with attachments', async (t) => {
  const inner = [jsonPart(Buffer.from('{"_id":"a"}')), attachment('a.txt', 'x--outer\r\n-- text')];
  const parts = async function* () {
    yield relatedPart('inner', inner);
    yield errorPart(Buffer.from('{"missing":"2-b"}'));
    yield jsonPart(Buffer.from('{}'));
  };
  const types: string[] = [];
  const texts: string[] = [];
  const visit = async (part: MultipartPart): Promise<void> => {
    const type = part.headers.get('content-type') ?? '';
    types.push(type);
    if (!type.startsWith('multipart/')) texts.push((await collect(part.body)).toString());
    else
      for await (const inner of readMultipart(part.body, boundaryOf(type), LIMITS))
        await visit(inner);
  };
  const source = writeMultipart('outer', parts());
  for await (const part of readMultipart(source, 'outer', LIMITS)) await visit(part);
  const json = 'application/json';
  const mixed = 'multipart/related; boundary="inner"';
  t.same(types, [mixed, json, 'text/plain', `${json}; error="true"`, json]);
  t.same(texts, ['{"_id":"a"}', 'x--outer\r\n-- text', '{"missing":"2-b"}', '{}']);
});

t.test('what the writer is not given', async (t) => {
  const part = { headers: [['X', '1']], length: 3, body: [Buffer.from('ab')] } as const;
  await t.rejects(
    collect(writeMultipart('b', [part])),
    { code: 'ERR_ASSERTION' },
    'a wrong length',
  );
  const evil = { ...part, headers: [['X', '1\r\nY: 2']] } as const;
  await t.rejects(collect(writeMultipart('b', [evil])), { code: 'ERR_ASSERTION' });
  const name = { ...part, headers: [['X:', '1']] } as const;
  await t.rejects(collect(writeMultipart('b', [name])), { code: 'ERR_ASSERTION' });
  for (const boundary of ['', 'a b', 'a\r\n', 'x'.repeat(71)]) {
    await t.rejects(collect(writeMultipart(boundary, [part])), { code: 'ERR_ASSERTION' });
  }
  const source = new Source(Array(10).fill(Buffer.alloc(10)));
  const long = { headers: [], length: undefined, body: source };
  let chunks = 0;
  for await (const _ of writeMultipart('b', [long])) if (++chunks === 3) break;
  t.equal(source.isOpen, false, 'leaving off closes the body');
  t.equal(source.asked, 2);
});

t.test('file names', async (t) => {
  t.equal(fileNameOf(undefined), undefined);
  t.equal(fileNameOf('attachment'), undefined);
  t.equal(fileNameOf('attachment; filename=a.txt'), 'a.txt');
  t.equal(fileNameOf('attachment; FileName="a\\"b\\\\c;d é"'), 'a"b\\c;d é');
  t.equal(fileNameOf(`attachment; filename="x"; filename*=utf-8'en'%e2%82%ac`), '€');
  for (const rest of [
    `filename*=latin1''a`,
    `filename*=UTF-8''%ff`,
    'filename*=a',
    'filename="a',
  ]) {
    t.equal(
      outcome(() => fileNameOf(`attachment; ${rest}`)),
      'BAD_REQUEST',
      rest,
    );
  }
  const property = fc.property(fc.string({ unit: 'binary' }), (name) => {
    const header = attachmentDisposition(name);
    return /^[\x20-\x7e]*$/.test(header) && fileNameOf(header) === name;
  });
  fc.assert(property, { seed: seedOf(t), numRuns: RUNS });
});

t.test('which part holds which attachment', async (t) => {
  const following = ['b', '1', '__proto__'];
  const named = (name: string) => new Map([['content-disposition', attachmentDisposition(name)]]);
  const bare = new Map<string, string>();
  const byOrder = new PartAssignment(following);
  t.same([byOrder.take(bare), byOrder.take(bare)], ['b', '1']);
  t.equal(
    outcome(() => byOrder.finish()),
    'BAD_REQUEST',
  );
  t.equal(byOrder.take(named('__proto__')), '__proto__');
  byOrder.finish();
  t.equal(
    outcome(() => byOrder.take(bare)),
    'BAD_REQUEST',
    'a part too many',
  );
  const byName = new PartAssignment(following);
  t.same([byName.take(named('1')), byName.take(bare)], ['1', 'b']);
  for (const name of ['1', 's', 'x'])
    t.equal(
      outcome(() => byName.take(named(name))),
      'BAD_REQUEST',
    );
});
