/** The member `_attachments` of documents as clients write them. */
import { DivanError } from '../errors.js';
import { byteAt } from '../file/bytes.js';
import {
  ATTACHMENT_BYTES_MAX,
  ATTACHMENT_NAME_BYTES_MAX,
  ATTACHMENT_TYPE_BYTES_MAX,
  ATTACHMENTS_MAX,
  DIGEST_BYTES,
} from './attachment-list.js';
import { Base64Text } from './base64-text.js';
import type { JsonScanner } from './json-text.js';

/** An attachment as a document brings it. */
export interface AttachmentInput {
  readonly contentType: string;
  readonly revpos: number | undefined;
  /**
   * What stands for the bytes: a stub for what the parent revision has under this name, the bytes in base64, or the announcement that they
   * follow the document in the same request. Base64 is a view of the text that was scanned.
   */
  readonly content: 'stub' | 'follows' | Base64Text;
  /** How the bytes are encoded. */
  readonly encoding: 'gzip' | undefined;
  /**
   * What is said of the bytes, as they are encoded: the MD5, unless it may be that of another encoding, and the length; and the length
   * after decoding.
   */
  readonly digest: Uint8Array | undefined;
  readonly encodedLength: number | undefined;
  readonly length: number | undefined;
}

/** In the order of the document. */
export type AttachmentInputs = ReadonlyMap<string, AttachmentInput>;

const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const COMMA = 0x2c;
const QUOTE = 0x22;
/** Members of the object of an attachment that are read have at most so many bytes. */
const FIELD_BYTES_MAX = 4096;
const FIELDS = new Set([
  'content_type',
  'revpos',
  'stub',
  'follows',
  'encoding',
  'digest',
  'length',
  'encoded_length',
]);
/** How deep the members of `_attachments` and those of each attachment stand in the document. */
const NAME_DEPTH = 2;
const FIELD_DEPTH = 3;

/**
 * Scans the value of `_attachments`, which comes next in `json`; others have their turn at each `yield`. Nothing of it stays in
 * `json.out`. Throws `INVALID_JSON`, `INVALID_DOCUMENT`, `LIMIT`.
 */
export function* scanAttachments(json: JsonScanner): Generator<void, AttachmentInputs> {
  const attachments = new Map<string, AttachmentInput>();
  if (json.peek() !== OPEN_OBJECT) throw invalid('_attachments must be an object');
  json.at++;
  json.openNames(NAME_DEPTH);
  if (json.peek() !== CLOSE_OBJECT) {
    do {
      const start = json.name(NAME_DEPTH);
      const name = json.text(start, json.nameEnd);
      checkAttachmentName(name);
      if (attachments.size === ATTACHMENTS_MAX) {
        throw new DivanError('LIMIT', `a revision has at most ${ATTACHMENTS_MAX} attachments`);
      }
      attachments.set(name, yield* scanAttachment(json, name));
    } while (json.peek() === COMMA && json.at++ >= 0);
    expectClose(json);
  }
  json.at++;
  json.closeNames(NAME_DEPTH);
  return attachments;
}

/** Refuses names that no attachment may have. Throws `INVALID_DOCUMENT`. */
export function checkAttachmentName(name: string): void {
  const bytes = Buffer.byteLength(name);
  if (name.startsWith('_')) {
    const shown = JSON.stringify(name.slice(0, 80));
    throw invalid(`Attachment name ${shown} starts with prohibited character '_'`);
  }
  if (bytes === 0 || bytes > ATTACHMENT_NAME_BYTES_MAX) {
    throw invalid(`attachment names have 1 to ${ATTACHMENT_NAME_BYTES_MAX} bytes`);
  }
}

/** Refuses content types that no attachment may have. Throws `INVALID_DOCUMENT`. */
export function checkAttachmentType(type: string): void {
  if (Buffer.byteLength(type) <= ATTACHMENT_TYPE_BYTES_MAX) return;
  throw invalid(`the content type of an attachment has at most ${ATTACHMENT_TYPE_BYTES_MAX} bytes`);
}

function expectClose(json: JsonScanner): void {
  if (json.peek() !== CLOSE_OBJECT) throw json.error('a comma or the end is expected');
}

function* scanAttachment(json: JsonScanner, name: string): Generator<void, AttachmentInput> {
  const fields = new Map<string, unknown>();
  let data: Base64Text | undefined;
  if (json.peek() !== OPEN_OBJECT) throw invalidIn(name, 'it must be an object');
  json.at++;
  json.openNames(FIELD_DEPTH);
  if (json.peek() !== CLOSE_OBJECT) {
    do {
      const start = json.name(FIELD_DEPTH);
      const field = json.text(start, json.nameEnd);
      if (field === 'data') data = yield* scanData(json, name);
      else {
        const value = yield* scanField(json, name, FIELDS.has(field));
        if (value !== undefined) fields.set(field, value);
      }
    } while (json.peek() === COMMA && json.at++ >= 0);
    expectClose(json);
  }
  json.at++;
  json.closeNames(FIELD_DEPTH);
  return new FieldReader(name, fields).read(data);
}

function* scanData(json: JsonScanner, name: string): Generator<void, Base64Text> {
  json.peek();
  if (byteAt(json.source, json.at) !== QUOTE) throw invalidIn(name, 'its data must be a string');
  const start = yield* json.stringInSlices();
  const data = yield* Base64Text.check(json.source.subarray(start + 1, json.at - 1));
  if (data === undefined) throw invalidIn(name, 'its data must be base64');
  return data;
}

/** The value of a field that is known; of another only that it is valid JSON matters. */
function* scanField(json: JsonScanner, name: string, isKnown: boolean): Generator<void, unknown> {
  const from = json.length;
  yield* json.valueInSlices(FIELD_DEPTH);
  const end = json.length;
  json.length = from;
  if (!isKnown) return undefined;
  if (end - from > FIELD_BYTES_MAX) throw invalidIn(name, 'one of its members is too long');
  const value: unknown = JSON.parse(Buffer.from(json.out.subarray(from, end)).toString());
  return value;
}

/** Reads the fields of one attachment. */
class FieldReader {
  readonly #name: string;
  readonly #fields: ReadonlyMap<string, unknown>;

  constructor(name: string, fields: ReadonlyMap<string, unknown>) {
    this.#name = name;
    this.#fields = fields;
  }

  read(data: Base64Text | undefined): AttachmentInput {
    const content = this.#content(data);
    const contentType = this.#text('content_type') ?? 'application/octet-stream';
    checkAttachmentType(contentType);
    const encoding = this.#encoding();
    // Beside bytes as they are CouchDB shows the digest of what it stores, which it may have compressed; so do copies of that.
    const isAsStored = content === 'follows' || encoding !== undefined;
    const revpos = this.#fields.get('revpos');
    const length = this.#whole('length');
    return {
      contentType,
      revpos:
        typeof revpos === 'number' && Number.isInteger(revpos) && revpos > 0 ? revpos : undefined,
      content,
      encoding,
      digest: isAsStored ? this.#digest() : undefined,
      encodedLength: encoding === undefined ? length : this.#whole('encoded_length'),
      length,
    };
  }

  #content(data: Base64Text | undefined): AttachmentInput['content'] {
    if (this.#fields.get('stub') === true) return 'stub';
    if (this.#fields.get('follows') === true) return 'follows';
    if (data === undefined) throw invalidIn(this.#name, 'it has neither data nor stub nor follows');
    return data;
  }

  #encoding(): 'gzip' | undefined {
    const encoding = this.#text('encoding');
    if (encoding === undefined || encoding === 'identity') return undefined;
    if (encoding === 'gzip') return encoding;
    throw invalidIn(this.#name, 'its encoding must be gzip');
  }

  /** The MD5. Digests of other kinds say nothing that could be compared. */
  #digest(): Uint8Array | undefined {
    const digest = this.#text('digest');
    if (digest?.startsWith('md5-') !== true) return undefined;
    const bytes = Buffer.from(digest.slice('md5-'.length), 'base64');
    if (bytes.length === DIGEST_BYTES) return bytes;
    throw invalidIn(this.#name, 'its digest is no MD5');
  }

  #text(field: string): string | undefined {
    const value = this.#fields.get(field);
    if (value === undefined || value === null || typeof value === 'string') {
      return value ?? undefined;
    }
    throw invalidIn(this.#name, `its ${field} must be a string`);
  }

  #whole(field: string): number | undefined {
    const value = this.#fields.get(field);
    if (value === undefined || value === null) return undefined;
    const isWhole = typeof value === 'number' && Number.isInteger(value) && value >= 0;
    if (isWhole && value <= ATTACHMENT_BYTES_MAX) return value;
    throw invalidIn(this.#name, `its ${field} must be a number of bytes`);
  }
}

function invalid(reason: string): DivanError {
  return new DivanError('INVALID_DOCUMENT', reason);
}

function invalidIn(name: string, reason: string): DivanError {
  return invalid(`the attachment ${JSON.stringify(name.slice(0, 80))} is malformed: ${reason}`);
}
