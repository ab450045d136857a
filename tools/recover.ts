/** `divan recover`: saves what can be saved from a shard file that is refused, into a new one. */
import type { Command } from 'commander';
import type { EditedAttachment } from '../engine/shard/edit.js';
import { FULL_RANGE, parseRange } from '../engine/shard/hash.js';
import { Salvage, type SalvagedRevision } from '../engine/shard/salvage.js';
import { Shard } from '../engine/shard/shard.js';
import { assertNotAborted, type CommandContext, runCommand } from './command.js';
import { Progress } from './progress.js';

interface RecoverOptions {
  readonly out: string;
  readonly range?: string;
  readonly json?: boolean;
}

export function registerRecover(program: Command): void {
  program
    .command('recover')
    .description(
      'save every whole document of a damaged shard file into a new one, and list what is lost',
    )
    .argument('<shard>', 'the damaged shard file; it is only read')
    .requiredOption('--out <file>', 'the new shard file; must not be there yet')
    .option('--range <range>', 'hash range of the new shard; all hashes if not given')
    .option('--json', 'progress and result as JSON')
    .action((path: string, options: RecoverOptions) =>
      runCommand(options, (context) => recoverCommand(context, path, options)),
    );
}

async function recoverCommand(
  context: CommandContext,
  path: string,
  options: RecoverOptions,
): Promise<boolean> {
  const file = await context.storage.open(path, 'read');
  const progress = new Progress(context.host, context.json);
  try {
    const salvage = await Salvage.search(file, (bytesDone, bytesTotal) => {
      assertNotAborted(context.signal);
      progress.show({ phase: 'search', docsDone: 0, docsTotal: 0, bytesDone, bytesTotal });
    });
    const range = options.range === undefined ? FULL_RANGE : parseRange(options.range);
    const saved = await copyInto(
      context,
      await Shard.create(context, options.out, { range }),
      salvage,
    );
    progress.stop();
    report(context, saved, salvage);
    return salvage.lost.length === 0;
  } finally {
    progress.stop();
    await file.close();
  }
}

async function copyInto(context: CommandContext, shard: Shard, salvage: Salvage): Promise<number> {
  let saved = 0;
  try {
    for await (const revision of salvage.revisions()) {
      assertNotAborted(context.signal);
      const { id, path, leaf, body } = revision;
      const attachments = await storeAttachments(shard, salvage, revision);
      await shard.put({ id, path, body, deleted: leaf.deleted, attachments });
      saved++;
    }
  } finally {
    await shard.close();
  }
  return saved;
}

async function storeAttachments(
  shard: Shard,
  salvage: Salvage,
  { leaf }: SalvagedRevision,
): Promise<Map<string, EditedAttachment> | undefined> {
  if (leaf.attachments.length === 0) return undefined;
  const attachments = new Map<string, EditedAttachment>();
  for (const { name, contentType, revpos, refs, encoding, decodedLength } of leaf.attachments) {
    const pieces: Uint8Array[] = [];
    for (const ref of refs) pieces.push(await salvage.read(ref));
    const stored = { ...(await shard.store(pieces)), encoding, decodedLength };
    attachments.set(name, { contentType, revpos, stored });
  }
  return attachments;
}

function report({ json }: CommandContext, saved: number, { lost }: Salvage): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ saved, lost })}\n`);
    return;
  }
  for (const { id, rev, reason } of lost) process.stdout.write(`lost: ${id} ${rev}: ${reason}\n`);
  process.stdout.write(`${saved} revisions saved, ${lost.length} lost\n`);
}
