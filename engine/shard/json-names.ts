/**
 * The names of the members of the objects that a scan is inside of, so that none has two members of one name (compared unescaped).
 *
 * Names are kept as positions in the text. Objects with few names compare them one by one; others, and those with escaped ones,
 * through a Set.
 */
import { byteAt, compareBytes } from '../file/bytes.js';

/** Names in an object are compared one with another up to so many, and through a Set beyond. */
const LINEAR_NAMES_MAX = 16;

/** The value of a JSON string that was scanned, quotes included, at `source[start, end)`. */
export function stringText(source: Uint8Array, start: number, end: number): string {
  const raw = Buffer.from(source.buffer, source.byteOffset + start, end - start).toString();
  if (!raw.includes('\\')) return raw.slice(1, -1);
  const value: unknown = JSON.parse(raw);
  return String(value);
}

export class MemberNames {
  #source: Uint8Array = new Uint8Array(0);
  /** Where the names of each open object begin in the list of names. */
  readonly #from: Int32Array;
  #starts = new Int32Array(64);
  #ends = new Int32Array(64);
  #count = 0;
  /** The names of open objects with many or escaped ones, by depth. */
  readonly #sets = new Map<number, Set<string>>();

  constructor(depthMax: number) {
    this.#from = new Int32Array(depthMax + 1);
  }

  /** Starts on another text. */
  begin(source: Uint8Array): void {
    this.#source = source;
    this.#count = 0;
    if (this.#sets.size > 0) this.#sets.clear();
  }

  /** Opens an object's list of names. */
  open(depth: number): void {
    this.#from[depth] = this.#count;
  }

  close(depth: number): void {
    this.#count = this.#from[depth] ?? 0;
    if (this.#sets.size > 0) this.#sets.delete(depth);
  }

  /** Where the name that was added last stands. */
  get lastStart(): number {
    return this.#starts[this.#count - 1] ?? 0;
  }

  get lastEnd(): number {
    return this.#ends[this.#count - 1] ?? 0;
  }

  /** Adds a name; false if the object at `depth` has it already. */
  add(depth: number, start: number, end: number, escaped: boolean): boolean {
    const useSet = escaped || this.#sets.size > 0 || this.#isLong(depth);
    const isNew = useSet ? this.#addToSet(depth, start, end) : this.#isNew(depth, start, end);
    if (this.#count === this.#starts.length) this.#grow();
    this.#starts[this.#count] = start;
    this.#ends[this.#count++] = end;
    return isNew;
  }

  #isLong(depth: number): boolean {
    return this.#count - (this.#from[depth] ?? 0) >= LINEAR_NAMES_MAX;
  }

  #isNew(depth: number, start: number, end: number): boolean {
    const source = this.#source;
    for (let index = this.#from[depth] ?? 0; index < this.#count; index++) {
      const from = this.#starts[index] ?? 0;
      const to = this.#ends[index] ?? 0;
      if (to - from !== end - start || byteAt(source, from + 1) !== byteAt(source, start + 1))
        continue;
      if (compareBytes(source, from, to, source, start, end) === 0) return false;
    }
    return true;
  }

  #addToSet(depth: number, start: number, end: number): boolean {
    const source = this.#source;
    let set = this.#sets.get(depth);
    if (set === undefined) {
      set = new Set();
      this.#sets.set(depth, set);
      for (let index = this.#from[depth] ?? 0; index < this.#count; index++) {
        set.add(stringText(source, this.#starts[index] ?? 0, this.#ends[index] ?? 0));
      }
    }
    return set.size < set.add(stringText(source, start, end)).size;
  }

  #grow(): void {
    const starts = new Int32Array(this.#starts.length * 2);
    const ends = new Int32Array(this.#ends.length * 2);
    starts.set(this.#starts);
    ends.set(this.#ends);
    this.#starts = starts;
    this.#ends = ends;
  }
}
