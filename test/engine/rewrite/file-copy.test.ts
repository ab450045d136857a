/**
 * Goal: a shard file that is copied while it is written is the same file as of the commit that is named, though places before that commit are
 * written late.
 * Method: a shard in memory, an upload that stands still in the middle of its writing, and the copy opened as a shard.
 */
import t from 'tap';
import { MemoryStorage } from '../../../engine/file/memory-storage.js';
import type { OpenMode, StorageFile } from '../../../engine/file/storage.js';
import { FileCopy, piecesOf } from '../../../engine/rewrite/file-copy.js';
import { checkShard } from '../../../engine/shard/check.js';
import { ReadOnlyShard } from '../../../engine/shard/read-only-shard.js';
import { Shard } from '../../../engine/shard/shard.js';
import { VirtualHost } from '../../support/virtual-host.js';

const ATTACHMENT = Buffer.alloc(20_000, 'late');

/** A storage whose writes of the attachment wait until the test lets them go on. */
class SlowStorage extends MemoryStorage {
  readonly held: (() => void)[] = [];

  override async open(path: string, mode: OpenMode): Promise<StorageFile> {
    const file = await super.open(path, mode);
    return {
      path: file.path,
      renamed: (to) => file.renamed(to),
      read: (into, position) => file.read(into, position),
      write: async (bytes, position) => {
        if (Buffer.from(bytes).includes('latelate')) {
          await new Promise<void>((resolve) => this.held.push(resolve));
        }
        return file.write(bytes, position);
      },
      sync: () => file.sync(),
      truncate: (length) => file.truncate(length),
      size: () => file.size(),
      identity: () => file.identity(),
      tryLock: () => file.tryLock(),
      close: () => file.close(),
    };
  }
}

async function copyTo(file: StorageFile, copy: FileCopy): Promise<number> {
  const { length } = await copy.round(async (pos, bytes) => {
    await file.write(bytes, pos);
  });
  return length;
}

t.test('a place that is written late is copied again', async (t) => {
  const memory = new MemoryStorage();
  const slow = new SlowStorage();
  const { held } = slow;
  const host = new VirtualHost(1);
  const shard = await Shard.create({ storage: slow, host }, 'a.divan');
  const put = (id: string) =>
    shard.put({ id: Buffer.from(id), body: Buffer.from('{}'), deleted: false });
  await put('early');
  const storing = shard.store([ATTACHMENT]);
  while (held.length === 0) await host.yieldTurn();
  await put('between');
  const target = await memory.open('b.divan', 'create');
  const copy = new FileCopy(shard, 0);
  const first = await copyTo(target, copy);
  t.equal(copy.behind, 0);
  for (const letGo of held) letGo();
  const stored = await storing;
  await shard.put({
    ...{ id: Buffer.from('with'), body: Buffer.from('{}'), deleted: false },
    attachments: new Map([['a', { contentType: 'x/y', revpos: undefined, stored }]]),
  });
  t.ok(copy.behind > ATTACHMENT.length, 'the late place and the commit');
  const second = await copyTo(target, copy);
  t.ok(second > first);
  t.equal(copy.behind, 0);
  copy.close();
  await target.close();
  await using opened = await ReadOnlyShard.open({ storage: memory }, 'b.divan');
  const { problems, docs } = await checkShard(opened);
  t.same(problems, []);
  t.equal(docs, 3);
  await shard.close();
});

t.test('pieces', async (t) => {
  const mebi = 1024 * 1024;
  t.same(
    [...piecesOf({ from: 5, to: 2 * mebi })],
    [
      { from: 5, to: mebi + 5 },
      { from: mebi + 5, to: 2 * mebi },
    ],
  );
  t.same([...piecesOf({ from: 5, to: 5 })], []);
});
