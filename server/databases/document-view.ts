/** Stored documents as clients read them: put together from bytes, bodies are not parsed. */
import { DivanError } from '../../engine/errors.js';
import type { Attachment } from '../../engine/shard/attachment-list.js';
import {
  digestText,
  restOfObject,
  revisionsText,
  withMembers,
} from '../../engine/shard/document-text.js';
import { readStoredDocument, type StoredDocument } from '../../engine/shard/id-tree.js';
import {
  decodeTree,
  indexOfRevision,
  leafIndexes,
  pathTo,
  type RevTree,
} from '../../engine/shard/rev-tree.js';
import {
  compareRevisions,
  formatRev,
  type Revision,
  revText,
} from '../../engine/shard/revision.js';
import type { Leaf } from '../../engine/shard/seq-tree.js';
import type { Snapshot } from '../../engine/shard/snapshot.js';
import { inflated } from '../http/inflate.js';

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
    if (this.hasInlineContent(leaf, options)) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of this.#withContent(leaf, options)) chunks.push(chunk);
      return Buffer.concat(chunks);
    }
    const members = this.#members(leaf, options);
    if (leaf.attachments.length > 0) members.push(this.#stubs(leaf, options));
    return withMembers(members.join(','), await this.#snapshot.body(leaf));
  }

  /** As `text`, piece by piece: attachments with their content may be large. */
  async *chunks(leaf: Leaf, options: ViewOptions = {}): AsyncGenerator<Uint8Array, void> {
    if (this.hasInlineContent(leaf, options)) yield* this.#withContent(leaf, options);
    else yield await this.text(leaf, options);
  }

  /** True if the text of a leaf has attachments in it. */
  hasInlineContent(leaf: Leaf, options: ViewOptions): boolean {
    return options.follows !== true && this.wanted(leaf, options).length > 0;
  }

  /** The stored bytes of an attachment of this document. */
  content(attachment: Attachment): AsyncGenerator<Uint8Array> {
    return this.#snapshot.attachment(attachment);
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

  /** The members of a leaf without its body and attachments. */
  #members(leaf: Leaf, options: ViewOptions): string[] {
    const members = [`"_id":${JSON.stringify(this.id)},"_rev":${revText(leaf.revision)}`];
    if (leaf.deleted) members.push('"_deleted":true');
    if (options.revs === true) members.push(revisionsText(this.pathOf(leaf)));
    if (options.revsInfo === true) members.push(`"_revs_info":${JSON.stringify(this.#info(leaf))}`);
    if (options.conflicts === true) members.push(...this.#others('_conflicts', leaf, false));
    if (options.deletedConflicts === true) {
      members.push(...this.#others('_deleted_conflicts', leaf, true));
    }
    if (options.localSeq === true) members.push(`"_local_seq":${this.stored.seq}`);
    return members;
  }

  #stubs(leaf: Leaf, options: ViewOptions): string {
    const following = new Set(options.follows === true ? this.wanted(leaf, options) : []);
    const texts = leaf.attachments.map((attachment) => {
      const kind = following.has(attachment) ? FOLLOWS : STUB;
      return memberText(attachment.name, { ...describe(attachment, options), ...kind });
    });
    return `"_attachments":{${texts.join(',')}}`;
  }

  async *#withContent(leaf: Leaf, options: ViewOptions): AsyncGenerator<Uint8Array, void> {
    const wanted = new Set(this.wanted(leaf, options));
    const members = this.#members(leaf, options);
    yield Buffer.from(`{${members.join(',')},"_attachments":`);
    let separator = '{';
    for (const attachment of leaf.attachments) {
      const description = describe(attachment, options);
      if (!wanted.has(attachment)) {
        const stub = memberText(attachment.name, { ...description, ...STUB });
        yield Buffer.from(`${separator}${stub}`);
      } else {
        // The description is an object with members: the data goes in front of its closing brace.
        const text = memberText(attachment.name, description);
        yield Buffer.from(`${separator}${text.slice(0, -1)},"data":"`);
        yield* inBase64(this.#shown(attachment, options));
        yield Buffer.from('"}');
      }
      separator = ',';
    }
    yield Buffer.from('}');
    yield* restOfObject(await this.#snapshot.body(leaf));
  }

  /** The bytes of an attachment as clients see them, which is decoded unless they are told how it is encoded. */
  #shown(attachment: Attachment, options: ViewOptions): AsyncIterable<Uint8Array> {
    const stored = this.content(attachment);
    const isPlain = attachment.encoding === undefined || options.encodingInfo === true;
    return isPlain ? stored : inflated(stored, attachment.encoding, attachment.decodedLength);
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

function memberText(name: string, value: object): string {
  return `${JSON.stringify(name)}:${JSON.stringify(value)}`;
}

/** Bytes in base64. Only the last piece may be padded, so that bytes beyond a multiple of three wait for those that come. */
async function* inBase64(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  let carry: Uint8Array = new Uint8Array(0);
  for await (const chunk of source) {
    const bytes =
      carry.length === 0
        ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
        : Buffer.concat([carry, chunk]);
    const whole = bytes.length - (bytes.length % 3);
    carry = bytes.subarray(whole);
    if (whole > 0) yield Buffer.from(bytes.toString('base64', 0, whole));
  }
  if (carry.length > 0) yield Buffer.from(Buffer.from(carry).toString('base64'));
}
