/** `divan changes`: the latest update of each document, in the order of updates. */
import type { Command } from 'commander';
import { DivanError } from '../engine/errors.js';
import { ReadOnlyShard } from '../engine/shard/read-only-shard.js';
import { formatRev } from '../engine/shard/revision.js';
import { assertNotAborted, type CommandContext, LineOutput, runCommand } from './command.js';

interface ChangesOptions {
  readonly since: string;
  readonly limit?: string;
  readonly descending?: boolean;
  readonly json?: boolean;
}

export function registerChanges(program: Command): void {
  program
    .command('changes')
    .description('write the latest update of each document, one line of JSON each')
    .argument('<shard>', 'the shard file')
    .option('--since <seq>', 'only updates after this one', '0')
    .option('--limit <n>', 'at most so many')
    .option('--descending', 'the newest first')
    .option('--json', 'errors as JSON')
    .action((path: string, options: ChangesOptions) =>
      runCommand(options, (context) => changes(context, path, options)),
    );
}

async function changes(
  context: CommandContext,
  path: string,
  options: ChangesOptions,
): Promise<boolean> {
  const since = wholeNumber('--since', options.since);
  let left =
    options.limit === undefined ? Number.MAX_SAFE_INTEGER : wholeNumber('--limit', options.limit);
  await using shard = await ReadOnlyShard.open(context, path);
  const output = new LineOutput();
  const range = { since, reverse: options.descending === true };
  for await (const change of shard.snapshot.changes(range)) {
    if (left-- === 0 || output.broken) break;
    assertNotAborted(context.signal);
    const { seq, leaves, deleted } = change;
    const id = Buffer.from(change.id).toString();
    const revs = leaves.map(({ revision }) => ({ rev: formatRev(revision) }));
    await output.line(JSON.stringify({ seq, id, changes: revs, ...(deleted ? { deleted } : {}) }));
  }
  await output.flush();
  return true;
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (/^[0-9]+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new DivanError('INVALID_SETTING', `${option} takes a whole number`);
}
