/**
 * The bytes of a simulated file, in pages that images share until one of them writes: a crash state costs only the pages in
 * which it differs.
 */
const PAGE_BYTES = 4096;

interface Page {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  /** The image that may write into it; all others share it. */
  readonly owner: object;
  /** Of the bytes; undefined if they were written since. */
  hash: Hash | undefined;
}

/** Two numbers of 32 bits. */
export type Hash = [first: number, second: number];

export class PageImage {
  #length = 0;
  #pages: (Page | undefined)[] = [];
  #token = {};

  static of(bytes: Uint8Array): PageImage {
    const image = new PageImage();
    image.write(bytes, 0);
    return image;
  }

  get length(): number {
    return this.#length;
  }

  /** An image with the same bytes; from here on either copies a page before it writes into it. */
  fork(): PageImage {
    const copy = new PageImage();
    copy.#length = this.#length;
    copy.#pages = this.#pages.slice();
    this.#token = {};
    return copy;
  }

  read(into: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(into.length, this.#length - position));
    for (let done = 0; done < count; ) {
      const offset = (position + done) % PAGE_BYTES;
      const step = Math.min(count - done, PAGE_BYTES - offset);
      const page = this.#pages[(position + done - offset) / PAGE_BYTES];
      if (page === undefined) into.fill(0, done, done + step);
      else into.set(page.bytes.subarray(offset, offset + step), done);
      done += step;
    }
    return count;
  }

  /** A copy of the bytes from `from` up to `to`, as far as there are any. */
  slice(from = 0, to = this.#length): Buffer {
    const bytes = Buffer.alloc(Math.max(0, Math.min(to, this.#length) - from));
    this.read(bytes, from);
    return bytes;
  }

  write(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length; ) {
      const offset = (position + done) % PAGE_BYTES;
      const step = Math.min(bytes.length - done, PAGE_BYTES - offset);
      const page = this.#ownPage((position + done - offset) / PAGE_BYTES);
      page.bytes.set(bytes.subarray(done, done + step), offset);
      done += step;
    }
    if (bytes.length > 0) this.#length = Math.max(this.#length, position + bytes.length);
  }

  /** Bytes beyond the end are kept zero, so that growing shows zeros. */
  truncate(length: number): void {
    const offset = length % PAGE_BYTES;
    const index = (length - offset) / PAGE_BYTES;
    if (length < this.#length) {
      if (offset > 0 && this.#pages[index] !== undefined)
        this.#ownPage(index).bytes.fill(0, offset);
      this.#pages.length = Math.min(this.#pages.length, offset > 0 ? index + 1 : index);
    }
    this.#length = length;
  }

  /** Adds the content to a running hash. */
  hashInto(hash: Hash): void {
    mix(hash, this.#length, this.#length);
    for (const [index, page] of this.#pages.entries()) {
      if (page === undefined) continue;
      page.hash ??= hashOf(page.words);
      mix(hash, page.hash[0] ^ index, page.hash[1] + index);
    }
  }

  #ownPage(index: number): Page {
    const present = this.#pages[index];
    if (present !== undefined && present.owner === this.#token) {
      present.hash = undefined;
      return present;
    }
    const bytes = new Uint8Array(PAGE_BYTES);
    if (present !== undefined) bytes.set(present.bytes);
    while (this.#pages.length < index) this.#pages.push(undefined);
    const words = new Int32Array(bytes.buffer);
    const page: Page = { bytes, words, owner: this.#token, hash: undefined };
    this.#pages[index] = page;
    return page;
  }
}

/** Adds two numbers to a running hash, each in a way of its own. */
export function mix(hash: Hash, first: number, second: number): void {
  hash[0] = Math.imul(hash[0] ^ first ^ (hash[0] >>> 15), 0x85eb_ca6b);
  hash[1] = (Math.imul(hash[1] + second, 0xc2b2_ae35) ^ (hash[1] >>> 13)) + 0x79b9;
}

function hashOf(words: Int32Array): Hash {
  let first = 0x811c_9dc5 | 0;
  let second = 0x2545_f491 | 0;
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? 0;
    first = Math.imul(first ^ word ^ (first >>> 15), 0x0100_0193);
    second = (Math.imul(second, 0x5bd1_e995) + word) ^ (second >>> 17);
  }
  return [first, second];
}
