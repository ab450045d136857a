/**
 * Goal: the node tells its settings and numbers to its admins, and lets them change what may be changed.
 * Method: a server on a port of its own, through fetch.
 */
import t from 'tap';
import { Metrics } from '../../../server/metrics.js';
import { TestServer } from '../../support/server.js';

t.test('settings', async (t) => {
  const server = await TestServer.open(t);
  const config = '/_node/_local/_config';
  t.match((await server.get(config)).body, {
    cluster: { q: '2', n: '1' },
    chttpd: { port: '5984' },
    admins: { admin: /^-pbkdf2:sha256-/ },
  });
  t.match((await server.get(`${config}/cluster`)).body, { q: '2' });
  t.equal((await server.get(`${config}/cluster/q`)).body, '2');
  t.same((await server.get(`${config}/nothing`)).body, {});
  const unknown = { status: 404, body: { error: 'not_found', reason: 'unknown_config_value' } };
  t.match(await server.get(`${config}/nothing/x`), unknown);
  t.match(await server.put(`${config}/cluster/q`, '"3"'), { status: 200, body: '2' });
  t.equal((await server.get(`/_node/node1@127.0.0.1/_config/cluster/q`)).body, '3');
  await server.put('/db');
  t.match((await server.get('/db')).body, { cluster: { q: 3 } }, 'it is in force');
  t.match(await server.delete(`${config}/cluster/q`), { status: 200, body: '3' });
  t.match(await server.delete(`${config}/cluster/q`), unknown);
  t.equal((await server.get(`${config}/cluster/q`)).body, '2');
  const refused: [string, string, RegExp][] = [
    ['cluster/q', '3', /must be a JSON string/],
    ['cluster/q', '"x"', /must be an integer/],
    ['cluster/q', '{', /invalid JSON/],
    ['couchdb/database_dir', '"/tmp"', /cannot be changed over HTTP/],
    ['chttpd/bind_address', '"0.0.0.0"', /cannot be changed over HTTP/],
    ['query_servers/javascript', '"sh"', /there is no section query_servers/],
    ['__proto__/x', '"1"', /there is no section/],
    ['admins/eve', '"short"', /at least 8 characters/],
    ['admins/_eve', '"long-enough-1"', /does not begin with/],
  ];
  for (const [path, body, reason] of refused) {
    const reply = await server.put(`${config}/${path}`, body);
    t.match(reply, { status: 400, body: { error: 'bad_request', reason } }, path);
  }
  t.match(await server.get('/_node/other@host/_config'), { status: 404 });
});

t.test('settings that were written outlive a restart', async (t) => {
  const first = await TestServer.open(t);
  await first.put('/_node/_local/_config/uuids/max_count', '"7"');
  await first.put('/_node/_local/_config/chttpd/max_http_request_size', '"2000"');
  t.equal((await first.put('/x', 'x'.repeat(3000))).status, 201, 'no body is wanted there');
  t.equal((await first.post('/x/_revs_diff', { a: ['x'.repeat(3000)] })).status, 413);
  await first.close();
  const second = await TestServer.open(t, { dataDir: first.dataDir });
  t.equal((await second.get('/_uuids?count=7')).status, 200);
  t.equal((await second.get('/_uuids?count=8')).status, 400);
});

t.test('admins come and go', async (t) => {
  const server = await TestServer.open(t);
  const path = '/_node/_local/_config/admins';
  t.match(await server.put(`${path}/root`, '"another-password"'), { status: 200, body: '' });
  t.equal((await server.get('/_all_dbs', { as: 'root:another-password' })).status, 200);
  t.match(await server.delete(`${path}/admin`), { status: 200, body: /^-pbkdf2/ });
  t.equal((await server.get('/_all_dbs')).status, 401);
  const last = await server.delete(`${path}/root`, { as: 'root:another-password' });
  t.match(last, { status: 403, body: { reason: 'The last admin cannot be removed.' } });
});

t.test('numbers', async (t) => {
  const server = await TestServer.open(t);
  t.same((await server.get('/_node/_local')).body, { name: 'node1@127.0.0.1' });
  await server.put('/db?q=2');
  for (const id of ['a', 'b', 'c']) await server.put(`/db/${id}`, {});
  await server.post('/db/_bulk_docs', { docs: [{}, {}] });
  await server.get('/db/a');
  await server.get('/db/none');
  await server.get('/db/a', { as: null });
  const stats = await server.get('/_node/_local/_stats');
  t.match(stats.body, {
    couchdb: {
      database_reads: { value: 2, type: 'counter', desc: String },
      database_writes: { value: 5 },
      open_databases: { value: 1 },
      httpd: { requests: { value: 9 } },
      httpd_request_methods: { GET: { value: 4 }, PUT: { value: 4 }, POST: { value: 1 } },
      httpd_status_codes: { 200: { value: 2 }, 201: { value: 5 }, 401: { value: 1 } },
      auth_cache_misses: { value: 1 },
    },
  });
  const get = '/_node/_local/_stats/couchdb/httpd_request_methods/PUT/value';
  t.equal((await server.get(get)).body, 4);
  t.equal((await server.get('/_node/_local/_stats/couchdb/__proto__')).status, 404);
  const text = await server.get('/_node/_local/_prometheus');
  t.match(text.headers.get('content-type'), /^text\/plain; version=0\.0\.4/);
  for (const line of [
    'divan_http_requests_total{method="PUT",status="201"} 4',
    'divan_document_writes_total 5',
    'divan_open_databases 1',
    'divan_open_shards 2',
    'divan_compactions_running 0',
    'divan_errors_total 0',
  ]) {
    t.ok(text.text.includes(`${line}\n`), line);
  }
  t.match(text.text, /divan_http_request_duration_seconds_count 1[0-9]\n/);
  t.match(text.text, /divan_open_connections [1-9]/);
  t.match(text.text, /divan_bytes_in_total [1-9][0-9]{2}/);
  t.match((await server.get('/_node/_local/_system')).body, { uptime: Number, memory: {} });
});

t.test('what the process knows of itself', async (t) => {
  const zero = () => 0;
  const sources = {
    openShards: zero,
    openDatabases: zero,
    documentReads: zero,
    documentWrites: zero,
    feeds: zero,
    authCacheHits: zero,
    authCacheMisses: zero,
    compactionsRunning: zero,
    compactions: zero,
    jobsWorking: zero,
    jobsWaiting: zero,
    jobsCompleted: zero,
    jobsFailed: zero,
    jobsRetried: zero,
    jobBytes: () => ({ done: 0, total: 0 }),
  };
  const memory = { rss: 5, heapTotal: 4, heapUsed: 3, external: 2, arrayBuffers: 1 };
  const metrics = new Metrics(sources, {
    memory: () => memory,
    eventLoopDelay: () => ({ mean: 1, p99: 2, max: 3000 }),
  });
  metrics.request('BREW', 418, 1);
  const text = await metrics.prometheus();
  t.ok(text.includes('divan_process_memory_bytes{kind="rss"} 5\n'));
  t.ok(text.includes('divan_event_loop_delay_seconds{quantity="max"} 3\n'));
  t.ok(text.includes('divan_http_requests_total{method="other",status="418"} 1\n'));
  t.same(await metrics.prometheus(), text, 'to ask changes nothing');
});

t.test('the path of the web page is kept', async (t) => {
  const server = await TestServer.open(t);
  for (const path of ['/_utils', '/_utils/', '/_utils/index.html']) {
    const reply = await server.get(path, { as: null });
    t.match(reply, { status: 404, body: { error: 'not_found', reason: /no web page yet/ } });
    t.equal((await server.call('HEAD', path)).status, 404);
  }
});
