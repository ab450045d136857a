/**
 * A program: `divan serve`, which kills itself (SIGKILL) just before, or just after, the n-th call that changes something durable besides what
 * clients write. Prints how many there were when it ends.
 *
 * DIVAN_TEST_KILL_AT is n; DIVAN_TEST_KILL_WHEN `before` or `after`. The calls are counted from the first one that concerns the checkpoint of a
 * job. Or else DIVAN_TEST_KILL_BY is `signal`: at each SIGUSR2 both are read from the file beside the data directory whose name ends with
 * `.kill`, and the calls are counted from then on, once it says `counting`.
 */
import { readFileSync } from 'node:fs';
import { nodeStorage } from '../../engine/file/node-storage.js';
import type { StorageFile } from '../../engine/file/storage.js';

const { env, argv } = process;
const isSignalled = env['DIVAN_TEST_KILL_BY'] === 'signal';
/** What is written to these is none of the clients'. */
const OF_NODE = /node\.divan$|\.move|\.arriving$/;
const RECORDS = /node\.divan$/;
const NOTHING = /^(?!)/;
let at = Number(env['DIVAN_TEST_KILL_AT']);
let isAfter = env['DIVAN_TEST_KILL_WHEN'] === 'after';
let isCounting = false;
let calls = 0;

const tell = () => process.stderr.write(`counted ${calls} calls\n`);

if (isSignalled) {
  const orders = `${argv[argv.indexOf('--data-dir') + 1]}.kill`;
  process.on('SIGUSR2', () => {
    tell();
    const [number, when] = readFileSync(orders, 'utf8').split(' ');
    at = Number(number);
    isAfter = when === 'after';
    calls = 0;
    isCounting = true;
    process.stderr.write('counting\n');
  });
}

async function counted<T>(path: string, call: () => Promise<T>): Promise<T> {
  if (!isCounting && (isSignalled || !path.includes('.move'))) return call();
  isCounting = true;
  const isIt = ++calls === at;
  if (isIt && !isAfter) process.kill(process.pid, 'SIGKILL');
  const result = await call();
  if (isIt) process.kill(process.pid, 'SIGKILL');
  return result;
}

/** What survives a process that is killed is what it has written, synced or not. */
function countedFile(file: StorageFile): StorageFile {
  // A file may be renamed while it is open.
  const whereIt = <T>(isOne: RegExp, call: () => Promise<T>) =>
    isOne.test(file.path) ? counted(file.path, call) : call();
  const written = isSignalled ? RECORDS : NOTHING;
  return {
    get path() {
      return file.path;
    },
    read: (into, position) => file.read(into, position),
    write: (bytes, position) => whereIt(written, () => file.write(bytes, position)),
    sync: () => whereIt(OF_NODE, () => file.sync()),
    truncate: (length) => whereIt(OF_NODE, () => file.truncate(length)),
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
process.on('exit', tell);
await import('../../tools/cli.js');
