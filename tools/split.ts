/** `divan split`: one shard file into two or more by hash range. */
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { DivanError } from '../engine/errors.js';
import { discardJob } from '../engine/rewrite/job.js';
import { previewSplit, split, splitCheckpointPath } from '../engine/rewrite/split.js';
import { isRangeName, PARTS_MAX, parseRange } from '../engine/shard/hash.js';
import { type CommandContext, runCommand } from './command.js';
import {
  addRewriteOptions,
  type RewriteCommandOptions,
  reportDiscarded,
  rewriteCommand,
} from './rewrite.js';

interface SplitCommandOptions extends RewriteCommandOptions {
  readonly out: string;
  readonly parts?: string;
  readonly range?: string[];
}

export function registerSplit(program: Command): void {
  const command = program
    .command('split')
    .description(
      'split a shard file into two or more by hash range; the source stays. Given again after an interruption, it goes on',
    )
    .argument('<shard>', 'the shard file')
    .requiredOption('--out <dir>', 'where the targets go, as <range>/<name of the shard>')
    .option('--parts <n>', 'so many even ranges (2 if neither this nor --range is given)')
    .option(
      '--range <range...>',
      'these ranges, such as 00000000-7fffffff; together they must be that of the shard',
    );
  addRewriteOptions(command).action((path: string, options: SplitCommandOptions) =>
    runCommand(options, (context) => splitCommand(context, path, options)),
  );
}

async function splitCommand(
  context: CommandContext,
  path: string,
  options: SplitCommandOptions,
): Promise<boolean> {
  const { out, parts, range } = options;
  if (parts !== undefined && range !== undefined) {
    throw new DivanError('INVALID_SETTING', 'give either --parts or --range');
  }
  if (options.discard === true) return discard(context, path, out);
  if (parts !== undefined && !/^\d+$/.test(parts)) {
    throw new DivanError('INVALID_SETTING', `--parts takes a number from 2 to ${PARTS_MAX}`);
  }
  const into =
    range === undefined ? { parts: Number(parts ?? 2) } : { ranges: range.map(parseRange) };
  return rewriteCommand(context, options, {
    verb: 'split',
    run: (job) => split(context, path, { ...job, out, into }),
    preview: (job) => previewSplit(context, path, { ...job, out, into }),
  });
}

async function discard(
  { storage, json }: CommandContext,
  path: string,
  out: string,
): Promise<boolean> {
  const entries = (await storage.identity(out)) === undefined ? [] : await storage.list(out);
  const directories = entries.filter(isRangeName).map((entry) => join(out, entry));
  const checkpointPath = splitCheckpointPath(path, out);
  const place = { sourcePaths: [path], checkpointPath, name: basename(path), directories };
  reportDiscarded(await discardJob(storage, place), json);
  return true;
}
