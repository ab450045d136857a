/** `divan get`: one document. */
import type { Command } from 'commander';
import { DivanError } from '../engine/errors.js';
import { localDocText } from '../engine/shard/document-text.js';
import { LOCAL_PREFIX } from '../engine/shard/local-tree.js';
import { ReadOnlyShard } from '../engine/shard/read-only-shard.js';
import { compareRevisions, parseRev } from '../engine/shard/revision.js';
import type { Leaf } from '../engine/shard/seq-tree.js';
import type { Document, Snapshot } from '../engine/shard/snapshot.js';
import { type CommandContext, LineOutput, runCommand } from './command.js';
import { revisionText } from './dump.js';

interface GetOptions {
  readonly rev?: string;
  readonly attachments?: boolean;
  readonly json?: boolean;
}

export function registerGet(program: Command): void {
  program
    .command('get')
    .description('write one document')
    .argument('<shard>', 'the shard file')
    .argument('<id>', 'the id of the document')
    .option('--rev <rev>', 'a leaf revision other than the winning one')
    .option('--attachments', 'the content of attachments, not only stubs')
    .option('--json', 'errors as JSON')
    .action((path: string, id: string, options: GetOptions) =>
      runCommand(options, (context) => get(context, path, id, options)),
    );
}

async function get(
  context: CommandContext,
  path: string,
  id: string,
  options: GetOptions,
): Promise<boolean> {
  await using shard = await ReadOnlyShard.open(context, path);
  const { snapshot } = shard;
  const output = new LineOutput();
  if (id.startsWith(LOCAL_PREFIX)) await output.line(await localText(snapshot, id, path));
  else {
    const document = await snapshot.document(Buffer.from(id));
    const leaf = document === undefined ? undefined : leafOf(document, options.rev);
    if (document === undefined || leaf === undefined) throw missing(id, path);
    await output.line(await revisionText(snapshot, document, leaf, options.attachments === true));
  }
  await output.flush();
  return true;
}

/** The leaf that was asked for, or the winner if it is alive. */
function leafOf(document: Document, rev: string | undefined): Leaf | undefined {
  if (rev === undefined) return document.deleted ? undefined : document.leaves[0];
  const revision = parseRev(rev);
  return document.leaves.find((leaf) => compareRevisions(leaf.revision, revision) === 0);
}

async function localText(snapshot: Snapshot, id: string, path: string): Promise<Uint8Array> {
  const name = id.slice(LOCAL_PREFIX.length);
  const doc = await snapshot.localDoc(Buffer.from(name));
  if (doc === undefined) throw missing(id, path);
  return localDocText(name, doc.revision, doc.body);
}

function missing(id: string, path: string): DivanError {
  return new DivanError('NOT_FOUND', `${path} has no such document: ${id}`, { path, id });
}
