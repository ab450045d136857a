/**
 * The answer of CouchDB's `_all_docs?include_docs=true`, which stands on lines: a head that ends in `"rows":[`, a row on each line
 * with a comma behind it, and `]}`.
 */
import { JsonScanner } from '../engine/shard/json-text.js';

const COMMA = 0x2c;
const CARRIAGE_RETURN = 0x0d;
const HEAD = /^\{("(total_rows|offset|update_seq)":("[^"]*"|[0-9]+|null),?)*"rows":\[\s*$/;
const HEAD_BYTES_MAX = 4096;

export interface TextPart {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Recognises that answer by its head; until it has seen one, every line is a document. */
export class AllDocsRows {
  #inRows = false;
  readonly #json = new JsonScanner();

  /** The document in a line; undefined if the line has none. Throws `INVALID_JSON`. */
  documentIn(line: TextPart): TextPart | undefined {
    const { bytes, start } = line;
    let { end } = line;
    if (end > start && bytes[end - 1] === CARRIAGE_RETURN) end--;
    if (end === start) return undefined;
    if (!this.#inRows) {
      if (!isHead(bytes, start, end)) return { bytes, start, end };
      this.#inRows = true;
      return undefined;
    }
    if (bytes[start] === 0x5d) {
      this.#inRows = false;
      return undefined;
    }
    if (bytes[end - 1] === COMMA) end--;
    return this.#documentInRow({ bytes, start, end });
  }

  #documentInRow({ bytes, start, end }: TextPart): TextPart | undefined {
    const json = this.#json;
    json.begin(bytes, start, end);
    json.expect(0x7b, 'a row');
    json.openNames(1);
    let found: TextPart | undefined;
    do {
      const nameStart = json.name(1);
      const name = json.text(nameStart, json.nameEnd);
      json.peek();
      const from = json.at;
      json.value(1);
      if (name === 'doc') found = { bytes, start: from, end: json.at };
    } while (json.peek() === COMMA && json.at++ >= 0);
    json.expect(0x7d, 'the end of a row');
    json.expectEnd();
    return found;
  }
}

function isHead(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start > HEAD_BYTES_MAX || bytes[start] !== 0x7b || bytes[end - 1] !== 0x5b)
    return false;
  return HEAD.test(Buffer.from(bytes.subarray(start, end)).toString());
}
