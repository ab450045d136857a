/**
 * Revisions: `<generation>-<id>`.
 *
 * The id of a revision is 32 hexadecimal digits nearly always, and then kept as 16 bytes; any other text that a foreign
 * revision brings is kept as it is. Its code (FORMAT.md section 9, "revision") is a byte 0 and the 16 bytes, or the length
 * of the text and the text.
 */
import { hash } from 'node:crypto';
import { DivanError } from '../errors.js';
import type { ByteReader } from '../file/byte-reader.js';
import { ByteWriter } from '../file/byte-writer.js';
import { byteAt, compareBytes } from '../file/bytes.js';
import type { Attachment } from './attachment-list.js';

export const REVISION_ID_BYTES_MAX = 64;
export const GENERATION_MAX = 2 ** 31 - 1;
/** The length of the code of an id of 32 hexadecimal digits. */
export const HEX_CODE_BYTES = 17;

export interface Revision {
  readonly gen: number;
  /** The code of the id. */
  readonly code: Uint8Array;
}

const REV_TEXT = /^([1-9][0-9]{0,9})-(.+)$/s;
const HEX_ID = /^[0-9a-f]{32}$/;

/** Reads `<generation>-<id>`. Throws `INVALID_DOCUMENT`. */
export function parseRev(text: string): Revision {
  const match = REV_TEXT.exec(text);
  const gen = Number(match?.[1]);
  if (match === null || gen > GENERATION_MAX) throw invalidRev(text);
  return { gen, code: encodeRevId(match[2] ?? '') };
}

/** The code of a revision's id. Throws `INVALID_DOCUMENT`. */
export function encodeRevId(id: string): Uint8Array {
  if (HEX_ID.test(id)) return Buffer.concat([ZERO, Buffer.from(id, 'hex')]);
  const text = Buffer.from(id);
  if (text.length === 0 || text.length > REVISION_ID_BYTES_MAX) throw invalidRev(id);
  return Buffer.concat([Buffer.from([text.length]), text]);
}

const ZERO = Buffer.from([0]);

function invalidRev(text: string): DivanError {
  return new DivanError('INVALID_DOCUMENT', `Invalid rev format: ${text.slice(0, 80)}`);
}

export function formatRev(revision: Revision): string {
  return `${revision.gen}-${formatRevId(revision.code)}`;
}

/** A revision as a JSON string, with its quotes: an id that another store made may hold characters that must be escaped. */
export function revText(revision: Revision): string {
  const text = formatRev(revision);
  return byteAt(revision.code, 0) === 0 ? `"${text}"` : JSON.stringify(text);
}

export function formatRevId(code: Uint8Array): string {
  const id = Buffer.from(code.buffer, code.byteOffset + 1, code.length - 1);
  return byteAt(code, 0) === 0 ? id.toString('hex') : id.toString();
}

/** How many bytes the code that starts with this byte has. */
export function codeBytes(first: number): number {
  return first === 0 ? HEX_CODE_BYTES : 1 + first;
}

/** Reads a revision: a varint generation and a code. The code is a view. Throws `CORRUPT`. */
export function readRevision(reader: ByteReader): Revision {
  return { gen: reader.varint(), code: readCode(reader) };
}

/** Moves past a revision. Throws `CORRUPT`. */
export function skipRevision(reader: ByteReader): void {
  reader.varint();
  reader.skip(codeBytes(reader.u8()) - 1);
}

export function readCode(reader: ByteReader): Uint8Array {
  const first = reader.u8();
  reader.at--;
  return reader.take(codeBytes(first));
}

export function writeRevision(out: ByteWriter, revision: Revision): void {
  out.varint(revision.gen);
  out.append(revision.code);
}

/** CouchDB's order: by generation, then by the bytes of the id. */
export function compareRevisions(a: Revision, b: Revision): number {
  return a.gen - b.gen || compareBytes(a.code, 1, a.code.length, b.code, 1, b.code.length);
}

/** A key for Maps. */
export function revisionKey(revision: Revision): string {
  return `${revision.gen}-${Buffer.from(revision.code.buffer, revision.code.byteOffset, revision.code.length).toString('latin1')}`;
}

/** What a revision's id is made from. */
export interface RevisionContent {
  readonly parent: Revision | undefined;
  readonly deleted: boolean;
  /** The body as JSON text without insignificant white space and system members. */
  readonly body: Uint8Array;
  readonly attachments: readonly Attachment[];
}

const input = new ByteWriter();

/**
 * The revision that an edit makes: the same on every machine for the same edit. Its id is the MD5 of: a byte for deleted, the
 * parent (0, or its generation and code), the number of attachments and for each in the order of their names its name,
 * type, encoding and digest, and then the body. All texts are preceded by their lengths.
 */
export function newRevision(content: RevisionContent): Revision {
  const { parent, attachments } = content;
  input.clear();
  input.u8(content.deleted ? 1 : 0);
  if (parent === undefined) input.u8(0);
  else writeRevision(input, parent);
  input.varint(attachments.length);
  if (attachments.length > 0) addAttachments(attachments);
  input.append(content.body);
  // An array this small lives in the JavaScript heap, and a string of bytes is the cheapest form of the digest.
  const code = new Uint8Array(HEX_CODE_BYTES);
  const digest = hash('md5', input.view(), 'binary');
  for (let at = 1; at < HEX_CODE_BYTES; at++) code[at] = digest.charCodeAt(at - 1);
  return { gen: (parent?.gen ?? 0) + 1, code };
}

function addAttachments(attachments: readonly Attachment[]): void {
  const sorted = [...attachments].sort((a, b) =>
    Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)),
  );
  for (const { name, contentType, encoding, digest } of sorted) {
    input.prefixed(Buffer.from(name));
    input.prefixed(Buffer.from(contentType));
    input.prefixed(Buffer.from(encoding ?? ''));
    input.append(digest);
  }
}
