/**
 * Goal: a feed tells nobody of what came after it was shut out of the database, or was removed.
 * Method: feeds of a member that wait while an admin takes away what lets it in; then something is written.
 */
import t, { type Test } from 'tap';
import { type CallOptions, TestServer } from '../../support/server.js';

const MEMBER = 'ann:ann-password';
const USER = '/_users/org.couchdb.user:ann';

async function start(test: Test): Promise<TestServer> {
  const server = await TestServer.open(test);
  await server.put('/_users');
  const roles = ['reader'];
  await server.put(USER, { name: 'ann', type: 'user', roles, password: 'ann-password' });
  await server.put('/db');
  await server.put('/db/_security', { members: { roles } });
  return server;
}

/** Whether a feed that waits while `change` is made, and hears of a document after it, tells of that. */
async function tells(server: TestServer, feed: string, change: () => Promise<unknown>) {
  const options: CallOptions = { as: MEMBER };
  const path = `/db/_changes?since=now&timeout=1000&feed=${feed}&include_docs=true`;
  const response = await server.fetch('GET', path, options);
  const text = response.text();
  await change();
  await server.post('/db', { secret: true });
  // A feed that goes on does so until nothing comes for its timeout.
  return { status: response.status, told: (await text).includes('"secret":true') };
}

for (const feed of ['continuous', 'eventsource', 'longpoll']) {
  t.test(`a ${feed} feed`, async (t) => {
    const allowed = await tells(await start(t), feed, async () => undefined);
    t.same(allowed, { status: 200, told: true }, 'a member hears of it');

    const shut = await start(t);
    const shutOut = () => shut.put('/db/_security', { members: { names: ['bob'] } });
    t.same(await tells(shut, feed, shutOut), { status: 200, told: false });

    const removing = await start(t);
    const remove = async () => {
      const { body } = await removing.get(USER);
      const rev = typeof body === 'object' && body !== null && '_rev' in body ? body._rev : '';
      return removing.delete(`${USER}?rev=${rev}`);
    };
    t.same(await tells(removing, feed, remove), { status: 200, told: false });
  });
}
