/**
 * JSON as Divan stores it: the text itself, without insignificant white space (RFC 8259).
 *
 * One pass over the bytes checks them and copies them. Numbers and strings keep their text, members their order.
 * Refused, besides bad syntax: invalid UTF-8, members of one object with the same name (compared unescaped), nesting deeper
 * than 512, lone surrogates. No recursion, and no object for each token.
 */
import { isUtf8 } from 'node:buffer';
import { DivanError } from '../errors.js';
import { byteAt, compareBytes } from '../file/bytes.js';

export const JSON_DEPTH_MAX = 512;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const MINUS = 0x2d;
const PLUS = 0x2b;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const LOWER_U = 0x75;
/** Names in an object are compared one with another up to so many, and through a Set beyond. */
const LINEAR_NAMES_MAX = 16;

/** Bytes inside a string that need no look (1), that are part of a longer character (2), or end the run (0). */
const PLAIN = new Uint8Array(256).fill(1, 0x20).fill(2, 0x80);
PLAIN[QUOTE] = 0;
PLAIN[BACKSLASH] = 0;

const ESCAPES = new Uint8Array(256);
for (const letter of '"\\/bfnrt') ESCAPES[letter.charCodeAt(0)] = 1;

const LITERALS: ReadonlyMap<number, Uint8Array> = new Map(
  ['true', 'false', 'null'].map((word) => [word.charCodeAt(0), Buffer.from(word)]),
);

/** Scans texts one after another and keeps its buffers between them. */
export class JsonScanner {
  /** The text being scanned. */
  source: Uint8Array = new Uint8Array(0);
  /** Position of the next byte. */
  at = 0;
  #start = 0;
  #end = 0;
  /** Whether a string had anything but ASCII. */
  #beyondAscii = false;
  /** What was copied so far: `out[0, length)`. */
  out: Uint8Array = new Uint8Array(4096);
  length = 0;
  /** After `string`: whether the string had escapes. */
  escaped = false;
  /** The open containers: 1 an object, 0 an array. */
  readonly #isObject = new Uint8Array(JSON_DEPTH_MAX);
  /** Where the names of each open object begin in the list of names. */
  readonly #namesFrom = new Int32Array(JSON_DEPTH_MAX + 1);
  #nameStarts = new Int32Array(64);
  #nameEnds = new Int32Array(64);
  #names = 0;
  /** The names of open objects with many or escaped ones, by depth. */
  readonly #nameSets = new Map<number, Set<string>>();

  /** Starts on `source[start, end)`. */
  begin(source: Uint8Array, start: number, end: number): void {
    this.source = source;
    this.at = start;
    this.#end = end;
    this.length = 0;
    this.#names = 0;
    this.#nameSets.clear();
    if (this.out.length < end - start + 2) this.out = new Uint8Array((end - start) * 2);
    this.#start = start;
    this.#beyondAscii = false;
  }

  error(reason: string, at = this.at): DivanError {
    return new DivanError('INVALID_JSON', `invalid JSON: ${reason} at byte ${at}`, { at });
  }

  /** The next byte that is no white space, without moving past it; -1 at the end. */
  peek(): number {
    while (this.at < this.#end) {
      const byte = byteAt(this.source, this.at);
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
      this.at++;
    }
    return -1;
  }

  /** Moves past white space and `byte`; refuses anything else. */
  expect(byte: number, what: string): void {
    if (this.peek() !== byte) throw this.error(`${what} is expected`);
    this.at++;
  }

  /** Refuses anything but white space up to the end, and a text that is not UTF-8: outside of strings only ASCII passes. */
  expectEnd(): void {
    if (this.peek() !== -1) throw this.error('there is more after the end of the value');
    if (!this.#beyondAscii || isUtf8(this.source.subarray(this.#start, this.#end))) return;
    throw this.error('it is not UTF-8', this.#start);
  }

  put(byte: number): void {
    this.out[this.length++] = byte;
  }

  #copy(start: number, end: number): void {
    const { source, out } = this;
    let length = this.length;
    if (end - start > 64) {
      out.set(source.subarray(start, end), length);
      this.length = length + end - start;
      return;
    }
    for (let at = start; at < end; at++) out[length++] = byteAt(source, at);
    this.length = length;
  }

  /** Scans a string with its quotes, without copying it; `at` ends up behind it. Returns where it started. */
  string(): number {
    if (this.peek() !== QUOTE) throw this.error('a string is expected');
    const start = this.at;
    const { source } = this;
    this.escaped = false;
    let at = start + 1;
    for (;;) {
      const kind = at < this.#end ? PLAIN[byteAt(source, at)] : 0;
      if (kind !== 0) {
        if (kind === 2) this.#beyondAscii = true;
        at++;
        continue;
      }
      if (at >= this.#end) throw this.error('a string does not end', start);
      const byte = byteAt(source, at);
      if (byte === QUOTE) break;
      if (byte !== BACKSLASH) throw this.error('a string has a control character', at);
      at = this.#escape(at);
    }
    this.at = at + 1;
    return start;
  }

  /** Checks the escape at `at` and returns the position behind it; a surrogate pair is one. */
  #escape(at: number): number {
    this.escaped = true;
    const letter = at + 1 < this.#end ? byteAt(this.source, at + 1) : 0;
    if (ESCAPES[letter] === 1) return at + 2;
    if (letter !== LOWER_U) throw this.error('a string has a bad escape', at);
    const unit = this.#codeUnit(at + 2);
    if (unit < 0xd800 || unit > 0xdfff) return at + 6;
    const isPair =
      unit < 0xdc00 &&
      at + 7 < this.#end &&
      byteAt(this.source, at + 6) === BACKSLASH &&
      byteAt(this.source, at + 7) === LOWER_U;
    const low = isPair ? this.#codeUnit(at + 8) : 0;
    if (low < 0xdc00 || low > 0xdfff) throw this.error('a string has a lone surrogate', at);
    return at + 12;
  }

  #codeUnit(at: number): number {
    let unit = 0;
    for (let digit = at; digit < at + 4; digit++) {
      const value = digit < this.#end ? hexValue(byteAt(this.source, digit)) : -1;
      if (value < 0) throw this.error('a string has a bad escape', at);
      unit = unit * 16 + value;
    }
    return unit;
  }

  /** Opens an object's list of names. `depth` counts the objects and arrays around it. */
  openNames(depth: number): void {
    this.#namesFrom[depth] = this.#names;
  }

  closeNames(depth: number): void {
    this.#names = this.#namesFrom[depth] ?? 0;
    if (this.#nameSets.size > 0) this.#nameSets.delete(depth);
  }

  /** Scans a name and the colon behind it; refuses a name that the object at `depth` has already. Returns where it started. */
  name(depth: number): number {
    const start = this.string();
    const end = this.at;
    if (this.escaped || this.#nameSets.size > 0 || this.#isLong(depth)) {
      this.#checkInSet(depth, start, end);
    } else this.#checkLinear(depth, start, end);
    if (this.#names === this.#nameStarts.length) this.#growNames();
    this.#nameStarts[this.#names] = start;
    this.#nameEnds[this.#names++] = end;
    this.expect(COLON, 'a colon');
    return start;
  }

  #isLong(depth: number): boolean {
    return this.#names - (this.#namesFrom[depth] ?? 0) >= LINEAR_NAMES_MAX;
  }

  #checkLinear(depth: number, start: number, end: number): void {
    const { source } = this;
    for (let index = this.#namesFrom[depth] ?? 0; index < this.#names; index++) {
      const from = this.#nameStarts[index] ?? 0;
      const to = this.#nameEnds[index] ?? 0;
      if (to - from !== end - start || byteAt(source, from + 1) !== byteAt(source, start + 1))
        continue;
      if (compareBytes(source, from, to, source, start, end) === 0)
        throw this.#duplicate(start, end);
    }
  }

  #checkInSet(depth: number, start: number, end: number): void {
    let set = this.#nameSets.get(depth);
    if (set === undefined) {
      set = new Set();
      this.#nameSets.set(depth, set);
      for (let index = this.#namesFrom[depth] ?? 0; index < this.#names; index++) {
        set.add(this.text(this.#nameStarts[index] ?? 0, this.#nameEnds[index] ?? 0));
      }
    }
    const name = this.text(start, end);
    if (set.has(name)) throw this.#duplicate(start, end);
    set.add(name);
  }

  #duplicate(start: number, end: number): DivanError {
    const name = Buffer.from(this.source.subarray(start, end)).toString().slice(0, 80);
    return this.error(`an object has two members named ${name}`, start);
  }

  #growNames(): void {
    const starts = new Int32Array(this.#nameStarts.length * 2);
    const ends = new Int32Array(this.#nameEnds.length * 2);
    starts.set(this.#nameStarts);
    ends.set(this.#nameEnds);
    this.#nameStarts = starts;
    this.#nameEnds = ends;
  }

  /** The string value of a scanned string. */
  text(start: number, end: number): string {
    const { source } = this;
    const raw = Buffer.from(source.buffer, source.byteOffset + start, end - start).toString();
    if (!raw.includes('\\')) return raw.slice(1, -1);
    const value: unknown = JSON.parse(raw);
    return String(value);
  }

  /** Scans any value and copies it to `out`. `depth` counts the objects and arrays around it. */
  value(depth: number): void {
    const base = depth;
    let level = depth;
    for (;;) {
      const opened = this.#scalarOrOpen(level);
      if (opened) level++;
      if (opened && !this.#openedEmpty(level)) continue;
      if (opened) level = this.#close(level);
      // A value is complete: its container goes on with a comma or ends.
      for (;;) {
        if (level === base) return;
        if (this.#nextInContainer(level)) break;
        level = this.#close(level);
      }
    }
  }

  /** Copies a string, number or literal, or opens a container; true if it opened one. */
  #scalarOrOpen(level: number): boolean {
    const byte = this.peek();
    if (byte === QUOTE) {
      const start = this.string();
      this.#copy(start, this.at);
    } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      if (level >= JSON_DEPTH_MAX) throw this.error(`it is nested deeper than ${JSON_DEPTH_MAX}`);
      this.#isObject[level] = byte === OPEN_OBJECT ? 1 : 0;
      this.openNames(level + 1);
      this.at++;
      this.put(byte);
      return true;
    } else if (byte === MINUS || (byte >= ZERO && byte <= NINE)) this.#number();
    else this.#literal(byte);
    return false;
  }

  /** After a container was opened: true if it ends at once; else moves to its first value. */
  #openedEmpty(level: number): boolean {
    const isObject = this.#isObject[level - 1] === 1;
    if (this.peek() === (isObject ? CLOSE_OBJECT : CLOSE_ARRAY)) return true;
    if (isObject) this.#member(level);
    return false;
  }

  /** Moves past a comma to the next value of the container; false if the container ends here. */
  #nextInContainer(level: number): boolean {
    const isObject = this.#isObject[level - 1] === 1;
    const byte = this.peek();
    if (byte === COMMA) {
      this.at++;
      this.put(COMMA);
      if (isObject) this.#member(level);
      return true;
    }
    if (byte !== (isObject ? CLOSE_OBJECT : CLOSE_ARRAY)) {
      throw this.error(byte === -1 ? 'it ends too early' : 'a comma or the end is expected');
    }
    return false;
  }

  #member(level: number): void {
    this.name(level);
    this.copyName();
    this.put(COLON);
  }

  /** True if the name that was scanned last stands in the text just so, with its quotes. */
  nameIs(name: Uint8Array): boolean {
    const start = this.#nameStarts[this.#names - 1] ?? 0;
    const end = this.nameEnd;
    return (
      end - start === name.length &&
      compareBytes(this.source, start, end, name, 0, name.length) === 0
    );
  }

  /** Where the name that was scanned last ends. */
  get nameEnd(): number {
    return this.#nameEnds[this.#names - 1] ?? 0;
  }

  /** Copies the name that was scanned last. */
  copyName(): void {
    this.#copy(this.#nameStarts[this.#names - 1] ?? 0, this.nameEnd);
  }

  #close(level: number): number {
    this.peek();
    this.put(byteAt(this.source, this.at));
    this.at++;
    this.closeNames(level);
    return level - 1;
  }

  #literal(byte: number): void {
    const word = LITERALS.get(byte);
    const end = this.at + (word?.length ?? 0);
    const { source } = this;
    if (
      word === undefined ||
      end > this.#end ||
      compareBytes(source, this.at, end, word, 0, word.length) !== 0
    ) {
      throw this.error(byte === -1 ? 'it ends too early' : 'a value is expected');
    }
    this.#copy(this.at, end);
    this.at = end;
  }

  #number(): void {
    const start = this.at;
    if (this.#byte() === MINUS) this.at++;
    if (this.#byte() === ZERO) this.at++;
    else this.#digits();
    if (this.#byte() === POINT) {
      this.at++;
      this.#digits();
    }
    if ((this.#byte() | 0x20) === 0x65) {
      this.at++;
      if (this.#byte() === PLUS || this.#byte() === MINUS) this.at++;
      this.#digits();
    }
    this.#copy(start, this.at);
  }

  #digits(): void {
    const start = this.at;
    for (let byte = this.#byte(); byte >= ZERO && byte <= NINE; byte = this.#byte()) this.at++;
    if (this.at === start) throw this.error('a digit is expected');
  }

  #byte(): number {
    return this.at < this.#end ? byteAt(this.source, this.at) : -1;
  }
}

function hexValue(byte: number): number {
  if (byte >= ZERO && byte <= NINE) return byte - ZERO;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

/** Checks a JSON text and returns it without insignificant white space. Throws `INVALID_JSON`. */
export function canonicalJson(text: Uint8Array): Uint8Array {
  const scanner = new JsonScanner();
  scanner.begin(text, 0, text.length);
  scanner.value(0);
  scanner.expectEnd();
  return scanner.out.slice(0, scanner.length);
}
