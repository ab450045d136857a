/**
 * Percent-encoding of request targets (RFC 3986, section 2.1), decoded once and strictly.
 *
 * Node hands over a target with one character for each byte, so characters up to U+00FF are taken for bytes: a client
 * that sends its UTF-8 without encoding it is understood too.
 */
import { isUtf8 } from 'node:buffer';
import { DivanError } from '../../engine/errors.js';

const PERCENT = 0x25;
const PLUS = 0x2b;
const SPACE = 0x20;

/**
 * Decodes `text[start, end)`; with `plusIsSpace` a `+` stands for a space. `what` names the text in the reason.
 * Throws `BAD_REQUEST` for a `%` without two hexadecimal digits and for bytes that are not UTF-8.
 */
export function percentDecode(
  text: string,
  start: number,
  end: number,
  plusIsSpace: boolean,
  what: string,
): string {
  if (isPlain(text, start, end, plusIsSpace)) return text.slice(start, end);
  const bytes = Buffer.allocUnsafe(end - start);
  let length = 0;
  for (let at = start; at < end; at++) {
    let byte = text.charCodeAt(at);
    if (byte === PERCENT) {
      byte = at + 2 < end ? hexPair(text, at + 1) : -1;
      if (byte < 0) throw malformed(what, 'a % without two hexadecimal digits');
      at += 2;
    } else if (byte === PLUS && plusIsSpace) {
      byte = SPACE;
    } else if (byte > 0xff) {
      throw malformed(what, 'a character that is no byte');
    }
    bytes[length++] = byte;
  }
  const decoded = bytes.subarray(0, length);
  if (!isUtf8(decoded)) throw malformed(what, 'bytes that are not UTF-8');
  return decoded.toString();
}

/** True if the text stands for itself. */
function isPlain(text: string, start: number, end: number, plusIsSpace: boolean): boolean {
  for (let at = start; at < end; at++) {
    const unit = text.charCodeAt(at);
    if (unit === PERCENT || unit > 0x7f || (unit === PLUS && plusIsSpace)) return false;
  }
  return true;
}

/** The byte whose two digits stand at `at`, or a negative number. */
function hexPair(text: string, at: number): number {
  return (hexDigit(text.charCodeAt(at)) << 4) | hexDigit(text.charCodeAt(at + 1));
}

function hexDigit(unit: number): number {
  if (unit >= 0x30 && unit <= 0x39) return unit - 0x30;
  const lower = unit | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function malformed(what: string, found: string): DivanError {
  return new DivanError('BAD_REQUEST', `${what} has ${found}`);
}
