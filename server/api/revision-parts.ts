/** Revisions of documents in replies: as JSON piece by piece, as parts of multipart bodies. */
import { formatRev, type Revision } from '../../engine/shard/revision.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { ReadDocument, ViewOptions } from '../databases/document-view.js';
import type { Exchange } from '../http/exchange.js';
import {
  attachmentPart,
  errorPart,
  jsonPart,
  multipartLength,
  multipartType,
  type OutgoingPart,
  relatedPart,
  writeMultipart,
} from '../http/multipart-writer.js';
import type { Services } from './services.js';

const BOUNDARY_BYTES = 16;

/** A boundary that no client can have known when it wrote what stands between. */
function newBoundary(services: Services): string {
  return Buffer.from(services.world.host.randomBytes(BOUNDARY_BYTES)).toString('hex');
}

/** A document and the attachments that follow it, as they are stored. The first part is the document. */
async function partsOf(
  document: ReadDocument,
  leaf: Leaf,
  options: ViewOptions,
): Promise<readonly OutgoingPart[]> {
  const view = { ...options, follows: true, encodingInfo: true };
  return [
    jsonPart(await document.text(leaf, view)),
    ...document.wanted(leaf, view).map((attachment) => {
      const { name, contentType, encoding, length } = attachment;
      const body = document.content(attachment);
      return attachmentPart({ name, contentType, encoding, length, body });
    }),
  ];
}

/** A revision as one part: its JSON, or a multipart/related of that and its attachments. */
export async function revisionPart(
  services: Services,
  document: ReadDocument,
  leaf: Leaf,
  options: ViewOptions,
): Promise<OutgoingPart> {
  const parts = await partsOf(document, leaf, options);
  const [only] = parts;
  if (only !== undefined && parts.length === 1) return only;
  return relatedPart(newBoundary(services), parts);
}

/** Replies with a document and its attachments as multipart/related. */
export async function replyRelated(
  services: Services,
  exchange: Exchange,
  document: ReadDocument,
  leaf: Leaf,
  options: ViewOptions,
): Promise<void> {
  const boundary = newBoundary(services);
  const parts = await partsOf(document, leaf, options);
  const length = multipartLength(boundary, parts);
  await exchange.replyChunks(200, writeMultipart(boundary, parts), {
    'Content-Type': multipartType('related', boundary),
    ...(length === undefined ? {} : { 'Content-Length': String(length) }),
  });
}

/** Replies with a multipart body whose parts are made when their turn comes. */
export async function replyMultipart(
  services: Services,
  exchange: Exchange,
  kind: 'mixed' | 'related',
  parts: AsyncIterable<OutgoingPart>,
): Promise<void> {
  const boundary = exchange.peer?.shape.boundary ?? newBoundary(services);
  const headers = { 'Content-Type': multipartType(kind, boundary) };
  await exchange.replyChunks(200, writeMultipart(boundary, parts), headers);
}

/** A revision that was asked for: a leaf, or one that can not be read. */
export type FoundRevision =
  | { readonly leaf: Leaf }
  | { readonly leaf?: undefined; readonly missing: string };

/** The leaves of revisions, or with `latest` those that come from them, each once; all leaves if no revisions are named. */
export function findRevisions(
  document: ReadDocument | undefined,
  revisions: readonly Revision[] | undefined,
  latest: boolean,
): FoundRevision[] {
  if (revisions === undefined) return (document?.leaves ?? []).map((leaf) => ({ leaf }));
  const seen = new Set<Leaf>();
  return revisions.flatMap((revision): FoundRevision[] => {
    const exact = document?.leaf(revision);
    const leaves = exact === undefined && latest ? (document?.leavesFrom(revision) ?? []) : [];
    if (exact !== undefined) leaves.push(exact);
    if (leaves.length === 0) return [{ missing: formatRev(revision) }];
    return leaves.filter((leaf) => seen.size < seen.add(leaf).size).map((leaf) => ({ leaf }));
  });
}

/** Tells that a revision is not there. */
export function missingPart(value: object): OutgoingPart {
  return errorPart(Buffer.from(JSON.stringify(value)));
}
