/**
 * What an edit makes of a document: CouchDB's rules for new revisions, conflicts, replicated revisions and tombstones.
 * Pure: reads nothing and writes nothing.
 */
import { DivanError } from '../errors.js';
import type { Ref } from '../file/ref.js';
import type { Attachment, StoredBytes } from './attachment-list.js';
import type { DocumentValue } from './id-tree.js';
import {
  decodeTree,
  indexOfRevision,
  leavesOf,
  mergePath,
  type RevTree,
  readPath,
  stem,
} from './rev-tree.js';
import {
  compareRevisions,
  formatRev,
  newRevision,
  type Revision,
  revisionKey,
} from './revision.js';
import type { Leaf, Row } from './seq-tree.js';

/** An attachment of an edit: stored bytes, or undefined for what the revision that is edited has under this name. */
export interface EditedAttachment {
  readonly contentType: string;
  readonly revpos: number | undefined;
  readonly stored: StoredBytes | undefined;
}

/** An edit of one document. */
export interface DocumentEdit {
  /** UTF-8, valid as `checkId` demands. */
  readonly id: Uint8Array;
  /** JSON text of an object without system members, canonical as `DocumentScanner` gives it. */
  readonly body: Uint8Array;
  readonly deleted: boolean;
  /** The leaf that the edit replaces. Without it the document must be new or deleted. */
  readonly parent?: Revision | undefined;
  /** A replicated revision with its ancestors, newest first, to be merged as it is. Excludes `parent`. */
  readonly path?: readonly Revision[] | undefined;
  readonly attachments?: ReadonlyMap<string, EditedAttachment> | undefined;
}

/** What is known of a document before the edit. */
export interface Current {
  readonly document: DocumentValue;
  /** Present if `needsRow` said so. */
  readonly row: Row | undefined;
}

/** The new revision of an edit, and what it is based on. */
export interface Revised {
  readonly revision: Revision;
  readonly attachments: readonly Attachment[];
}

/** True if more must be known of the existing document than its revision tree: the content of its other leaves, or of attachments. */
export function needsRow(edit: DocumentEdit, document: DocumentValue): boolean {
  if (edit.path !== undefined || readPath(document.tree) === undefined) return true;
  if (edit.attachments === undefined) return false;
  return [...edit.attachments.values()].some(({ stored }) => stored === undefined);
}

const NO_ATTACHMENTS: readonly Attachment[] = [];

function conflict(edit: DocumentEdit): DivanError {
  return new DivanError('CONFLICT', 'Document update conflict.', {
    id: Buffer.from(edit.id).toString(),
  });
}

/**
 * The leaf that an edit extends, undefined for a new document. Throws `CONFLICT`.
 * An edit that names no revision may bring a deleted document back: it then extends the tombstone that wins.
 */
export function parentOf(
  edit: DocumentEdit,
  leaves: readonly { readonly revision: Revision; readonly deleted: boolean }[],
): Revision | undefined {
  const [winner] = leaves;
  if (edit.parent === undefined) {
    if (winner !== undefined && !winner.deleted) throw conflict(edit);
    return winner?.revision;
  }
  const { parent } = edit;
  const leaf = leaves.find(({ revision }) => compareRevisions(revision, parent) === 0);
  if (leaf === undefined) throw conflict(edit);
  return leaf.revision;
}

/** The revision that an interactive edit makes of `parent`. Throws `ATTACHMENT_MISSING`. */
export function revise(
  edit: DocumentEdit,
  parent: Revision | undefined,
  row: Row | undefined,
): Revised {
  const gen = (parent?.gen ?? 0) + 1;
  const attachments =
    edit.attachments === undefined
      ? NO_ATTACHMENTS
      : resolveAttachments(broughtNow(edit.attachments), gen, leafOf(row, parent));
  const { deleted, body } = edit;
  return { revision: newRevision({ parent, deleted, body, attachments }), attachments };
}

function leafOf(row: Row | undefined, revision: Revision | undefined): Leaf | undefined {
  if (revision === undefined) return undefined;
  return row?.leaves.find((leaf) => compareRevisions(leaf.revision, revision) === 0);
}

/** Bytes that an interactive edit brings are new in its revision, whatever it says: copies that have the parent must be given them. */
function broughtNow(
  edited: ReadonlyMap<string, EditedAttachment>,
): ReadonlyMap<string, EditedAttachment> {
  return new Map([...edited].map(([name, edit]) => [name, { ...edit, revpos: undefined }]));
}

function resolveAttachments(
  edited: ReadonlyMap<string, EditedAttachment>,
  gen: number,
  parent: Leaf | undefined,
): Attachment[] {
  return [...edited].map(([name, { contentType, revpos, stored }]) => {
    if (stored !== undefined) return { name, contentType, revpos: revpos ?? gen, ...stored };
    const kept = parent?.attachments.find((attachment) => attachment.name === name);
    if (kept !== undefined) return kept;
    throw new DivanError('ATTACHMENT_MISSING', `there is no attachment ${name} to keep`);
  });
}

/** A document after an edit that its revision tree can't be spliced for: all leaves with their content. */
export interface Merged {
  readonly tree: RevTree;
  /** The winner first. The new leaf has the body `NEW_BODY` until its place is known. */
  readonly leaves: readonly Leaf[];
  readonly revision: Revision;
  /** False if nothing changes. */
  readonly changed: boolean;
  /** False if the revision was known: its body is there. */
  readonly addsLeaf: boolean;
}

/** Applies an edit to a document with conflicts, or a replicated edit to any. Throws `CONFLICT`, `ATTACHMENT_MISSING`, `LIMIT`, `CORRUPT`. */
export function mergeEdit(
  edit: DocumentEdit,
  current: Current | undefined,
  body: Ref,
  revsLimit: number,
): Merged {
  const tree = current === undefined ? [] : decodeTree(current.document.tree);
  const { path, attachments } = newPath(edit, tree, current?.row);
  const [revision] = path;
  if (revision === undefined) throw new DivanError('INVALID_DOCUMENT', 'a revision path is empty');
  const { tree: merged, outcome, changed } = mergePath(tree, path, edit.deleted);
  if (!changed) return { tree, leaves: [], revision, changed, addsLeaf: false };
  const stemmed = stem(merged, revsLimit);
  const addsLeaf = outcome !== 'known';
  const newLeaf: Leaf = { revision, deleted: edit.deleted, body, attachments };
  const leaves = contentOf(stemmed, current?.row, addsLeaf ? newLeaf : undefined);
  return { tree: stemmed, leaves, revision, changed, addsLeaf };
}

/** The path that an edit adds and the attachments of its newest revision. */
function newPath(
  edit: DocumentEdit,
  tree: RevTree,
  row: Row | undefined,
): { path: readonly Revision[]; attachments: readonly Attachment[] } {
  if (edit.path === undefined) {
    const parent = parentOf(edit, leavesOf(tree));
    const { revision, attachments } = revise(edit, parent, row);
    return { path: parent === undefined ? [revision] : [revision, parent], attachments };
  }
  if (edit.attachments === undefined) return { path: edit.path, attachments: NO_ATTACHMENTS };
  const known = edit.path.find((revision) => indexOfRevision(tree, revision) >= 0);
  const gen = edit.path[0]?.gen ?? 0;
  return {
    path: edit.path,
    attachments: resolveAttachments(edit.attachments, gen, leafOf(row, known)),
  };
}

/** The leaves of a tree with their content: that of a new one, and of the others from the row before. */
function contentOf(tree: RevTree, row: Row | undefined, newLeaf: Leaf | undefined): Leaf[] {
  const known = new Map((row?.leaves ?? []).map((leaf) => [revisionKey(leaf.revision), leaf]));
  if (newLeaf !== undefined) known.set(revisionKey(newLeaf.revision), newLeaf);
  return leavesOf(tree).map(({ revision }) => {
    const leaf = known.get(revisionKey(revision));
    if (leaf !== undefined) return leaf;
    throw new DivanError('CORRUPT', `the content of the leaf ${formatRev(revision)} is missing`);
  });
}

/** The bytes that leaves refer to. */
export interface Sizes {
  /** As they are stored. */
  readonly activeBytes: number;
  /** With attachments decoded. */
  readonly externalBytes: number;
}

export function sizesOf(leaves: readonly Pick<Leaf, 'body' | 'attachments'>[]): Sizes {
  let activeBytes = 0;
  let externalBytes = 0;
  for (const { body, attachments } of leaves) {
    activeBytes += body.length;
    externalBytes += body.length;
    for (const { length, decodedLength } of attachments) {
      activeBytes += length;
      externalBytes += decodedLength;
    }
  }
  return { activeBytes, externalBytes };
}
