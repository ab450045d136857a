/** `divan dump`: the documents of a shard as newline-delimited JSON, in the order of their ids. */
import type { Command } from 'commander';
import { documentText, localDocText } from '../engine/shard/document-text.js';
import { ReadOnlyShard } from '../engine/shard/read-only-shard.js';
import { indexOfRevision, pathTo } from '../engine/shard/rev-tree.js';
import { formatRev } from '../engine/shard/revision.js';
import type { Leaf } from '../engine/shard/seq-tree.js';
import type { Document, Snapshot } from '../engine/shard/snapshot.js';
import { assertNotAborted, type CommandContext, LineOutput, runCommand } from './command.js';

interface DumpOptions {
  readonly conflicts?: boolean;
  readonly deleted?: boolean;
  readonly attachments?: boolean;
  readonly local?: boolean;
  readonly json?: boolean;
}

export function registerDump(program: Command): void {
  program
    .command('dump')
    .description('write the documents of a shard as lines of JSON, which `divan load` takes back')
    .argument('<shard>', 'the shard file')
    .option('--conflicts', 'every leaf revision, not only the winning ones')
    .option('--deleted', 'tombstones too')
    .option('--attachments', 'the content of attachments, not only stubs')
    .option('--local', 'local docs too')
    .option('--json', 'errors as JSON')
    .action((path: string, options: DumpOptions) =>
      runCommand(options, (context) => dump(context, path, options)),
    );
}

async function dump(context: CommandContext, path: string, options: DumpOptions): Promise<boolean> {
  await using shard = await ReadOnlyShard.open(context, path);
  const { snapshot } = shard;
  const output = new LineOutput();
  if (options.local === true) {
    for await (const { id, revision, body } of snapshot.localDocs({})) {
      await output.line(localDocText(Buffer.from(id).toString(), revision, body));
    }
  }
  for await (const document of snapshot.documents({})) {
    assertNotAborted(context.signal);
    if (output.broken) break;
    for (const leaf of wantedLeaves(document, options)) {
      await output.line(await revisionText(snapshot, document, leaf, options.attachments === true));
    }
  }
  await output.flush();
  return true;
}

function wantedLeaves(document: Document, options: DumpOptions): readonly Leaf[] {
  const leaves = options.conflicts === true ? document.leaves : document.leaves.slice(0, 1);
  return options.deleted === true ? leaves : leaves.filter(({ deleted }) => !deleted);
}

/** A leaf revision of a document as a line of JSON. */
export async function revisionText(
  snapshot: Snapshot,
  document: Document,
  leaf: Leaf,
  withData: boolean,
): Promise<Uint8Array> {
  const path = pathTo(document.tree, indexOfRevision(document.tree, leaf.revision));
  const attachments = [];
  for (const attachment of leaf.attachments) {
    const pieces: Uint8Array[] = [];
    if (withData) for await (const piece of snapshot.attachment(attachment)) pieces.push(piece);
    const data = withData ? Buffer.concat(pieces).toString('base64') : undefined;
    attachments.push({ attachment, data });
  }
  return documentText({
    id: Buffer.from(document.id).toString(),
    rev: formatRev(leaf.revision),
    deleted: leaf.deleted,
    path: path.length > 1 ? path : undefined,
    attachments,
    body: await snapshot.body(leaf),
  });
}
