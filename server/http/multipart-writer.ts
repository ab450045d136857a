/**
 * Multipart bodies of replies (RFC 2046, section 5.1): a document with its attachments as multipart/related, several
 * revisions as multipart/mixed, whose parts may again be multipart/related.
 *
 * The bytes are those that CouchDB sends: no text before the first boundary or behind the last. Who takes the bytes sets the
 * pace, and leaving off closes the body that is being written.
 */
import assert from 'node:assert/strict';
import { attachmentDisposition } from './header-value.js';

/** Names and values, in the order in which they are sent. */
export type PartHeaders = readonly (readonly [name: string, value: string])[];

/** What the length of a part depends on. */
export interface PartShape {
  readonly headers: PartHeaders;
  /** Of the body, in bytes; undefined if it is not known beforehand. */
  readonly length: number | undefined;
}

export interface OutgoingPart extends PartShape {
  /** Gives `length` bytes if that is known; it is read once. */
  readonly body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

export interface OutgoingAttachment {
  readonly name: string;
  readonly contentType: string;
  /** How the bytes are encoded; undefined: not at all. */
  readonly encoding: 'gzip' | undefined;
  /** Of the bytes as they are sent. */
  readonly length: number;
  readonly body: AsyncIterable<Uint8Array>;
}

/** A part with a JSON text. */
export function jsonPart(json: Uint8Array): OutgoingPart {
  return { headers: [['Content-Type', 'application/json']], length: json.length, body: [json] };
}

/** A part with a JSON text that tells of an error, such as a revision that is missing. */
export function errorPart(json: Uint8Array): OutgoingPart {
  return { ...jsonPart(json), headers: [['Content-Type', 'application/json; error="true"']] };
}

/** A part with an attachment. A content type that no header can hold is sent as unknown. */
export function attachmentPart(attachment: OutgoingAttachment): OutgoingPart {
  const { contentType, length } = attachment;
  const headers: [string, string][] = [
    ['Content-Disposition', attachmentDisposition(attachment.name)],
    ['Content-Type', isHeaderValue(contentType) ? contentType : 'application/octet-stream'],
    ['Content-Length', String(length)],
  ];
  if (attachment.encoding !== undefined) headers.push(['Content-Encoding', attachment.encoding]);
  return { headers, length, body: attachment.body };
}

/** A part that is a multipart/related itself. REQUIRES: `boundary` is not that of the whole, nor begins with it. */
export function relatedPart(boundary: string, parts: readonly OutgoingPart[]): OutgoingPart {
  return {
    headers: [['Content-Type', multipartType('related', boundary)]],
    length: multipartLength(boundary, parts),
    body: writeMultipart(boundary, parts),
  };
}

/** The value of `Content-Type` for a whole body. */
export function multipartType(kind: 'related' | 'mixed', boundary: string): string {
  return `multipart/${kind}; boundary="${boundary}"`;
}

/** The length in bytes of what `writeMultipart` gives for these parts; undefined if that of a part is not known. */
export function multipartLength(boundary: string, parts: readonly PartShape[]): number | undefined {
  let total = 0;
  for (const [index, part] of parts.entries()) {
    if (part.length === undefined) return undefined;
    total += partHead(boundary, part.headers, index === 0).length + part.length;
  }
  return total + ending(boundary, parts.length === 0).length;
}

/**
 * The bytes of a multipart body. REQUIRES: `boundary` has 1 to 70 characters of those that RFC 2046 allows, and stands in no
 * part; headers have no control characters; bodies have the length that they are said to have.
 */
export async function* writeMultipart(
  boundary: string,
  parts: Iterable<OutgoingPart> | AsyncIterable<OutgoingPart>,
): AsyncGenerator<Uint8Array, void, undefined> {
  let isFirst = true;
  for await (const part of parts) {
    yield partHead(boundary, part.headers, isFirst);
    isFirst = false;
    let length = 0;
    for await (const chunk of part.body) {
      length += chunk.length;
      yield chunk;
    }
    assert.equal(length, part.length ?? length, 'a part has not the length that was announced');
  }
  yield ending(boundary, isFirst);
}

function partHead(boundary: string, headers: PartHeaders, isFirst: boolean): Buffer {
  assert.match(boundary, /^[0-9A-Za-z'()+_,./:=?-]{1,70}$/, 'a boundary that is none');
  const lines = headers.map(([name, value]) => {
    assert.match(name, /^[0-9A-Za-z-]+$/, 'a header name that is none');
    assert(isHeaderValue(value), 'a header value with control characters');
    return `${name}: ${value}\r\n`;
  });
  return Buffer.from(`${isFirst ? '' : '\r\n'}--${boundary}\r\n${lines.join('')}\r\n`);
}

function ending(boundary: string, isEmpty: boolean): Buffer {
  return Buffer.from(`${isEmpty ? '' : '\r\n'}--${boundary}--`);
}

function isHeaderValue(value: string): boolean {
  return /^[\t\x20-\x7e\x80-\u{10ffff}]*$/u.test(value);
}
