/**
 * Goal: every request and answer of the proposal of the shard splitting API is served as it stands there.
 * Method: they are taken from its text and sent to a server that holds the cities; the answers are compared by names, types, forms, status.
 */
import t, { type Test } from 'tap';
import { cityLines } from '../../../fixtures/cities.js';
import { FakeRunner } from '../../support/fake-runner.js';
import {
  type ProposalBlock,
  readProposal,
  type Substitution,
  shapeOf,
} from '../../support/proposal.js';
import { type Reply, TestServer } from '../../support/server.js';

const STOPPED = 'Shard splitting is disabled on the cluster currently';
const DATABASE = 'username/dbname';
const BATCH = 5000;
/** It is refused before anybody looks whether it is there. */
const ANY_SHARD = 'shards/00000000-ffffffff/username/dbname.1';

/** What repairs the typing errors of the text, and stands for its placeholders; `$jobid` is replaced when there is a job. */
function substitutions(timestamp: string): Substitution[] {
  return [
    { from: '"reason" "There', to: '"reason": "There', times: 1 },
    { from: 'dbc...@db1.sandbox001.cloudant.net', to: 'node1@127.0.0.1', times: 1 },
    { from: '$timestamp', to: timestamp, times: 1 },
    { from: '<reason>', to: STOPPED, times: 1 },
    { from: '$N', to: '1', times: 1 },
  ];
}

async function loadCities(server: TestServer): Promise<void> {
  await server.put(`/${encodeURIComponent(DATABASE)}?q=1`);
  await server.put('/db?q=8');
  let lines: string[] = [];
  const send = async () => {
    const body = `{"docs":[${lines.join(',')}]}`;
    const headers = { 'Content-Type': 'application/json' };
    await server.post(`/${encodeURIComponent(DATABASE)}/_bulk_docs`, body, { headers });
    lines = [];
  };
  for (const line of cityLines()) {
    lines.push(line);
    if (lines.length === BATCH) await send();
  }
  await send();
}

function timestampOf(server: TestServer, name: string): string {
  return String(server.server.services.catalog.get(name).map.timestamp);
}

function jobIdOf({ body }: Reply): string {
  const members = new Map(Object.entries(Object(body)));
  return String(members.get('id'));
}

/** The text, and what of it was exercised. */
class Script {
  readonly headings: readonly string[];
  readonly blocks: readonly ProposalBlock[];
  readonly exercised = new Set<ProposalBlock>();
  readonly called = new Set<string>();
  readonly #t: Test;
  readonly #server: TestServer;

  constructor(t: Test, server: TestServer) {
    const { headings, blocks } = readProposal(substitutions(timestampOf(server, DATABASE)));
    this.headings = headings;
    this.blocks = blocks;
    this.#t = t;
    this.#server = server;
  }

  /** The request of that method whose path ends so. */
  heading(method: string, end: string): string {
    const found = this.headings.find((text) => text.startsWith(method) && text.endsWith(end));
    return found ?? fail(`the text has no ${method} of ${end}`);
  }

  /** The next value below a heading whose label matches. */
  next(heading: string, label: RegExp): unknown {
    const found = this.blocks.find(
      (block) => block.heading === heading && label.test(block.label) && !this.exercised.has(block),
    );
    if (found === undefined) return fail(`${heading} has nothing more that is ${label}`);
    this.exercised.add(found);
    return found.value;
  }

  call(heading: string, body?: unknown, id = ''): Promise<Reply> {
    this.called.add(heading);
    const [method = '', path = ''] = heading.split(' ');
    const options = body === undefined ? {} : { body };
    return this.#server.call(method, path.replace('$jobid', id), options);
  }

  looksLike(reply: Reply, status: number, expected: unknown, what: string): void {
    this.#t.equal(reply.status, status, what);
    this.#t.same(shapeOf(reply.body), shapeOf(expected), what);
  }
}

function fail(reason: string): never {
  throw new Error(reason);
}

const OK = { status: 200, body: { ok: true } };

/** Stops and starts; a job is refused between. */
async function theSwitch(t: Test, script: Script): Promise<void> {
  const summary = script.heading('GET', '/_shard_splits');
  const change = script.heading('PUT', '/_shard_splits');
  const make = script.heading('POST', '/jobs');
  const states = async () => (await script.call(summary)).body;
  script.looksLike(await script.call(summary), 200, script.next(summary, /./), 'the summary');
  t.match(await script.call(change, script.next(change, /^To disable/)), OK);
  t.match(await states(), { states: { stopped: ['node1@127.0.0.1'] } });
  const stopped = await script.call(make, { node: 'node1@127.0.0.1', shard: ANY_SHARD });
  script.looksLike(stopped, 409, script.next(make, /PUT \/_shard_splits/), 'while it is stopped');
  t.match(await script.call(change, script.next(change, /^To \(re\)-enable/)), OK);
  t.match(await states(), { states: { running: ['node1@127.0.0.1'] } });
}

t.test('every request and answer', async (t) => {
  const runner = new FakeRunner();
  const settings = { 'reshard/max_running': '1', 'reshard/max_jobs': '0' };
  const server = await TestServer.open(t, { runner, settings });
  await loadCities(server);
  const script = new Script(t, server);
  await theSwitch(t, script);

  const make = script.heading('POST', '/jobs');
  const list = script.heading('GET', '/jobs');
  const show = script.heading('GET', '/$jobid');
  const remove = script.heading('DELETE', '/$jobid');
  const made = await script.call(make, script.next(make, /^Request body:/));
  script.looksLike(made, 201, script.next(make, /^Response body:/), 'a job is made');
  const shard = `shards/00000000-1fffffff/db.${timestampOf(server, 'db')}`;
  const other = { node: 'node1@127.0.0.1', shard };
  const tooMany = await script.call(make, other);
  script.looksLike(tooMany, 429, script.next(make, /return an error:/), 'too many');
  const first = await runner.begun(0);
  const cancelled = await script.call(remove, undefined, jobIdOf(made));
  script.looksLike(cancelled, 200, script.next(remove, /^Response body:/), 'one is removed');
  t.equal(first.context.signal.aborted, true);

  const second = jobIdOf(await script.call(make, other));
  (await runner.begun(1)).finish();
  while (server.server.services.jobs.load.working > 0) await server.get('/_up');
  const listed = await script.call(list);
  script.looksLike(listed, 200, script.next(list, /^Response body:/), 'the list');
  const shown = await script.call(show, undefined, second);
  script.looksLike(shown, 200, script.next(show, /./), 'a job');
  t.match(await script.call(remove, undefined, second), OK);
  t.match((await script.call(list)).body, { jobs: [], offset: 0, total_rows: 0 });
  t.equal((await script.call(show, undefined, second)).status, 404);

  t.same([...script.called].sort(), [...script.headings].sort(), 'each request was sent');
  t.equal(script.headings.length, 6);
  t.equal(script.exercised.size, script.blocks.length, 'each value of the text was used');
  t.equal(script.blocks.length, 10);
});

t.test('a substitution that does not match as often as it says is refused', async (t) => {
  const twice = [{ from: '$N', to: '1', times: 2 }];
  t.throws(() => readProposal(twice), /stands there 1 times, not 2/);
  t.throws(() => readProposal([]), SyntaxError, 'without its repair it is no JSON');
});

t.test('shapes tell what differs', async (t) => {
  const shape = { id: `001-${'a'.repeat(64)}`, n: 1, list: ['node1@127.0.0.1'] };
  const same = { id: `001-${'b'.repeat(64)}`, n: 7, list: ['n2@10.0.0.1', 'n3@10.0.0.1'] };
  t.same(shapeOf(shape), shapeOf(same));
  for (const other of [
    { ...shape, id: 'x' },
    { ...shape, n: '1' },
    { ...shape, more: 1 },
    { id: shape.id, n: 1 },
    { ...shape, list: [1] },
  ]) {
    t.notSame(shapeOf(other), shapeOf(shape));
  }
});
