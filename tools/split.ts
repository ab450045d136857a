/** `divan split`: one shard file into two or more by hash range. */
import type { Command } from 'commander';
import { DivanError } from '../engine/errors.js';
import { WORKERS_DEFAULT } from '../engine/rewrite/job.js';
import { type SplitResult, split } from '../engine/rewrite/split.js';
import { formatRange, parseRange } from '../engine/shard/hash.js';
import { type CommandContext, runCommand } from './command.js';
import { Progress } from './progress.js';

interface SplitCommandOptions {
  readonly out: string;
  readonly parts?: string;
  readonly range?: string[];
  readonly workers: string;
  readonly json?: boolean;
}

export function registerSplit(program: Command): void {
  program
    .command('split')
    .description('split a shard file into two or more by hash range; the source stays')
    .argument('<shard>', 'the shard file')
    .requiredOption('--out <dir>', 'where the targets go, as <range>/<name of the shard>')
    .option('--parts <n>', 'so many even ranges (2 if neither this nor --range is given)')
    .option(
      '--range <range...>',
      'these ranges, such as 00000000-7fffffff; together they must be that of the shard',
    )
    .option('--workers <n>', 'worker threads', String(WORKERS_DEFAULT))
    .option('--json', 'progress and result as JSON')
    .action((path: string, options: SplitCommandOptions) =>
      runCommand(options, (context) => splitCommand(context, path, options)),
    );
}

async function splitCommand(
  context: CommandContext,
  path: string,
  options: SplitCommandOptions,
): Promise<boolean> {
  if (options.parts !== undefined && options.range !== undefined) {
    throw new DivanError('INVALID_RANGE', 'give either --parts or --range');
  }
  const workers = Number(options.workers);
  if (!Number.isInteger(workers) || workers < 1 || workers > 64) {
    throw new DivanError('LIMIT', '--workers takes a whole number from 1 to 64');
  }
  const progress = new Progress(context.host, context.json);
  const startMs = context.host.now();
  try {
    const result = await split(context, path, {
      out: options.out,
      into:
        options.range === undefined
          ? { parts: Number(options.parts ?? 2) }
          : { ranges: options.range.map(parseRange) },
      workers,
      signal: context.signal,
      onProgress: ({ phase, docsDone, docsTotal, share }) =>
        progress.show({ phase, docsDone, docsTotal, bytesDone: share * 1000, bytesTotal: 1000 }),
    });
    progress.stop();
    report(result, (context.host.now() - startMs) / 1000, context.json);
    return true;
  } finally {
    progress.stop();
  }
}

function report({ source, targets }: SplitResult, seconds: number, json: boolean): void {
  const docs = source.counters.liveDocs + source.counters.deletedDocs;
  const docsPerSecond = Math.round(docs / seconds);
  if (json) {
    const described = targets.map(({ path, range, counters }) => ({
      path,
      range: formatRange(range),
      ...counters,
    }));
    process.stdout.write(
      `${JSON.stringify({ docs, seconds, docsPerSecond, targets: described })}\n`,
    );
    return;
  }
  for (const { path, counters } of targets) {
    process.stdout.write(
      `${path}: ${counters.liveDocs} documents, ${counters.deletedDocs} deleted\n`,
    );
  }
  process.stdout.write(
    `${docs} documents split in ${seconds.toFixed(1)} s, ${docsPerSecond} docs/s\n`,
  );
}
