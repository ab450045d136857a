/**
 * Goal: people make a cluster, look after it and take a node out of it, by one command.
 * Method: real servers on machines of their own, and the real command on one of these.
 */
import { execFile, spawn } from 'node:child_process';
import t, { type Test } from 'tap';
import { CLI } from '../support/cli.js';
import { ClusterProcess } from '../support/cluster-process.js';
import { type Machine, makeMachines } from '../support/machines.js';

const PASSWORD = 'a-good-password';
const AS = `admin:${PASSWORD}`;
const DOCS = 30;
const WAIT_MS = 15_000;

interface Ended {
  readonly code: number | string | null | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** What runs the command on a machine. */
function commandOn({ wrapper, port }: Machine, args: readonly string[], password = PASSWORD) {
  // Where the server is alone on its machine it is where the command looks for it.
  const url =
    wrapper.length > 0 || args[0] === 'setup' ? [] : ['--url', `http://127.0.0.1:${port}`];
  const environment = ['env', '-u', 'NODE_OPTIONS', `DIVAN_PASSWORD=${password}`];
  const [first = '', ...rest] = [...wrapper, ...environment, process.execPath, CLI, 'cluster'];
  return [first, [...rest, ...args, ...url, '--user', 'admin']] as const;
}

function cluster(machine: Machine, args: readonly string[], password?: string): Promise<Ended> {
  const [file, all] = commandOn(machine, args, password);
  return new Promise((resolve) => {
    execFile(file, all, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
    );
  });
}

/** A command that goes on. */
function started(machine: Machine, args: readonly string[]) {
  const [file, all] = commandOn(machine, args);
  const child = spawn(file, all, { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (bytes) => {
    said.stdout += String(bytes);
  });
  child.stderr.on('data', (bytes) => {
    said.stderr += String(bytes);
  });
  return { child, said, ended: new Promise((resolve) => child.once('close', resolve)) };
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + WAIT_MS;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

// Passwords are hashed many times here, and not what is tested.
process.env['DIVAN_CHTTPD_AUTH_ITERATIONS'] = '1000';

/** Three nodes that know nothing of one another. */
async function bedOf(t: Test) {
  const machines = makeMachines(t, 3);
  const nodes = await Promise.all(
    machines.map((machine, index) => ClusterProcess.start(t, machine, index + 1)),
  );
  const [first, second, third] = nodes;
  if (first === undefined || second === undefined || third === undefined) throw new Error('3');
  const { machine } = first;
  const urls = nodes.map(({ url }) => url);
  const call = (node: ClusterProcess, method: string, path: string, body?: unknown) =>
    node.call(method, path, { body, as: AS });
  const bind = machine.wrapper.length === 0 ? ['--bind', '127.0.0.1'] : [];
  return { nodes, first, second, third, machine, urls, call, bind };
}

type Bed = Awaited<ReturnType<typeof bedOf>>;

async function setUp(t: Test, { bind, machine, nodes, urls }: Bed): Promise<void> {
  const enabled = await Promise.all(
    nodes.map((node) => {
      const here = `http://127.0.0.1:${node.machine.port}`;
      return cluster(node.machine, ['setup', here, ...bind]);
    }),
  );
  for (const { code, stdout } of enabled) {
    t.match({ code, stdout }, { code: 0, stdout: /is enabled\n.*waits for other nodes/ });
  }
  const nobody = `http://127.0.0.1:${45_900}`;
  const [wrong, away, unfinished] = await Promise.all([
    cluster(machine, ['setup', ...urls], 'not-the-password'),
    cluster(machine, ['setup', urls[0] ?? '', nobody]),
    cluster(machine, ['status']),
  ]);
  t.match(wrong, { code: 1, stderr: /incorrect.*UNAUTHORIZED/ });
  t.match(away, { code: 1, stderr: /45900 can not be reached/ });
  t.match(unfinished, { code: 1, stdout: /setup is not finished/ });
  const two = await cluster(machine, ['setup', ...urls.slice(0, 2)]);
  t.match(two, { code: 0, stdout: /is set up: node1@[^ ]+, node2@[^ ]+\n$/ });
  const done = await cluster(machine, ['setup', ...urls]);
  t.equal(done.code, 0, done.stderr);
  t.match(done.stdout, new RegExp(`is set up: ${nodes.map(({ name }) => name).join(', ')}\n$`));
  const again = await cluster(machine, ['setup', ...urls, '--json']);
  t.same(JSON.parse(again.stdout), { finished: true, nodes: nodes.map(({ name }) => name) });
}

async function useAll(t: Test, { call, first, nodes }: Bed): Promise<void> {
  t.equal((await call(first, 'PUT', '/cities?q=6')).status, 201);
  const puts = Array.from({ length: DOCS }, (_, number) =>
    call(nodes[number % nodes.length] ?? first, 'PUT', `/cities/city${number}`, { number }),
  );
  for (const { status } of await Promise.all(puts)) t.equal(status, 201);
  const replies = await Promise.all(nodes.map((node) => call(node, 'GET', '/cities/city1')));
  for (const { body } of replies) t.match(body, { number: 1 });
}

async function splitOnTwo(t: Test, { call, first, machine, second, third }: Bed): Promise<void> {
  for (const { name: node } of [first, second]) {
    const body = { type: 'split', db: 'cities', node };
    t.equal((await call(third, 'POST', '/_reshard/jobs', body)).status, 201);
  }
  await until('the splits', async () => {
    const { body } = await call(third, 'GET', '/_shard_splits/jobs');
    return (JSON.stringify(body).match(/"job_state":"completed"/g) ?? []).length === 4;
  });
  const { code, stdout } = await cluster(machine, ['shards', 'cities', '--json']);
  t.equal(code, 0);
  t.equal(stdout.trim().split('\n').length, 10);
}

async function lookAt(t: Test, { call, first, machine, nodes, second }: Bed): Promise<void> {
  const { code, stdout } = await cluster(machine, ['status']);
  t.equal(code, 0);
  t.match(stdout, /^cluster_finished, 3 nodes\n/);
  for (const { name } of nodes) t.match(stdout, new RegExp(`${name} +\\d+ shards .* Divan`));
  await second.end('SIGKILL');
  const [missing, kept] = await Promise.all([
    cluster(machine, ['status', '--json']),
    cluster(machine, ['remove', second.name]),
  ]);
  t.equal(missing.code, 1);
  t.match(JSON.parse(missing.stdout), { ok: false, nodes: [{}, { problem: /.{10}/ }, {}] });
  t.match(kept, { code: 1, stderr: /holds shards of \d+ databases .*, which can not be moved/ });
  await second.restart();
  await until('it is back', async () => {
    const { body } = await call(first, 'GET', `/_node/${second.name}`);
    return JSON.stringify(body) === JSON.stringify({ name: second.name });
  });
}

async function removeUnderWrites(
  t: Test,
  { call, first, machine, second, third }: Bed,
): Promise<void> {
  const [unknown, itself] = await Promise.all([
    cluster(machine, ['remove', 'nobody@nowhere']),
    cluster(machine, ['remove', first.name]),
  ]);
  t.match(unknown, { code: 1, stderr: /NOT_FOUND/ });
  t.match(itself, { code: 1, stderr: /--url/ });
  const setRate = async (rate: string) => {
    const reply = await call(third, 'PUT', '/_node/_local/_config/reshard/rate', rate);
    t.equal(reply.status, 200);
  };
  // So that the command can be cancelled in the middle of moves.
  await setRate('8192');
  const writer = { isDone: false, written: DOCS };
  const writing = (async () => {
    for (; !writer.isDone; writer.written++) {
      const { written: number } = writer;
      const reply = await call(first, 'PUT', `/cities/city${number}`, { number });
      if (reply.status !== 201) throw new Error(`${number}: ${JSON.stringify(reply.body)}`);
    }
  })();
  const cancelled = started(machine, ['remove', third.name]);
  await until('a move', async () => {
    const { body } = await call(first, 'GET', '/_shard_splits/jobs');
    return JSON.stringify(body).includes('"move"');
  });
  cancelled.child.kill('SIGINT');
  t.equal(await cancelled.ended, 130);
  t.match(cancelled.said.stderr, /cancelled; \d moves? go/);

  const again = started(machine, ['remove', third.name, '--json']);
  await until('it follows the moves', async () => again.said.stderr.includes('"phase":"move"'));
  await setRate('0');
  t.equal(await again.ended, 0, again.said.stderr);
  const { stdout } = again.said;
  t.match(stdout, /\{"moved":"shards\/[^"]*","to":"node[12]@/);
  t.match(stdout, new RegExp(`\\{"removed":"${third.name}"\\}\n$`));
  writer.isDone = true;
  await writing;
  t.match(await cluster(machine, ['status']), { code: 0, stdout: /, 2 nodes\n/ });
  const { body } = await call(second, 'GET', '/cities/_all_docs');
  t.match(body, { total_rows: writer.written });
  const { stdout: places } = await cluster(machine, ['shards']);
  t.notMatch(places, third.name);
  for (const { name } of [first, second]) {
    t.equal(places.split(`${name}  cities\n`).length - 1, 5, `${name} took its half`);
  }

  t.match((await call(third, 'GET', '/_setup')).body, { nodes: [third.name] });
  for (const [method, path] of [
    ['GET', '/cities/city1'],
    ['PUT', '/cities'],
    ['PUT', '/another'],
    ['GET', '/_all_dbs'],
    ['GET', '/_shard_splits'],
  ] as const) {
    const reason = /removed from its cluster/;
    t.match(await call(third, method, path), { status: 503, body: { reason } }, path);
  }
  t.match(await call(third, 'GET', '/_up'), { status: 404, body: { status: 'removed' } });
  t.equal((await call(first, 'GET', '/_up')).status, 200);
}

t.test('divan cluster', async (t) => {
  const bed = await bedOf(t);
  await t.test('setup of nodes that are enabled where they are', (t) => setUp(t, bed));
  await t.test('what one node is given the others have', (t) => useAll(t, bed));
  await t.test('splits on two nodes through a third', (t) => splitOnTwo(t, bed));
  await t.test('status', (t) => lookAt(t, bed));
  await t.test('remove, under writes', (t) => removeUnderWrites(t, bed));
});
