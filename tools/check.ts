/** `divan check`: walks everything in a shard file and lists every problem. */
import type { Command } from 'commander';
import { checkShard } from '../engine/shard/check.js';
import { ReadOnlyShard } from '../engine/shard/read-only-shard.js';
import { assertNotAborted, type CommandContext, runCommand } from './command.js';
import { Progress } from './progress.js';

export function registerCheck(program: Command): void {
  program
    .command('check')
    .description('walk everything in a shard file; print OK, or every problem')
    .argument('<shard>', 'the shard file')
    .option('--json', 'progress and result as JSON')
    .action((path: string, options: { json?: boolean }) =>
      runCommand(options, (context) => check(context, path)),
    );
}

async function check(context: CommandContext, path: string): Promise<boolean> {
  await using shard = await ReadOnlyShard.open(context, path);
  const { liveDocs, deletedDocs } = shard.snapshot.counters;
  const progress = new Progress(context.host, context.json);
  const docsTotal = liveDocs + deletedDocs;
  const result = await checkShard(shard, (docsDone) => {
    assertNotAborted(context.signal);
    progress.show({
      phase: 'check',
      docsDone,
      docsTotal,
      bytesDone: docsDone,
      bytesTotal: docsTotal,
    });
  });
  progress.stop();
  const { problems, docs, bodies, trees } = result;
  if (context.json)
    process.stdout.write(
      `${JSON.stringify({ ok: problems.length === 0, problems, docs, bodies, trees })}\n`,
    );
  else if (problems.length === 0) process.stdout.write('OK\n');
  else
    for (const { text, pos } of problems)
      process.stdout.write(`${text}${pos === undefined ? '' : ` (at ${pos})`}\n`);
  return problems.length === 0;
}
