/**
 * JSON as Divan stores it: the text itself, without insignificant white space (RFC 8259).
 *
 * One pass over the bytes checks them and copies them. Numbers and strings keep their text, members their order.
 * Refused, besides bad syntax: invalid UTF-8, members of one object with the same name (compared unescaped), nesting deeper
 * than 512, lone surrogates; names and runs of white space beyond 1 MiB. No recursion, and no object for each token.
 *
 * Large values can be scanned in slices, between which others have their turn: see `goOn`.
 */
import { isUtf8 } from 'node:buffer';
import { DivanError } from '../errors.js';
import { byteAt, compareBytes } from '../file/bytes.js';
import { MemberNames, stringText } from './json-names.js';

export const JSON_DEPTH_MAX = 512;
/** A slice of this many bytes takes a few milliseconds. */
export const SCAN_SLICE_BYTES = 512 * 1024;
/** What can not be scanned in slices: a name, a run of white space. */
const UNBROKEN_BYTES_MAX = 1024 * 1024;
/** A larger output is made just as large as it must be, since it is hardly needed again. */
const SPARE_OUT_BYTES_MAX = 1024 * 1024;

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
  /** Of the value being scanned: where its slice ends, how deep it began and is now, whether it stopped inside of a string. */
  #stop = 0;
  #base = 0;
  #level = 0;
  #insideString = false;
  /** What was copied so far: `out[0, length)`. */
  out: Uint8Array = new Uint8Array(4096);
  length = 0;
  /** After `string`: whether the string had escapes. */
  escaped = false;
  /** The open containers: 1 an object, 0 an array. */
  readonly #isObject = new Uint8Array(JSON_DEPTH_MAX);
  readonly #names = new MemberNames(JSON_DEPTH_MAX);

  /** Starts on `source[start, end)`. */
  begin(source: Uint8Array, start: number, end: number): void {
    this.source = source;
    this.at = start;
    this.#end = end;
    this.length = 0;
    this.#names.begin(source);
    const bytes = end - start;
    if (this.out.length < bytes + 2) {
      this.out = new Uint8Array(bytes > SPARE_OUT_BYTES_MAX ? bytes + 2 : bytes * 2);
    }
    this.#start = start;
    this.#beyondAscii = false;
    this.#insideString = false;
  }

  error(reason: string, at = this.at): DivanError {
    return new DivanError('INVALID_JSON', `invalid JSON: ${reason} at byte ${at}`, { at });
  }

  /** The next byte that is no white space, without moving past it; -1 at the end. */
  peek(): number {
    if (this.at < this.#end) {
      const byte = byteAt(this.source, this.at);
      if (byte > 0x20) return byte;
    }
    return this.#afterSpace();
  }

  #afterSpace(): number {
    const from = this.at;
    const end = Math.min(this.#end, from + UNBROKEN_BYTES_MAX);
    while (this.at < end) {
      const byte = byteAt(this.source, this.at);
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
      this.at++;
    }
    if (end < this.#end) throw this.error('there is too much white space', from);
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
    const start = this.#openString();
    if (!this.#toStringEnd(this.#end)) throw this.error('a string does not end', start);
    return start;
  }

  /** As `string`, with turns for others in between. */
  *stringInSlices(): Generator<void, number> {
    const start = this.#openString();
    while (!this.#toStringEnd(this.at + SCAN_SLICE_BYTES)) {
      if (this.at >= this.#end) throw this.error('a string does not end', start);
      yield;
    }
    return start;
  }

  #openString(): number {
    if (this.peek() !== QUOTE) throw this.error('a string is expected');
    this.escaped = false;
    return this.at++;
  }

  /** Moves behind the quote that ends the string that `at` is inside of; false if it stopped at `stop` or a little behind it. */
  #toStringEnd(stop: number): boolean {
    const { source } = this;
    const end = Math.min(stop, this.#end);
    let { at } = this;
    for (;;) {
      const kind = at < end ? PLAIN[byteAt(source, at)] : 0;
      if (kind !== 0) {
        if (kind === 2) this.#beyondAscii = true;
        at++;
        continue;
      }
      if (at >= end) break;
      const byte = byteAt(source, at);
      if (byte === QUOTE) {
        this.at = at + 1;
        return true;
      }
      if (byte !== BACKSLASH) throw this.error('a string has a control character', at);
      at = this.#escape(at);
    }
    this.at = at;
    return false;
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
    this.#names.open(depth);
  }

  closeNames(depth: number): void {
    this.#names.close(depth);
  }

  /** Scans a name and the colon behind it; refuses a name that the object at `depth` has already. Returns where it started. */
  name(depth: number): number {
    const start = this.#openString();
    if (!this.#toStringEnd(start + UNBROKEN_BYTES_MAX)) throw this.#endlessName(start);
    const end = this.at;
    if (!this.#names.add(depth, start, end, this.escaped)) throw this.#duplicate(start, end);
    this.expect(COLON, 'a colon');
    return start;
  }

  #endlessName(start: number): DivanError {
    if (this.at >= this.#end) return this.error('a string does not end', start);
    return this.error('a name is too long', start);
  }

  #duplicate(start: number, end: number): DivanError {
    const name = Buffer.from(this.source.subarray(start, end)).toString().slice(0, 80);
    return this.error(`an object has two members named ${name}`, start);
  }

  /** The string value of a scanned string. */
  text(start: number, end: number): string {
    return stringText(this.source, start, end);
  }

  /** Scans any value and copies it to `out`. `depth` counts the objects and arrays around it. */
  value(depth: number): void {
    this.beginValue(depth);
    this.goOn(Number.MAX_SAFE_INTEGER);
  }

  /** As `value`, with turns for others in between. */
  *valueInSlices(depth: number): Generator<void, void> {
    this.beginValue(depth);
    while (!this.goOn(this.at + SCAN_SLICE_BYTES)) yield;
  }

  /** Starts on a value, which `goOn` scans. */
  beginValue(depth: number): void {
    this.#base = depth;
    this.#level = depth;
  }

  /** Goes on with a value; false if it stopped at `stop` or a little behind it. */
  goOn(stop: number): boolean {
    this.#stop = stop;
    const base = this.#base;
    let level = this.#level;
    for (;;) {
      if (this.#insideString) this.#restOfString();
      else {
        if (this.at >= stop) return this.#pause(level);
        const opened = this.#scalarOrOpen(level);
        if (opened) level++;
        if (opened && !this.#openedEmpty(level)) continue;
        if (opened) level = this.#close(level);
      }
      if (this.#insideString) return this.#pause(level);
      // A value is complete: its container goes on with a comma or ends.
      for (;;) {
        if (level === base) return true;
        if (this.#nextInContainer(level)) break;
        level = this.#close(level);
      }
    }
  }

  #pause(level: number): false {
    this.#level = level;
    return false;
  }

  /** Copies a string value up to its end, or up to where it stops. */
  #stringValue(): void {
    const start = this.#openString();
    this.#insideString = !this.#toStringEnd(this.#stop);
    if (this.#insideString && this.at >= this.#end) {
      throw this.error('a string does not end', start);
    }
    this.#copy(start, this.at);
  }

  #restOfString(): void {
    const from = this.at;
    this.#insideString = !this.#toStringEnd(this.#stop);
    if (this.#insideString && this.at >= this.#end) {
      throw this.error('a string does not end', from);
    }
    this.#copy(from, this.at);
  }

  /** Copies a string, number or literal, or opens a container; true if it opened one. */
  #scalarOrOpen(level: number): boolean {
    const byte = this.peek();
    if (byte === QUOTE) this.#stringValue();
    else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
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
    const start = this.#names.lastStart;
    const end = this.nameEnd;
    return (
      end - start === name.length &&
      compareBytes(this.source, start, end, name, 0, name.length) === 0
    );
  }

  /** Where the name that was scanned last ends. */
  get nameEnd(): number {
    return this.#names.lastEnd;
  }

  /** Copies the name that was scanned last. */
  copyName(): void {
    this.#copy(this.#names.lastStart, this.nameEnd);
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
