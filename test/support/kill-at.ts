/**
 * A program: runs a split, a merge or a compaction on the real storage and kills itself (SIGKILL) just before the n-th call that changes
 * something. `node kill-at.js split|merge|compact N OUT SHARD...`; a compaction has no use for OUT. Prints how many calls there were if
 * it gets to the end.
 */
import { nodeHost } from '../../engine/file/node-host.js';
import { nodeStorage } from '../../engine/file/node-storage.js';
import type { Storage, StorageFile } from '../../engine/file/storage.js';
import { compact } from '../../engine/rewrite/compact.js';
import { merge } from '../../engine/rewrite/merge.js';
import { split } from '../../engine/rewrite/split.js';

const [, , command = '', at = '0', out = '', ...shards] = process.argv;
const [shard = ''] = shards;
let calls = 0;

function count(): void {
  if (++calls === Number(at)) process.kill(process.pid, 'SIGKILL');
}

function counted(file: StorageFile): StorageFile {
  return {
    path: file.path,
    read: (into, position) => file.read(into, position),
    write: (bytes, position) => {
      count();
      return file.write(bytes, position);
    },
    sync: () => {
      count();
      return file.sync();
    },
    truncate: (length) => {
      count();
      return file.truncate(length);
    },
    size: () => file.size(),
    identity: () => file.identity(),
    tryLock: () => file.tryLock(),
    renamed: (path) => file.renamed(path),
    close: () => file.close(),
  };
}

const storage: Storage = {
  ...nodeStorage,
  open: async (path, mode) => {
    if (mode === 'create') count();
    return counted(await nodeStorage.open(path, mode));
  },
  rename: (from, to) => {
    count();
    return nodeStorage.rename(from, to);
  },
  link: (from, to) => {
    count();
    return nodeStorage.link(from, to);
  },
  remove: (path) => {
    count();
    return nodeStorage.remove(path);
  },
  makeDirectory: (path) => {
    count();
    return nodeStorage.makeDirectory(path);
  },
  syncDirectory: (path) => {
    count();
    return nodeStorage.syncDirectory(path);
  },
};

const world = { storage, host: nodeHost };
if (command === 'split') await split(world, shard, { out, into: { parts: 2 }, workers: 0 });
else if (command === 'merge') await merge(world, shards, { out, workers: 0 });
else await compact(world, shard, { workers: 0 });
process.stdout.write(`${calls}\n`);
