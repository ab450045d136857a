/**
 * Base64 as a JSON string brings it: checked and decoded piece by piece from the text of the request, so that neither a large string nor
 * all of its bytes are ever made at once.
 *
 * White space counts for nothing, and the padding may be missing; both occur in the wild.
 */
/** Characters that are looked at in one go; decoding them takes about a millisecond. */
const SLICE_CHARACTERS = 256 * 1024;
/** No escape is longer: the last characters of a slice may be the beginning of one. */
const ESCAPE_CHARACTERS = 6;

export class Base64Text {
  /** How many bytes it stands for. */
  readonly length: number;
  readonly #raw: Buffer;

  private constructor(raw: Buffer, length: number) {
    this.#raw = raw;
    this.length = length;
  }

  /**
   * Checks the inside of a JSON string that was scanned, which must not change afterwards. Others have their turn at each `yield`.
   * Returns undefined if it is not base64.
   */
  static *check(text: Uint8Array): Generator<void, Base64Text | undefined> {
    const raw = Buffer.from(text.buffer, text.byteOffset, text.length);
    let characters = 0;
    let padding = '';
    for (const slice of slicesOf(raw)) {
      const match = /^([A-Za-z0-9+/]*)(=*)$/.exec(slice);
      const [, digits = '', equals = ''] = match ?? [];
      if (match === null || (padding !== '' && digits !== '')) return undefined;
      characters += digits.length;
      padding += equals;
      if (padding.length > 2) return undefined;
      if (raw.length > SLICE_CHARACTERS) yield;
    }
    const rest = characters % 4;
    const isPadded = padding === '' || rest + padding.length === 4;
    if (rest === 1 || !isPadded) return undefined;
    return new Base64Text(raw, Math.floor((characters * 3) / 4));
  }

  /** The bytes, in pieces of at most 192 KiB. */
  *chunks(): Generator<Uint8Array, void> {
    let carry = '';
    for (const slice of slicesOf(this.#raw)) {
      const text = carry + slice.replace(/=+$/, '');
      const whole = text.length - (text.length % 4);
      carry = text.slice(whole);
      if (whole > 0) yield Buffer.from(text.slice(0, whole), 'base64');
    }
    if (carry !== '') yield Buffer.from(carry, 'base64');
  }
}

/** The characters without escapes and white space. What is malformed stays so that it is seen. */
function* slicesOf(raw: Buffer): Generator<string> {
  for (let at = 0; at < raw.length; ) {
    const end = sliceEnd(raw, at);
    yield plainCharacters(raw.toString('latin1', at, end));
    at = end;
  }
}

/** Where a slice ends that begins at `at`: not inside of an escape. */
function sliceEnd(raw: Buffer, at: number): number {
  const end = at + SLICE_CHARACTERS;
  if (end >= raw.length) return raw.length;
  const tailFrom = end - ESCAPE_CHARACTERS;
  const backslash = raw.subarray(tailFrom, end).lastIndexOf(0x5c);
  return backslash === -1 ? end : tailFrom + backslash;
}

function plainCharacters(text: string): string {
  if (!text.includes('\\')) return text.includes(' ') ? text.replace(/ +/g, '') : text;
  // An escaped backslash, which may have been cut in two, is no base64 and must not reach the parser in halves.
  if (text.includes('\\\\') || text.endsWith('\\')) return '\\';
  const unescaped: unknown = JSON.parse(`"${text}"`);
  return String(unescaped).replace(/[ \t\r\n]+/g, '');
}
