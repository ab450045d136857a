/**
 * Goal: requests of clients while a shard is moved away from a node that had all of the database, or to one that then has all of it: none is refused,
 * a feed of changes misses nothing, an upload arrives whole or is refused so that its client knows.
 * Method: servers in one process that call each other through memory, with real files, and clients over HTTP.
 */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { MoveBed } from '../../support/move-bed.js';
import { ADMIN, memberOf } from '../../support/server.js';

/** A database of one shard, and the nodes that have it and do not. */
async function opened(t: Test) {
  const bed = await MoveBed.open(t, { q: 1 });
  const home = bed.shards(0).length === 1 ? 0 : 1;
  return { bed, home, away: 1 - home };
}

t.test('writes and reads through both nodes, there and back', async (t) => {
  const { bed, home, away } = await opened(t);
  let isOver = false;
  let count = 0;
  const failures: string[] = [];
  const client = async (name: string) => {
    for (let round = 0; !isOver; round++) {
      const id = `${name}-${round}`;
      const path = `/db/${id}`;
      const put = await bed.at(round % 2).put(path, { round });
      if (put.status !== 201) failures.push(`PUT ${put.status} ${put.text}`);
      const docs = [{ _id: `${id}-a` }, { _id: `${id}-b` }];
      const bulk = await bed.at(round % 2).post('/db/_bulk_docs', { docs });
      if (!/^\[\{"ok":true.*"ok":true/.test(bulk.text)) failures.push(`bulk ${bulk.text}`);
      for (const index of [0, 1]) {
        const { status, text } = await bed.at(index).get(path);
        if (status !== 200) failures.push(`GET ${status} ${text}`);
        const all = await bed.at(index).get(`/db/_all_docs?keys=["${id}","${id}-b"]`);
        if (!all.text.includes(`"id":"${id}-b"`)) failures.push(`_all_docs ${all.text}`);
      }
      count++;
    }
  };
  const clients = ['a', 'b', 'c', 'd'].map(client);
  for (const [from, to] of [
    [home, away],
    [away, home],
    [home, away],
  ] as const) {
    await wait(100);
    await bed.inState(await bed.move(from, to), 'completed');
    t.equal(bed.shards(to).length, 1);
  }
  await wait(100);
  isOver = true;
  await Promise.all(clients);
  t.same(failures, []);
  t.match((await bed.at(0).get('/db')).body, { doc_count: 3 * count });
});

/** Reads a feed to its end; what came of it so far can be looked at before. */
function follow(bed: MoveBed, index: number, query: string) {
  const feed = { text: '', isBegun: false, isOver: false };
  const over = (async () => {
    const response = await bed.at(index).fetch('GET', `/db/_changes?${query}`);
    feed.isBegun = true;
    const decoder = new TextDecoder();
    for await (const part of response.body ?? []) feed.text += decoder.decode(part);
    feed.isOver = true;
  })().catch(() => undefined);
  return { feed, over };
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (let turn = 0; turn < 800; turn++) {
    if (isSo()) return;
    await wait(5);
  }
  throw new Error(`it never came to this: ${what}`);
}

t.test('feeds of changes that wait while all that they tell of goes to another node', async (t) => {
  const { bed, home, away } = await opened(t);
  t.equal((await bed.at(home).put('/db/before', {})).status, 201);
  const endless = follow(bed, home, 'feed=continuous&heartbeat=1000');
  const waiting = follow(bed, home, 'feed=longpoll&since=now&heartbeat=1000');
  await until('the first row', () => endless.feed.text.includes('"before"'));
  await until('the other one', () => waiting.feed.isBegun);
  await bed.inState(await bed.move(home, away), 'completed');
  for (const index of [0, 1]) {
    t.equal((await bed.at(index).put(`/db/after${index}`, {})).status, 201);
  }
  for (const [what, { feed, over }] of Object.entries({ endless, waiting })) {
    await until(
      `an end, or the rows: ${what}, ${feed.text}`,
      () => feed.isOver || /after0[\s\S]*after1/.test(feed.text),
    );
    if (!feed.isOver) continue;
    await over;
    const last = /"last_seq":"([^"]+)"/.exec(feed.text)?.[1] ?? '';
    const later = await bed.at(home).get(`/db/_changes?since=${last}`);
    t.match(
      later.text,
      /after0[\s\S]*after1|after1[\s\S]*after0/,
      'nothing is missed from there on',
    );
    t.notMatch(later.text, /before/, 'and nothing told twice');
  }
  await bed.at(home).close();
  await bed.at(away).close();
});

interface Uploading {
  readonly answer: Promise<{ readonly status: number; readonly text: string }>;
  readonly bytes: Buffer;
}

/** Sends an attachment in pieces, the last one when `isLast` says so. */
function upload(bed: MoveBed, index: number, id: string, size: number, last: Promise<unknown>) {
  const bytes = Buffer.alloc(size, id);
  const sent = request(`${bed.at(index).url}/db/${id}/file`, {
    method: 'PUT',
    auth: ADMIN,
    headers: { 'Content-Type': 'text/plain', 'Content-Length': size },
  });
  const answered = once(sent, 'response');
  const answer = (async () => {
    sent.write(bytes.subarray(0, size - 1));
    await last;
    sent.end(bytes.subarray(size - 1));
    const [response]: IncomingMessage[] = await answered;
    let text = '';
    for await (const part of response ?? []) text += String(part);
    return { status: response?.statusCode ?? 0, text };
  })();
  return { answer, bytes } satisfies Uploading;
}

t.test('uploads that go on while their document moves', async (t) => {
  const { bed, home, away } = await opened(t);
  let finish = () => {};
  const last = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const small = 200_000;
  const large = 3_000_000;
  const uploads = new Map([
    ['through-the-other', upload(bed, away, 'through-the-other', small, last)],
    ['large-through-the-other', upload(bed, away, 'large-through-the-other', large, last)],
    ['there', upload(bed, home, 'there', small, last)],
  ]);
  await wait(200);
  const job = await bed.move(home, away);
  await until('the other node has it', () => bed.shards(away).length === 1);
  await until('the source has it no more', () => bed.shards(home).length === 0);
  finish();
  for (const [id, { answer, bytes }] of uploads) {
    const { status, text } = await answer;
    if (status !== 201) {
      t.not(id, 'through-the-other', text);
      t.equal(status, 503, text);
      t.match(text, /send (it|the request) again/, id);
      const again = await upload(bed, home, id, bytes.length, Promise.resolve()).answer;
      t.equal(again.status, 201, again.text);
    }
    for (const index of [0, 1]) {
      const found = await bed.at(index).fetch('GET', `/db/${id}/file`);
      t.ok(Buffer.from(await found.arrayBuffer()).equals(bytes), `${id} through ${index}`);
    }
  }
  await bed.inState(job, 'completed');
});

t.test('a write waits where the shard has come until the other node has given it up', async (t) => {
  const { bed, home, away } = await opened(t);
  let isLost = true;
  bed.cluster.fate = (_to, name) => (name === 'move/confirm' && isLost ? 'not sent' : 'done');
  const job = await bed.move(home, away);
  await until('it has come', () => bed.shards(away).length === 1);
  await until('it has gone', () => bed.shards(home).length === 0);
  const early = bed.at(away).put('/db/early', {});
  const status = await Promise.race([early.then(({ status }) => status), wait(300)]);
  t.equal(status, undefined, 'it waits');
  isLost = false;
  t.equal((await early).status, 201);
  await bed.inState(job, 'completed', home);
});

t.test('the other node leaves the cluster when the shard is about to be its own', async (t) => {
  const { bed, home, away } = await opened(t);
  t.equal((await bed.at(home).put('/db/kept', {})).status, 201);
  const { identity } = bed.cluster.node(away);
  bed.cluster.fate = (_to, name) => {
    if (name === 'move/take') bed.cluster.away.add(identity);
    return 'done';
  };
  const id = await bed.move(home, away);
  await until('it is away', () => bed.cluster.away.size > 0);
  await wait(50);
  t.match(await bed.status(id, home), { job_state: 'running', split_state: 'update_shardmap' });
  bed.cluster.left.add(identity);
  const failed = await bed.inState(id, 'failed', home);
  t.match(memberOf(failed, 'state_info'), { reason: /no member of the cluster any more/ });
  t.equal(bed.shards(home).length, 1);
  t.equal((await bed.at(home).put('/db/later', {})).status, 201, 'it takes writes again');
  t.equal((await bed.at(home).get('/db/kept')).status, 200);
});
