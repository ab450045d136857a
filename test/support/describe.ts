/** What a shard holds, as plain values that tests compare. */
import { createHash } from 'node:crypto';
import { formatRev } from '../../engine/shard/revision.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';

export interface DescribedLeaf {
  readonly rev: string;
  readonly deleted: boolean;
  readonly body: string;
  /** Name, type and MD5 of the content of each attachment. */
  readonly attachments: readonly string[];
}

export type Described = Record<string, readonly DescribedLeaf[]>;

/** All documents by id, each with its leaves, the winner first. */
export async function describeDocuments(snapshot: Snapshot): Promise<Described> {
  const documents: Described = Object.create(null);
  for await (const { id, leaves } of snapshot.documents({})) {
    const described: DescribedLeaf[] = [];
    for (const leaf of leaves) {
      const attachments: string[] = [];
      for (const attachment of leaf.attachments) {
        const md5 = createHash('md5');
        for await (const piece of snapshot.attachment(attachment)) md5.update(piece);
        attachments.push(`${attachment.name} ${attachment.contentType} ${md5.digest('hex')}`);
      }
      const body = Buffer.from(await snapshot.body(leaf)).toString();
      described.push({ rev: formatRev(leaf.revision), deleted: leaf.deleted, body, attachments });
    }
    documents[Buffer.from(id).toString()] = described;
  }
  return documents;
}

/** All local docs by id, as `0-N` and body. */
export async function describeLocals(snapshot: Snapshot): Promise<Record<string, string>> {
  const locals: Record<string, string> = Object.create(null);
  for await (const { id, revision, body } of snapshot.localDocs({})) {
    locals[Buffer.from(id).toString()] = `0-${revision} ${Buffer.from(body).toString()}`;
  }
  return locals;
}
