/**
 * What flows from a database that is not in force into the one of its name that is: all revisions that its shards hold, with their
 * attachments, its local docs and its purge infos, from snapshots of the shards.
 */
import { leafIndexes, pathTo } from '../../engine/shard/rev-tree.js';
import { parseRev, type Revision, revisionKey } from '../../engine/shard/revision.js';
import type { Document, Snapshot } from '../../engine/shard/snapshot.js';

/** One leaf revision, to be stored as it is. */
export interface FlowingRevision {
  readonly kind: 'revision';
  readonly id: Uint8Array;
  /** Newest first. */
  readonly path: readonly Revision[];
  readonly deleted: boolean;
  readonly body: Uint8Array;
  readonly attachments: readonly FlowingAttachment[];
}

/** An attachment as it is stored. */
export interface FlowingAttachment {
  readonly name: string;
  readonly contentType: string;
  readonly revpos: number;
  readonly digest: Uint8Array;
  /** Of the stored bytes. */
  readonly length: number;
  readonly encoding: 'gzip' | undefined;
  readonly decodedLength: number;
  /** The stored bytes; those of several attachments must be read in their order. */
  readonly chunks: () => AsyncIterable<Uint8Array>;
}

export interface FlowingLocal {
  readonly kind: 'local';
  /** Without `_local/`. */
  readonly id: Uint8Array;
  readonly revision: number;
  readonly body: Uint8Array;
}

export interface FlowingPurge {
  readonly kind: 'purge';
  readonly uuid: Uint8Array;
  readonly id: Uint8Array;
  readonly revs: readonly Revision[];
}

export type FlowingItem = FlowingRevision | FlowingLocal | FlowingPurge;

/**
 * Has a database take what flows into it, whichever nodes hold it; durable there when it resolves, and harmless when it is repeated. Throws `MOVED`
 * if that incarnation is not in force, or a range is elsewhere, where it was sent; `UNAVAILABLE` if a range has no node; what a write throws,
 * and what calling a node throws.
 */
export type DocumentSink = (
  name: string,
  incarnation: string,
  documents: AsyncIterable<FlowingItem>,
) => Promise<void>;

/**
 * All that is in a snapshot. Purges come first: what was written after them is not purged. Throws what reading throws.
 */
export async function* itemsOf(snapshot: Snapshot): AsyncGenerator<FlowingItem, void> {
  for await (const { uuid, id, revs } of snapshot.purges()) {
    yield { kind: 'purge', uuid, id: Buffer.from(id), revs: revs.map(parseRev) };
  }
  for await (const document of snapshot.documents({})) yield* revisionsOf(snapshot, document);
  for await (const { id, revision, body } of snapshot.localDocs({})) {
    yield { kind: 'local', id, revision, body };
  }
}

async function* revisionsOf(
  snapshot: Snapshot,
  { id, tree, leaves }: Document,
): AsyncGenerator<FlowingItem, void> {
  const paths = leafIndexes(tree).map((index) => pathTo(tree, index));
  const byLeaf = new Map(
    paths.flatMap((path) => path.slice(0, 1).map((leaf) => [revisionKey(leaf), path])),
  );
  for (const leaf of leaves) {
    const path = byLeaf.get(revisionKey(leaf.revision)) ?? [leaf.revision];
    const attachments = leaf.attachments.map((attachment) => ({
      ...attachment,
      chunks: () => snapshot.attachment(attachment),
    }));
    const body = await snapshot.body(leaf);
    yield { kind: 'revision', id, path, deleted: leaf.deleted, body, attachments };
  }
}
