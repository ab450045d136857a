/**
 * Goal: of the nodes that have the cookie members are answered everything, strangers what a setup takes and no more, and those that left nothing.
 * Method: a server that is called over HTTP under identities of each kind, by all calls that it knows.
 */
import t from 'tap';
import { CallNode, callerOf, echo } from '../../support/call-node.js';
import { settled } from '../../support/outcome.js';

const IDENTITY = 'c'.repeat(32);
const STRANGER = { code: 'PEER', message: /this one is no member/ };
const FOR_MEMBERS = [
  ...['head', 'request', 'users/read', 'users/changed', 'updates/note', 'no/such/call'],
  ...['database/record', 'database/agreed', 'database/absorb', 'move/state', 'move/begin'],
  ...['jobs/keys', 'jobs/create', 'jobs/stop'],
];

t.test('who is answered what', async (t) => {
  const { node, cluster, handlers } = await CallNode.open(t, { isStrict: true });
  echo(handlers);
  const caller = callerOf(t);
  const call = (name: string) => settled(caller.call(node, name, {}));
  const { members } = cluster;

  for (const name of FOR_MEMBERS) t.match(await call(name), STRANGER, name);
  t.match(await call('hello'), { identity: node.identity });
  t.match(await call('setup/join'), { code: 'BAD_REQUEST', message: /not adding a node/ });
  t.match(await call('records/digest'), { code: 'FORBIDDEN' });
  t.same(members.list(), [node]);

  await members.add({ name: 'c@127.0.0.1', identity: IDENTITY, url: 'http://127.0.0.1:1' });
  t.match(await call('head'), { from: IDENTITY }, 'a member');
  t.match(await call('jobs/keys'), { keys: [] });

  await members.remove(IDENTITY);
  for (const name of [...FOR_MEMBERS, 'hello', 'setup/join', 'records/digest']) {
    t.match(await call(name), STRANGER, `${name} of one that left`);
  }

  const coordinator = callerOf(t, { identity: 'd'.repeat(32) });
  t.match(await settled(coordinator.call(node, 'head', {})), STRANGER);
  cluster.trust('d'.repeat(32));
  t.match(await settled(coordinator.call(node, 'head', {})), { from: 'd'.repeat(32) });
});
