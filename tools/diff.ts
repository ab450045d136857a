/** `divan diff`: what differs between shard files. */
import type { Command } from 'commander';
import { differences } from '../engine/rewrite/diff.js';
import { ReadOnlyShard } from '../engine/shard/read-only-shard.js';
import { assertNotAborted, type CommandContext, LineOutput, runCommand } from './command.js';

const WHERE = {
  first: 'only in the first',
  others: 'only in the others',
  both: 'differs',
} as const;

export function registerDiff(program: Command): void {
  program
    .command('diff')
    .description(
      'compare a shard file with another, or with several that together should hold the same; exit code 1 if they differ',
    )
    .argument('<shard>', 'the first shard file')
    .argument('<others...>', 'the others')
    .option('--json', 'one JSON object a line')
    .action((path: string, others: string[], options: { readonly json?: boolean }) =>
      runCommand(options, (context) => diffCommand(context, path, others)),
    );
}

async function diffCommand(
  context: CommandContext,
  path: string,
  others: readonly string[],
): Promise<boolean> {
  const shards: ReadOnlyShard[] = [];
  const output = new LineOutput();
  let same = true;
  try {
    const first = await ReadOnlyShard.open(context, path);
    shards.push(first);
    for (const other of others) shards.push(await ReadOnlyShard.open(context, other));
    for await (const difference of differences(first, shards.slice(1))) {
      assertNotAborted(context.signal);
      if (output.broken) break;
      same = false;
      const { kind, id, where } = difference;
      await output.line(
        context.json
          ? JSON.stringify(difference)
          : `${WHERE[where]}: ${kind} ${JSON.stringify(id)}`,
      );
    }
    if (same) await output.line(context.json ? '{"same":true}' : 'no differences');
    await output.flush();
    return same;
  } finally {
    for (const shard of shards) await shard.close();
  }
}
