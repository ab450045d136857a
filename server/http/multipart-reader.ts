/**
 * Multipart bodies of requests (RFC 2046, section 5.1), read part by part as they come.
 *
 * The parts are pulled: nothing is read from the source before it is asked for, so memory stays within a chunk of the source
 * and the headers of one part. What is malformed is refused. The Dicer of @fastify/busboy, the usual parser, is of no use
 * for that: of a part whose headers have a bad line, or blanks behind the boundary, it silently drops the headers from there
 * on, and it cuts long ones, so an attachment would lose its name or encoding without an error.
 */
import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import { DivanError } from '../../engine/errors.js';
import { byteAt } from '../../engine/file/bytes.js';
import { ByteWindow } from './byte-window.js';
import { parseHeaderValue } from './header-value.js';

export interface MultipartPart {
  /** By name in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /** To be read before the next part is asked for; what is left of it then is passed over. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface MultipartLimits {
  readonly partsMax: number;
  /** Of one part. */
  readonly headerBytesMax: number;
}

const BLANK_LINE = '\r\n\r\n';
const LINE_END = Buffer.from('\r\n');
const DASH = 0x2d;
const CR = 0x0d;
const LF = 0x0a;
const PADDING_BYTES_MAX = 256;

/** The boundary that a `Content-Type` names. Throws `UNSUPPORTED_TYPE` if it is not multipart and `BAD_REQUEST`. */
export function boundaryOf(contentType: string): string {
  const { value, parameters } = parseHeaderValue(contentType, 'Content-Type');
  if (!value.startsWith('multipart/')) {
    throw new DivanError('UNSUPPORTED_TYPE', 'the content type must be multipart');
  }
  const boundary = parameters.get('boundary') ?? '';
  if (/^[\x20-\x7e]{0,199}[\x21-\x7e]$/.test(boundary)) return boundary;
  throw bad('its content type has no valid boundary');
}

/**
 * The parts of a body in their order. The source is read to its end, and closed if the caller stops before it. Throws
 * `BAD_REQUEST` for a body that is malformed or ends too early, `TOO_LARGE` beyond a limit, and what the source throws;
 * after that neither parts nor bodies give anything more.
 */
export async function* readMultipart(
  source: AsyncIterable<Uint8Array>,
  boundary: string,
  limits: MultipartLimits,
): AsyncGenerator<MultipartPart, void, undefined> {
  const reader = new PartReader(source, boundary, limits);
  try {
    for (;;) {
      const part = await reader.nextPart();
      if (part === undefined) return;
      yield part;
    }
  } finally {
    await reader.close();
  }
}

class PartReader {
  readonly #window: ByteWindow;
  readonly #delimiter: Buffer;
  readonly #limits: MultipartLimits;
  /** Whether a body is being read: at first the text before the first boundary, which is read like one. */
  #isInBody = true;
  #isLast = false;
  #partNumber = 0;
  /** The parts up to this one were left for the next. */
  #leftNumber = 0;
  #failure: unknown;

  constructor(source: AsyncIterable<Uint8Array>, boundary: string, limits: MultipartLimits) {
    this.#window = new ByteWindow(source);
    // A boundary belongs to the line end before it, which the very first may do without.
    this.#window.put(LINE_END);
    this.#delimiter = Buffer.from(`\r\n--${boundary}`);
    this.#limits = limits;
  }

  close(): Promise<void> {
    return this.#window.close();
  }

  /** The next part; undefined behind the last, when the source has been read to its end. */
  nextPart(): Promise<MultipartPart | undefined> {
    this.#leftNumber = this.#partNumber;
    return this.#guarded(async () => {
      while ((await this.#bodyChunk()) !== undefined);
      if (this.#isLast) {
        do this.#window.take(this.#window.bytes.length);
        while (await this.#window.more());
        return undefined;
      }
      if (this.#partNumber === this.#limits.partsMax) {
        throw tooLarge(`it has more than ${this.#limits.partsMax} parts`);
      }
      const headers = await this.#readHeaders();
      this.#isInBody = true;
      return { headers, body: this.#body(++this.#partNumber) };
    });
  }

  async *#body(partNumber: number): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      assert(partNumber > this.#leftNumber, 'the body of a part is read before the next part');
      const chunk = await this.#guarded(() => this.#bodyChunk());
      if (chunk === undefined) return;
      yield chunk;
    }
  }

  /** Once something has failed, what follows is anybody's guess: it fails again. */
  async #guarded<T>(read: () => Promise<T>): Promise<T> {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return await read();
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /** The next bytes of the body; undefined behind it, when the boundary after it has been read. */
  async #bodyChunk(): Promise<Buffer | undefined> {
    while (this.#isInBody) {
      const { bytes } = this.#window;
      const at = bytes.indexOf(this.#delimiter);
      if (at === 0) {
        this.#window.take(this.#delimiter.length);
        await this.#readBoundaryEnd();
        this.#isInBody = false;
        return undefined;
      }
      const length = at === -1 ? bytes.length - this.#tailLength(bytes) : at;
      if (length > 0) return this.#window.take(length);
      await this.#needMore();
    }
    return undefined;
  }

  /** How many bytes at the end may be the beginning of a delimiter. */
  #tailLength(bytes: Buffer): number {
    for (let at = Math.max(0, bytes.length - this.#delimiter.length + 1); ; at++) {
      at = bytes.indexOf(CR, at);
      if (at === -1) return 0;
      const length = bytes.length - at;
      if (this.#delimiter.compare(bytes, at, bytes.length, 0, length) === 0) return length;
    }
  }

  /** What stands behind a boundary: two dashes for the last, else blanks up to the end of the line. */
  async #readBoundaryEnd(): Promise<void> {
    let at = 0;
    for (;;) {
      while (this.#window.bytes.length < at + 2) await this.#needMore();
      const { bytes } = this.#window;
      const byte = byteAt(bytes, at);
      const next = byteAt(bytes, at + 1);
      if (at === 0 && byte === DASH && next === DASH) {
        this.#isLast = true;
        return;
      }
      if (byte === CR && next === LF) {
        this.#window.take(at + 2);
        return;
      }
      if ((byte !== 0x20 && byte !== 0x09) || ++at > PADDING_BYTES_MAX) {
        throw bad('there is more in the line of a boundary');
      }
    }
  }

  /** Headers up to and with the blank line that ends them. */
  async #readHeaders(): Promise<ReadonlyMap<string, string>> {
    while (this.#window.bytes.length < 2) await this.#needMore();
    let text = '';
    if (!this.#startsWith(LINE_END, 2)) {
      const end = await this.#findBlankLine();
      text = headerText(this.#window.take(end));
      this.#window.take(2);
    }
    // A part without a body may do without the blank line: its line end is that of the boundary then.
    const { length } = this.#delimiter;
    for (let known = 2; known < length && this.#startsWith(this.#delimiter, known); ) {
      if (this.#window.bytes.length === known) await this.#needMore();
      known = Math.min(length, this.#window.bytes.length);
    }
    if (!this.#startsWith(this.#delimiter, length)) this.#window.take(2);
    return parseHeaders(text);
  }

  /** True if the first `length` bytes that are there are those of `wanted`. */
  #startsWith(wanted: Buffer, length: number): boolean {
    const { bytes } = this.#window;
    return bytes.length >= length && wanted.compare(bytes, 0, length, 0, length) === 0;
  }

  /** Where the headers end. */
  async #findBlankLine(): Promise<number> {
    const { headerBytesMax } = this.#limits;
    for (let from = 0; ; ) {
      const { bytes } = this.#window;
      const end = bytes.indexOf(BLANK_LINE, from, 'latin1');
      if (end > headerBytesMax || (end === -1 && bytes.length > headerBytesMax + 3)) {
        throw tooLarge(`the headers of a part have more than ${headerBytesMax} bytes`);
      }
      if (end !== -1) return end;
      from = Math.max(0, bytes.length - 3);
      await this.#needMore();
    }
  }

  async #needMore(): Promise<void> {
    if (!(await this.#window.more())) throw bad('it ends before its last boundary');
  }
}

function headerText(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw bad('the headers of a part are not UTF-8');
  return bytes.toString();
}

function parseHeaders(text: string): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  if (text === '') return headers;
  // A line that begins with a blank goes on with the one before it.
  for (const line of text.replace(/\r\n(?=[ \t])/g, '').split('\r\n')) {
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\u{10ffff}]*)$/u.exec(line);
    const [, name = '', value = ''] = match ?? [];
    const key = name.toLowerCase();
    if (match === null) throw bad('a part has a malformed header');
    if (headers.has(key)) throw bad('a part has two headers of one name');
    headers.set(key, value.trim());
  }
  return headers;
}

function bad(reason: string): DivanError {
  return new DivanError('BAD_REQUEST', `the multipart body is malformed: ${reason}`);
}

function tooLarge(reason: string): DivanError {
  return new DivanError('TOO_LARGE', `the multipart body is too large: ${reason}`);
}
