/**
 * Goal: nodes become a cluster by the requests of the plan of the setup endpoint, as they stand there, and by nothing else.
 * Method: real servers on machines of their own. Every body and every transition is taken from the text of the plan; one that was not
 * used fails the test.
 */
import t, { type Test } from 'tap';
import { ClusterProcess, type NodeReply } from '../../support/cluster-process.js';
import { type Machine, makeMachines } from '../../support/machines.js';
import { type PlanTransition, readSetupPlan } from '../../support/setup-plan.js';

/** What is no JSON in the plan, or stands for something. */
const SUBSTITUTIONS = [
  { from: '["bind_address": "xxxx",]', to: '"bind_address": "0.0.0.0",', times: 1 },
  { from: '["port": yyyy]', to: '"port": 5984', times: 1 },
  { from: '["port": 5984]', to: '"port": 5984', times: 1 },
  { from: ' // should be auto-filled from Fauxton', to: '', times: 1 },
  { from: '"<secretcookie>",', to: '"<secretcookie>"', times: 1 },
  { from: '["node a", "node b", ...]', to: '["node a", "node b"]', times: 1 },
  { from: '"pass": "password"', to: '"pass": "a-good-password"', times: 2 },
] as const;

const AS = 'username:a-good-password';
const OK = { ok: true };

class PlanRun {
  readonly plan = readSetupPlan(SUBSTITUTIONS);
  readonly unused = new Set(this.plan.transitions);
  readonly unusedBodies = new Set(this.plan.bodies.keys());

  /** A body of the plan, with some members as they are here. */
  body(action: string, members: object = {}): object {
    this.unusedBodies.delete(action);
    return { ...this.plan.bodies.get(action), ...members };
  }

  enable(machine: Machine, members: object = {}): object {
    return this.body('enable_cluster', { port: machine.port, ...members });
  }

  add(machine: Machine, members: object = {}): object {
    return this.body('add_node', {
      node: { host: machine.address, port: machine.port },
      ...members,
    });
  }

  /** The line of the plan of that state and action whose condition and outcome have these words. */
  line(state: number, action: string, words: RegExp): PlanTransition {
    const found = this.plan.transitions.find(
      (line) =>
        line.state === state &&
        line.action === action &&
        words.test(`${line.condition} -> ${line.outcome}`),
    );
    if (found === undefined) throw new Error(`the plan has no ${action} in ${state} ${words}`);
    this.unused.delete(found);
    return found;
  }
}

const names = (list: readonly ClusterProcess[]) => list.map(({ name }) => name).sort();

/** Requests, and what is expected of all of them. */
function asking(t: Test) {
  const post = (node: ClusterProcess, { path }: PlanTransition, body: object, as?: string) =>
    node.call('POST', path, { body, as });
  const refused = (reply: NodeReply, what: string) => {
    t.match(reply, { status: 400, body: { error: 'bad_request', reason: /.{10}/ } }, what);
  };
  /** As long as nobody has chosen an admin, whoever is on the machine may enable the cluster, and nothing else. */
  const closed = (reply: NodeReply, what: string) => t.match(reply, { status: 401 }, what);
  const stateOf = async (node: ClusterProcess, as?: string) => {
    const reply = await node.call('GET', '/_setup', { as });
    t.equal(reply.status, 200);
    return reply.body;
  };
  return { post, refused, closed, stateOf };
}

t.test('the plan', async (t) => {
  const run = new PlanRun();
  const machines = makeMachines(t, 4);
  const nodes: ClusterProcess[] = [];
  for (const [index, machine] of machines.entries()) {
    nodes.push(await ClusterProcess.start(t, machine, index + 1));
  }
  const [first, second, third, fourth] = nodes;
  if (first === undefined || second === undefined) throw new Error('there are four');
  if (third === undefined || fourth === undefined) throw new Error('there are four');
  const { post, refused, stateOf } = asking(t);
  for (const node of nodes) await enables(t, run, node, first.machine);

  const alone = run.line(2, 'finish_cluster', /no nodes/);
  refused(await post(first, alone, { action: alone.action }, AS), 'no nodes');
  const nowhere = run.line(2, 'add_node', /not available/);
  refused(await post(first, nowhere, run.add({ ...first.machine, port: 1 }), AS), 'not available');
  const add = run.line(2, 'add_node', /Stay in State 2/);
  for (const [index, node] of [second, third].entries()) {
    t.match(await post(first, add, run.add(node.machine), AS), { status: 201, body: OK });
    const expected = {
      state: 'cluster_enabled',
      nodes: names([second, third].slice(0, index + 1)),
    };
    t.same(await stateOf(first, AS), expected);
  }
  const cookie = await second.call('POST', '/_setup', { body: run.body('receive_cookie'), as: AS });
  refused(cookie, 'a cookie, but it has another one');

  const finish = run.line(2, 'finish_cluster', /Transition to State 3/);
  t.match(await post(first, finish, run.body('finish_setup'), AS), { status: 201, body: OK });
  const finished = { state: 'cluster_finished', nodes: names([first, second, third]) };
  for (const node of [first, second, third]) t.same(await stateOf(node, AS), finished, node.name);

  const late = run.line(3, 'enable_cluster', /Error/);
  refused(await post(second, late, run.enable(second.machine), AS), 'enabled long ago');
  const stay = run.line(3, 'finish_cluster', /do nothing/);
  t.match(await post(third, stay, { action: stay.action }, AS), { status: 201, body: OK });
  const sealed = run.line(3, 'add_node', /^ -> Error/);
  refused(await post(third, sealed, run.add(fourth.machine), AS), 'finished');
  const knowing = run.line(3, 'add_node', /Add node/);
  t.match(await post(third, knowing, run.add(fourth.machine), AS), { status: 201, body: OK });
  for (const node of nodes) {
    t.same(await stateOf(node, AS), { ...finished, nodes: names(nodes) }, node.name);
  }

  await servesDocuments(t, nodes);
  await tellsWhatHappened(t, nodes);
  t.same(
    [...run.unused].map(({ state, action, outcome }) => `${state} ${action}: ${outcome}`),
    [],
  );
  t.same([...run.unusedBodies], []);
});

/** What happened to `db` is told by every node, each of which has only some of the documents that say it; nothing of all that was an error. */
async function tellsWhatHappened(t: Test, nodes: readonly ClusterProcess[]): Promise<void> {
  const rows = /(?=.*"db_name":"db","type":"created")(?=.*"db_name":"db","type":"updated")/s;
  for (const node of nodes) {
    let told = '';
    for (let tries = 0; tries < 50 && !rows.test(told); tries++) {
      const { body } = await node.call('GET', '/_db_updates', { as: AS });
      told = JSON.stringify(body);
    }
    t.match(told, rows, node.name);
    t.notMatch(node.log, /"level":[56]0/, node.name);
  }
}

/** A node in state 1 comes to state 2; `machine` is that of a node that it can not add. */
async function enables(
  t: Test,
  run: PlanRun,
  node: ClusterProcess,
  machine: Machine,
): Promise<void> {
  const { post, refused, closed, stateOf } = asking(t);
  t.same(await stateOf(node), run.plan.answers.get(1));
  const other = run.line(1, 'anything_but_enable_cluster', /Error/);
  closed(await post(node, other, { action: other.action }), other.action);
  closed(await post(node, other, run.body('finish_setup')), 'finish_setup');
  closed(await post(node, other, run.add(machine)), 'add_node');
  const bad = run.line(1, 'enable_cluster', /empty admin/);
  for (const members of [
    { admin: { user: '', pass: 'a-good-password' } },
    { admin: { user: 'username', pass: '' } },
    { bind_address: 'nowhere.example' },
    { port: 0 },
    { bind_address: '192.0.2.1' },
  ]) {
    refused(await post(node, bad, run.enable(node.machine, members)), JSON.stringify(members));
  }
  t.same(await stateOf(node), run.plan.answers.get(1));
  const enable = run.line(1, 'enable_cluster', /Transition to State 2/);
  const enabled = await post(node, enable, run.enable(node.machine));
  t.match(enabled, { status: 201, body: OK, headers: /set-cookie: AuthSession=/i });
  t.same(await stateOf(node, AS), run.plan.answers.get(2));
  const again = run.line(2, 'enable_cluster', /Error/);
  refused(await post(node, again, run.enable(node.machine), AS), 'a second time');
}

/** Documents are written and read through all nodes. */
async function servesDocuments(t: Test, nodes: readonly ClusterProcess[]): Promise<void> {
  const [, second] = nodes;
  t.equal((await second?.call('PUT', '/db?q=8', { as: AS }))?.status, 201);
  for (const [index, node] of nodes.entries()) {
    const path = `/db/doc-${index}`;
    t.equal((await node.call('PUT', path, { as: AS, body: { from: node.name } })).status, 201);
    for (const reader of nodes) {
      t.match(await reader.call('GET', path, { as: AS }), {
        status: 200,
        body: { from: node.name },
      });
    }
  }
}
