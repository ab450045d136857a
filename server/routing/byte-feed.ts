/**
 * The reply of a node, read piece by piece: texts, JSON values and lines, of which no more is held in memory than was looked at. It is only for
 * what nodes send one another, and trusts its JSON to be well formed; what is not as it was agreed upon is an error of that node.
 */
import { DivanError } from '../../engine/errors.js';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const CLOSE_ARRAY = 0x5d;
const NEWLINE = 0x0a;
const NOTHING = Buffer.alloc(0);

export class ByteFeed {
  readonly #source: AsyncGenerator<Uint8Array, void>;
  /** What was received and not taken yet. */
  #bytes: Buffer = NOTHING;

  constructor(source: AsyncGenerator<Uint8Array, void>) {
    this.#source = source;
  }

  /** Receives more; false at the end. */
  async #fill(): Promise<boolean> {
    for (;;) {
      const next = await this.#source.next();
      if (next.done === true) return false;
      const { buffer, byteOffset, length } = next.value;
      if (length === 0) continue;
      const chunk = Buffer.from(buffer, byteOffset, length);
      this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
      return true;
    }
  }

  #take(count: number): Buffer {
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  /** The next byte, which is not taken; undefined at the end. */
  async peek(): Promise<number | undefined> {
    if (this.#bytes.length === 0 && !(await this.#fill())) return undefined;
    return this.#bytes[0];
  }

  /** Takes everything up to a text, and that text. Throws `PEER` if it is not within `bytesMax`. */
  async until(text: string, bytesMax: number): Promise<string> {
    const wanted = Buffer.from(text);
    for (;;) {
      const at = this.#bytes.indexOf(wanted);
      if (at !== -1) return this.#take(at + wanted.length).toString();
      if (this.#bytes.length > bytesMax || !(await this.#fill())) throw broken(text);
    }
  }

  /** Goes on to the next element of an array; false if there is none, and the end of the array is taken then. */
  async nextElement(): Promise<boolean> {
    for (;;) {
      const byte = await this.peek();
      if (byte === undefined) throw broken('an element');
      if (byte !== COMMA && byte !== NEWLINE && byte !== CLOSE_ARRAY) return true;
      this.#take(1);
      if (byte === CLOSE_ARRAY) return false;
    }
  }

  /** What a pattern finds at the next byte, of which nothing is taken; the text has a character for each byte. Throws `PEER`. */
  async lookAt(pattern: RegExp, bytesMax: number): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.#bytes.toString('latin1', 0, bytesMax));
      if (found !== null) return found;
      if (this.#bytes.length >= bytesMax || !(await this.#fill())) throw broken('what was asked');
    }
  }

  /** Passes over bytes that were looked at. */
  pass(count: number): void {
    this.#take(count);
  }

  /** The bytes of the JSON object or array that begins here. Views, which are read at once. */
  async *value(): AsyncGenerator<Uint8Array, void> {
    let depth = 0;
    let isInString = false;
    let isEscaped = false;
    for (;;) {
      const bytes = this.#bytes;
      for (let at = 0; at < bytes.length; at++) {
        const byte = bytes[at];
        if (isInString) {
          if (isEscaped) isEscaped = false;
          else if (byte === BACKSLASH) isEscaped = true;
          else if (byte === QUOTE) isInString = false;
          continue;
        }
        if (byte === QUOTE) isInString = true;
        else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) depth++;
        else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) depth--;
        if (depth > 0) continue;
        yield this.#take(at + 1);
        return;
      }
      if (bytes.length > 0) yield this.#take(bytes.length);
      if (!(await this.#fill())) throw broken('the end of a value');
    }
  }

  /** The bytes of a line up to its end, which is passed over. Views, which are read at once. */
  async *line(): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      const at = this.#bytes.indexOf(NEWLINE);
      if (at !== -1) {
        if (at > 0) yield this.#take(at);
        this.#take(1);
        return;
      }
      if (this.#bytes.length > 0) yield this.#take(this.#bytes.length);
      if (!(await this.#fill())) throw broken('the end of a line');
    }
  }

  /** All that is left. Throws `PEER` if that is more than `bytesMax`. */
  async rest(bytesMax: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    while ((await this.peek()) !== undefined) {
      length += this.#bytes.length;
      if (length > bytesMax) throw broken(`an answer of at most ${bytesMax} bytes`);
      chunks.push(this.#take(this.#bytes.length));
    }
    return Buffer.concat(chunks);
  }

  /** All that is left, as it comes. */
  async *chunks(): AsyncGenerator<Uint8Array, void> {
    while ((await this.peek()) !== undefined) yield this.#take(this.#bytes.length);
  }

  /** Reads no more. */
  async close(): Promise<void> {
    await this.#source.return();
  }
}

const OPEN_OBJECT = 0x7b;
const OPEN_ARRAY = 0x5b;
const CLOSE_OBJECT = 0x7d;

function broken(what: string): DivanError {
  return new DivanError('PEER', `a node did not send ${what.slice(0, 40)}`);
}
