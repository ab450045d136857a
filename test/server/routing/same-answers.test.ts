// Goal: a client can not tell from the answers on how many nodes a database is, nor which of them it asks. Method: the same requests, one after
// another, to a node alone and to a cluster whose nodes take turns, with what is random by its nature made equal; two and three nodes, and one
// that has nothing.
import t from 'tap';
import { InProcessCluster } from '../../support/in-process-cluster.js';
import { type CallOptions, TestServer } from '../../support/server.js';

interface Asked extends CallOptions {
  readonly method: string;
  readonly path: string;
}

const get = (path: string, headers: Record<string, string> = {}): Asked => ({
  method: 'GET',
  path,
  headers,
});
const put = (path: string, body: unknown, headers: Record<string, string> = {}): Asked => ({
  method: 'PUT',
  path,
  body,
  headers,
});
const post = (path: string, body: unknown, headers: Record<string, string> = {}): Asked => ({
  method: 'POST',
  path,
  body,
  headers,
});

const letters = [...'abcdefghijklmnopqrst'];
const REV_1 = '1-967a00dff5e02add41819138abb3284d';
const replicated = (id: string, rev: string, before: string[] = []) => ({
  _id: id,
  _rev: rev,
  _revisions: { start: Number.parseInt(rev, 10), ids: [rev.slice(2), ...before] },
  value: rev,
});
const HEX = (digit: string) => digit.repeat(32);

const WRITES: Asked[] = [
  put('/db?q=8', undefined),
  put('/db?q=8', undefined),
  post('/db/_bulk_docs', { docs: letters.map((id, value) => ({ _id: id, value })) }),
  post('/db/_bulk_docs', { docs: [{ _id: 'a' }, { _id: 'new' }, { _id: 'b', _rev: REV_1 }] }),
  post('/db/_bulk_docs', { docs: [{ _id: 'x' }, { _id: '_bad' }] }),
  post('/db/_bulk_docs', { docs: [] }),
  post('/db/_bulk_docs', {
    docs: [
      { _id: '_local/one', n: 1 },
      { _id: '_design/d', views: {} },
    ],
  }),
  post('/db/_bulk_docs', { nodocs: [] }),
  post('/db/_bulk_docs', '{"docs":[{"_id":"number","n":1.0e5},{"_id":"é\\"\\\\","k":"\\u00e9"}]}', {
    'content-type': 'application/json',
  }),
  post('/db/_bulk_docs', {
    new_edits: false,
    docs: [
      replicated('conflict', `2-${HEX('a')}`, [HEX('1')]),
      replicated('conflict', `2-${HEX('b')}`, [HEX('1')]),
      replicated('other', `1-${HEX('c')}`),
      { _id: 'without' },
    ],
  }),
  post('/db/_bulk_docs', {
    new_edits: false,
    docs: [
      replicated('conflict', `2-${HEX('a')}`, [HEX('1')]),
      replicated('conflict', `2-${HEX('b')}`, [HEX('1')]),
      replicated('other', `1-${HEX('c')}`),
    ],
  }),
  put('/db/single', { one: 1 }),
  put('/db/single', { one: 2 }),
  post('/db', { _id: 'posted', two: 2 }),
  post('/db', { _id: 'posted', two: 2 }),
  put('/db/_local/two', { n: 2 }),
  put('/db/_design/e', { language: 'none' }),
  put('/db/a/text.txt?rev=1-', 'x'),
  put('/db/with/text.txt', 'the text of an attachment', { 'content-type': 'text/plain' }),
  put('/db/with2', { _attachments: { b: { content_type: 'a/b', data: 'AAEC' } } }),
  put('/db/UPPER%2Fslash', { path: true }),
  { method: 'DELETE', path: `/db/c?rev=${REV_1}` },
  { method: 'COPY', path: '/db/with', headers: { destination: 'copy-1' } },
  { method: 'COPY', path: '/db/with', headers: { destination: 'copy-2' } },
  { method: 'COPY', path: '/db/with', headers: { destination: 'copy-3' } },
  { method: 'COPY', path: '/db/single', headers: { destination: 'copy%204' } },
  { method: 'COPY', path: '/db/single', headers: { destination: 'copy%204' } },
  { method: 'COPY', path: '/db/missing', headers: { destination: 'copy-5' } },
  { method: 'COPY', path: '/db/single' },
];

const LISTS = ['_all_docs', '_design_docs', '_local_docs'].flatMap((kind): Asked[] => [
  get(`/db/${kind}`),
  get(`/db/${kind}?descending=true`),
  get(`/db/${kind}?limit=5`),
  get(`/db/${kind}?skip=3&limit=4`),
  get(`/db/${kind}?skip=3&limit=4&descending=true`),
  get(`/db/${kind}?limit=0`),
  get(`/db/${kind}?skip=1000`),
  get(`/db/${kind}?startkey="b"&endkey="g"`),
  get(`/db/${kind}?startkey="g"&endkey="b"&descending=true`),
  get(`/db/${kind}?startkey="b"&endkey="g"&inclusive_end=false`),
  get(`/db/${kind}?key="b"`),
  get(`/db/${kind}?include_docs=true&conflicts=true`),
  get(`/db/${kind}?include_docs=true&attachments=true&startkey="w"`),
  get(`/db/${kind}?keys=["a","nothing","c","b","a",3,"_local/one","_design/d"]`),
  get(`/db/${kind}?keys=["a","b","c","d"]&skip=1&limit=2`),
  get(`/db/${kind}?keys=["a","b","c","d"]&descending=true&include_docs=true`),
  get(`/db/${kind}?keys=[]`),
  get(`/db/${kind}?limit=x`),
  get(`/db/${kind}?startkey=null&endkey={}`),
  get(`/db/${kind}?startkey={}`),
  post(`/db/${kind}`, { keys: ['t', 'a'], include_docs: true }),
  post(`/db/${kind}/queries`, {
    queries: [{ limit: 2 }, { keys: ['a', 'z'] }, { skip: 2, limit: 1 }],
  }),
  post(`/db/${kind}/queries`, { queries: [] }),
]);

const READS: Asked[] = [
  get('/db/a'),
  get('/db/a?revs_info=true'),
  get('/db/missing'),
  get('/db/c'),
  get('/db/number'),
  get('/db/conflict?conflicts=true'),
  get(`/db/conflict?open_revs=all`, { accept: 'application/json' }),
  get('/db/_local/one'),
  get('/db/_design/d'),
  get('/db/UPPER%2Fslash'),
  get('/db/with'),
  get('/db/with/text.txt'),
  get('/db/with/text.txt', { range: 'bytes=4-7' }),
  get('/db/with/text.txt', { range: 'bytes=400-' }),
  get('/db/with/none'),
  get('/db/with?attachments=true', { accept: 'application/json' }),
  get('/db/copy-1'),
  get('/db/copy-2?attachments=true', { accept: 'application/json' }),
  get('/db/copy-3/text.txt'),
  get('/db/copy%204'),
  { method: 'HEAD', path: '/db/a' },
  { method: 'HEAD', path: '/db/with/text.txt' },
  { method: 'HEAD', path: '/db/_all_docs' },
  { method: 'HEAD', path: '/db' },
  get('/db/a', { 'if-none-match': `"${REV_1}"` }),
  post('/db/_bulk_get', { docs: [...letters, 'missing'].map((id) => ({ id })) }),
  post('/db/_bulk_get?revs=true', {
    docs: [{ id: 'conflict' }, { id: 'a', rev: '9-x' }, { id: 7 }],
  }),
  post('/db/_bulk_get?attachments=true', { docs: [{ id: 'with' }, { id: 'with2' }, { id: 'a' }] }),
  post('/db/_bulk_get', { docs: [] }),
  post('/db/_bulk_get', {}),
  post('/db/_revs_diff', {
    a: [REV_1, `2-${HEX('d')}`],
    b: [REV_1],
    nothing: [`1-${HEX('e')}`],
    7: [REV_1],
  }),
  post('/db/_missing_revs', { a: [`2-${HEX('d')}`], nothing: [`1-${HEX('e')}`] }),
  post('/db/_revs_diff', {}),
  post('/db/_revs_diff', { a: 'x' }),
  get('/db/_security'),
  get('/db/_revs_limit'),
  put('/db/_revs_limit', '77', { 'content-type': 'application/json' }),
  get('/db/_revs_limit'),
  put('/db/_revs_limit', 'x', { 'content-type': 'application/json' }),
  put('/db/_purged_infos_limit', '78', { 'content-type': 'application/json' }),
  get('/db/_purged_infos_limit'),
  post('/db/_ensure_full_commit', {}),
  post('/db/_compact', {}),
  { method: 'POST', path: '/db/_compact' },
  post('/db/_view_cleanup', {}),
  get('/db'),
  get('/none'),
  get('/none/a'),
  get('/none/_all_docs'),
  get('/none/_changes'),
  get('/_all_dbs'),
  get('/_dbs_info'),
  { method: 'GET', path: '/db/a', as: null },
  { method: 'GET', path: '/db/_all_docs', as: null },
  { method: 'PUT', path: '/db/_security', as: null, body: {} },
  { method: 'PATCH', path: '/db/a' },
];

const CHANGES: Asked[] = [
  get('/db/_changes'),
  get('/db/_changes?limit=7'),
  get('/db/_changes?limit=0'),
  get('/db/_changes?descending=true&limit=3'),
  get('/db/_changes?descending=true'),
  get('/db/_changes?style=all_docs'),
  get('/db/_changes?include_docs=true&conflicts=true'),
  get('/db/_changes?include_docs=true&attachments=true'),
  get('/db/_changes?filter=_design'),
  get('/db/_changes?filter=_doc_ids&doc_ids=["a","b","z"]'),
  post('/db/_changes?filter=_doc_ids', { doc_ids: ['b', 'c', 'with'] }),
  get('/db/_changes?since=now'),
  get('/db/_changes?since=5'),
  get('/db/_changes?feed=longpoll'),
  get('/db/_changes?feed=continuous&timeout=100'),
  get('/db/_changes?feed=eventsource&timeout=100'),
  get('/db/_changes?feed=longpoll&since=now&timeout=100'),
  get('/db/_changes?feed=x'),
  get('/db/_changes?seq_interval=5'),
  { method: 'HEAD', path: '/db/_changes' },
];

const ENDS: Asked[] = [
  post('/db/_purge', { a: [REV_1], conflict: [`2-${HEX('a')}`], nothing: [`1-${HEX('f')}`] }),
  post('/db/_purge', { _local: ['x'] }),
  get('/db/a'),
  get('/db/conflict'),
  get('/db/_all_docs'),
  { method: 'DELETE', path: '/db' },
  get('/db'),
];

const HEADERS = [
  'content-type',
  'etag',
  'content-md5',
  'content-range',
  'accept-ranges',
  'www-authenticate',
  'allow',
  'content-security-policy',
  'cache-control',
];

/** What of an answer is the same wherever it comes from. */
async function answerOf(node: TestServer, { method, path, ...options }: Asked): Promise<object> {
  const response = await node.fetch(method, path, options);
  const { status, headers } = response;
  const text = await response.text();
  const shown = new Map(HEADERS.map((name) => [name, headers.get(name)]));
  const location = headers.get('location')?.replace(/:[0-9]+\//, '/') ?? null;
  return { status, location, headers: Object.fromEntries(shown), text: equal(path, text) };
}

/** Without tokens, sizes and what is random; the rows of changes have no order over shards. */
function equal(path: string, text: string): string {
  const even = text
    .replace(/[0-9]+-[A-Za-z0-9_-]{12}[A-Za-z0-9_.~-]*/g, 'TOKEN')
    .replace(/"seq":null/g, '"seq":"TOKEN"')
    .replace(/^id: .*$/gm, 'id: TOKEN')
    .replace(/"(file|active|instance_start_time|purge_seq)":("[0-9]+"|[0-9]+)/g, '"$1":0')
    .replace(/"compact_running":(true|false)/g, '"compact_running":0');
  if (!path.includes('/_changes')) return even;
  const isCut = path.includes('limit=7') || path.includes('limit=3') || path.includes('limit=0');
  const lines = even.split('\n').map((line) => line.replace(/,$/, ''));
  if (isCut) return lines.map((line) => line.replace(/"id".*/, 'ROW')).join('\n');
  return lines.sort().join('\n');
}

for (const count of [2, 3]) {
  t.test(`${count} nodes answer as one`, async (t) => {
    const alone = await TestServer.open(t);
    const cluster = await InProcessCluster.start(t, count);
    let turn = 0;
    // The smaller one is asked half of it: it takes as long as the larger one.
    const asking = [...LISTS, ...READS, ...CHANGES].filter((_, at) => count > 2 || at % 2 === 0);
    for (const asked of [...WRITES, ...asking, ...ENDS]) {
      const expected = await answerOf(alone, asked);
      const found = await answerOf(cluster.node(turn++ % count), asked);
      if (!t.same(found, expected, `${asked.method} ${asked.path}`))
        t.comment(JSON.stringify(found));
    }
  });
}
