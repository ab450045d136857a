/**
 * Goal: `_db_updates` tells of databases that are made, written and removed, in all kinds of feeds, to admins alone.
 * Method: a real server with `_global_changes`, feeds before and after things happen.
 */
import t, { type Test } from 'tap';
import { listOf, memberOf, readUntil, TestServer } from '../../support/server.js';

async function prepared(t: Test): Promise<TestServer> {
  const server = await TestServer.open(t);
  await server.put('/_global_changes');
  return server;
}

function told(body: unknown): string[] {
  return listOf(body, 'results').map(
    (row) => `${memberOf(row, 'type')} ${memberOf(row, 'db_name')}`,
  );
}

t.test('without the database it is not there', async (t) => {
  const server = await TestServer.open(t);
  t.equal((await server.get('/_db_updates')).status, 404);
  await server.put('/early');
  await server.put('/_global_changes');
  await server.server.services.updates.flush();
  t.same(told((await server.get('/_db_updates')).body), [], 'what was before is not told');
});

t.test('what happens', async (t) => {
  const server = await prepared(t);
  const { updates } = server.server.services;
  for (const as of [null, 'user:password-of-user']) {
    t.equal((await server.get('/_db_updates', { as })).status, 401);
  }
  await server.put('/a%2Fb');
  await server.put('/c');
  await server.put('/c/x', {});
  await server.put('/c/y', {});
  await server.put('/c/_local/z', {});
  await server.delete('/a%2Fb');
  await updates.flush();
  const first = await server.get('/_db_updates');
  t.same(told(first.body).sort(), ['created a/b', 'created c', 'deleted a/b', 'updated c']);
  t.match(first.text, /^\{"results":\[\n\{"db_name":"[^"]+","type":"[a-z]+","seq":"[^"]+"\},\n/);
  const since = String(memberOf(first.body, 'last_seq'));
  const limited = await server.get('/_db_updates?limit=1');
  t.equal(told(limited.body).length, 1);
  const back = await server.get('/_db_updates?descending=true');
  t.same(told(back.body).sort(), told(first.body).sort());
  t.same(told((await server.get(`/_db_updates?since=${since}`)).body), []);
  t.same(told((await server.get('/_db_updates?since=now')).body), []);

  t.equal((await server.put('/c/_local/other', {})).status, 201);
  await updates.flush();
  t.same(
    told((await server.get(`/_db_updates?since=${since}`)).body),
    [],
    'a checkpoint is no update',
  );
  await server.put('/a%2Fb');
  await updates.flush();
  const again = await server.get(`/_db_updates?since=${since}`);
  t.same(told(again.body), ['created a/b'], 'a new revision of the same document');
  await server.put('/_global_changes/note', {});
  t.same(told((await server.get(`/_db_updates?since=${since}`)).body), ['created a/b']);
  t.equal((await server.get('/_db_updates?feed=sometimes')).status, 400);
});

t.test('as it happens', async (t) => {
  const server = await prepared(t);
  const waiting = server.get('/_db_updates?feed=longpoll&since=now&timeout=20000');
  const abort = new AbortController();
  const { signal } = abort;
  const lines = await server.fetch('GET', '/_db_updates?feed=continuous&heartbeat=50', { signal });
  const events = await server.fetch('GET', '/_db_updates?feed=eventsource&since=0', { signal });
  t.equal(events.headers.get('content-type'), 'text/event-stream');
  await server.put('/db');
  t.same(told((await waiting).body), ['created db']);
  t.match(
    await readUntil(lines, /\n.*"db_name":"db","type":"created","seq":"[^"]+"\}\n/),
    /\n\n|^\n/,
  );
  t.match(
    await readUntil(events, /\n\n/),
    /^data: \{"db_name":"db","type":"created",.*\}\nid: \S+\n\n/,
  );
  abort.abort();
  const late = await server.get('/_db_updates?feed=longpoll&since=now&timeout=100');
  t.same(told(late.body), []);
});

t.test('many at once', async (t) => {
  const server = await prepared(t);
  const { updates } = server.server.services;
  for (let index = 0; index < 250; index++) updates.note('updated', `db${index}`);
  for (let round = 0; round < 3; round++) {
    for (let index = 0; index < 50; index++) updates.note('updated', `db${index}`);
    await updates.flush();
  }
  t.equal(told((await server.get('/_db_updates')).body).length, 250);
  await Promise.all([updates.flush(), updates.flush()]);
});
