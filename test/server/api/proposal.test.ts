/**
 * Goal: every request and answer of the proposal of the shard splitting API is served as it stands there.
 * Method: they are taken from its text and sent to a server that holds the cities; the answers are compared by names, types, forms, status.
 */
import t from 'tap';
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

t.test('every request and answer', async (t) => {
  const runner = new FakeRunner();
  const settings = { 'reshard/max_running': '1', 'reshard/max_jobs': '0' };
  const server = await TestServer.open(t, { runner, settings });
  await loadCities(server);
  const { headings, blocks } = readProposal(substitutions(timestampOf(server, DATABASE)));
  const exercised = new Set<ProposalBlock>();
  const called = new Set<string>();
  /** The next value of the text below a heading whose label matches. */
  const next = (heading: string, label: RegExp): unknown => {
    const found = blocks.find(
      (block) => block.heading === heading && label.test(block.label) && !exercised.has(block),
    );
    if (found === undefined) throw new Error(`${heading} has nothing more that is ${label}`);
    exercised.add(found);
    return found.value;
  };
  const call = (heading: string, body?: unknown, id = ''): Promise<Reply> => {
    called.add(heading);
    const [method = '', path = ''] = heading.split(' ');
    return server.call(method, path.replace('$jobid', id), body === undefined ? {} : { body });
  };
  const looksLike = (reply: Reply, status: number, expected: unknown, what: string) => {
    t.equal(reply.status, status, what);
    t.same(shapeOf(reply.body), shapeOf(expected), what);
  };

  const [summary, change, list, make, show, remove] = headings;
  t.equal(headings.length, 6);
  const summaryOf = () => call(summary ?? '');
  looksLike(await summaryOf(), 200, next(summary ?? '', /./), 'the summary');
  const create = next(make ?? '', /^Request body:/);
  t.match(await call(change ?? '', next(change ?? '', /^To disable/)), {
    status: 200,
    body: { ok: true },
  });
  t.match((await summaryOf()).body, { states: { stopped: ['node1@127.0.0.1'] } });
  const madeAnswer = next(make ?? '', /^Response body:/);
  const tooManyAnswer = next(make ?? '', /return an error:/);
  const stoppedAnswer = next(make ?? '', /PUT \/_shard_splits/);
  looksLike(await call(make ?? '', create), 409, stoppedAnswer, 'while it is stopped');
  t.match(await call(change ?? '', next(change ?? '', /^To \(re\)-enable/)), {
    status: 200,
    body: { ok: true },
  });
  t.match((await summaryOf()).body, { states: { running: ['node1@127.0.0.1'] } });

  const made = await call(make ?? '', create);
  looksLike(made, 201, madeAnswer, 'a job is made');
  const shard = `shards/00000000-1fffffff/db.${timestampOf(server, 'db')}`;
  const other = { node: 'node1@127.0.0.1', shard };
  looksLike(await call(make ?? '', other), 429, tooManyAnswer, 'too many');
  const first = await runner.begun(0);
  t.match((await summaryOf()).body, { jobs_total: 1, jobs_running: 1 });
  const cancelled = await call(remove ?? '', undefined, jobIdOf(made));
  looksLike(cancelled, 200, next(remove ?? '', /^Response body:/), 'a running job is removed');
  t.equal(first.context.signal.aborted, true);

  const second = await call(make ?? '', other);
  (await runner.begun(1)).finish();
  while (server.server.services.jobs.load.working > 0) await summaryOf();
  looksLike(await call(list ?? ''), 200, next(list ?? '', /^Response body:/), 'the list');
  const shown = await call(show ?? '', undefined, jobIdOf(second));
  looksLike(shown, 200, next(show ?? '', /./), 'a job');
  t.match(await call(remove ?? '', undefined, jobIdOf(second)), {
    status: 200,
    body: { ok: true },
  });
  t.match((await call(list ?? '')).body, { jobs: [], offset: 0, total_rows: 0 });
  t.equal((await call(show ?? '', undefined, jobIdOf(second))).status, 404);

  t.same([...called].sort(), [...headings].sort(), 'each request was sent');
  t.equal(exercised.size, blocks.length, 'each value of the text was used');
  t.equal(blocks.length, 10);
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
