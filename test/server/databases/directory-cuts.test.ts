/**
 * Goal: when both sides of a cut have made one name, the same one is in force everywhere once they reach each other, all that the other one held is
 * in it, and only then do the files of that go; whatever was deleted on either side, nothing of what survives is lost.
 * Method: several nodes in one process, cut by hand and at random, against a list of what was acknowledged.
 */
import t, { type Test } from 'tap';
import { parseRev } from '../../../engine/shard/revision.js';
import { type DirectoryNode, eventually, ownerOf } from '../../support/directory-node.js';
import { Nodes } from '../../support/directory-nodes.js';
import { outcomeOf } from '../../support/outcome.js';
import { randomInt, seededRandom, seedOf } from '../../support/seed.js';

const TEXT = Buffer.from('text of an attachment');

function bytes(text: string): Buffer {
  return Buffer.from(text);
}

/** Writes one of each kind of thing that a database holds; returns the revisions of a document with a conflict. */
async function fill(nodes: Nodes, index: number, name: string): Promise<void> {
  const on = (id: string) => nodes.owner(name, id, index);
  for (let n = 0; n < 250; n++) await nodes.put(name, `plain-${n}`, `{"n":${n}}`, index);
  const rev = (text: string) => parseRev(text);
  for (const code of ['aaaa', 'bbbb']) {
    const path = [`3-${code}`, `2-${code}`, '1-eeee'].map(rev);
    const write = { id: bytes('conflict'), body: bytes(`{"is":"${code}"}`), deleted: false, path };
    await on('conflict').put(write);
  }
  const gone = await on('gone').put({ id: bytes('gone'), body: bytes('{}'), deleted: false });
  await on('gone').put({ id: bytes('gone'), body: bytes('{}'), deleted: true, parent: gone.rev });
  await on('with').putUploaded(bytes('with'), async (store) => {
    const stored = await store({ chunks: [TEXT], bytesMax: 1000 });
    const attachment = { contentType: 'text/plain', revpos: undefined, content: stored };
    const attachments = new Map([['a.txt', attachment]]);
    return { id: bytes('with'), body: bytes('{"has":1}'), deleted: false, attachments };
  });
  await on('_local/point').putLocal({
    id: bytes('point'),
    body: bytes('{"at":7}'),
    revision: undefined,
  });
  const purged = await on('purged').put({ id: bytes('purged'), body: bytes('{}'), deleted: false });
  await on('purged').purge({
    uuid: bytes('0123456789abcdef'),
    id: bytes('purged'),
    revs: [purged.rev],
  });
}

async function check(t: Test, nodes: Nodes, name: string): Promise<void> {
  for (let n = 0; n < 250; n++) {
    if ((await nodes.get(name, `plain-${n}`)) !== `{"n":${n}}`) t.fail(`plain-${n} is lost`);
  }
  const on = (id: string) => nodes.owner(name, id);
  await on('conflict').read(bytes('conflict'), async (snapshot) => {
    const document = await snapshot.document(bytes('conflict'));
    t.equal(document?.leaves.length, 2);
    t.equal(document?.tree.length, 5, 'with all their ancestors');
  });
  await on('gone').read(bytes('gone'), async (snapshot) => {
    t.equal((await snapshot.document(bytes('gone')))?.deleted, true);
  });
  await on('with').read(bytes('with'), async (snapshot) => {
    const attachment = (await snapshot.document(bytes('with')))?.leaves[0]?.attachments[0];
    t.match(attachment, { name: 'a.txt', contentType: 'text/plain', revpos: 1 });
    const chunks: Uint8Array[] = [];
    if (attachment !== undefined) {
      for await (const chunk of snapshot.attachment(attachment)) chunks.push(chunk);
    }
    t.equal(Buffer.concat(chunks).toString(), TEXT.toString());
  });
  const { slot } = on('_local/point').localShardOf(bytes('point'));
  const local = await slot.read((reader) => reader.snapshot().localDoc(bytes('point')));
  t.match(local, { revision: 1 });
  t.equal(Buffer.from(local?.body ?? []).toString(), '{"at":7}');
  await on('purged').read(bytes('purged'), async (snapshot) => {
    t.equal(await snapshot.document(bytes('purged')), undefined);
    let infos = 0;
    for await (const { id } of snapshot.purges()) if (id === 'purged') infos++;
    t.equal(infos, 1);
  });
}

for (const later of [0, 1]) {
  t.test(`both sides make one name, the one of ${later} later`, async (t) => {
    const nodes = await Nodes.start(t, 2);
    nodes.cut(1);
    nodes.at(later).host.skewMs = 1e9;
    for (const [index, node] of nodes.all.entries()) {
      // Each side places all of it on itself, or nothing could be written.
      nodes.place(index, [index]);
      t.equal(await node.create('db', { q: index + 2 }), false);
      nodes.place(index, undefined);
    }
    await fill(nodes, 1 - later, 'db');
    for (let n = 0; n < 20; n++) await nodes.put('db', `own-${n}`, '{"own":1}', later);
    const { incarnation } = nodes.at(later).catalog.get('db').map;
    const files = nodes.at(1 - later).catalog.get('db').map.shards;
    t.ok(await nodes.heal());
    for (const node of nodes.all) t.equal(node.directory.find('db')?.incarnation, incarnation);
    await check(t, nodes, 'db');
    for (let n = 0; n < 20; n++) t.equal(await nodes.get('db', `own-${n}`), '{"own":1}');
    for (const { file } of files) {
      t.equal(await nodes.storages[1 - later]?.identity(`/data/${file}`), undefined, 'is gone');
    }
  });
}

t.test('what was set aside stays while a member is away, which might not know of it', async (t) => {
  const nodes = await Nodes.start(t, 3);
  nodes.cut(1);
  nodes.place(0, [0]);
  await nodes.at(0).create('db', { q: 1 });
  await nodes.put('db', 'mine', '{}', 0);
  nodes.at(1).host.skewMs = 1e9;
  nodes.place(1, [1]);
  await nodes.at(1).create('db', { q: 3 });
  nodes.place(0, undefined);
  nodes.place(1, undefined);
  const last = nodes.at(2);
  t.ok(await eventually(() => last.directory.find('db') !== undefined));
  // The last one is away, and deletes what it knows of, which is not what the first one made.
  nodes.cluster.isCut = (a, b) => a === last.node.identity || b === last.node.identity;
  await nodes.cluster.exchange();
  const [first] = nodes.all;
  t.ok(await eventually(() => first?.catalog.aside.all().length === 1));
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(first?.catalog.aside.all().length, 1);
  t.equal(await last.directory.remove('db'), false);
  t.ok(await nodes.heal());
  for (const node of nodes.all) t.equal(node.directory.find('db')?.parts.length, 1);
  t.equal(await nodes.get('db', 'mine'), '{}', 'it is in force again, with what it had');
});

interface Expected {
  /** By incarnation, the documents that were acknowledged. */
  readonly written: Map<string, Set<string>>;
  readonly deleted: Set<string>;
}

async function step(nodes: Nodes, random: () => number, expected: Expected, marker: number) {
  const node = nodes.all[randomInt(random, nodes.all.length)];
  if (node === undefined) return;
  const choice = random();
  const there = node.directory.find('db');
  if (there === undefined || choice < 0.1) await outcomeOf(node.create('db', { q: 4 }));
  else if (choice < 0.2) {
    const known = [...node.knownIncarnations('db')];
    if ((await outcomeOf(node.directory.remove('db'))) === undefined) {
      for (const incarnation of known) expected.deleted.add(incarnation);
    }
  } else if (choice < 0.3) node.host.skewMs = (random() - 0.5) * 1e9;
  else await write(nodes, node, expected, marker);
}

/** Writes at a node that holds the range, as far as this one knows and reaches. */
async function write(nodes: Nodes, node: DirectoryNode, expected: Expected, marker: number) {
  const id = `d${marker}`;
  const reached = nodes.all.filter(
    ({ node: { identity } }) =>
      identity === node.node.identity || !nodes.cluster.isCut(identity, node.node.identity),
  );
  const database = ownerOf(reached, 'db', id);
  if (database === undefined) return;
  const { incarnation } = database.map;
  const put = database.put({ id: bytes(id), body: bytes('{}'), deleted: false });
  if ((await outcomeOf(put)) !== undefined) return;
  const ids = expected.written.get(incarnation) ?? new Set();
  expected.written.set(incarnation, ids.add(id));
}

t.test('random lives on both sides of cuts', async (t) => {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  let lost = 0;
  let survived = 0;
  for (let life = 0; life < 12; life++) {
    const nodes = new Nodes(3);
    for (let index = 0; index < 3; index++) await nodes.start(index);
    const expected: Expected = { written: new Map(), deleted: new Set() };
    for (let round = 0; round < 3; round++) {
      nodes.cut(1 + randomInt(random, 2));
      for (let n = 0; n < 12; n++)
        await step(nodes, random, expected, life * 1000 + round * 100 + n);
      if (!(await nodes.heal())) t.fail(`life ${life} does not settle`);
    }
    const incarnation = nodes.at(0).directory.find('db')?.incarnation;
    if (incarnation !== undefined) {
      t.notOk(expected.deleted.has(incarnation), 'a deleted one is in force');
      survived++;
      for (const id of expected.written.get(incarnation) ?? []) {
        if ((await nodes.get('db', id)) === undefined) lost++;
      }
    }
    for (const node of nodes.all) {
      const map = node.catalog.find('db')?.map;
      t.equal(map?.incarnation ?? incarnation, incarnation);
    }
    await nodes.close();
  }
  t.equal(lost, 0, 'no acknowledged write is lost');
  t.ok(survived > 0);
});
