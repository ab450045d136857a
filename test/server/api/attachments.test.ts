/**
 * Goal: the bytes of attachments come back as they were put, whole or in parts, encoded or not; edits follow CouchDB's rules; uploads that
 * are slow or break off hold up nobody and leave nothing.
 * Method: a real server on loopback; replies compared with the bytes that were sent; sockets that stop in the middle.
 */
import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { ADMIN, basic, TestServer } from '../../support/server.js';

const MIB = 1024 * 1024;

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('base64');
}

/** Bytes that are like no others, and no text. */
function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = length + 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

async function open(t: Test, settings = {}): Promise<TestServer> {
  const server = await TestServer.open(t, { settings });
  await server.put('/db');
  return server;
}

/** The bytes of a reply, without what `fetch` does to encoded ones. */
function raw(
  server: TestServer,
  path: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<{ status: number; headers: Record<string, unknown>; bytes: Buffer }> {
  return new Promise((resolve, reject) => {
    const url = new URL(server.url + path);
    const request = httpRequest(url, { method, headers: { ...AUTH, ...headers }, agent: false });
    request.on('error', reject).on('response', async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk);
      const { statusCode = 0, headers } = response;
      resolve({ status: statusCode, headers, bytes: Buffer.concat(chunks) });
    });
    request.end();
  });
}

const AUTH = { authorization: basic(ADMIN) };

function revOf(body: unknown): string {
  return typeof body === 'object' && body !== null && 'rev' in body ? String(body.rev) : '';
}

t.test('an attachment makes, changes and leaves a document', async (t) => {
  const server = await open(t);
  const text = { 'Content-Type': 'text/plain' };
  const made = await server.put('/db/a/dir/f.txt', 'hello', { headers: text });
  t.match(made, { status: 201, body: { ok: true, id: 'a', rev: /^1-/ } });
  const rev1 = revOf(made.body);
  t.equal((await server.put('/db/a/g', 'x')).status, 409, 'without a rev it is a conflict');
  t.equal((await server.put('/db/a/g?rev=1-00000000000000000000000000000000', 'x')).status, 409);
  t.equal((await server.put('/db/new/g?rev=1-abc', 'x')).status, 409, 'a rev of no document');
  const second = await server.put('/db/a/g', pattern(10), { headers: { 'If-Match': rev1 } });
  t.match(second, { status: 201, body: { rev: /^2-/ } });
  const document = await server.get('/db/a');
  t.match(document.body, {
    _attachments: {
      'dir/f.txt': {
        content_type: 'text/plain',
        revpos: 1,
        length: 5,
        digest: `md5-${md5(Buffer.from('hello'))}`,
        stub: true,
      },
      g: { content_type: 'application/octet-stream', revpos: 2, length: 10 },
    },
  });
  t.equal((await server.get('/db/a/dir/f.txt')).text, 'hello');
  t.equal((await server.get('/db/a/dir%2Ff.txt')).text, 'hello', 'the slash may be encoded');
  const rev2 = revOf(second.body);
  t.equal((await server.delete('/db/a/g')).status, 409);
  t.match(await server.delete(`/db/a/nothing?rev=${rev2}`), {
    status: 404,
    body: { error: 'not_found', reason: 'Document is missing attachment' },
  });
  const removed = await server.delete(`/db/a/g?rev=${rev2}`);
  t.match(removed, { status: 200, body: { ok: true, rev: /^3-/ } });
  t.match(await server.get('/db/a/g'), {
    status: 404,
    body: { error: 'not_found', reason: 'Document is missing attachment' },
  });
  t.equal((await server.get(`/db/a/dir/f.txt?rev=${revOf(removed.body)}`)).text, 'hello');
  t.equal((await server.get('/db/none/f')).status, 404);
  t.equal((await server.put('/db/a/_secret', 'x')).status, 400, 'names with an underscore');
  t.equal((await server.put('/nodb/a/f', 'x')).status, 404);
  await server.delete(`/db/a?rev=${revOf(removed.body)}`);
  t.match(await server.put('/db/a/f', 'again'), { status: 201, body: { rev: /^5-/ } });
});

t.test('design documents have attachments too', async (t) => {
  const server = await open(t);
  const html = { 'Content-Type': 'text/html' };
  const page = '<script>fetch("/_session")</script>';
  t.match(await server.put('/db/_design/app/index.html', page, { headers: html }), { status: 201 });
  const reply = await server.get('/db/_design/app/index.html');
  t.equal(reply.text, page);
  t.equal(reply.headers.get('Content-Security-Policy'), 'sandbox', 'it runs nothing');
  t.equal(reply.headers.get('X-Content-Type-Options'), 'nosniff');
  t.equal(reply.headers.get('Content-Type'), 'text/html');
});

t.test('parts, tags and lengths', async (t) => {
  const server = await open(t);
  const bytes = pattern(2 * MIB + 5000);
  await server.put('/db/a/f', bytes);
  const whole = await raw(server, '/db/a/f');
  t.ok(whole.bytes.equals(bytes));
  t.match(whole.headers, {
    'content-length': String(bytes.length),
    'accept-ranges': 'bytes',
    etag: `"${md5(bytes)}"`,
    'content-md5': md5(bytes),
  });
  const head = await raw(server, '/db/a/f', { Range: 'bytes=0-1' }, 'HEAD');
  t.equal(head.bytes.length, 0);
  t.match(head, { status: 200, headers: { 'content-length': String(bytes.length) } });
  for (const [from, to] of [
    [0, 0],
    [MIB - 1, MIB],
    [MIB, MIB],
    [100, 2 * MIB + 10],
    [2 * MIB, bytes.length - 1],
  ] as const) {
    const part = await raw(server, '/db/a/f', { Range: `bytes=${from}-${to}` });
    t.equal(part.status, 206);
    t.equal(part.headers['content-range'], `bytes ${from}-${to}/${bytes.length}`);
    t.ok(part.bytes.equals(bytes.subarray(from, to + 1)), `${from}-${to}`);
  }
  const last = await raw(server, '/db/a/f', { Range: 'bytes=-3' });
  t.ok(last.bytes.equals(bytes.subarray(-3)));
  const several = await raw(server, '/db/a/f', { Range: 'bytes=0-1,5-6' });
  t.match(several, { status: 200, headers: { 'content-length': String(bytes.length) } });
  const beyond = await raw(server, '/db/a/f', { Range: `bytes=${bytes.length}-` });
  t.match(beyond, { status: 416, headers: { 'content-range': `bytes */${bytes.length}` } });
  const tag = { 'If-None-Match': `"${md5(bytes)}"` };
  t.equal((await raw(server, '/db/a/f', tag)).status, 304);
  const stale = { Range: 'bytes=0-1', 'If-Range': '"other"' };
  t.equal((await raw(server, '/db/a/f', stale)).status, 200);
});

t.test('empty ones, and what is refused', async (t) => {
  const server = await open(t, { 'couchdb/max_attachment_size': '100000' });
  t.match(await server.put('/db/empty/f', new Uint8Array(0)), { status: 201 });
  const empty = await raw(server, '/db/empty/f');
  t.match(empty, { status: 200, headers: { 'content-length': '0' } });
  t.equal((await raw(server, '/db/empty/f', { Range: 'bytes=0-1' })).status, 416);
  t.match(await server.put('/db/large/f', pattern(100_001)), {
    status: 413,
    body: { error: 'too_large' },
  });
  t.match(await server.put('/db/large/f', pattern(100_000)), { status: 201 });
  const wrong = { headers: { 'Content-MD5': md5(Buffer.from('other')) } };
  t.match(await server.put('/db/wrong/f', 'bytes', wrong), { status: 400 });
  const right = { headers: { 'Content-MD5': md5(Buffer.from('bytes')) } };
  t.match(await server.put('/db/right/f', 'bytes', right), { status: 201 });
  const malformed = { headers: { 'Content-MD5': 'no' } };
  t.match(await server.put('/db/wrong/f', 'bytes', malformed), { status: 400 });
  const brotli = { headers: { 'Content-Encoding': 'br' } };
  t.match(await server.put('/db/wrong/f', 'bytes', brotli), { status: 415 });
  t.equal((await server.get('/db/wrong')).status, 404, 'nothing was stored');
});

t.test('gzip is stored as it is, and decoded for those who do not take it', async (t) => {
  const server = await open(t, { 'couchdb/max_attachment_size': '300000' });
  const text = Buffer.from('divan '.repeat(40_000));
  const zipped = gzipSync(text);
  const headers = { 'Content-Encoding': 'gzip', 'Content-Type': 'text/plain' };
  t.match(await server.put('/db/a/f', zipped, { headers }), { status: 201 });
  const encoded = await raw(server, '/db/a/f', { 'Accept-Encoding': 'gzip' });
  t.match(encoded.headers, {
    'content-encoding': 'gzip',
    'content-length': String(zipped.length),
    'accept-ranges': 'none',
    vary: 'Accept-Encoding',
  });
  t.ok(encoded.bytes.equals(zipped));
  const decoded = await raw(server, '/db/a/f', { Range: 'bytes=0-1' });
  t.equal(decoded.headers['content-encoding'], undefined);
  t.match(decoded, { status: 200, headers: { 'content-length': String(text.length) } });
  t.ok(decoded.bytes.equals(text));
  const stub = { length: text.length, encoding: 'gzip', encoded_length: zipped.length };
  t.match((await server.get('/db/a?att_encoding_info=true')).body, { _attachments: { f: stub } });
  const inline = await server.get('/db/a?attachments=true');
  t.match(inline.body, { _attachments: { f: { data: text.toString('base64') } } });
  for (const bad of [
    Buffer.from('no gzip'),
    zipped.subarray(0, -5),
    Buffer.concat([zipped, text]),
  ]) {
    t.match(await server.put('/db/bad/f', bad, { headers }), { status: 400 });
  }
  const bomb = gzipSync(Buffer.alloc(10 * MIB));
  t.match(await server.put('/db/bad/f', bomb, { headers }), { status: 413 });
  t.equal((await server.get('/db/bad')).status, 404);
});

t.test('inline attachments are held to what is declared of them', async (t) => {
  const server = await open(t);
  const text = Buffer.from('plain text');
  const zipped = gzipSync(text);
  const put = (attachment: object) => server.put('/db/a', { _attachments: { f: attachment } });
  const data = text.toString('base64');
  const encoded = { data: zipped.toString('base64'), encoding: 'gzip' };
  for (const bad of [
    { data: 'no base64!' },
    { data: 'ab=c' },
    { data: 5 },
    {},
    { data, length: 3 },
    { ...encoded, digest: 'md5-AAAA' },
    { ...encoded, digest: `md5-${md5(text)}` },
    { ...encoded, length: 3 },
    { ...encoded, encoded_length: 3 },
    { data, encoding: 'gzip' },
    { data, encoding: 'br' },
    { follows: true, length: 3 },
  ]) {
    t.match(await put(bad), { status: 400, body: { error: 'bad_request' } }, JSON.stringify(bad));
  }
  t.equal((await put({ stub: true })).status, 412, 'a stub of nothing');
  t.equal((await server.get('/db/a')).status, 404);
  const all = { digest: `md5-${md5(zipped)}`, length: text.length, encoded_length: zipped.length };
  t.match(await put({ ...encoded, ...all, content_type: 'text/plain' }), { status: 201 });
  t.equal((await server.get('/db/a/f')).text, 'plain text');
  const other = { data, digest: `md5-${md5(zipped)}` };
  const foreign = await server.put('/db/foreign', { _attachments: { f: other } });
  t.equal(foreign.status, 201, 'the digest of what another server stores is no mistake');
  const escaped = `{"_attachments":{"f":{"data":"${pattern(900).toString('base64').replaceAll('/', '\\/')}"}}}`;
  const json = { headers: { 'Content-Type': 'application/json' } };
  t.match(await server.put('/db/escaped', escaped, json), { status: 201 });
  t.ok((await raw(server, '/db/escaped/f')).bytes.equals(pattern(900)));
  const mixed = await server.post('/db/_bulk_docs', {
    docs: [
      { _id: 'good', _attachments: { f: { data } } },
      { _id: 'bad', _attachments: { f: { ...encoded, length: 3 } } },
      { _id: 'good2', _attachments: { f: { data } } },
    ],
  });
  t.match(mixed.body, [
    { ok: true, id: 'good' },
    { id: 'bad', error: 'bad_request' },
    { ok: true },
  ]);
});

t.test('large inline attachments come back as they were put', async (t) => {
  const server = await open(t);
  const bytes = pattern(5 * MIB + 1);
  const data = bytes.toString('base64');
  const body = { _attachments: { f: { data }, g: { data: 'YQ==' } } };
  t.match(await server.put('/db/a', body), { status: 201 });
  t.ok((await raw(server, '/db/a/f')).bytes.equals(bytes));
  const reply = await server.get('/db/a?attachments=true');
  t.match(reply.body, { _attachments: { f: { data }, g: { data: 'YQ==' } } });
});

/** Starts an upload that stops after some bytes. */
async function startUpload(server: TestServer, path: string, length: number) {
  const headers = { ...AUTH, 'Content-Length': String(length) };
  const request = httpRequest(new URL(server.url + path), { method: 'PUT', headers, agent: false });
  const answered = new Promise<number>((resolve) => {
    request.on('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on('error', () => resolve(0));
  });
  request.write(pattern(Math.floor(length / 2)));
  await new Promise((resolve) => setTimeout(resolve, 100));
  return { request, answered };
}

t.test('a client that vanishes leaves nothing, and one that waits holds up nobody', async (t) => {
  const server = await open(t);
  const { request } = await startUpload(server, '/db/a/f', 3 * MIB);
  const waiting = await startUpload(server, '/db/b/f', 3 * MIB);
  t.equal((await server.put('/db/c', {})).status, 201, 'writes go on');
  request.destroy();
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal((await server.get('/db/a')).status, 404);
  t.equal((await server.get('/db/b')).status, 404, 'nothing before the end');
  const compacted = await server.post('/db/_compact', undefined, {
    headers: { 'Content-Type': 'application/json' },
  });
  t.equal(compacted.status, 202);
  for (let wait = 0; wait < 100; wait++) {
    const info = (await server.get('/db')).body;
    if (JSON.stringify(info).includes('"compact_running":false')) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.match((await server.get('/db')).body, { compact_running: false }, 'so does compaction');
  waiting.request.end(pattern(Math.floor((3 * MIB) / 2)));
  t.equal(await waiting.answered, 201, 'and the upload with it');
  const half = pattern(Math.floor((3 * MIB) / 2));
  t.ok((await raw(server, '/db/b/f')).bytes.equals(Buffer.concat([half, half])));
});

t.test('uploads end when their database is deleted', async (t) => {
  const server = await open(t);
  const uploads = [];
  for (let index = 0; index < 20; index++) {
    uploads.push(await startUpload(server, `/db/a${index}/f`, MIB));
  }
  t.equal((await server.delete('/db')).status, 200);
  const statuses = await Promise.all(uploads.map(({ answered }) => answered));
  t.same([...new Set(statuses)], [404]);
});

t.test('new bytes are of the revision that brought them, whatever the client says', async (t) => {
  const server = await TestServer.open(t);
  await server.put('/db');
  const attachment = (data: string) => ({ _attachments: { a: { data, revpos: 1 } } });
  const rev = revOf((await server.put('/db/a', attachment('b25l'))).body);
  await server.put('/db/a', { _rev: rev, ...attachment('dHdv') });
  const since = `/db/a?atts_since=${encodeURIComponent(JSON.stringify([rev]))}`;
  const sent = { _attachments: { a: { revpos: 2, data: 'dHdv' } } };
  t.match((await server.get(since)).body, sent, 'who has the first revision lacks them');
  const path = { _rev: '5-b', _revisions: { start: 5, ids: ['b'] } };
  await server.put('/db/b?new_edits=false', { ...path, ...attachment('b25l') });
  t.match((await server.get('/db/b')).body, { _attachments: { a: { revpos: 1 } } }, 'replicated');
});
