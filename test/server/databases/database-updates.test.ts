/**
 * Goal: in a cluster what happens to databases is told once, at every node, in all kinds of feeds; what a node that is away has to write waits
 * for it, and nothing of that is an error.
 * Method: three nodes in this process, of which one is cut off.
 */
import pino from 'pino';
import t, { type Test } from 'tap';
import { DivanError } from '../../../engine/errors.js';
import { FULL_RANGE } from '../../../engine/shard/hash.js';
import { CallHandlers } from '../../../server/cluster/peers.js';
import { UpdateWriter } from '../../../server/databases/update-writer.js';
import { InProcessCluster } from '../../support/in-process-cluster.js';
import { listOf, memberOf, readUntil, realServerHost, TestServer } from '../../support/server.js';

/** The levels of what was logged. */
const logged: unknown[] = [];
const logger = pino({
  hooks: {
    logMethod: (_args, _method, level) => {
      logged.push(level);
    },
  },
});
const soon = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function told(body: unknown): string[] {
  return listOf(body, 'results')
    .map((row) => `${memberOf(row, 'type')} ${memberOf(row, 'db_name')}`)
    .sort();
}

async function flush({ nodes }: InProcessCluster): Promise<void> {
  for (const node of nodes) await node.server.services.updates.flush();
}

async function prepared(t: Test): Promise<InProcessCluster> {
  const cluster = await InProcessCluster.start(t, 3);
  t.equal((await cluster.node(0).put('/_global_changes?q=8')).status, 201);
  return cluster;
}

function assertQuiet(t: Test, { nodes }: InProcessCluster): void {
  for (const node of nodes) t.same(node.errors, [], 'nothing is logged as an error');
}

/** How often a document was written. */
async function generation(node: TestServer, id: string): Promise<number> {
  const { body } = await node.get(`/_global_changes/${encodeURIComponent(id)}`);
  return Number.parseInt(String(memberOf(body, '_rev')), 10);
}

t.test('told once, the same at every node', async (t) => {
  const cluster = await prepared(t);
  const names = Array.from({ length: 12 }, (_, n) => `db${n}`);
  for (const [n, name] of names.entries()) {
    t.equal((await cluster.node(n % 3).put(`/${name}?q=4`)).status, 201);
  }
  await flush(cluster);
  const created = names.map((name) => `created ${name}`).sort();
  for (const node of cluster.nodes) {
    t.same(told((await node.get('/_db_updates')).body), created);
    for (const name of names) t.equal(await generation(node, `created:${name}`), 1);
  }
  t.ok((cluster.network.calls.get('updates/note') ?? 0) > 0, 'other nodes were told');

  const [first = ''] = names;
  const since = String(memberOf((await cluster.node(1).get('/_db_updates')).body, 'last_seq'));
  const docs = Array.from({ length: 20 }, (_, n) => ({ _id: String(n) }));
  t.equal((await cluster.node(2).post(`/${first}/_bulk_docs`, { docs })).status, 201);
  await cluster.node(1).put(`/${first}/_local/x`, {});
  await flush(cluster);
  for (const node of cluster.nodes) {
    const { body } = await node.get(`/_db_updates?since=${since}`);
    t.same(told(body), [`updated ${first}`], 'a token of one node is good at each');
  }
  t.equal((await cluster.node(0).post(`/${first}/_bulk_docs`, { docs: [{}] })).status, 201);
  t.equal((await cluster.node(1).delete(`/${first}`)).status, 200);
  await flush(cluster);
  for (const node of cluster.nodes) t.equal(await generation(node, `deleted:${first}`), 1);
  assertQuiet(t, cluster);
});

t.test('in all kinds of feeds', async (t) => {
  const cluster = await prepared(t);
  const abort = new AbortController();
  const { signal } = abort;
  const waiting = cluster.nodes.map((node) =>
    node.get('/_db_updates?feed=longpoll&since=now&timeout=20000'),
  );
  const streams = await Promise.all(
    cluster.nodes.flatMap((node) => [
      node.fetch('GET', '/_db_updates?feed=continuous&heartbeat=60000', { signal }),
      node.fetch('GET', '/_db_updates?feed=eventsource&since=0', { signal }),
    ]),
  );
  // The feeds wait for changes by now.
  await soon(100);
  await cluster.node(2).put('/a%2Fb');
  await flush(cluster);
  for (const reply of await Promise.all(waiting)) t.same(told(reply.body), ['created a/b']);
  for (const [n, stream] of streams.entries()) {
    const row = /\{"db_name":"a\/b","type":"created","seq":"[^"]+"\}\n/;
    t.match(await readUntil(stream, row), n % 2 === 0 ? row : /^data: \{.*\}\nid: \S+\n\n/);
  }
  abort.abort();
  for (const name of ['c', 'd', 'e']) await cluster.node(0).put(`/${name}`);
  await flush(cluster);
  for (const node of cluster.nodes) {
    const { body, text } = await node.get('/_db_updates?limit=2');
    t.equal(told(body).length, 2);
    t.equal(memberOf(body, 'pending'), 2, text);
    t.match(text, /^\{"results":\[\n\{"db_name":"[^"]+","type":"[a-z]+","seq":"[^"]+"\},\n/);
    const back = await node.get('/_db_updates?descending=true');
    t.same(told(back.body), ['created a/b', 'created c', 'created d', 'created e']);
    for (const as of [null, 'nobody:at-all']) {
      t.equal((await node.get('/_db_updates', { as })).status, 401);
    }
  }
  assertQuiet(t, cluster);
});

t.test('a node that is away', async (t) => {
  const cluster = await prepared(t);
  const [here, other] = [cluster.node(0), cluster.node(1)];
  const { updates } = here.server.services;
  cluster.network.cutOff(2);
  for (let n = 0; n < 40; n++) updates.note('updated', `db${n}`);
  await updates.flush();
  await updates.flush();
  const { status } = await here.get('/_db_updates');
  t.not(status, 200, 'a part of it is away');
  const before = cluster.network.calls.get('updates/note') ?? 0;
  t.ok(before > 0, 'those of the others are written');
  cluster.network.mend(2);
  for (let n = 0; n < 300; n++) {
    const { body } = await other.get('/_db_updates');
    if (told(body).length === 40) break;
    await soon(20);
  }
  t.equal(told((await other.get('/_db_updates')).body).length, 40, 'what waited is written');
  t.ok((cluster.network.calls.get('updates/note') ?? 0) > before);
  for (const id of ['updated:db0', 'updated:db39']) t.equal(await generation(other, id), 1);
  assertQuiet(t, cluster);
});

t.test('several nodes and a client write the same at once', async (t) => {
  const cluster = await prepared(t);
  for (let round = 0; round < 3; round++) {
    for (const node of cluster.nodes) node.server.services.updates.note('updated', 'db');
    await Promise.all(cluster.nodes.map((node) => node.server.services.updates.flush()));
  }
  const node = cluster.node(0);
  t.equal(await generation(node, 'updated:db'), 9, 'one after another');
  const { body } = await node.get('/_global_changes/updated:db');
  const rev = String(memberOf(body, '_rev'));
  t.equal((await node.delete(`/_global_changes/updated:db?rev=${rev}`)).status, 200);
  node.server.services.updates.note('updated', 'db');
  await flush(cluster);
  t.same(told((await cluster.node(2).get('/_db_updates')).body), ['updated db']);
  assertQuiet(t, cluster);
});

t.test('only what happened is taken from other nodes', async (t) => {
  const cluster = await prepared(t);
  const [self, peer] = cluster.network.nodes;
  if (self === undefined || peer === undefined) throw new RangeError('there are three');
  const { calls } = cluster.network.seamsOf(self);
  const call = (head: Parameters<typeof calls.call>[2]) => calls.call(peer, 'updates/note', head);
  await t.rejects(call({ notes: ['_design/x'] }), { code: 'BAD_REQUEST' });
  await t.rejects(call({ notes: Array.from({ length: 101 }, (_, n) => `updated:${n}`) }), {
    code: 'TOO_LARGE',
  });
  await t.rejects(call({}), { code: 'BAD_REQUEST' });
  // What is not there is left to the one who asks.
  const notes = Array.from({ length: 50 }, (_, n) => `updated:db${n}`);
  const left = listOf(await call({ notes }), 'left');
  t.ok(left.length > 0 && left.length < 50);
  const { body } = await cluster.node(0).get('/_db_updates');
  t.equal(told(body).length, 50 - left.length);
  t.equal((await cluster.node(2).delete('/_global_changes')).status, 200);
  await t.rejects(call({ notes }), { code: 'MOVED' });
  for (const node of cluster.nodes) t.equal((await node.get('/_db_updates')).status, 404);
});

t.test('a node that can not write is left alone, longer each time', async (t) => {
  const server = await TestServer.open(t);
  const { catalog } = server.server.services;
  const self = { name: 'a@x', identity: 'a', url: 'http://a' };
  const node = { name: 'b@x', identity: 'b', url: 'http://b' };
  const shards = [{ range: FULL_RANGE, file: 'f' }];
  const parts = [{ node, epoch: 1, shards }];
  const counts = { q: 1, copies: 1, timestamp: 1 };
  const rest = { incarnation: 'i', hashRule: 'document', parts, ...counts } as const;
  let nowMs = 0;
  let asked = 0;
  let answer: () => { left: string[] } = () => ({ left: [] });
  const fail = (code: 'UNREACHABLE' | 'PEER') => () => {
    throw new DivanError(code, 'it does not');
  };
  const writer = new UpdateWriter({
    host: { ...realServerHost, now: () => nowMs },
    log: logger,
    catalog,
    placements: {
      find: (name) => ({ name, ...rest }),
      names: () => [],
      onChange: () => () => undefined,
    },
    self: () => self,
    peers: {
      handlers: new CallHandlers(),
      calls: {
        call: async () => {
          asked++;
          return answer();
        },
        open: async () => fail('PEER')(),
      },
    },
  });
  const write = () => writer.write(['updated:a', 'updated:b']);
  answer = fail('UNREACHABLE');
  const pauses: number[] = [];
  for (let n = 0; n < 8; n++) {
    for (let again = 0; again < 3; again++) t.same(await write(), []);
    pauses.push(writer.pauseMs);
    nowMs += writer.pauseMs;
  }
  t.same(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  t.equal(asked, 8, 'asked once each time');
  t.equal(logged.length, 0, 'that it is away is ordinary');
  answer = () => ({ left: ['updated:b'] });
  t.same(await write(), ['updated:a']);
  t.same(await write(), [], 'it has to do with what is left first');
  nowMs += writer.pauseMs;
  answer = () => ({ left: [] });
  t.same(await write(), ['updated:a', 'updated:b']);
  answer = fail('PEER');
  for (let n = 0; n < 3; n++) {
    await write();
    nowMs += writer.pauseMs;
  }
  t.same(logged, [40], 'what is not ordinary is logged once');
});
