/**
 * Large JSON bodies taken apart without being parsed: where the members of an object and the elements of an array stand.
 *
 * A body of `_bulk_docs` has up to 64 MiB, and parsing it whole would hold up everybody else. Here its bytes are looked at
 * once, in slices between which others have their turn, and only the two outer levels are: braces, commas, colons and names
 * there are held to RFC 8259, and names are decoded and unique. Of the inside of a value only strings and brackets are seen,
 * enough to know where it ends. So a text is valid if it passes here and each of its values passes the strict scan
 * (`canonicalJson`, `DocumentScanner`, `parseJson`) that its user makes anyway.
 */
import assert from 'node:assert/strict';
import { DivanError } from '../../engine/errors.js';
import { byteAt } from '../../engine/file/bytes.js';
import { JSON_DEPTH_MAX, JsonScanner } from '../../engine/shard/json-text.js';

/** Bytes `[start, end)` of the text. */
export interface JsonRange {
  readonly start: number;
  readonly end: number;
}

/** A member of an object: its decoded name, and where its value stands. */
export interface JsonMember extends JsonRange {
  readonly name: string;
}

/** Where the elements of an array stand; two numbers for each, since there may be millions. */
export class JsonElements {
  #bounds = new Int32Array(64);
  length = 0;

  /** REQUIRES: 0 <= index < length. */
  start(index: number): number {
    assert(index >= 0 && index < this.length, 'no such element');
    return this.#bounds[index * 2] ?? 0;
  }

  /** REQUIRES: 0 <= index < length. */
  end(index: number): number {
    assert(index >= 0 && index < this.length, 'no such element');
    return this.#bounds[index * 2 + 1] ?? 0;
  }

  push(start: number, end: number): void {
    if (this.length * 2 === this.#bounds.length) {
      const larger = new Int32Array(this.#bounds.length * 2);
      larger.set(this.#bounds);
      this.#bounds = larger;
    }
    this.#bounds[this.length * 2] = start;
    this.#bounds[this.length * 2 + 1] = end;
    this.length++;
  }
}

export interface SplitOptions {
  /** More members or elements than this are `TOO_LARGE`. */
  readonly countMax: number;
  /** Called between slices of a few milliseconds; resolves when others have had their turn. */
  readonly yieldTurn: () => Promise<void>;
}

/** A slice of this many bytes takes about 2 ms. */
const SLICE_BYTES = 1024 * 1024;
/** What a member or element costs beyond its bytes, in bytes skipped in the same time. */
const ITEM_BYTES = 64;
/** Names are decoded in one go. The longest id of a document, all of it escaped, has half as many bytes. */
const NAME_BYTES_MAX = 48 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_OBJECT = 0x7b;
const OPEN_ARRAY = 0x5b;
const CLOSE_OBJECT = 0x7d;
const CLOSE_ARRAY = 0x5d;

const PLAIN = 0;
const SPACE = 1;
const OTHER = 2;
/** Bytes by what ends a number or literal: the syntax (2) and white space (1). */
const KIND = new Uint8Array(256);
for (const space of ' \t\n\r') KIND[space.charCodeAt(0)] = SPACE;
for (const syntax of '",:{}[]') KIND[syntax.charCodeAt(0)] = OTHER;
/** 1 for bytes that end a run of bytes without interest inside of a container. */
const STOPS = new Uint8Array(256);
for (const stop of '"{}[]') STOPS[stop.charCodeAt(0)] = 1;

/** Where a splitter stands in the grammar. */
const MODES = {
  /** Before the bracket that opens the container. */
  start: 0,
  /** Behind that bracket: an item or the closing bracket. */
  firstItem: 1,
  /** Behind a comma. */
  item: 2,
  /** Behind a name. */
  colon: 3,
  /** Behind a colon. */
  value: 4,
  /** Inside of a value that is a string, a number or literal, or a container. */
  string: 5,
  scalar: 6,
  container: 7,
  /** Inside of a string somewhere in a value that is a container. */
  innerString: 8,
  /** Behind a value: a comma or the closing bracket. */
  afterItem: 9,
  /** Behind the closing bracket. */
  end: 10,
} as const;
type Mode = (typeof MODES)[keyof typeof MODES];

/** One pass over one container, as many bytes at a time as the caller likes. */
class Splitter {
  readonly #source: Buffer;
  readonly #end: number;
  readonly #isObject: boolean;
  readonly #found: (start: number, end: number) => void;
  readonly #names = new JsonScanner();
  #at: number;
  #mode: Mode = MODES.start;
  #count = 0;
  /** Where the value began that is being skipped. */
  #valueStart = 0;
  /** Where the string began that is being skipped. */
  #stringStart = 0;
  /** The brackets that are open inside of the value: their closing bytes. */
  readonly #closers = new Uint8Array(JSON_DEPTH_MAX);
  #depth = 0;
  /** The name of the member whose value comes next. */
  name = '';

  constructor(
    source: Uint8Array,
    range: JsonRange,
    isObject: boolean,
    found: (start: number, end: number) => void,
  ) {
    this.#source = Buffer.from(source.buffer, source.byteOffset, source.length);
    this.#at = range.start;
    this.#end = range.end;
    this.#isObject = isObject;
    this.#found = found;
  }

  /** Goes on for about `bytes` bytes; true if all has been read. Throws `INVALID_JSON`. */
  run(bytes: number): boolean {
    const from = this.#at;
    const countBefore = this.#count;
    for (;;) {
      if (this.#at >= this.#end) return this.#finish();
      const spent = (this.#count - countBefore) * ITEM_BYTES;
      const limit = Math.min(this.#end, from + bytes - spent);
      if (this.#at >= limit) return false;
      this.#step(limit);
    }
  }

  #finish(): boolean {
    if (this.#mode === MODES.scalar) this.#valueEnds(this.#end);
    if (this.#mode === MODES.end) return true;
    if (this.#mode === MODES.string || this.#mode === MODES.innerString) {
      throw this.#endlessString();
    }
    throw this.#error('it ends too early', this.#end);
  }

  /** Moves on by a byte at least, a little beyond `limit` at most. REQUIRES: at < limit <= end. */
  #step(limit: number): void {
    switch (this.#mode) {
      case MODES.string:
        if (this.#skipString(limit)) this.#valueEnds(this.#at);
        return;
      case MODES.innerString:
        if (this.#skipString(limit)) this.#mode = MODES.container;
        return;
      case MODES.container:
        this.#skipContainer(limit);
        return;
      case MODES.scalar:
        this.#skipScalar(limit);
        return;
      default: {
        const byte = byteAt(this.#source, this.#at);
        if (KIND[byte] === SPACE) this.#at++;
        else this.#syntax(byte);
      }
    }
  }

  /** Takes a byte of the container itself. */
  #syntax(byte: number): void {
    const closer = this.#isObject ? CLOSE_OBJECT : CLOSE_ARRAY;
    switch (this.#mode) {
      case MODES.start:
        if (byte === (this.#isObject ? OPEN_OBJECT : OPEN_ARRAY)) this.#pass(MODES.firstItem);
        else throw this.#error(this.#isObject ? 'an object is expected' : 'an array is expected');
        return;
      case MODES.firstItem:
        if (byte === closer) this.#pass(MODES.end);
        else this.#item(byte);
        return;
      case MODES.item:
        this.#item(byte);
        return;
      case MODES.colon:
        if (byte === COLON) this.#pass(MODES.value);
        else throw this.#error('a colon is expected');
        return;
      case MODES.value:
        this.#valueStarts(byte);
        return;
      case MODES.afterItem:
        if (byte === COMMA) this.#pass(MODES.item);
        else if (byte === closer) this.#pass(MODES.end);
        else throw this.#error('a comma or the end is expected');
        return;
      default:
        throw this.#error('there is more after the end of the value');
    }
  }

  #pass(mode: Mode): void {
    this.#at++;
    this.#mode = mode;
  }

  #item(byte: number): void {
    if (this.#isObject) this.#readName(byte);
    else this.#valueStarts(byte);
  }

  /** Names are what nobody scans again, so they are held to all rules here. */
  #readName(byte: number): void {
    const start = this.#at;
    if (byte !== QUOTE) throw this.#error('a name is expected');
    this.#at++;
    this.#stringStart = start;
    const limit = Math.min(this.#end, start + NAME_BYTES_MAX);
    if (!this.#skipString(limit) || this.#at > limit) {
      if (limit === this.#end) throw this.#endlessString();
      throw new DivanError('TOO_LARGE', `a name has at most ${NAME_BYTES_MAX} bytes`, {
        at: start,
      });
    }
    this.#names.begin(this.#source, start, this.#at);
    this.#names.string();
    this.#names.expectEnd();
    this.name = this.#names.text(start, this.#at);
    this.#mode = MODES.colon;
  }

  #valueStarts(byte: number): void {
    this.#valueStart = this.#at;
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      this.#mode = MODES.container;
      this.#open(byte);
    } else if (byte === QUOTE) {
      this.#mode = MODES.string;
      this.#stringStart = this.#at;
    } else if (KIND[byte] === PLAIN) this.#mode = MODES.scalar;
    else throw this.#error('a value is expected');
    this.#at++;
  }

  #valueEnds(end: number): void {
    this.#mode = MODES.afterItem;
    this.#count++;
    this.#found(this.#valueStart, end);
  }

  #open(byte: number): void {
    // The container that is taken apart is one level itself.
    if (this.#depth === JSON_DEPTH_MAX - 1) throw this.#error('it is nested too deep');
    this.#closers[this.#depth++] = byte === OPEN_OBJECT ? CLOSE_OBJECT : CLOSE_ARRAY;
  }

  /**
   * Moves behind the quote that ends the string; false if there are only escaped ones up to `limit`. The search for a quote
   * is native and takes no time worth a slice. REQUIRES: what stands before `at` is no backslash.
   */
  #skipString(limit: number): boolean {
    const source = this.#source;
    for (let from = this.#at; from < limit; from = this.#at) {
      const quote = source.indexOf(QUOTE, from);
      if (quote === -1 || quote >= this.#end) throw this.#endlessString();
      this.#at = quote + 1;
      let before = quote - 1;
      while (before >= from && byteAt(source, before) === BACKSLASH) before--;
      // Backslashes pair up: an odd one escapes the quote.
      if ((quote - before) % 2 === 1) return true;
    }
    return false;
  }

  #skipScalar(limit: number): void {
    const source = this.#source;
    let at = this.#at;
    while (at < limit && KIND[byteAt(source, at)] === PLAIN) at++;
    this.#at = at;
    if (at < limit) this.#valueEnds(at);
  }

  #skipContainer(limit: number): void {
    const source = this.#source;
    let at = this.#at;
    while (at < limit) {
      const byte = byteAt(source, at++);
      if (STOPS[byte] === 0) continue;
      this.#at = at;
      if (byte === QUOTE) {
        this.#mode = MODES.innerString;
        this.#stringStart = at - 1;
        if (!this.#skipString(limit)) return;
        this.#mode = MODES.container;
        at = this.#at;
      } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) this.#open(byte);
      else if (this.#close(byte)) return;
    }
    this.#at = at;
  }

  /** Takes a closing bracket, behind which `at` is; true if it ends the value. */
  #close(byte: number): boolean {
    if (byte !== this.#closers[--this.#depth]) {
      throw this.#error('a bracket closes one of another kind', this.#at - 1);
    }
    if (this.#depth > 0) return false;
    this.#valueEnds(this.#at);
    return true;
  }

  #endlessString(): DivanError {
    return this.#error('a string does not end', this.#stringStart);
  }

  #error(reason: string, at = this.#at): DivanError {
    return this.#names.error(reason, at);
  }
}

/**
 * The members of the object that is all of `source[range)` but white space, in their order. Throws `INVALID_JSON`, with the
 * byte of `source` as the fact `at`, also for two members of one name; and `TOO_LARGE`.
 */
export async function splitMembers(
  source: Uint8Array,
  range: JsonRange,
  options: SplitOptions,
): Promise<readonly JsonMember[]> {
  const members: JsonMember[] = [];
  const names = new Set<string>();
  const splitter = new Splitter(source, range, true, (start, end) => {
    const { name } = splitter;
    checkCount(members.length, options.countMax, 'an object', 'members');
    members.push({ name, start, end });
    if (names.size === names.add(name).size) throw duplicate(name, start);
  });
  while (!splitter.run(SLICE_BYTES)) await options.yieldTurn();
  return members;
}

/**
 * The elements of the array that is all of `source[range)` but white space: the value of a member, say. Throws
 * `INVALID_JSON`, with the byte of `source` as the fact `at`, and `TOO_LARGE`.
 */
export async function splitElements(
  source: Uint8Array,
  range: JsonRange,
  options: SplitOptions,
): Promise<JsonElements> {
  const elements = new JsonElements();
  const splitter = new Splitter(source, range, false, (start, end) => {
    checkCount(elements.length, options.countMax, 'an array', 'elements');
    elements.push(start, end);
  });
  while (!splitter.run(SLICE_BYTES)) await options.yieldTurn();
  return elements;
}

function checkCount(count: number, countMax: number, what: string, of: string): void {
  if (count < countMax) return;
  throw new DivanError('TOO_LARGE', `${what} of the request has more than ${countMax} ${of}`, {
    expected: countMax,
  });
}

function duplicate(name: string, at: number): DivanError {
  const shown = JSON.stringify(name.slice(0, 80));
  return new DivanError(
    'INVALID_JSON',
    `invalid JSON: an object has two members named ${shown} at byte ${at}`,
    { at },
  );
}
