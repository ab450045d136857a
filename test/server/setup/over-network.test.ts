/**
 * Goal: nodes find each other over https with an authority of their own, and go on finding each other when they come back on other ports; what came
 * to be while they were away they know before they act.
 * Method: two servers that listen, become a cluster by the requests of an operator, and are started anew.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Agent, request } from 'undici';
import type { SettingName } from '../../../server/config/settings.js';
import { namesOfShardFile } from '../../../server/databases/shard-map.js';
import type { JobRunner } from '../../../server/splits/job.js';
import { newCertificate } from '../../support/certificate.js';
import { FakeRunner } from '../../support/fake-runner.js';
import { ADMIN, basic, memberOf, TestServer } from '../../support/server.js';

type Settings = Partial<Record<SettingName, string>>;
type Ask = (server: TestServer, method: string, path: string, body?: object) => Promise<unknown>;

/** Has a request served, and gives its body. Throws if that is no success. */
function asking(t: Test, ca?: string): Ask {
  const agent = new Agent({ connect: ca === undefined ? {} : { ca } });
  t.teardown(() => agent.destroy());
  return async ({ url }, method, path, body) => {
    const type = body === undefined ? {} : { 'content-type': 'application/json' };
    const reply = await request(url + path, {
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      method: method === 'PUT' ? 'PUT' : method === 'POST' ? 'POST' : 'GET',
      headers: { authorization: basic(ADMIN), ...type },
      dispatcher: agent,
    });
    const text = await reply.body.text();
    if (reply.statusCode >= 300) throw new Error(`${method} ${path}: ${text}`);
    return JSON.parse(text);
  };
}

function settingsOf(index: number, settings: Settings): Settings {
  return { ...settings, 'node/name': `n${index}@127.0.0.1`, 'cluster/q': '4' };
}

/** A finished cluster of two, with a database of ten documents. */
async function clusterOfTwo(
  t: Test,
  ask: Ask,
  settings: Settings = {},
  runner?: JobRunner,
): Promise<TestServer[]> {
  const servers: TestServer[] = [];
  const [user, pass] = ADMIN.split(':');
  const admin = { user, pass };
  for (const index of [0, 1]) {
    const server = await TestServer.open(t, {
      settings: settingsOf(index, settings),
      ...(runner === undefined ? {} : { runner }),
    });
    servers.push(server);
    const { port } = server.listener.address;
    const enabling = { action: 'enable_cluster', admin, bind_address: '127.0.0.1', port };
    await ask(server, 'POST', '/_setup', enabling);
  }
  const [first, second] = [at(servers, 0), at(servers, 1)];
  const node = { host: '127.0.0.1', port: second.listener.address.port };
  const added = await ask(first, 'POST', '/_setup', { action: 'add_node', admin, node });
  t.same(added, { ok: true }, 'nothing to warn of');
  await ask(first, 'POST', '/_setup', { action: 'finish_cluster' });
  await ask(first, 'PUT', '/db');
  for (let n = 0; n < 10; n++) await ask(first, 'PUT', `/db/${n}`, { n });
  return servers;
}

function at(servers: readonly TestServer[], index: number): TestServer {
  const server = servers[index];
  if (server === undefined) throw new RangeError(`there is no server ${index}`);
  return server;
}

/** Each sees all documents, of which each has some. */
async function readAll(t: Test, ask: Ask, servers: readonly TestServer[]): Promise<void> {
  for (const server of servers) {
    t.ok(server.server.services.catalog.find('db'), 'it has a part');
    for (let n = 0; n < 10; n++) t.match(await ask(server, 'GET', `/db/${n}`), { n });
    t.equal(memberOf(await ask(server, 'GET', '/db/_all_docs'), 'total_rows'), 10);
  }
}

async function eventually(work: () => Promise<unknown>): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await work();
      return;
    } catch (error) {
      if (tries === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

t.test('over https, by a certificate that only they trust', async (t) => {
  const { cert, key } = newCertificate();
  const directory = await mkdtemp(join(tmpdir(), 'divan-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const [certPath, keyPath] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  await writeFile(certPath, cert);
  await writeFile(keyPath, key);
  const settings = {
    'chttpd/cert_file': certPath,
    'chttpd/key_file': keyPath,
    'cluster/ca_file': certPath,
  } as const;
  const ask = asking(t, cert);
  const servers = await clusterOfTwo(t, ask, settings);
  await readAll(t, ask, servers);
});

t.test('on another port after a restart', async (t) => {
  const ask = asking(t);
  const servers = await clusterOfTwo(t, ask);
  for (const index of [1, 0]) {
    const { dataDir, url } = at(servers, index);
    await at(servers, index).close();
    const options = { dataDir, settings: settingsOf(index, {}) };
    servers[index] = await TestServer.open(t, options);
    t.not(at(servers, index).url, url);
    const other = at(servers, 1 - index).server.services.cluster.members;
    await eventually(async () => {
      const known = other.named(`n${index}@127.0.0.1`)?.url;
      if (known !== at(servers, index).url) throw new Error(`it is still at ${known}`);
    });
    await readAll(t, ask, servers);
  }
});

t.test('jobs that were stopped while their node was away', async (t) => {
  const ask = asking(t);
  const runner = new FakeRunner();
  const servers = await clusterOfTwo(t, ask, {}, runner);
  const [first, second] = [at(servers, 0), at(servers, 1)];
  const [shard] = second.server.services.catalog.get('db').map.shards;
  const job = {
    node: 'n1@127.0.0.1',
    shard: namesOfShardFile(shard?.file ?? '').shard,
  };
  await ask(second, 'POST', '/_shard_splits/jobs', job);
  await runner.begun(0);
  await second.close();
  const stopped = await ask(first, 'PUT', '/_shard_splits', { stop: 'while it was away' });
  t.match(stopped, { ok: true, unreachable: ['n1@127.0.0.1'] });
  const again = new FakeRunner();
  const options = { dataDir: second.dataDir, settings: settingsOf(1, {}), runner: again };
  const { jobs } = (await TestServer.open(t, options)).server.services;
  await eventually(async () => {
    if (jobs.stopReason !== 'while it was away') throw new Error(`${jobs.stopReason}`);
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(again.runs.length, 0, 'it does not run');
  await ask(first, 'PUT', '/_shard_splits', { start: true });
  await again.begun(0);
});
