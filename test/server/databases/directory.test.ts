/**
 * Goal: databases over nodes are made, removed and made anew as one, and after a cut on both sides of which one name was made all nodes agree,
 * with nothing lost of what was acknowledged; a node that comes back deletes what was deleted.
 * Method: several nodes in one process, whose calls and records go through memory.
 */
import t from 'tap';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import type { Storage } from '../../../engine/file/storage.js';
import { readRow, rowKey } from '../../../server/databases/database-row.js';
import { type DirectoryNode, eventually } from '../../support/directory-node.js';
import { coverOf, FULL, Nodes } from '../../support/directory-nodes.js';
import { makeWhole } from '../../support/kept-parts.js';
import { outcomeOf } from '../../support/outcome.js';

/** Names of shard files on a disk. */
async function filesOf(storage: Storage, nodes: Nodes): Promise<string[]> {
  const files: string[] = [];
  for (const node of nodes.all) {
    for (const { incarnation } of [node.directory.find('db') ?? { incarnation: '' }]) {
      const map = node.catalog.find('db')?.map;
      if (map?.incarnation !== incarnation) continue;
      for (const { file } of map.shards) {
        if ((await storage.identity(`/data/${file}`)) !== undefined) files.push(file);
      }
    }
  }
  return files;
}

t.test('a database is spread evenly, is known everywhere, and goes everywhere', async (t) => {
  const nodes = await Nodes.start(t, 3);
  t.equal(await nodes.at(0).create('db', { q: 8 }), true);
  t.ok(await nodes.settled());
  for (const node of nodes.all) {
    t.strictSame(node.directory.names(), ['db']);
    const placement = node.directory.find('db');
    t.equal(coverOf(placement), FULL);
    t.strictSame(placement?.parts.map(({ shards }) => shards.length).sort(), [2, 3, 3]);
    const security = await node.catalog.get('db').settings.current();
    t.match(Buffer.from(security.security).toString(), /admins/);
    t.equal(await outcomeOf(node.create('db')), 'EXISTS');
  }
  for (let n = 0; n < 20; n++) await nodes.put('db', `doc-${n}`);
  const [own] = nodes.all.map(({ catalog }) => catalog.get('db'));
  const foreign = Array.from({ length: 20 }, (_, n) => Buffer.from(`doc-${n}`)).filter(
    (id) => own?.current.find(id) === -1,
  );
  t.ok(foreign.length > 0);
  const [id = Buffer.alloc(0)] = foreign;
  const write = { id, body: Buffer.from('{}'), deleted: false };
  t.equal(await outcomeOf(own?.put(write) ?? Promise.resolve()), 'MOVED');
  t.match(await own?.update([write]), [{ ok: false, error: { code: 'MOVED' } }]);
  t.equal(await outcomeOf(own?.read(id, async () => 1) ?? Promise.resolve()), 'MOVED');

  t.equal(await nodes.at(2).directory.remove('db'), true);
  t.ok(await nodes.settled());
  for (const node of nodes.all) {
    t.strictSame(node.directory.names(), []);
    t.ok(await eventually(() => node.catalog.find('db') === undefined));
    t.equal(await outcomeOf(node.directory.remove('db')), 'NOT_FOUND');
  }
});

t.test('majorities, and what is not known yet', async (t) => {
  const nodes = await Nodes.start(t, 3);
  nodes.cut(1);
  t.equal(await nodes.at(0).create('few'), false, 'one of three');
  t.equal(await nodes.at(0).directory.remove('few'), false);
  t.equal(await nodes.at(1).create('many', { q: 3 }), false, 'a range is on the one that is away');
  t.equal(await nodes.at(1).directory.remove('many'), true, 'two of three');
  t.ok(await nodes.heal());
  t.strictSame(nodes.at(0).directory.names(), []);

  // Another one may know what is not here yet.
  const quiet = nodes.at(0).shared.receive;
  nodes.at(0).shared.receive = async () => undefined;
  await nodes.at(1).create('db');
  t.notOk(nodes.at(0).directory.find('db'));
  t.equal(await outcomeOf(nodes.at(0).create('db')), 'EXISTS');
  nodes.at(0).shared.receive = quiet;
  t.equal(await nodes.at(0).directory.remove('db'), true);
  t.ok(await nodes.settled());
  t.strictSame(nodes.at(1).directory.names(), []);
});

t.test('suffixes grow, whatever the clock says, and no file is used again', async (t) => {
  const nodes = await Nodes.start(t, 2);
  const used = new Set<string>();
  let last = -1;
  for (let round = 0; round < 6; round++) {
    const node = nodes.at(round % 2);
    node.host.skewMs = -round * 1_000_000;
    t.equal(await node.create('db'), true);
    t.ok(await nodes.settled());
    const timestamp = node.directory.find('db')?.timestamp ?? 0;
    t.ok(timestamp > last, `${timestamp} after ${last}`);
    last = timestamp;
    const files = await filesOf(nodes.storages[round % 2] ?? new MemoryStorage(), nodes);
    t.ok(files.length > 0);
    for (const file of files) t.notOk(used.has(file), file);
    for (const file of files) used.add(file);
    await node.directory.remove('db');
    t.ok(await nodes.settled());
  }
});

t.test('nobody finds a database half made', async (t) => {
  const nodes = await Nodes.start(t, 1);
  const { directory } = nodes.at(0);
  const seen = new Set<string>();
  directory.onChange((name) => {
    const placement = directory.find(name);
    seen.add(placement === undefined ? 'none' : coverOf(placement));
    t.same(directory.names(), placement === undefined ? [] : [name]);
  });
  await nodes.at(0).create('db', { q: 4 });
  t.same([...seen], ['none', FULL]);
  await directory.remove('db');
  t.same([...seen], ['none', FULL]);
});

t.test('a node alone does not use a file name again either', async (t) => {
  const nodes = await Nodes.start(t, 1);
  const { catalog, host } = nodes.at(0);
  const first = await makeWhole({ catalog, host }, 'x', { q: 1 });
  await catalog.remove('x');
  host.skewMs = -1e9;
  const second = await makeWhole({ catalog, host }, 'x', { q: 1 });
  t.ok(second.map.timestamp > first.map.timestamp);
  t.ok(first.map.shards[0]?.file !== second.map.shards[0]?.file);
});

t.test('a node that comes back deletes what was deleted', async (t) => {
  const nodes = await Nodes.start(t, 3);
  await nodes.at(0).create('db');
  await nodes.at(0).create('other');
  t.ok(await nodes.settled());
  await nodes.at(2).close();
  await nodes.at(0).directory.remove('db');
  await nodes.at(0).directory.remove('other');
  await nodes.at(0).create('other', { q: 3 });
  const back = await nodes.start(2);
  t.ok(await nodes.settled());
  t.strictSame(back.directory.names(), ['other']);
  t.ok(await eventually(() => back.catalog.find('db') === undefined));
  t.equal(coverOf(back.directory.find('other')), FULL);
  for (const node of nodes.all) t.strictSame(node.directory.names(), ['other']);
});

t.test('moved shards are told with epochs that rise, after a restart too', async (t) => {
  const nodes = await Nodes.start(t, 2);
  await nodes.at(0).create('db', { q: 2 });
  t.ok(await nodes.settled());
  const node = nodes.at(0);
  const database = node.catalog.get('db');
  const { incarnation } = database.map;
  const key = rowKey(node.node.identity, 'db', incarnation);
  const epochIn = (of: DirectoryNode) => readRow(of.shared.get(key) ?? {}).epoch;
  const before = epochIn(nodes.at(1));
  await node.catalog.raiseEpoch(database, before + 5);
  // As when other shards have taken the place of some.
  await database.settings.whileSettled(() =>
    node.catalog.moveShards(database, { from: [], to: [] }),
  );
  t.ok(await eventually(() => epochIn(nodes.at(1)) === before + 6));
  t.ok(await nodes.settled());

  // What is known elsewhere is ahead of what is on the disk, as after a restore from an old copy.
  await node.close();
  const row = node.shared.get(key) ?? {};
  t.equal(readRow(row).epoch, before + 6);
  const other = nodes.at(1);
  await other.shared.receive(key, { ...row, epoch: 50, shards: [] });
  const back = await nodes.start(0);
  t.ok(await eventually(() => epochIn(other) === 51 && back.catalog.get('db').map.epoch === 51));
  t.equal(coverOf(other.directory.find('db')), FULL);
});
