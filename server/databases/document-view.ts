/** Stored documents as clients read them: put together from bytes, bodies are not parsed. */
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { DivanError } from '../../engine/errors.js';
import type { Attachment } from '../../engine/shard/attachment-list.js';
import { revisionsText, withMembers } from '../../engine/shard/document-text.js';
import { readStoredDocument, type StoredDocument } from '../../engine/shard/id-tree.js';
import {
  decodeTree,
  indexOfRevision,
  leafIndexes,
  pathTo,
  type RevTree,
} from '../../engine/shard/rev-tree.js';
import { compareRevisions, formatRev, type Revision } from '../../engine/shard/revision.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';

/** What is shown of a revision besides its id, rev and body; nothing by default. */
export interface ViewOptions {
  /** `_revisions`: its ancestors. */
  readonly revs?: boolean;
  /** `_revs_info`: its ancestors and which of them can still be read. */
  readonly revsInfo?: boolean;
  /** `_conflicts`: the other leaves that are alive. */
  readonly conflicts?: boolean;
  /** `_deleted_conflicts`: the other leaves that are tombstones. */
  readonly deletedConflicts?: boolean;
  /** `_local_seq`: the update seq in the shard. */
  readonly localSeq?: boolean;
  /** The content of attachments, in base64, instead of stubs; a list: only of those that none of these revisions has. */
  readonly attachments?: boolean | readonly Revision[];
  /** `encoding` and `encoded_length` of compressed attachments. */
  readonly encodingInfo?: boolean;
  /** Attachments with content are announced to follow the document in a multipart body. */
  readonly follows?: boolean;
}

/** A document, with its revision tree decoded only if somebody asks. */
export class ReadDocument {
  readonly id: string;
  readonly stored: StoredDocument;
  /** The winner first. */
  readonly leaves: readonly Leaf[];
  readonly #snapshot: Snapshot;
  #tree: RevTree | undefined;

  constructor(snapshot: Snapshot, id: string, stored: StoredDocument, leaves: readonly Leaf[]) {
    this.#snapshot = snapshot;
    this.id = id;
    this.stored = stored;
    this.leaves = leaves;
  }

  /** The document of an id, tombstones included; undefined if there is none. Throws `CORRUPT`, `CHECKSUM`, `IO`. */
  static async find(snapshot: Snapshot, id: Uint8Array): Promise<ReadDocument | undefined> {
    const value = await snapshot.value('byId', id);
    return value === undefined ? undefined : ReadDocument.of(snapshot, id, value);
  }

  /** The document of an entry of by-id. */
  static async of(snapshot: Snapshot, id: Uint8Array, value: Uint8Array): Promise<ReadDocument> {
    const stored = readStoredDocument(value);
    const text = Buffer.from(id.buffer, id.byteOffset, id.length).toString();
    const row = await snapshot.row(stored.seq);
    if (row === undefined) {
      throw new DivanError('CORRUPT', `by-seq does not have the update seq ${stored.seq}`, {
        id: text,
      });
    }
    return new ReadDocument(snapshot, text, stored, row.leaves);
  }

  /** The winner. */
  get winner(): Leaf {
    const [winner] = this.leaves;
    if (winner === undefined)
      throw new DivanError('CORRUPT', 'a document has no leaf', { id: this.id });
    return winner;
  }

  get tree(): RevTree {
    this.#tree ??= decodeTree(this.stored.tree);
    return this.#tree;
  }

  /** The leaf of a revision, undefined if it is none. */
  leaf(revision: Revision): Leaf | undefined {
    return this.leaves.find((leaf) => compareRevisions(leaf.revision, revision) === 0);
  }

  /** The leaves that come from a revision, itself included; none if the revision is not known. */
  leavesFrom(revision: Revision): Leaf[] {
    const { tree } = this;
    const from = indexOfRevision(tree, revision);
    if (from < 0) return [];
    return leafIndexes(tree)
      .filter((index) => comesFrom(tree, index, from))
      .flatMap((index) => {
        const node = tree[index];
        return node === undefined ? [] : (this.leaf(node.revision) ?? []);
      });
  }

  /** The ancestors of a leaf, itself first. */
  pathOf(leaf: Leaf): Revision[] {
    return pathTo(this.tree, indexOfRevision(this.tree, leaf.revision));
  }

  /** A leaf as JSON text. */
  async text(leaf: Leaf, options: ViewOptions = {}): Promise<Uint8Array> {
    const members = [`"_id":${JSON.stringify(this.id)},"_rev":"${formatRev(leaf.revision)}"`];
    if (leaf.deleted) members.push('"_deleted":true');
    if (options.revs === true) members.push(revisionsText(this.pathOf(leaf)));
    if (options.revsInfo === true) members.push(`"_revs_info":${JSON.stringify(this.#info(leaf))}`);
    if (options.conflicts === true) members.push(...this.#others('_conflicts', leaf, false));
    if (options.deletedConflicts === true) {
      members.push(...this.#others('_deleted_conflicts', leaf, true));
    }
    if (options.localSeq === true) members.push(`"_local_seq":${this.stored.seq}`);
    if (leaf.attachments.length > 0) members.push(await this.#attachments(leaf, options));
    return withMembers(members.join(','), await this.#snapshot.body(leaf));
  }

  /** Which attachments of a leaf are given with their content. */
  wanted(leaf: Leaf, options: ViewOptions): readonly Attachment[] {
    const { attachments } = options;
    if (attachments === undefined || attachments === false) return [];
    if (attachments === true) return leaf.attachments;
    const path = this.pathOf(leaf);
    const known = path.find((revision) =>
      attachments.some((other) => compareRevisions(other, revision) === 0),
    );
    const since = known?.gen ?? 0;
    return leaf.attachments.filter(({ revpos }) => revpos > since);
  }

  async #attachments(leaf: Leaf, options: ViewOptions): Promise<string> {
    const wanted = new Set(this.wanted(leaf, options));
    const texts: string[] = [];
    for (const attachment of leaf.attachments) {
      const content = wanted.has(attachment) ? await this.#content(attachment, options) : STUB;
      const value = { ...describe(attachment, options), ...content };
      texts.push(`${JSON.stringify(attachment.name)}:${JSON.stringify(value)}`);
    }
    return `"_attachments":{${texts.join(',')}}`;
  }

  async #content(attachment: Attachment, options: ViewOptions): Promise<object> {
    if (options.follows === true) return FOLLOWS;
    const pieces: Uint8Array[] = [];
    for await (const piece of this.#snapshot.attachment(attachment)) pieces.push(piece);
    const data = Buffer.concat(pieces);
    const isPlain = attachment.encoding === undefined || options.encodingInfo === true;
    return { data: (isPlain ? data : await decoded(data)).toString('base64') };
  }

  #info(leaf: Leaf): object[] {
    return this.pathOf(leaf).map((revision) => {
      const known = this.leaf(revision);
      const status = known === undefined ? 'missing' : known.deleted ? 'deleted' : 'available';
      return { rev: formatRev(revision), status };
    });
  }

  #others(name: string, leaf: Leaf, deleted: boolean): string[] {
    const others = this.leaves.filter((other) => other !== leaf && other.deleted === deleted);
    if (others.length === 0) return [];
    return [`"${name}":${JSON.stringify(others.map(({ revision }) => formatRev(revision)))}`];
  }
}

const STUB = { stub: true };
const FOLLOWS = { follows: true };

function comesFrom(tree: RevTree, leaf: number, ancestor: number): boolean {
  for (let index = leaf; index >= ancestor; index = tree[index]?.parent ?? -1) {
    if (index === ancestor) return true;
  }
  return false;
}

/** What a stub says of an attachment. `length` is that of its content, however it is stored. */
export function describe(attachment: Attachment, options: ViewOptions): object {
  const { contentType, revpos, digest, decodedLength, encoding, length } = attachment;
  return {
    content_type: contentType,
    revpos,
    digest: digestText(digest),
    length: decodedLength,
    ...(encoding !== undefined && options.encodingInfo === true
      ? { encoding, encoded_length: length }
      : undefined),
  };
}

/** A digest as clients know it. */
export function digestText(digest: Uint8Array): string {
  return `md5-${Buffer.from(digest).toString('base64')}`;
}

const decoded = promisify(gunzip);
