/**
 * A program: `divan serve`, which kills itself (SIGKILL) just before, or just after, the n-th call that changes something durable for a job.
 * DIVAN_TEST_KILL_AT is n; DIVAN_TEST_KILL_WHEN `before` or `after`. The calls are counted from the first one that concerns the checkpoint of a
 * job. Prints how many there were when it ends.
 */
import { nodeStorage } from '../../engine/file/node-storage.js';
import type { StorageFile } from '../../engine/file/storage.js';

const at = Number(process.env['DIVAN_TEST_KILL_AT']);
const isAfter = process.env['DIVAN_TEST_KILL_WHEN'] === 'after';
let calls = 0;

async function counted<T>(path: string, call: () => Promise<T>): Promise<T> {
  if (calls === 0 && !path.includes('.move')) return call();
  const isIt = ++calls === at;
  if (isIt && !isAfter) process.kill(process.pid, 'SIGKILL');
  const result = await call();
  if (isIt) process.kill(process.pid, 'SIGKILL');
  return result;
}

/** What clients write to the shards is none of a job; the records of the node and its checkpoints are. */
function countedFile(file: StorageFile): StorageFile {
  const { path } = file;
  if (!path.endsWith('node.divan') && !path.includes('.move')) return file;
  return {
    path,
    read: (into, position) => file.read(into, position),
    write: (bytes, position) => file.write(bytes, position),
    sync: () => counted(path, () => file.sync()),
    truncate: (length) => counted(path, () => file.truncate(length)),
    size: () => file.size(),
    identity: () => file.identity(),
    tryLock: () => file.tryLock(),
    renamed: (path) => file.renamed(path),
    close: () => file.close(),
  };
}

const real = { ...nodeStorage };
Object.assign(nodeStorage, {
  open: async (path, mode) => {
    if (mode !== 'create') return countedFile(await real.open(path, mode));
    return countedFile(await counted(path, () => real.open(path, mode)));
  },
  rename: (from, to) => counted(to, () => real.rename(from, to)),
  link: (from, to) => counted(to, () => real.link(from, to)),
  remove: (path) => counted(path, () => real.remove(path)),
  makeDirectory: (path) => counted(path, () => real.makeDirectory(path)),
  syncDirectory: (path) => counted(path, () => real.syncDirectory(path)),
} satisfies Partial<typeof nodeStorage>);
process.on('exit', () => process.stderr.write(`counted ${calls} calls\n`));
await import('../../tools/cli.js');
