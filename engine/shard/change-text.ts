/** Rows of by-seq as parts of JSON text, read where they lie: a feed of changes has very many of them. */
import { ByteReader } from '../file/byte-reader.js';
import { byteAt } from '../file/bytes.js';
import { REF_BYTES } from '../file/ref.js';
import { DOCUMENT_DELETED } from './id-tree.js';
import { codeBytes, formatRevId } from './revision.js';
import { LEAF_ATTACHMENTS, ROW_FLAGS_AT } from './seq-tree.js';

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The texts of one row at a time. */
export class ChangeText {
  readonly #reader = new ByteReader();
  /** The winner is a tombstone. */
  deleted = false;
  /** The id as a JSON string, with its quotes. */
  id = '';
  /** `{"rev":"..."}` of the winner, or, separated by commas, of all leaves, the winner first. */
  revs = '';

  /** Reads a row of by-seq. Throws `CORRUPT`. */
  read(row: Uint8Array, allLeaves: boolean): void {
    const reader = this.#reader.reset(row, ROW_FLAGS_AT);
    this.deleted = (reader.u8() & DOCUMENT_DELETED) !== 0;
    const idLength = reader.varint();
    const idAt = reader.skip(idLength);
    this.id = stringText(row, idAt, idAt + idLength);
    const leaves = reader.varint();
    this.revs = this.#leaf();
    if (allLeaves) for (let left = leaves - 1; left > 0; left--) this.revs += `,${this.#leaf()}`;
  }

  #leaf(): string {
    const reader = this.#reader;
    const flags = reader.u8();
    const gen = reader.varint();
    const first = reader.u8();
    const length = codeBytes(first) - 1;
    const at = reader.skip(length);
    reader.skip(REF_BYTES);
    if ((flags & LEAF_ATTACHMENTS) !== 0) reader.skip(reader.varint());
    if (first === 0) return `{"rev":"${gen}-${hexText(reader.bytes, at, at + length)}"}`;
    const code = reader.bytes.subarray(at - 1, at + length);
    return `{"rev":${JSON.stringify(`${gen}-${formatRevId(code)}`)}}`;
  }
}

function hexText(bytes: Uint8Array, start: number, end: number): string {
  let text = '';
  for (let at = start; at < end; at++) text += HEX[byteAt(bytes, at)];
  return text;
}

/** A text in UTF-8 as a JSON string. */
function stringText(bytes: Uint8Array, start: number, end: number): string {
  for (let at = start; at < end; at++) {
    const byte = byteAt(bytes, at);
    if (byte < 0x20 || byte > 0x7e || byte === QUOTE || byte === BACKSLASH) {
      return JSON.stringify(
        Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString(),
      );
    }
  }
  return `"${Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')}"`;
}
