/** `divan backup`: a consistent, verified copy of a shard file that may be being written. */
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { DivanError } from '../engine/errors.js';
import { recordEnd } from '../engine/file/commit-record.js';
import { readUpTo } from '../engine/file/file-reader.js';
import { DATA_START } from '../engine/file/first-block.js';
import { publishFile } from '../engine/file/publish.js';
import type { StorageFile } from '../engine/file/storage.js';
import { checkShard } from '../engine/shard/check.js';
import { ReadOnlyShard } from '../engine/shard/read-only-shard.js';
import { assertNotAborted, type CommandContext, runCommand } from './command.js';
import { Progress } from './progress.js';

const PIECE_BYTES = 1024 * 1024;

export function registerBackup(program: Command): void {
  program
    .command('backup')
    .description('copy a shard file, which may be being written, and check the copy')
    .argument('<shard>', 'the shard file')
    .requiredOption('--out <file>', 'the copy; must not be there yet')
    .option('--json', 'progress and result as JSON')
    .action((path: string, options: { out: string; json?: boolean }) =>
      runCommand(options, (context) => backup(context, path, options.out)),
    );
}

async function backup(context: CommandContext, path: string, out: string): Promise<boolean> {
  const { storage, host } = context;
  if ((await storage.identity(out)) !== undefined) {
    throw new DivanError('EXISTS', `${out} is there already`, { path: out });
  }
  const suffix = Buffer.from(host.randomBytes(6)).toString('hex');
  const temporary = join(dirname(out), `.divan-backup.${suffix}.new`);
  const copy = await storage.open(temporary, 'create');
  try {
    const bytes = await copyCommitted(context, path, copy);
    await verify(context, temporary);
    await copy.close();
    await publishFile(storage, temporary, out);
    const text = context.json
      ? JSON.stringify({ ok: true, bytes })
      : `${bytes} bytes copied and checked`;
    process.stdout.write(`${text}\n`);
    return true;
  } catch (error) {
    await storage.remove(temporary);
    throw error;
  }
}

/** Copies everything up to the newest commit: bytes that were written once never change. Only the length witnesses may. */
async function copyCommitted(
  context: CommandContext,
  path: string,
  copy: StorageFile,
): Promise<number> {
  await using shard = await ReadOnlyShard.open(context, path);
  const end = recordEnd(shard.recovered.newest);
  const progress = new Progress(context.host, context.json);
  // The witnesses as they were before the newest commit was searched for: later ones may name later commits.
  await writeAll(copy, shard.recovered.head, 0);
  for (let pos: number = DATA_START; pos < end; pos += PIECE_BYTES) {
    assertNotAborted(context.signal);
    const bytes = await readUpTo(shard.file, pos, Math.min(PIECE_BYTES, end - pos));
    await writeAll(copy, bytes, pos);
    progress.show({
      phase: 'copy',
      docsDone: 0,
      docsTotal: 0,
      bytesDone: pos + bytes.length,
      bytesTotal: end,
    });
  }
  progress.stop();
  await copy.sync();
  return end;
}

async function writeAll(file: StorageFile, bytes: Uint8Array, pos: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += await file.write(bytes.subarray(done), pos + done);
}

async function verify(context: CommandContext, path: string): Promise<void> {
  await using shard = await ReadOnlyShard.open(context, path);
  const { problems } = await checkShard(shard, () => assertNotAborted(context.signal));
  const [first] = problems;
  if (first === undefined) return;
  throw new DivanError(
    'VERIFY_FAILED',
    `the copy has ${problems.length} problems and was removed; the first is: ${first.text}. Run divan check on the shard`,
  );
}
