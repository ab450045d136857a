/**
 * What flows between databases as bytes. An item is
 *
 *     u32 length of the head (big endian) | head (JSON) | body | the stored bytes of each attachment
 *
 * whose lengths the head has. Items are read one after another, and the attachments of one before the next.
 */
import { DivanError, isDivanError } from '../../engine/errors.js';
import { formatRev, parseRev } from '../../engine/shard/revision.js';
import { type JsonObject, parseJson } from '../http/json-value.js';
import type { FlowingAttachment, FlowingItem } from './flow.js';
import { RecordMembers } from './record-members.js';

const HEAD_BYTES_MAX = 16 * 1024 * 1024;
const BODY_BYTES_MAX = 256 * 1024 * 1024;
const NO_BODY = new Uint8Array(0);
const WHAT = 'flowing document';

export async function* itemsToBytes(
  items: Iterable<FlowingItem> | AsyncIterable<FlowingItem>,
): AsyncGenerator<Uint8Array, void> {
  for await (const item of items) {
    const body = item.kind === 'purge' ? NO_BODY : item.body;
    const head = Buffer.from(JSON.stringify({ ...headOf(item), body: body.length }));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(head.length);
    yield Buffer.concat([length, head, body]);
    if (item.kind !== 'revision') continue;
    for (const { chunks } of item.attachments) yield* chunks();
  }
}

function headOf(item: FlowingItem): JsonObject {
  const id = Buffer.from(item.id).toString();
  const { kind } = item;
  if (item.kind === 'local') return { kind, id, revision: item.revision };
  if (item.kind === 'purge') {
    return { kind, id, uuid: hex(item.uuid), revs: item.revs.map(formatRev) };
  }
  const attachments = item.attachments.map(
    ({ name, contentType, revpos, digest, length, encoding, decodedLength }) => ({
      ...{ name, contentType, revpos, digest: hex(digest), length, decodedLength },
      encoding: encoding ?? '',
    }),
  );
  return { kind, id, path: item.path.map(formatRev), deleted: item.deleted, attachments };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Throws `PEER` for bytes that are no items, and what the source throws. */
export async function* itemsFromBytes(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<FlowingItem, void> {
  const reader = new PartReader(source);
  try {
    for (;;) {
      const start = await reader.bytes(4, true);
      if (start === undefined) return;
      const length = Buffer.from(start).readUInt32BE();
      const head = await reader.bytes(bounded(length, HEAD_BYTES_MAX));
      const { item, lengths } = await readItem(head, reader);
      yield item;
      // Whoever took the item has read its attachments, or does not want them.
      for (const part of lengths) await part.passOver();
    }
  } finally {
    await reader.close();
  }
}

interface ReadItem {
  readonly item: FlowingItem;
  readonly lengths: readonly Part[];
}

async function readItem(head: Uint8Array, reader: PartReader): Promise<ReadItem> {
  const value = membersOf(head);
  try {
    const kind = value.oneOf('kind', ['revision', 'local', 'purge']);
    const id = Buffer.from(value.text('id'));
    const body = await reader.bytes(bounded(value.whole('body'), BODY_BYTES_MAX));
    if (kind === 'local') {
      return { item: { kind, id, revision: value.whole('revision'), body }, lengths: [] };
    }
    if (kind === 'purge') {
      const uuid = Buffer.from(value.text('uuid'), 'hex');
      return { item: { kind, uuid, id, revs: value.list('revs').map(revOf) }, lengths: [] };
    }
    const parts: Part[] = [];
    const attachments = value.list('attachments').map((json) => {
      const attachment = new RecordMembers(json, WHAT);
      const part = new Part(reader, attachment.whole('length'));
      parts.push(part);
      return attachmentOf(attachment, part);
    });
    const path = value.list('path').map(revOf);
    const deleted = value.boolean('deleted');
    return { item: { kind, id, path, deleted, body, attachments }, lengths: parts };
  } catch (error) {
    throw isDivanError(error, 'CORRUPT') ? malformed(error) : error;
  }
}

function membersOf(head: Uint8Array): RecordMembers {
  try {
    return new RecordMembers(parseJson(head), WHAT);
  } catch (error) {
    throw malformed(error);
  }
}

function attachmentOf(value: RecordMembers, part: Part): FlowingAttachment {
  return {
    name: value.text('name'),
    contentType: value.text('contentType'),
    revpos: value.whole('revpos'),
    digest: Buffer.from(value.text('digest'), 'hex'),
    length: value.whole('length'),
    encoding: value.oneOf('encoding', ['', 'gzip']) === 'gzip' ? 'gzip' : undefined,
    decodedLength: value.whole('decodedLength'),
    chunks: () => part.chunks(),
  };
}

function revOf(value: unknown) {
  if (typeof value !== 'string') throw malformed(undefined);
  return parseRev(value);
}

function bounded(length: number, max: number): number {
  if (length <= max) return length;
  throw malformed(undefined);
}

function malformed(cause: unknown): DivanError {
  return new DivanError('PEER', 'what flows from another node can not be read', {}, cause);
}

/** So many bytes of a stream, which are read once. */
class Part {
  readonly #reader: PartReader;
  #left: number;

  constructor(reader: PartReader, length: number) {
    this.#reader = reader;
    this.#left = length;
  }

  async *chunks(): AsyncGenerator<Uint8Array, void> {
    while (this.#left > 0) {
      const chunk = await this.#reader.some(this.#left);
      this.#left -= chunk.length;
      yield chunk;
    }
  }

  async passOver(): Promise<void> {
    while (this.#left > 0) this.#left -= (await this.#reader.some(this.#left)).length;
  }
}

/** Reads a stream in parts of given lengths. */
class PartReader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = NO_BODY;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  /** At least one byte, and at most so many. Throws `PEER` at the end. */
  async some(max: number): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) throw malformed(undefined);
      this.#rest = next.value;
    }
    const chunk = this.#rest.subarray(0, max);
    this.#rest = this.#rest.subarray(chunk.length);
    return chunk;
  }

  bytes(length: number): Promise<Uint8Array>;
  bytes(length: number, mayEnd: true): Promise<Uint8Array | undefined>;
  /** So many bytes; undefined at the end if there may be one. */
  async bytes(length: number, mayEnd = false): Promise<Uint8Array | undefined> {
    if (mayEnd && (await this.#isAtEnd())) return undefined;
    const parts: Uint8Array[] = [];
    for (let left = length; left > 0; ) {
      const chunk = await this.some(left);
      parts.push(chunk);
      left -= chunk.length;
    }
    return Buffer.concat(parts);
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }

  async #isAtEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) return true;
      this.#rest = next.value;
    }
    return false;
  }
}
