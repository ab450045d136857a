/** `divan info`: what a shard file says of itself. */
import type { Command } from 'commander';
import { FORMAT_VERSION } from '../engine/file/first-block.js';
import { formatRange } from '../engine/shard/hash.js';
import { ReadOnlyShard } from '../engine/shard/read-only-shard.js';
import { TREE_NAMES } from '../engine/shard/state.js';
import { type CommandContext, runCommand } from './command.js';

export function registerInfo(program: Command): void {
  program
    .command('info')
    .description('say what a shard file holds: counts, sizes, seqs, range')
    .argument('<shard>', 'the shard file')
    .option('--json', 'as JSON')
    .action((path: string, options: { json?: boolean }) =>
      runCommand(options, (context) => info(context, path)),
    );
}

async function info(context: CommandContext, path: string): Promise<boolean> {
  await using shard = await ReadOnlyShard.open(context, path);
  const facts = await describe(shard);
  if (context.json) process.stdout.write(`${JSON.stringify(facts)}\n`);
  else {
    for (const [name, value] of Object.entries(facts)) {
      process.stdout.write(
        `${name.padEnd(16)} ${typeof value === 'object' ? JSON.stringify(value) : value}\n`,
      );
    }
  }
  return true;
}

async function describe(shard: ReadOnlyShard) {
  const { snapshot, recovered } = shard;
  const { counters, metadata, roots } = snapshot;
  const { newest, block } = recovered;
  const fileBytes = await shard.size();
  const liveBytes = await snapshot.liveBytes();
  return {
    path: shard.path,
    formatVersion: FORMAT_VERSION,
    docs: counters.liveDocs,
    deletedDocs: counters.deletedDocs,
    updateSeq: counters.updateSeq,
    purgeSeq: counters.purgeSeq,
    purgeInfos: counters.purgeInfos,
    localSeq: counters.localSeq,
    range: formatRange(metadata.range),
    hashRule: metadata.hashRule,
    uuid: hex(metadata.uuid),
    fileId: hex(block.fileId),
    lineage: metadata.lineage.map(({ fileId, range, cut }) => ({
      fileId: hex(fileId),
      range: formatRange(range),
      cutSeq: cut.updateSeq,
    })),
    fileBytes,
    liveBytes,
    liveShare: Math.round((liveBytes / fileBytes) * 1000) / 1000,
    activeBytes: counters.activeBytes,
    externalBytes: counters.externalBytes,
    treeDepths: Object.fromEntries(
      TREE_NAMES.map((name) => [name, roots[name] === undefined ? 0 : roots[name].level + 1]),
    ),
    revsLimit: metadata.revsLimit,
    purgeInfosLimit: metadata.purgeInfosLimit,
    generation: newest.generation,
    sealed: newest.kind === 'seal',
    commitsToReplay: recovered.replay.length,
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
