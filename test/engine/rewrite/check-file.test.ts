/**
 * Goal: looking through a shard file beside a server finds what is wrong, says so as on the calling thread, and can be stopped.
 * Method: a real file, whole and damaged, looked through by a thread and by the calling one.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { nodeHost } from '../../../engine/file/node-host.js';
import { nodeStorage } from '../../../engine/file/node-storage.js';
import { checkFile } from '../../../engine/rewrite/check-file.js';
import { loadSynthetic, temporaryDirectory } from '../../support/cli.js';
import { outcomeOf } from '../../support/outcome.js';

const WORLD = { storage: nodeStorage, host: nodeHost };

t.test('a file that nobody writes is looked through', async (t) => {
  const path = join(temporaryDirectory(t), 'shard.divan');
  loadSynthetic(path, 2000);
  const bytes = readFileSync(path);
  for (const workers of [0, undefined]) {
    const { signal } = new AbortController();
    const check = () => outcomeOf(checkFile(WORLD, path, { workers, signal }));
    writeFileSync(path, bytes);
    t.equal(await check(), undefined, 'nothing is wrong');
    const damaged = Buffer.from(bytes);
    const at = bytes.length >> 1;
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    writeFileSync(path, damaged);
    t.match(await check(), { text: /./, pos: Number });
    writeFileSync(path, 'no shard');
    t.match(await check(), /^[A-Z_]+$/, 'a code');
    writeFileSync(path, bytes);
    const stopped = { workers, signal: AbortSignal.abort() };
    t.equal(await outcomeOf(checkFile(WORLD, path, stopped)), 'ABORTED');
  }
});
