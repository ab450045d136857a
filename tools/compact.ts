/** `divan compact`: drops what no tree points to. */
import { basename, dirname } from 'node:path';
import type { Command } from 'commander';
import { compact, compactCheckpointPath, previewCompaction } from '../engine/rewrite/compact.js';
import { discardJob } from '../engine/rewrite/job.js';
import { runCommand } from './command.js';
import {
  addRewriteOptions,
  type RewriteCommandOptions,
  reportDiscarded,
  rewriteCommand,
} from './rewrite.js';

export function registerCompact(program: Command): void {
  const command = program
    .command('compact')
    .description(
      'compact a shard file; the new file takes its place in one step. Given again after an interruption, it goes on',
    )
    .argument('<shard>', 'the shard file');
  addRewriteOptions(command).action((path: string, options: RewriteCommandOptions) =>
    runCommand(options, async (context) => {
      if (options.discard === true) {
        const found = await discardJob(context.storage, {
          sourcePaths: [path],
          checkpointPath: compactCheckpointPath(path),
          name: basename(path),
          directories: [dirname(path)],
        });
        reportDiscarded(found, context.json);
        return true;
      }
      return rewriteCommand(context, options, {
        verb: 'compacted',
        run: (job) => compact(context, path, job),
        preview: (job) => previewCompaction(context, path, job),
      });
    }),
  );
}
