/**
 * Goal: what replicators do: documents as multipart both ways, revisions in one reply, `_bulk_get`, `_revs_diff`, `_missing_revs`,
 * `batch=ok`.
 * Method: a real server on loopback; replies taken apart by the reader of multipart bodies and compared with what was put.
 */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { boundaryOf, readMultipart } from '../../../server/http/multipart-reader.js';
import { collect } from '../../support/byte-sources.js';
import { type Reply, TestServer } from '../../support/server.js';

const JSON_TYPE = { 'Content-Type': 'application/json' };
const LIMITS = { partsMax: 100, headerBytesMax: 10_000 };

async function open(t: Test, settings = {}): Promise<TestServer> {
  const server = await TestServer.open(t, { settings });
  await server.put('/db');
  return server;
}

interface Part {
  readonly type: string;
  readonly name: string | undefined;
  readonly bytes: Buffer;
}

/** The parts of a multipart body; those of parts that are multipart themselves in their place. */
async function partsOf(contentType: string, body: Uint8Array): Promise<(Part | Part[])[]> {
  const parts: (Part | Part[])[] = [];
  const source = async function* () {
    yield body;
  };
  for await (const part of readMultipart(source(), boundaryOf(contentType), LIMITS)) {
    const bytes = await collect(part.body);
    const type = part.headers.get('content-type') ?? '';
    if (type.startsWith('multipart/')) parts.push((await partsOf(type, bytes)).flat());
    else parts.push({ type, name: part.headers.get('content-disposition'), bytes });
  }
  return parts;
}

async function multipart(
  server: TestServer,
  method: string,
  path: string,
  accept: string,
  body?: object,
): Promise<(Part | Part[])[]> {
  const headers = { Accept: accept };
  const response = await server.fetch(
    method,
    path,
    body === undefined ? { headers } : { headers, body },
  );
  const bytes = Buffer.from(await response.arrayBuffer());
  return partsOf(response.headers.get('Content-Type') ?? '', bytes);
}

function jsonOf(part: Part | Part[] | undefined): unknown {
  const [first] = [part].flat();
  return first === undefined ? undefined : JSON.parse(first.bytes.toString());
}

/** A document and its parts as a client writes them. */
function related(document: object, parts: readonly (readonly [string | undefined, Uint8Array])[]) {
  const chunks = [
    `--edge\r\nContent-Type: application/json\r\n\r\n${JSON.stringify(document)}`,
    ...parts.flatMap(([name, bytes]) => {
      const disposition = `Content-Disposition: attachment; filename="${name}"\r\n`;
      return [`\r\n--edge\r\n${name === undefined ? '' : disposition}\r\n`, bytes];
    }),
    '\r\n--edge--',
  ];
  return Buffer.concat(
    chunks.map((chunk) => (typeof chunk === 'string' ? Buffer.from(chunk) : chunk)),
  );
}

const RELATED = { headers: { 'Content-Type': 'multipart/related; boundary=edge' } };

function md5(bytes: Uint8Array): string {
  return `md5-${createHash('md5').update(bytes).digest('base64')}`;
}

function revOf({ body }: Reply): string {
  return typeof body === 'object' && body !== null && 'rev' in body ? String(body.rev) : '';
}

const FOO = Buffer.from('the bytes of foo');
const BAR = Buffer.alloc(3_000_000, 'bar ');

t.test('a document comes with its attachments as multipart', async (t) => {
  const server = await open(t);
  const zipped = gzipSync(BAR);
  const document = {
    value: 1,
    _attachments: {
      2: { follows: true, content_type: 'text/foo', length: FOO.length, digest: md5(FOO) },
      inline: { data: 'YWJj' },
      1: {
        follows: true,
        encoding: 'gzip',
        encoded_length: zipped.length,
        length: BAR.length,
        digest: md5(zipped),
      },
    },
  };
  // JSON.stringify puts names that look like numbers first, the smaller before the larger.
  const body = related(document, [
    [undefined, zipped],
    [undefined, FOO],
  ]);
  const put = await server.put('/db/a', body, RELATED);
  t.match(put, { status: 201, body: { ok: true, id: 'a' } });
  t.equal((await server.get('/db/a/2')).text, FOO.toString());
  t.equal((await server.get('/db/a/inline')).text, 'abc');
  t.equal((await server.get('/db/a/1')).text, BAR.toString(), 'decoded by the client');
  const named = related({ _attachments: { x: { follows: true }, y: { follows: true } } }, [
    ['y', FOO],
    ['x', BAR],
  ]);
  t.equal((await server.put('/db/named', named, RELATED)).status, 201);
  t.equal((await server.get('/db/named/y')).text, FOO.toString(), 'parts are known by their names');
  const [doc, ...parts] = await multipart(
    server,
    'GET',
    '/db/a?attachments=true',
    'multipart/related',
  );
  t.match(jsonOf(doc), {
    value: 1,
    _attachments: {
      1: { follows: true, encoding: 'gzip', encoded_length: zipped.length, length: BAR.length },
      2: { follows: true, content_type: 'text/foo' },
      inline: { follows: true },
    },
  });
  const bodies = parts.flat().map(({ bytes }) => bytes);
  t.same(bodies, [zipped, FOO, Buffer.from('abc')], 'in the order of the stubs');
  const since = `/db/a?atts_since=["${revOf(put)}"]`;
  const unchanged = await server.get(since, { headers: { Accept: 'multipart/related' } });
  t.match(unchanged.body, { _attachments: { 2: { stub: true }, inline: { stub: true } } });
});

t.test('multipart documents that are refused leave nothing', async (t) => {
  const server = await open(t, { 'couchdb/max_attachment_size': '5000000' });
  const following = { follows: true, length: FOO.length };
  const one = (stub: object) => ({ _attachments: { f: { ...following, ...stub } } });
  for (const [document, parts] of [
    [one({}), []],
    [one({}), [[undefined, BAR]]],
    [one({ digest: md5(BAR) }), [[undefined, FOO]]],
    [one({}), [['g', FOO]]],
    [
      one({}),
      [
        [undefined, FOO],
        [undefined, FOO],
      ],
    ],
    [one({ encoding: 'gzip' }), [[undefined, FOO]]],
    [{ _attachments: { f: { stub: false } } }, []],
  ] as const) {
    const reply = await server.put('/db/a', related(document, parts), RELATED);
    t.match(reply, { status: 400, body: { error: 'bad_request' } }, JSON.stringify(document));
  }
  const body = related(one({}), [[undefined, FOO]]);
  t.equal((await server.put('/db/a', body.subarray(0, -9), RELATED)).status, 400, 'cut short');
  const large = related({ _attachments: { f: { follows: true } } }, [
    [undefined, Buffer.alloc(5_000_001)],
  ]);
  t.equal((await server.put('/db/a', large, RELATED)).status, 413);
  const type = { headers: { 'Content-Type': 'multipart/related' } };
  t.equal((await server.put('/db/a', body, type)).status, 400, 'no boundary');
  t.equal((await server.get('/db/a')).status, 404);
  t.equal((await server.put('/db/a', body, RELATED)).status, 201);
  t.equal((await server.put('/db/a', body, RELATED)).status, 409);
});

const LEFT = '2-00000000000000000000000000000001';
const RIGHT = '2-00000000000000000000000000000002';
const FIRST = '1-0000000000000000000000000000000a';

/** A document with two leaves of one parent, one of them with an attachment. */
async function conflicted(server: TestServer): Promise<void> {
  const ids = (rev: string) => ({ start: 2, ids: [rev.slice(2), FIRST.slice(2)] });
  const left = { _rev: LEFT, _revisions: ids(LEFT), side: 'left' };
  await server.put('/db/a?new_edits=false', left);
  const right = {
    _rev: RIGHT,
    _revisions: ids(RIGHT),
    side: 'right',
    _attachments: { f: { follows: true, revpos: 2 } },
  };
  const body = related(right, [[undefined, FOO]]);
  const put = await server.put('/db/a?new_edits=false', body, RELATED);
  if (put.status !== 201) throw new Error(put.text);
}

t.test('open_revs', async (t) => {
  const server = await open(t);
  await conflicted(server);
  const json = { headers: { Accept: 'application/json' } };
  const all = await server.get('/db/a?open_revs=all&revs=true', json);
  t.match(all, { status: 200 });
  t.match(all.body, [
    { ok: { _rev: RIGHT, side: 'right', _revisions: { start: 2 }, _attachments: { f: {} } } },
    { ok: { _rev: LEFT, side: 'left' } },
  ]);
  const some = `open_revs=["${LEFT}","${FIRST}","3-abc"]`;
  t.match((await server.get(`/db/a?${some}`, json)).body, [
    { ok: { _rev: LEFT } },
    { missing: FIRST },
    { missing: '3-abc' },
  ]);
  t.match(
    (await server.get(`/db/a?${some}&latest=true`, json)).body,
    [{ ok: { _rev: LEFT } }, { ok: { _rev: RIGHT } }, { missing: '3-abc' }],
    'each leaf once',
  );
  t.match((await server.get('/db/none?open_revs=["1-abc"]', json)).body, [{ missing: '1-abc' }]);
  t.match(await server.get('/db/none?open_revs=all', json), { status: 404 });
  for (const bad of ['7', '["x"]', '[1]', '{}', 'x']) {
    t.equal((await server.get(`/db/a?open_revs=${bad}`, json)).status, 400, bad);
  }
  const both = '/db/a?open_revs=all&attachments=true';
  const inline = await server.get(both, {
    headers: { Accept: 'application/json, text/plain, */*' },
  });
  t.match(inline.body, [
    { ok: { _attachments: { f: { data: FOO.toString('base64') } } } },
    { ok: { _rev: LEFT } },
  ]);
  for (const accept of ['multipart/mixed', '*/*']) {
    const [withParts, plain] = await multipart(server, 'GET', both, accept);
    t.match(jsonOf(withParts), { _rev: RIGHT, _attachments: { f: { follows: true } } });
    t.ok([withParts].flat()[1]?.bytes.equals(FOO));
    t.match(jsonOf(plain), { _rev: LEFT });
  }
  const [missing] = await multipart(server, 'GET', '/db/a?open_revs=["3-abc"]', 'multipart/mixed');
  t.match(missing, { type: 'application/json; error="true"' });
  t.same(jsonOf(missing), { missing: '3-abc' });
  const none = await multipart(server, 'GET', '/db/a?open_revs=[]', 'multipart/mixed');
  t.same(none, []);
});

t.test('_bulk_get', async (t) => {
  const server = await open(t, { 'couchdb/max_bulk_get_count': '8' });
  await conflicted(server);
  await server.put('/db/b', { b: true });
  await server.put('/db/constructor', { odd: true });
  const docs = [
    { id: 'a' },
    { id: 'a', rev: LEFT },
    { id: 'a', rev: '9-abc' },
    { id: 'none' },
    { id: 'constructor' },
    { id: '_odd' },
    { id: 'a', rev: 'x' },
    {},
  ];
  const reply = await server.post('/db/_bulk_get?revs=true', { docs });
  t.match(reply, { status: 200, body: { results: { length: docs.length } } });
  const missing = { error: 'not_found', reason: 'missing' };
  t.match(reply.body, {
    results: [
      { id: 'a', docs: [{ ok: { _rev: RIGHT, _revisions: {} } }, { ok: { _rev: LEFT } }] },
      { id: 'a', docs: [{ ok: { _rev: LEFT } }] },
      { id: 'a', docs: [{ error: { id: 'a', rev: '9-abc', ...missing } }] },
      { id: 'none', docs: [{ error: { id: 'none', rev: 'undefined', ...missing } }] },
      { id: 'constructor', docs: [{ ok: { odd: true } }] },
      { id: '_odd', docs: [{ error: { id: '_odd', error: 'illegal_docid' } }] },
      { id: 'a', docs: [{ error: { id: 'a', rev: 'x', error: 'bad_request' } }] },
      { id: null, docs: [{ error: { id: null, error: 'illegal_docid' } }] },
    ],
  });
  t.equal((await server.post('/db/_bulk_get', { docs: [...docs, {}] })).status, 413);
  for (const bad of [{}, { docs: {} }, { docs: [1] }, []]) {
    t.equal((await server.post('/db/_bulk_get', bad)).status, 400, JSON.stringify(bad));
  }
  const latest = { docs: [{ id: 'a', rev: FIRST }] };
  t.match((await server.post('/db/_bulk_get?latest=true', latest)).body, {
    results: [{ docs: [{ ok: { _rev: LEFT } }, { ok: { _rev: RIGHT } }] }],
  });
  const since = { docs: [{ id: 'a', rev: RIGHT, atts_since: [FIRST] }] };
  t.match((await server.post('/db/_bulk_get', since)).body, {
    results: [{ docs: [{ ok: { _attachments: { f: { data: FOO.toString('base64') } } } }] }],
  });
  const parts = await multipart(
    server,
    'POST',
    '/db/_bulk_get?attachments=true',
    'multipart/mixed',
    {
      docs: [{ id: 'a' }, { id: 'none' }],
    },
  );
  t.match(jsonOf(parts[0]), { _rev: RIGHT });
  t.ok([parts[0]].flat()[1]?.bytes.equals(FOO));
  t.match(jsonOf(parts[1]), { _rev: LEFT });
  t.match(parts[2], { type: 'application/json; error="true"' });
  t.match(jsonOf(parts[2]), { id: 'none', error: 'not_found' });
});

t.test('_revs_diff and _missing_revs', async (t) => {
  const server = await open(t, { 'couchdb/max_bulk_docs_count': '6' });
  await conflicted(server);
  const third = revOf(await server.put('/db/b', {}));
  await server.put('/db/b2', {});
  const asked = {
    a: [LEFT, FIRST, '3-abc', '3-abc', '1-abc'],
    b: [third],
    b2: ['1-abc'],
    none: ['1-abc', '2-abc'],
    empty: [],
  };
  const body = JSON.stringify(asked).replace('{', '{"__proto__":["1-abc"],');
  const diff = await server.post('/db/_revs_diff', body, { headers: JSON_TYPE });
  t.match(diff, { status: 200 });
  t.equal(
    diff.text,
    `{${[
      '"__proto__":{"missing":["1-abc"]}',
      `"a":{"missing":["3-abc","1-abc"],"possible_ancestors":["${RIGHT}","${LEFT}"]}`,
      '"b2":{"missing":["1-abc"]}',
      '"none":{"missing":["1-abc","2-abc"]}',
    ]}}\n`,
  );
  const missing = await server.post('/db/_missing_revs', body, { headers: JSON_TYPE });
  t.equal(
    missing.text,
    '{"missing_revs":{"__proto__":["1-abc"],"a":["3-abc","1-abc"],"b2":["1-abc"],"none":["1-abc","2-abc"]}}\n',
  );
  t.equal((await server.post('/db/_revs_diff', {})).text, '{}\n');
  for (const bad of ['[]', '{"a":1}', '{"a":["x"]}', '{"a":[1]}', '{"a":[],"a":[]}', '{', '']) {
    const reply = await server.post('/db/_revs_diff', bad, { headers: JSON_TYPE });
    t.equal(reply.status, 400, bad);
  }
  const many = { a: [], b: [], c: [], d: [], e: [], f: [], g: [] };
  t.equal((await server.post('/db/_revs_diff', many)).status, 413);
  t.equal((await server.post('/db/_revs_diff', '{}')).status, 415);
});

t.test('batch=ok', async (t) => {
  const server = await open(t);
  t.match(await server.put('/db/a?batch=ok', { n: 1 }), {
    status: 202,
    body: { ok: true, id: 'a' },
  });
  const posted = await server.post('/db?batch=ok', { n: 2 });
  t.match(posted, { status: 202, body: { ok: true, id: /^[0-9a-f]{32}$/ } });
  t.match(await server.put('/db/a?batch=ok', { n: 3 }), { status: 202 }, 'a conflict is not told');
  for (let n = 0; n < 100; n++) await server.put(`/db/more${n}?batch=ok`, { n });
  await server.post('/db/_ensure_full_commit', undefined, { headers: JSON_TYPE });
  t.match((await server.get('/db/a')).body, { n: 1 });
  t.match((await server.get('/db')).body, { doc_count: 102 });
  t.ok(JSON.stringify(server.log).includes('a write with batch=ok was refused'), 'but logged');
  await server.put('/db/last?batch=ok', { n: 4 });
  await server.close();
  const again = await TestServer.open(t, { dataDir: server.dataDir });
  t.match((await again.get('/db/last')).body, { n: 4 }, 'nothing is lost when the server stops');
});

t.test('COPY takes attachments along', async (t) => {
  const server = await open(t);
  await conflicted(server);
  const copied = await server.call('COPY', '/db/a', { headers: { Destination: 'copy' } });
  t.equal(copied.status, 201);
  t.equal((await server.get('/db/copy/f')).text, FOO.toString());
});

t.test('revisions that another store named at will', async (t) => {
  const server = await open(t);
  for (const [id, rev] of [
    ['quote', '1-a"b'],
    ['beyond', '1-ü'],
    ['space', '1-a b'],
  ]) {
    const path = `/db/${id}`;
    const put = await server.put(`${path}?new_edits=false`, { _rev: rev });
    t.match(put, { status: 201, body: { rev } });
    t.equal(put.headers.get('ETag'), null, 'no header can hold it');
    t.match(await server.get(path), { status: 200, body: { _id: id, _rev: rev } });
    t.match(await server.get(`${path}?meta=true`), { body: { _revs_info: [{ rev }] } });
    const keys = JSON.stringify([id]);
    const rows = [{ id, value: { rev } }];
    t.match(await server.get(`/db/_all_docs?keys=${keys}`), { body: { rows } });
    t.match(await server.put(path, { _rev: rev, edited: true }), { status: 201 });
  }
  const { body } = await server.get('/db/_all_docs');
  t.match(body, { rows: [{ id: 'beyond' }, { id: 'quote' }, { id: 'space' }] });
});
