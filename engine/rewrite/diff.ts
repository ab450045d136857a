/**
 * What differs between one shard file and the union of others, by what a rewrite must keep: documents with all their leaves and
 * revision trees, local docs, purge infos. Bodies and attachments are compared by length and checksum, for which each file
 * vouches; whether their bytes are whole, `check` says.
 */
import type { Attachment } from '../shard/attachment-list.js';
import type { ReadOnlyShard } from '../shard/read-only-shard.js';
import { formatRev } from '../shard/revision.js';
import type { Leaf } from '../shard/seq-tree.js';
import type { Snapshot } from '../shard/snapshot.js';

const KINDS = ['document', 'local doc', 'purge'] as const;

export interface Difference {
  readonly kind: (typeof KINDS)[number];
  /** Of the document or local doc; of a purge its uuid in hexadecimal. */
  readonly id: string;
  /** Where it is: in the first file only, in the others only, or different in both. */
  readonly where: 'first' | 'others' | 'both';
}

/** A member of a shard, with a text that is the same where it is the same. */
interface Member {
  readonly id: string;
  readonly text: string;
}

/** All differences, documents first, each kind in the order of ids. Throws what reading throws. */
export async function* differences(
  first: ReadOnlyShard,
  others: readonly ReadOnlyShard[],
): AsyncGenerator<Difference, undefined> {
  for (const kind of KINDS) {
    const mine = members(kind, first.snapshot);
    const theirs = merged(others.map(({ snapshot }) => members(kind, snapshot)));
    let a = await mine.next();
    let b = await theirs.next();
    while (a.value !== undefined || b.value !== undefined) {
      const order = compareIds(a.value, b.value);
      if (order < 0 && a.value !== undefined) yield { kind, id: a.value.id, where: 'first' };
      if (order > 0 && b.value !== undefined) yield { kind, id: b.value.id, where: 'others' };
      if (order === 0 && a.value !== undefined && a.value.text !== b.value?.text) {
        yield { kind, id: a.value.id, where: 'both' };
      }
      if (order <= 0) a = await mine.next();
      if (order >= 0) b = await theirs.next();
    }
  }
}

/** Orders as bytes do; what is not there comes last. */
function compareIds(a: Member | undefined, b: Member | undefined): number {
  if (a === undefined || b === undefined) return a === b ? 0 : a === undefined ? 1 : -1;
  return Buffer.compare(Buffer.from(a.id), Buffer.from(b.id));
}

/** The members of several shards in the order of their ids. One that several hold comes several times. */
async function* merged(
  sources: readonly AsyncGenerator<Member, undefined>[],
): AsyncGenerator<Member, undefined> {
  const heads = await Promise.all(sources.map((source) => source.next()));
  for (;;) {
    let least = -1;
    for (const [index, { value }] of heads.entries()) {
      if (value !== undefined && (least < 0 || compareIds(value, heads[least]?.value) < 0)) {
        least = index;
      }
    }
    const member = heads[least]?.value;
    const source = sources[least];
    if (member === undefined || source === undefined) return;
    yield member;
    heads[least] = await source.next();
  }
}

function members(kind: Difference['kind'], snapshot: Snapshot): AsyncGenerator<Member, undefined> {
  if (kind === 'document') return documents(snapshot);
  return kind === 'local doc' ? localDocs(snapshot) : purges(snapshot);
}

async function* documents(snapshot: Snapshot): AsyncGenerator<Member, undefined> {
  for await (const { id, tree, leaves } of snapshot.documents({})) {
    const nodes = tree.map(
      ({ revision, parent, deleted }) => `${formatRev(revision)} ${parent} ${deleted}`,
    );
    const text = JSON.stringify([nodes, leaves.map(describeLeaf)]);
    yield { id: Buffer.from(id).toString(), text };
  }
}

function describeLeaf({ revision, deleted, body, attachments }: Leaf): unknown {
  return [formatRev(revision), deleted, body.length, body.crc, attachments.map(describeAttachment)];
}

function describeAttachment(attachment: Attachment): unknown {
  const { name, contentType, revpos, length, encoding, digest } = attachment;
  return [name, contentType, revpos, length, encoding, Buffer.from(digest).toString('hex')];
}

async function* localDocs(snapshot: Snapshot): AsyncGenerator<Member, undefined> {
  for await (const { id, revision, body } of snapshot.localDocs({})) {
    const text = `${revision} ${Buffer.from(body)}`;
    yield { id: Buffer.from(id).toString(), text };
  }
}

async function* purges(snapshot: Snapshot): AsyncGenerator<Member, undefined> {
  const found: Member[] = [];
  for await (const { uuid, id, revs } of snapshot.purges()) {
    found.push({ id: Buffer.from(uuid).toString('hex'), text: JSON.stringify([id, revs]) });
  }
  // They come by seq, and are as few as their limit says.
  yield* found.sort(compareIds);
}
