/**
 * Goal: each limit of the settings that a single request can reach holds, and what is just within it passes.
 * Method: small limits, and for each a request that is over it and one that is not.
 */
import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { Listener, listenerOptions } from '../../server/listener.js';
import {
  type CallOptions,
  realServerHost,
  TestServer,
  type TestServerOptions,
} from '../support/server.js';
import { configOf } from '../support/server-world.js';

type Settings = NonNullable<TestServerOptions['settings']>;

interface Limited {
  readonly what: string;
  readonly settings?: Settings;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly status: number;
  /** What is just within the limit. */
  readonly within?: { readonly path?: string; readonly body?: unknown };
}

const JSON_TYPE = { 'Content-Type': 'application/json' };
const deep = (depth: number) => `{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
const text = (length: number) => ({ a: 'x'.repeat(length) });
const docs = (count: number) => ({ docs: Array.from({ length: count }, () => ({})) });
const keys = (count: number) => ({ keys: Array.from({ length: count }, () => 'x') });

const withAttachment = (length: number) => ({
  _attachments: { a: { data: Buffer.alloc(length).toString('base64') } },
});
const REV = '1-967a00dff5e02add41819138abb3284d';

/** A document with so many attachments behind it, each a part of its own. */
function related(attachments: number): string {
  const names = Array.from({ length: attachments }, (_, index) => `a${index}`);
  const stub = { follows: true, length: 1, content_type: 'text/plain' };
  const doc = { _attachments: Object.fromEntries(names.map((name) => [name, stub])) };
  const parts = names.map(() => '\r\n--b\r\n\r\nx').join('');
  return `--b\r\nContent-Type: application/json\r\n\r\n${JSON.stringify(doc)}${parts}\r\n--b--`;
}

const LIMITED: readonly Limited[] = [
  {
    what: 'the size of a body',
    settings: { 'chttpd/max_http_request_size': '10 KiB' },
    method: 'PUT',
    path: '/db/a',
    body: text(11_000),
    status: 413,
    within: { body: text(9000) },
  },
  {
    what: 'the size of a body when it is inflated',
    settings: { 'chttpd/max_http_request_size': '10 KiB' },
    method: 'PUT',
    path: '/db/a',
    body: gzipSync(JSON.stringify(text(11_000))),
    headers: { ...JSON_TYPE, 'Content-Encoding': 'gzip' },
    status: 413,
    within: { body: gzipSync(JSON.stringify(text(9000))) },
  },
  {
    what: 'the size of a document',
    settings: { 'couchdb/max_document_size': '1000' },
    method: 'PUT',
    path: '/db/a',
    body: text(1100),
    status: 413,
    within: { body: text(900) },
  },
  {
    what: 'the size of one of many documents',
    settings: { 'couchdb/max_document_size': '1000' },
    method: 'POST',
    path: '/db/_bulk_docs',
    body: { docs: [text(10), text(1100)] },
    status: 413,
    within: { body: { docs: [text(900), text(900)] } },
  },
  {
    what: 'the depth of JSON',
    method: 'PUT',
    path: '/db/a',
    body: deep(513),
    headers: JSON_TYPE,
    status: 400,
    within: { body: deep(512) },
  },
  {
    what: 'members of one name',
    method: 'PUT',
    path: '/db/a',
    body: '{"a":1,"b":2,"a":1}',
    headers: JSON_TYPE,
    status: 400,
    within: { body: '{"a":1,"b":2,"c":1}' },
  },
  {
    what: 'the length of a target',
    settings: { 'chttpd/max_uri_length': '256' },
    method: 'GET',
    path: `/?${'x'.repeat(300)}`,
    status: 413,
    within: { path: `/?${'x'.repeat(250)}` },
  },
  {
    what: 'the size of headers',
    settings: { 'chttpd/max_header_size': '1 KiB' },
    method: 'GET',
    path: `/?${'x'.repeat(2000)}`,
    status: 431,
    within: { path: '/' },
  },
  {
    what: 'how many parameters a query has',
    settings: { 'chttpd/max_query_parameters': '2' },
    method: 'GET',
    path: '/_uuids?a&b&c',
    status: 400,
    within: { path: '/_uuids?a&b' },
  },
  {
    what: 'how many ids are made',
    settings: { 'uuids/max_count': '2' },
    method: 'GET',
    path: '/_uuids?count=3',
    status: 400,
    within: { path: '/_uuids?count=2' },
  },
  {
    what: 'a number in a query',
    method: 'GET',
    path: '/db/_all_docs?limit=9007199254740992',
    status: 400,
    within: { path: '/db/_all_docs?limit=9007199254740991' },
  },
  {
    what: 'how many documents are written at once',
    settings: { 'couchdb/max_bulk_docs_count': '2' },
    method: 'POST',
    path: '/db/_bulk_docs',
    body: docs(3),
    status: 413,
    within: { body: docs(2) },
  },
  {
    what: 'how many keys are asked for',
    settings: { 'chttpd/max_all_docs_keys': '2' },
    method: 'POST',
    path: '/db/_all_docs',
    body: keys(3),
    status: 413,
    within: { body: keys(2) },
  },
  {
    what: 'how many queries are asked at once',
    settings: { 'chttpd/max_all_docs_keys': '2' },
    method: 'POST',
    path: '/db/_all_docs/queries',
    body: { queries: [{}, {}, {}] },
    status: 413,
    within: { body: { queries: [{}, {}] } },
  },
  {
    what: 'the size of an attachment',
    settings: { 'couchdb/max_attachment_size': '1000' },
    method: 'PUT',
    path: '/db/a/file',
    body: 'x'.repeat(1001),
    headers: { 'Content-Type': 'text/plain' },
    status: 413,
    within: { body: 'x'.repeat(1000) },
  },
  {
    what: 'the size of an attachment in a document',
    settings: { 'couchdb/max_attachment_size': '1000' },
    method: 'PUT',
    path: '/db/a',
    body: withAttachment(1001),
    status: 413,
    within: { body: withAttachment(1000) },
  },
  {
    what: 'the parts of a multipart body',
    settings: { 'chttpd/max_multipart_parts': '2' },
    method: 'PUT',
    path: '/db/a',
    body: related(2),
    headers: { 'Content-Type': 'multipart/related; boundary=b' },
    status: 413,
    within: { body: related(1) },
  },
  {
    what: 'how many revisions are asked for',
    settings: { 'couchdb/max_bulk_get_count': '2' },
    method: 'POST',
    path: '/db/_bulk_get',
    body: { docs: [{ id: 'a' }, { id: 'b' }, { id: 'c' }] },
    status: 413,
    within: { body: { docs: [{ id: 'a' }, { id: 'b' }] } },
  },
  {
    what: 'how many documents are purged',
    settings: { 'purge/max_document_id_number': '1' },
    method: 'POST',
    path: '/db/_purge',
    body: { a: [REV], b: [REV] },
    status: 400,
    within: { body: { a: [REV] } },
  },
  {
    what: 'how many revisions are purged',
    settings: { 'purge/max_revisions_number': '1' },
    method: 'POST',
    path: '/db/_purge',
    body: { a: [REV], b: [REV] },
    status: 400,
    within: { body: { a: [REV] } },
  },
  {
    what: 'how many shards a database has',
    method: 'PUT',
    path: '/other?q=65',
    status: 400,
    within: { path: '/other?q=64' },
  },
];

for (const { what, settings = {}, method, path, body, headers, status, within } of LIMITED) {
  t.test(what, async (t) => {
    const server = await TestServer.open(t, { settings });
    await server.put('/db');
    const options: CallOptions = headers === undefined ? {} : { headers };
    const refused = await server.call(method, path, { ...options, body });
    t.equal(refused.status, status, refused.text);
    t.match(refused.body, { error: String, reason: String });
    t.match((await server.get('/db')).body, { doc_count: 0 }, 'nothing is stored in part');
    const withinOptions = { ...options, body: within?.body ?? body };
    const passed = await server.call(method, within?.path ?? path, withinOptions);
    t.ok(passed.status < 300, `within the limit: ${passed.status} ${passed.text}`);
  });
}

t.test('how much of a reply waits for its client', async (t) => {
  for (const [bytes, waits] of [
    ['16 KiB', true],
    ['1 MiB', false],
  ] as const) {
    const config = configOf('[chttpd]', `max_buffered_response = ${bytes}`);
    let isFull: boolean | undefined;
    const handler = (_: unknown, response: ServerResponse) => {
      isFull = !response.write(Buffer.alloc(100_000));
      response.end();
    };
    const options = { ...listenerOptions(config), port: 0 };
    const listener = await Listener.open(realServerHost, handler, options);
    const reply = await fetch(`http://127.0.0.1:${listener.address.port}/`);
    t.equal((await reply.arrayBuffer()).byteLength, 100_000);
    t.equal(isFull, waits, bytes);
    await listener.close();
  }
});
