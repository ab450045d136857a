/** `divan merge`: shard files of adjacent ranges into one. */
import { basename, dirname } from 'node:path';
import type { Command } from 'commander';
import { discardJob } from '../engine/rewrite/job.js';
import { merge, mergeCheckpointPath, previewMerge } from '../engine/rewrite/merge.js';
import { runCommand } from './command.js';
import {
  addRewriteOptions,
  type RewriteCommandOptions,
  reportDiscarded,
  rewriteCommand,
} from './rewrite.js';

interface MergeCommandOptions extends RewriteCommandOptions {
  readonly out: string;
  readonly settingsFrom?: string;
}

export function registerMerge(program: Command): void {
  const command = program
    .command('merge')
    .description(
      'merge shard files of adjacent ranges into one; the sources stay. Given again after an interruption, it goes on',
    )
    .argument('<shards...>', 'the shard files, in any order')
    .requiredOption('--out <file>', 'the file that is made')
    .option(
      '--settings-from <shard>',
      'whose security and limits to take; needed only where the sources differ',
    );
  addRewriteOptions(command).action((paths: string[], options: MergeCommandOptions) =>
    runCommand(options, async (context) => {
      const { out, settingsFrom } = options;
      if (options.discard === true) {
        const found = await discardJob(context.storage, {
          sourcePaths: paths,
          checkpointPath: mergeCheckpointPath(out),
          name: basename(out),
          directories: [dirname(out)],
        });
        reportDiscarded(found, context.json);
        return true;
      }
      return rewriteCommand(context, options, {
        verb: 'merged',
        run: (job) => merge(context, paths, { ...job, out, settingsFrom }),
        preview: (job) => previewMerge(context, paths, { ...job, out, settingsFrom }),
      });
    }),
  );
}
