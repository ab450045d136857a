/**
 * Header values with parameters, `value; name=token; name="quoted"` (RFC 9110, section 5.6.6): media types and content
 * dispositions, read and written. File names beyond plain ASCII are written as RFC 8187 has it.
 */
import { DivanError } from '../../engine/errors.js';
import { percentDecode } from './percent.js';

export interface HeaderValue {
  /** What stands before the first `;`, in lower case. */
  readonly value: string;
  /** By name in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** No part of it can match a text in two ways, so that the time is linear. */
const PARAMETER =
  /[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=(?:[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+)))?[ \t]*)?(?:;|$)/sy;
const PARAMETERS_MAX = 32;

/** Reads a header value; `what` names the header in the reason. Throws `BAD_REQUEST` also for a repeated parameter. */
export function parseHeaderValue(header: string, what: string): HeaderValue {
  const semicolon = header.indexOf(';');
  const valueEnd = semicolon === -1 ? header.length : semicolon;
  const parameters = new Map<string, string>();
  for (let at = valueEnd + 1; at < header.length; at = PARAMETER.lastIndex) {
    PARAMETER.lastIndex = at;
    const match = PARAMETER.exec(header);
    if (match === null || parameters.size === PARAMETERS_MAX) throw malformed(what);
    const [, name, quoted, token = ''] = match;
    if (name === undefined) continue;
    const key = name.toLowerCase();
    if (parameters.has(key)) throw malformed(what);
    parameters.set(key, quoted === undefined ? token : quoted.replace(/\\(.)/gs, '$1'));
  }
  return { value: header.slice(0, valueEnd).trim().toLowerCase(), parameters };
}

/** The file name that a `Content-Disposition` gives. Throws `BAD_REQUEST`. */
export function fileNameOf(disposition: string | undefined): string | undefined {
  if (disposition === undefined) return undefined;
  const { parameters } = parseHeaderValue(disposition, 'Content-Disposition');
  const extended = parameters.get('filename*');
  if (extended === undefined) return parameters.get('filename');
  const match = /^utf-8'[^']*'(.*)$/is.exec(extended);
  if (match === null) throw malformed('Content-Disposition');
  const [, encoded = ''] = match;
  return percentDecode(encoded, 0, encoded.length, false, 'the file name');
}

/** A `Content-Disposition` of an attachment; `fileNameOf` reads any name back as it was. */
export function attachmentDisposition(fileName: string): string {
  const plain = fileName.replace(/[^\x20-\x7e]|["\\%]/gu, '_');
  const header = `attachment; filename="${plain}"`;
  if (plain === fileName) return header;
  const encoded = Buffer.from(fileName).toString('latin1');
  return `${header}; filename*=UTF-8''${encoded.replace(/[^0-9A-Za-z._-]/gs, percentEncoded)}`;
}

function percentEncoded(byte: string): string {
  return `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
}

function malformed(what: string): DivanError {
  return new DivanError('BAD_REQUEST', `${what} is malformed`);
}
